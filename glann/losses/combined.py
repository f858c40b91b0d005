"""Distances made of distances: weighted sums, and a distance of shrunken images."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glann.losses.distance import PerceptualDistance


class WeightedSum(PerceptualDistance):
    """``Σᵢ wᵢ · dᵢ(x, x')``.

    Args:
        parts: the distances dᵢ.
        weights: wᵢ > 0, one a part.
        shape: (C, H, W) of one image.
    """

    def __init__(self, parts: Sequence[PerceptualDistance], weights: Sequence[float], shape: tuple[int, int, int]):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.weights = tuple(weights)
        # Cached targets arrive as one flat tuple: how many of them belong to each part is learnt from a blank image.
        self.counts = tuple(len(part.prepare(torch.zeros(1, *shape))) for part in parts)
        self.cacheable = any(part.cacheable for part in parts)

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        """See `PerceptualDistance.prepare`: what the parts prepare, one after the other."""
        return tuple(tensor for part in self._each() for tensor in part.prepare_planes(planes))

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """See `PerceptualDistance.compare`."""
        total, start = planes.new_zeros(len(planes)), 0
        for part, weight, count in zip(self._each(), self.weights, self.counts, strict=True):
            total = total + weight * part.compare_planes(planes, prepared[start : start + count])
            start += count
        return total

    def _each(self) -> Iterator[PerceptualDistance]:
        return cast("Iterator[PerceptualDistance]", iter(self.parts))


class Shrunken(PerceptualDistance):
    """A distance of images shrunken by averaging blocks of pixels, so that it sees larger structures.

    Args:
        part: the distance, made for the shrunken size.
        factor: height and width are divided by it; pixels beyond a whole multiple are dropped.
    """

    def __init__(self, part: PerceptualDistance, factor: int):
        super().__init__()
        self.part = part
        self.factor = factor
        self.cacheable = part.cacheable

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        """See `PerceptualDistance.prepare`."""
        return self.part.prepare_planes(F.avg_pool2d(planes, self.factor))

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """See `PerceptualDistance.compare`."""
        return self.part.compare_planes(F.avg_pool2d(planes, self.factor), prepared)
