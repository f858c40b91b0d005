"""How near samples come to training images: are they new, or copies?

The closeness of an image g is ρ(g) = d(g, x) / d(x, x'): x is the training image nearest to g, x' the training image
nearest to x. A ρ below 1 says that g is nearer to x than any other training image is, which Alaa et al. 2022 ("How
faithful is your synthetic data?", arXiv 2102.08921, section 4) call not authentic. Images that the model never saw have
such a ρ often enough, so that alone says little. Here an image counts as memorised where ρ is less than that of 99 % of
the training images, each measured against all others: of new images, 1 % count too.

d is the Euclidean distance of thumbnails, not of a network's features: copies that a generator has blurred are far from
their originals in the features of a network, and next to them in a thumbnail (figures in docs/metrics.md).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from glann.inversion import thumbnails
from imle.errors import DataError
from imle.search import Neighbours, nearest

QUANTILE = 0.01  # share of new images that are called memorised
NEIGHBOURS = 3  # training images that are found for a sample
_TWIN = 1e-5  # of a thumbnail's norm: images nearer than that are the same one, stored twice


@dataclass(frozen=True)
class Nearest:
    """The nearest training images of some images."""

    rows: Tensor  # (N, 3) int64, of the training images, nearest first
    closeness: Tensor  # (N,) ρ
    contrast: Tensor  # (N,), standard deviation within the thumbnail over that of training images, in the mean

    @classmethod
    def joined(cls, parts: "Sequence[Nearest]") -> "Nearest":
        """Those of several batches, in their order."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def closest(self, count: int) -> Tensor:
        """(count,) int64: which of the images come nearest to a training image, the nearest first."""
        return self.closeness.sort(stable=True).indices[:count]


class TrainingImages:
    """What samples are held against.

    Attributes:
        threshold: ρ below which an image counts as memorised.
        twins: share of the training images that are there twice; each counts once here.

    Args:
        batches: the T training images in order, each (B, C, H, W) in [0, 1].
        points: (B, C, H, W) -> (B, d), what distances are taken of.

    Raises:
        DataError: if fewer than four of them differ.
    """

    def __init__(self, batches: Iterable[Tensor], points: Callable[[Tensor], Tensor] = thumbnails):
        self._of = points
        every = torch.cat([points(batch) for batch in batches])
        if len(every) < 4:
            raise DataError(f"expected at least 4 training images, received {len(every)}")
        scale = float(every.norm(dim=1).mean())
        self._contrast = every.std(1).mean().clamp_min(1e-12)
        others = _others(every, 1)
        row = torch.arange(len(every))
        twin = (others.distances[:, 0] <= _TWIN * scale) & (others.indices[:, 0] < row)
        self.twins = float(twin.float().mean())
        self._rows = row[~twin]
        self._points = every[~twin]
        if len(self._rows) < 4:
            raise DataError(f"expected at least 4 different training images, received {len(self._rows)}")
        others = _others(self._points, 2)
        self._own = others.distances[:, 0]  # (T,) d(x, x')
        # Left out of the training images, x_i has x_j next to it, and x_j's nearest is then any but x_i.
        j = others.indices[:, 0]
        back_is_i = others.indices[j, 0] == torch.arange(len(j))
        beyond = torch.where(back_is_i, others.distances[j, 1], others.distances[j, 0])
        self.threshold = float((self._own / beyond).quantile(QUANTILE))

    def __call__(self, images: Tensor) -> Nearest:
        """The nearest training images.

        Args:
            images: (N, C, H, W) in [0, 1].

        Returns:
            Their rows and how close they are.
        """
        points = self._of(images)
        found = nearest(points, self._points, k=NEIGHBOURS)
        closeness = found.distances[:, 0] / self._own[found.indices[:, 0]]
        return Nearest(self._rows[found.indices], closeness, points.std(1) / self._contrast)

    def share(self, found: Nearest) -> float:
        """Share of images that count as memorised."""
        return float((found.closeness < self.threshold).float().mean())


def _others(points: Tensor, k: int) -> Neighbours:
    """The k nearest of each of (T, d) points among the others, T > k."""
    found = nearest(points, points, k=k + 1)
    own = found.indices == torch.arange(len(points))[:, None]
    own[:, -1] |= ~own.any(1)  # twins have taken its place: leave out the last one instead
    keep = ~own
    return Neighbours(found.indices[keep].view(-1, k), found.distances[keep].view(-1, k))
