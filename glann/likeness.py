"""How much new images are like training images, and how much is to be expected."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glann.inversion import distance_of, thumbnails
from imle.data import evenly
from imle.search import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glann.images import ImageSet
    from glann.info import StageFiles
    from glann.model import GLANN

_MOST, _LEAST, _PIXELS = 32, 8, 2**17  # new images that are looked at: fewer of large ones, 32 up to 64×64
_SHORTLIST = 8  # training images whose perceptual distance is measured, of each of two kinds
_SHOWN = 3  # of them, the nearest
_PORTION = 1024  # images shrunken at once


@dataclass(frozen=True)
class Likeness:
    """The training images nearest to each of Q new ones, and two yardsticks; all in one perceptual distance."""

    loss_name: str
    images: Tensor  # (Q, C, H, W) new images, the one most like a training image first
    rows: Tensor  # (Q, 3) int64, which training images, nearest first
    distances: Tensor  # (Q, 3)
    to_copy: float  # median distance between a training image and its own reconstruction
    to_other: float  # median distance between a training image and the nearest other one

    @property
    def to_training(self) -> float:
        """Median distance between a new image and the nearest training image."""
        return float(self.distances[:, 0].median())

    @property
    def telling(self) -> bool:
        """Whether images are nearer to their reconstructions than to each other; else no copy can be told."""
        return self.to_copy < self.to_other

    @property
    def copies(self) -> int:
        """New images that are as near to a training image as half of all reconstructions are to theirs."""
        return int((self.distances[:, 0] <= self.to_copy).sum())


def measure(
    model: "GLANN", stages: "Sequence[StageFiles]", images: "ImageSet", latents: Tensor, labels: Tensor | None
) -> Likeness:
    """Find the training images that new images are most like.

    The distance is that of the model where it can be had without a download. It is measured to 16 candidates: the 8
    nearest by composition, among all images shrunken to at most 16 pixels, and the 8 nearest by latent.

    Args:
        model: a trained model.
        stages: of its run.
        images: N ≥ 4 training images.
        latents: (N, d) of the training images, unit rows.
        labels: (N,) int64 classes, or None.

    Returns:
        What was found for the first 8 to 32 samples of seed 0, with classes one after the other of all classes.
    """
    name, loss = distance_of(model, stages)
    parts = torch.arange(len(images)).split(_PORTION)
    small = torch.cat([thumbnails(images.batch(rows)) for rows in parts])

    def compare(one: Tensor, others: Tensor) -> Tensor:
        with torch.no_grad():
            return loss(one.expand_as(others), others).float()

    def search(queries: Tensor, codes: Tensor, itself: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(Q, C, H, W) with latents (Q, d) -> rows and distances (Q, 3), without the images that are the queries."""
        k = min(_SHORTLIST + (itself is not None), len(images))
        by_look, by_code = nearest(thumbnails(queries), small, k=k), nearest(codes, latents, k=k)
        rows, distances = [], []
        for i, found in enumerate(torch.cat([by_look.indices, by_code.indices], 1)):
            candidates = found.unique()
            if itself is not None:
                candidates = candidates[candidates != itself[i]]
            measured = compare(queries[i : i + 1], images.batch(candidates))
            best = measured.sort(stable=True).indices[:_SHOWN]
            rows.append(candidates[best])
            distances.append(measured[best])
        return torch.stack(rows), torch.stack(distances)

    count = max(_LEAST, min(_MOST, _PIXELS // math.prod(model.size)))
    asked = torch.arange(count) % len(model.classes) if model.classes else None
    codes = model.sampler.sample(count, seed=0, condition=asked)
    drawn = model.decode(codes, asked)
    rows, distances = search(drawn, codes)

    some = evenly(len(images), count)
    originals = images.batch(some)
    copies = model.decode(latents[some], None if labels is None else labels[some])
    to_copy = torch.cat([compare(a[None], b[None]) for a, b in zip(copies, originals, strict=True)])
    to_other = search(originals, latents[some], some)[1][:, 0]
    order = distances[:, 0].sort(stable=True).indices
    return Likeness(
        name, drawn[order], rows[order], distances[order], float(to_copy.median()), float(to_other.median())
    )
