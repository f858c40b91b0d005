"""Samples of the dense regions only: fewer stray ones, at the price of variety.

A GAN is truncated by drawing its noise from a shorter tail (Brock et al. 2019, arXiv 1809.11096, section 3.1), which
presumes that short noise is typical noise. IMLE gives it no such role, and shrinking noise loses modes sooner than
stray samples (measured in docs/sampling.md). What IMLE does give is density: where many samples fall, many examples
have pulled. So a sample is kept if it lies in the densest share of what the sampler itself makes, and drawn again if
not.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from imle.noise import stream
from imle.search import nearest

if TYPE_CHECKING:
    from imle.sampler import LatentSampler

REFERENCE = 4096  # samples that density is measured among
NEIGHBOUR = 4  # the nearer this neighbour, the denser the place; larger numbers lose modes sooner (docs/sampling.md)
ATTEMPTS = 64  # draws for one sample; all miss the densest tenth once in a thousand times
BLOCK = 256  # samples decided together; part of the format, so that a sample never depends on how many were asked for
_REFERENCE, _AGAIN = 11, 12  # keys of the random streams


class Truncation:
    """The densest share of what a sampler makes.

    The density at a point is judged by the distance to its 4th nearest among 4,096 samples of a fixed seed; these also
    tell which distance the densest share stays below. No training data is needed.

    Args:
        sampler: any trained sampler.
        condition: one label or one vector that all samples have, for a conditional sampler.
    """

    def __init__(self, sampler: "LatentSampler", condition: Any = None):
        self.sampler, self.condition = sampler, condition
        seed = stream(0, _REFERENCE).initial_seed()
        self.reference = sampler.sample(REFERENCE, seed=seed, condition=condition).flatten(1)
        self.radii = self._radii(self.reference, NEIGHBOUR + 1).sort().values  # the nearest is the point itself

    def sample(self, n: int, share: float, seed: int = 0, start: int = 0) -> Tensor:
        """Samples ``start … start + n − 1`` of a seed, each from the densest share.

        Sample k is sample k of the plain sampler where that is dense enough, else the first of its further draws that
        is, else the densest of 64 draws. It has the same bits whatever n and start.

        Args:
            n: how many, ≥ 0.
            share: of the sampler's samples that count as dense, in (0, 1]; 1 takes them all.
            seed: which sequence, 0 … 2⁶⁴ − 1.
            start: index of the first sample, ≥ 0.

        Returns:
            (n, d) float32 on the CPU, or (n, …) for a sampler of another shape.

        Raises:
            ValueError: for a share, n, start or seed out of range.
        """
        check_share(share)
        if share == 1 or n == 0:
            return self.sampler.sample(n, seed=seed, condition=self.condition, start=start)
        limit = self.radii[max(1, round(share * REFERENCE)) - 1]
        first = start - start % BLOCK
        blocks = [self._block(seed, at, limit) for at in range(first, start + n, BLOCK)]
        return torch.cat(blocks)[start - first :][:n].clone()

    def _block(self, seed: int, first: int, limit: Tensor) -> Tensor:
        best = self.sampler.sample(BLOCK, seed=seed, condition=self.condition, start=first)
        radii = self._radii(best.flatten(1), NEIGHBOUR)
        for attempt in range(1, ATTEMPTS):
            if (radii <= limit).all():
                break
            again = stream(seed, _AGAIN, attempt).initial_seed()
            drawn = self.sampler.sample(BLOCK, seed=again, condition=self.condition, start=first)
            found = self._radii(drawn.flatten(1), NEIGHBOUR)
            better = (radii > limit) & (found < radii)
            best[better], radii[better] = drawn[better], found[better]
        return best

    def _radii(self, points: Tensor, k: int) -> Tensor:
        return nearest(points, self.reference, k=k, method="exact").distances[:, -1]


def truncated(
    sampler: "LatentSampler", n: int, share: float, *, seed: int = 0, start: int = 0, condition: Tensor | None = None
) -> Tensor:
    """Samples ``start … start + n − 1`` of a seed, each from the densest share of its own label; see `Truncation`.

    Args:
        sampler: any trained sampler, without a condition or with labels.
        n: how many, ≥ 0.
        share: as of `Truncation.sample`.
        seed: which sequence, 0 … 2⁶⁴ − 1.
        start: index of the first sample, ≥ 0.
        condition: (n,) labels, or None.

    Returns:
        (n, d) float32 on the CPU, or (n, …) for a sampler of another shape.
    """
    if condition is None:
        return Truncation(sampler).sample(n, share, seed, start)
    samples = torch.empty(n, *sampler.shape)
    for label in condition.unique():
        own = condition == label
        samples[own] = Truncation(sampler, label).sample(n, share, seed, start)[own]
    return samples


def check_share(share: float) -> None:
    """ValueError for a truncation outside (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"truncation: expected a number above 0 and up to 1, received {share}")
