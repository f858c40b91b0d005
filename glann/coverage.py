"""Whether every training image has a sample near it: what IMLE promises, measured on the finished model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imle.data import evenly
from imle.search import nearest

if TYPE_CHECKING:
    from imle import LatentSampler

_EXAMINED = 5_000  # latents, evenly spread over very many
_COMPARED = 65_536  # samples and other latents, at most


@dataclass(frozen=True)
class Coverage:
    """Euclidean distances between latents on the unit sphere, of Q training images."""

    rows: Tensor  # (Q,) int64, which training images
    to_sample: Tensor  # (Q,) to the nearest new sample
    to_other: Tensor  # (Q,) to the nearest other training image; infinite for one that is alone in its class
    nearest: Tensor  # (Q, d) that sample
    samples: int  # as many as other training images


def measure(sampler: "LatentSampler", latents: Tensor, labels: Tensor | None) -> Coverage:
    """Look for the nearest sample, and for the nearest other image, of each training latent.

    As many samples are drawn as there are latents to compare with, so that the two distances have the same chance. With
    classes, only samples and images of the same class count, as in the training.

    Args:
        sampler: noise -> latents.
        latents: (N, d) of the training images, unit rows, N ≥ 2.
        labels: (N,) int64 classes, or None.

    Returns:
        The distances.
    """
    compared = evenly(len(latents), _COMPARED)
    rows = compared[evenly(len(compared), _EXAMINED)]
    classes = torch.zeros(len(latents), dtype=torch.long) if labels is None else labels
    samples = sampler.sample(len(compared), seed=0, condition=None if labels is None else labels[compared])
    to_sample, to_other = torch.empty(len(rows)), torch.full((len(rows),), torch.inf)
    closest = torch.empty(len(rows), latents.shape[1])
    for label in classes[rows].unique():
        mine, theirs = classes[rows] == label, classes[compared] == label
        queries, others, drawn = latents[rows[mine]], latents[compared[theirs]], samples[theirs]
        found = nearest(queries, drawn)
        to_sample[mine], closest[mine] = found.distances[:, 0], drawn[found.indices[:, 0]]
        if len(others) > 1:
            to_other[mine] = nearest(queries, others, k=2).distances[:, 1]  # the nearest of all is the image itself
    return Coverage(rows, to_sample, to_other, closest, len(compared))
