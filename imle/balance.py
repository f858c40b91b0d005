"""Draw each region of the data as often as the data has it.

IMLE asks that every example has a sample near it, not that a region has as many samples as examples: the optimum of
its objective has a density ∝ q^(d/(d+2)) where the data's is q, and a trained sampler scatters around that. So its own
samples are divided into bins, as Richardson & Weiss 2018 (arXiv 1805.12462) do to judge one, the share of the data
in each bin is compared with the share of the samples, and noise is drawn by importance resampling (Rubin 1987). The map
from noise to samples stays as it is.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from imle.noise import sample_noise, stream

if TYPE_CHECKING:
    from imle.sampler import LatentSampler

BINS = 100  # at most
EXAMPLES = 50  # in a bin, on average: their number is uncertain by a seventh
ROUNDS = 10  # of k-means, and of fitting the weights; neither need be perfect
CANDIDATES = 4  # draws of noise for one sample
_AGAIN, _START = 13, 14  # keys of the random streams


class Balance(nn.Module):
    """Bins and their weights.

    Args:
        centres: (K, d), a sample, before calibration, is in the bin of the nearest one.
        weights: (K,) > 0, see `weights_for`.
    """

    centres: Tensor
    weights: Tensor

    def __init__(self, centres: Tensor, weights: Tensor):
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("weights", weights)

    def draw(
        self, sampler: "LatentSampler", seed: int, first: int, count: int, condition: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Noise of samples ``first … first + count − 1`` of a seed, and the samples: one of four draws for each.

        The j-th draw takes the place of those before it with chance w_j / (w_1 + … + w_j), so that each is taken with
        a chance proportional to its weight.

        Args:
            sampler: whose noise.
            seed: which sequence.
            first: index of the first.
            count: how many.
            condition: (count,) or (count, c) in the sampler's own form, or None.

        Returns:
            (count, noise_dim) and (count, d), on the sampler's device.
        """
        noise = sample_noise(seed, first, count, sampler.noise_dim).to(self.weights.device)
        samples = sampler.uncalibrated(noise, condition)
        total = self.weights[bins(samples, self.centres)]
        for j in range(1, CANDIDATES):
            own = stream(seed, _AGAIN, j).initial_seed()
            drawn, lot = sample_noise(own, first, count, sampler.noise_dim + 1).to(total.device).tensor_split([-1], 1)
            made = sampler.uncalibrated(drawn, condition)
            weight = self.weights[bins(made, self.centres)]
            total = total + weight
            taken = torch.special.ndtr(lot[:, 0]) * total < weight  # Φ of a normal number is uniform
            noise[taken], samples[taken] = drawn[taken], made[taken]
        return noise, sampler.calibrated(samples)


def bins(points: Tensor, centres: Tensor) -> Tensor:
    """(n,) int64: the nearest centre of each point."""
    return torch.cdist(points.float(), centres).argmin(1)


def cluster(points: Tensor, count: int, seed: int) -> Tensor:
    """Centres by k-means (Lloyd).

    Args:
        points: (n, d), n ≥ count.
        count: of centres.
        seed: chooses the points that are the first centres.

    Returns:
        (count, d); a centre without points stays where it was.
    """
    chosen = torch.randperm(len(points), generator=stream(seed, _START))[:count]
    centres = points[chosen.to(points.device)].clone()
    for _ in range(ROUNDS):
        nearest = bins(points, centres)
        members = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(members[:, None] > 0, sums / members.clamp_min(1)[:, None], centres)
    return centres


def weights_for(shares: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Weights with which resampling gives each bin its share.

    Share of the data over share of the samples would do for many candidates. With few, the heaviest bins get less,
    because they cannot be chosen where they are not among the candidates; so the weights are scaled until it fits.

    Args:
        shares: (K,) > 0, of the data, with sum 1.
        drawn: (n,) int64, the bins of samples as the noise gives them; those at 4 i … 4 i + 3 compete.

    Returns:
        (K,) weights, and (n,) the chance of each sample to be the one of its four that is taken.
    """
    together = drawn.view(-1, CANDIDATES)

    def chances(weights: Tensor) -> Tensor:
        """(n,) of the samples, under these weights."""
        own = weights[together]
        return (own / own.sum(1, keepdim=True)).flatten()

    weights = torch.ones_like(shares)
    for _ in range(ROUNDS):
        reached = torch.zeros_like(shares).index_add_(0, drawn, chances(weights)) / len(together)
        weights = weights * shares / reached.clamp_min(1e-6)
        weights = weights / weights.mean()
    return weights, chances(weights)
