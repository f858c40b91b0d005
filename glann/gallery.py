"""New images of a model, arranged for people to look at."""

from typing import TYPE_CHECKING

import torch

from glann import pictures
from imle.noise import sample_noise

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from glann.model import GLANN

_SAMPLES = 64  # images in the picture of a model without classes
_ROW = 8  # images of one class
_CLASSES = 32  # rows in one picture, so that nobody has to scroll through a thousand
_SEED = 0


def samples(model: "GLANN") -> "Image":
    """A square of new images; with classes, a row for each of the first 32 of them."""
    if not model.classes:
        return pictures.grid(model.sample(_SAMPLES, seed=_SEED))
    rows = [model.sample(_ROW, seed=_SEED, label=name) for name in model.classes[:_CLASSES]]
    return pictures.grid(torch.cat(rows), columns=_ROW)


def class_rows(model: "GLANN", count: int = 12) -> list[tuple[str, "Image"]]:
    """(name, a row of new images) for each of the first 32 classes; images of one column share their noise.

    Args:
        model: one with classes; without, there are no rows.
        count: images in a row, ≥ 1.

    Returns:
        Rows in the order of the classes.
    """
    return [
        (name, pictures.grid(model.sample(count, seed=_SEED, label=name), columns=count))
        for name in model.classes[:_CLASSES]
    ]


def way(model: "GLANN", first: int, last: int, frames: int, label: int | None = None) -> "Tensor":
    """From one sample of seed 0 to another, along a great circle of noise.

    Args:
        model: a trained model.
        first: number of the sample to begin at, ≥ 0.
        last: number of the sample to end at.
        frames: images, both ends included, ≥ 2.
        label: for a model with classes, that of all frames.

    Returns:
        (frames, C, H, W) in [0, 1].
    """
    start, end = (sample_noise(_SEED, k, 1, model.sampler.noise_dim)[0] for k in (first, last))
    return model.decode(model.sampler.interpolate(start, end, frames, label), label)
