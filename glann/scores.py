"""How far a set of images is from another one, in the features of a network.

Fréchet and kernel distance, precision and recall are torch-fidelity's; density and coverage are `imle.metrics.balls`.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

import imle.metrics
from imle.noise import stream

LEAST = 16  # images in a set
PRECISION_NEIGHBOUR = 3  # k of precision and recall, as published
COVERAGE_NEIGHBOUR = 5  # k of density and coverage, as published
_SUBSETS, _SUBSET_SIZE = 50, 1000  # of the kernel distance
_SLAB = 1000  # images whose distances to all others are held at a time
_SHUFFLES, _USUAL = 1000, 0.95  # of both sets, and the share that is nearer, where it is asked what chance does
_SHUFFLE = 41  # key of their random stream
_SHIFTS = 8  # pairs an image takes part in, for the spread


@dataclass(frozen=True)
class Scores:
    """One set of images against a real one, of N each."""

    frechet_distance: float  # between the normal distributions of the moments (Heusel et al. 2017); biased upward
    kernel_distance: float  # unbiased, cubic kernel (Bińkowski et al. 2018); negative where the sets are alike
    kernel_distance_deviation: float  # standard deviation over subsets
    precision: float  # share of the set's images near a real one (Kynkäänniemi et al. 2019, k = 3)
    recall: float  # share of real images near one of the set
    density: float  # real neighbourhoods that an image of the set lies in (Naeem et al. 2020, k = 5); 1 expected
    coverage: float  # share of real neighbourhoods that hold an image of the set
    diversity: float  # mean distance between two images of the set, over that between two real ones

    def to_json(self) -> dict[str, float]:
        """Name -> number."""
        return asdict(self)


def score(real: Tensor, other: Tensor, seed: int = 0) -> Scores:
    """Compare a set of images with a real one.

    Args:
        real: (N, d) features, N ≥ 16.
        other: (M, d) features, M ≥ 16.
        seed: of the subsets that the kernel distance is computed of.

    Returns:
        Eight numbers.

    Raises:
        ValueError: if a set is too small, not finite, or the dimensions differ.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    real, other = imle.metrics.as_pair(real, other, LEAST)
    frechet = fid_statistics_to_metric(fid_features_to_statistics(real), fid_features_to_statistics(other), False)
    # A subset is at most half of a set: of whole sets every subset would be the same.
    subset = min(_SUBSET_SIZE, min(len(real), len(other)) // 2)
    kernel = kid_features_to_metric(
        other.float(), real.float(), kid_subsets=_SUBSETS, kid_subset_size=subset, rng_seed=seed, verbose=False
    )
    near = prc_features_to_metric(
        other, real, prc_neighborhood=PRECISION_NEIGHBOUR, prc_batch_size=_SLAB, save_cpu_ram=True, verbose=False
    )
    balls = imle.metrics.balls(real, other, COVERAGE_NEIGHBOUR)
    return Scores(
        frechet_distance=max(frechet[KEY_METRIC_FID], 0.0),
        kernel_distance=kernel[KEY_METRIC_KID_MEAN],
        kernel_distance_deviation=kernel[KEY_METRIC_KID_STD],
        precision=near[KEY_METRIC_PRECISION],
        recall=near[KEY_METRIC_RECALL],
        density=balls.density,
        coverage=balls.coverage,
        diversity=spread(other) / max(spread(real), 1e-12),
    )


def kernel_distance(real: Tensor, other: Tensor) -> float:
    """The kernel distance of `Scores` from all pairs at once; of few images, subsets would only add chance.

    Args:
        real: (N, d) features, N ≥ 2.
        other: (N, d) features.

    Returns:
        0 is expected for two sets of one kind; single values may be negative.
    """
    return float(_squared_discrepancies(_kernel(real, other), _halves(len(real))[None]))


def kernel_chance(real: Tensor, other: Tensor) -> float:
    """How large the kernel distance is by chance: the permutation test of Gretton et al. 2012.

    Args:
        real: (N, d) features, N ≥ 2.
        other: (N, d) features of other images of the same kind.

    Returns:
        Shuffled together and halved 1,000 times, 95 of 100 halves are nearer to the other half.
    """
    halves, random = _halves(len(real)), stream(0, _SHUFFLE)
    shuffled = torch.stack([halves[torch.randperm(len(halves), generator=random)] for _ in range(_SHUFFLES)])
    return float(_squared_discrepancies(_kernel(real, other), shuffled).quantile(_USUAL))


def _kernel(real: Tensor, other: Tensor) -> Tensor:
    """(2 N, 2 N) float64: (x·y / d + 1)³ of all pairs of both sets (Bińkowski et al. 2018)."""
    both = torch.cat([real, other]).double()
    return (both @ both.T / both.shape[1] + 1) ** 3


def _halves(n: int) -> Tensor:
    """(2 n,) float64: 1 for the first n, −1 for the others."""
    return torch.ones(2 * n, dtype=torch.float64).index_fill_(0, torch.arange(n, 2 * n), -1)


def _squared_discrepancies(kernel: Tensor, signs: Tensor) -> Tensor:
    """Between the rows of sign 1 and as many of sign −1, unbiased (Gretton et al. 2012, equation 3).

    Args:
        kernel: (2 n, 2 n).
        signs: (K, 2 n).

    Returns:
        (K,).
    """
    n = len(kernel) // 2
    pairs = kernel - kernel.diag().diag()  # none with itself
    total, difference = pairs.sum(), ((signs @ pairs) * signs).sum(1)  # of the pairs within, plus or minus those across
    return (total + difference) / (2 * n * (n - 1)) - (total - difference) / (2 * n**2)


def spread(features: Tensor) -> float:
    """Mean Euclidean distance between two of (N, d) features: over N pairs for each of eight cyclic shifts."""
    shifts = torch.linspace(1, len(features) // 2, min(_SHIFTS, len(features) // 2)).long().tolist()
    return sum(float((features - features.roll(shift, 0)).norm(dim=1).mean()) for shift in shifts) / len(shifts)
