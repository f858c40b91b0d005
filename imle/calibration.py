"""Match samples to data after training: how often they fall where, then their mean and covariance."""

import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from imle import balance
from imle.conditions import Conditions
from imle.data import Examples
from imle.noise import stream
from imle.sampler import LatentSampler

HELD_OUT = 4  # what the random stream is for
FLOOR = 1e-6  # directions with less than this share of the largest variance count as empty
MAX_DIM = 2048  # above, the d x d map of the moments would outgrow the network
SAMPLES = 20_000  # at least, and ten for every dimension


def moments(slabs: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of weighted rows, float64.

    Args:
        slabs: pairs of rows (B, d) and weights (B,) ≥ 0, or None for equal weights.

    Returns:
        (d,) and (d, d), on the CPU.
    """
    count, total, product = 0.0, torch.zeros(()), torch.zeros(())
    shift: Tensor | None = None
    for rows, weights in slabs:
        rows = rows.cpu().double()
        shift = rows.mean(0) if shift is None else shift
        centred = rows - shift  # keeps the squares small where the mean is far from zero
        scaled = centred if weights is None else centred * weights.cpu().double()[:, None]
        count += float(len(rows) if weights is None else weights.double().sum())
        total = scaled.sum(0) + total.to(rows)
        product = scaled.T @ centred + product.to(rows)
    if shift is None:
        raise ValueError("expected at least one row, received none")
    mean = total / count
    return shift + mean, product / count - torch.outer(mean, mean)


def moment_map(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The affine map y ↦ A y + b that takes the source's mean and covariance to the target's with least movement.

    A = S^(−1/2) (S^(1/2) C S^(1/2))^(1/2) S^(−1/2) is the optimal transport between normal distributions of
    covariance S and C (Olkin & Pukelsheim 1982). A direction in which the source has no variance cannot be widened.

    Args:
        source: mean (d,) and covariance (d, d) of the samples.
        target: mean (d,) and covariance (d, d) of the data.

    Returns:
        A (d, d) and b (d,), float64.
    """
    values, vectors = torch.linalg.eigh(source[1])
    floor = FLOOR * values[-1].clamp_min(1e-300)
    inverse_root = torch.where(values > floor, values.clamp_min(floor).rsqrt(), torch.zeros_like(values))
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inverse = (vectors * inverse_root) @ vectors.T
    inner_values, inner_vectors = torch.linalg.eigh(root @ target[1] @ root)
    inner = (inner_vectors * inner_values.clamp_min(0).sqrt()) @ inner_vectors.T
    matrix = inverse @ inner @ inverse
    return matrix, target[0] - matrix @ source[0]


@torch.no_grad()
def calibrate(
    sampler: LatentSampler, seed: int, examples: Examples, conditions: Conditions | None, weights: Tensor | None
) -> None:
    """Match the frequency of regions and then mean and covariance, on held-out noise, to those of the data.

    A deviation from the papers: trained samples are not as frequent as the data (see `imle.balance`) and contract
    towards the mean, and this undoes both. Frequencies go first, because they have a part in the moments.
    """
    if examples.dim > MAX_DIM:
        warnings.warn(f"calibrate: skipped, because {examples.dim} dimensions are more than {MAX_DIM}", stacklevel=4)
        return
    generator = stream(seed, HELD_OUT)

    chances = (torch.ones(examples.n) if weights is None else weights.cpu()).double().cumsum(0) / examples.n

    def condition() -> Tensor | None:
        """The conditions of 1,000 random examples."""
        if conditions is None:
            return None
        like = torch.searchsorted(chances, torch.rand(1000, dtype=torch.float64, generator=generator))
        return conditions.values[like.clamp_max(examples.n - 1).to(examples.device)]

    def data() -> Iterator[tuple[Tensor, Tensor | None]]:
        for start, rows in examples.slabs():
            yield rows, None if weights is None else weights[start : start + len(rows)]

    drawn = torch.cat([
        sampler(torch.randn(1000, sampler.noise_dim, generator=generator).to(examples.device), condition())
        for _ in range(0, max(SAMPLES, 10 * examples.dim), 1000)
    ])  # fmt: skip
    importance: Tensor | None = None
    bins = min(balance.BINS, examples.n // balance.EXAMPLES)
    if bins > 1:
        centres = balance.cluster(drawn, bins, seed)
        shares = torch.ones(bins, device=drawn.device)  # one more everywhere: no bin has no weight
        for rows, weight in data():
            shares += torch.bincount(balance.bins(rows, centres), weight, minlength=bins)
        ratio, importance = balance.weights_for(shares / shares.sum(), balance.bins(drawn, centres))
        sampler.set_balance(centres, ratio)
    sampler.set_calibration(*moment_map(moments([(drawn, importance)]), moments(data())))
