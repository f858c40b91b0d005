"""How near new images are to the held-out ones while stage 2 trains: a score that costs little."""

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glann import features
from glann.classes import draw_labels
from glann.evaluation_images import to_bytes
from glann.scores import kernel_chance, kernel_distance
from glann.snapshots import draw
from imle.data import evenly

if TYPE_CHECKING:
    from glann.features import Features
    from glann.images import ImageSet
    from imle import LatentSampler

KEY = "held_out_kernel_distance"  # in metrics.jsonl; with more behind it for what else is scored
LOOKS = 10  # in a training
SHARE = 20  # training images for one in a set: all looks then judge half as many samples as these
LEAST, MOST = 100, 500  # images in a set, where there are as many; what chance does: benchmarks/studies/held_out.py


class HeldOutScore:
    """The kernel distance (Bińkowski et al. 2018) of samples to held-out images.

    Samples 0 … n − 1 of seed 0 are compared with n held-out images, spread evenly over all. The yardstick is what
    chance does between these and n training images, see `kernel_chance`. The network that judges is the one that
    `glann evaluate` takes by itself.

    Args:
        images: those to train on, with those held out.
        generator: (B, d), with classes also (B,) -> (B, C, H, W) in [0, 1].
        loss: the perceptual distance that it was trained with, by name; None where that is not known.
        epochs: of the training.
        device: where the network runs.
        say: is given a line a look.
    """

    def __init__(
        self, images: "ImageSet", generator: nn.Module, loss: str | None, epochs: int, device: str,
        say: Callable[[str], None],
    ):  # fmt: skip
        assert images.held_out is not None
        self._images, self._held_out, self._generator = images, images.held_out, generator
        self._loss, self._epochs, self._device, self._say = loss, epochs, device, say
        self.count = min(len(self._held_out), len(images), max(LEAST, min(MOST, len(images) // SHARE)))

    def due(self, epoch: int) -> bool:
        """Whether samples are scored after this epoch: after every tenth of the epochs, and at the end."""
        return epoch == self._epochs or epoch % math.ceil(self._epochs / LOOKS) == 0

    def __call__(self, epoch: int, sampler: "LatentSampler") -> dict[str, Any]:
        """Score a sampler as it is now.

        Args:
            epoch: that is done.
            sampler: on any device.

        Returns:
            Figures for the row of the epoch; a sampler that is calibrated has a key of its own.
        """
        started = time.monotonic()
        calibrated = bool(sampler.to_config()["calibrated"])
        value = kernel_distance(self._reference, self._judge(self._draw(sampler)))
        what = "calibrated samples" if calibrated else "samples"
        self._say(
            f"epoch {epoch}: kernel distance × 1000 of {self.count} {what} to held-out images {1000 * value:.2f}; "
            f"real images stay below {1000 * self._chance:.2f} ({self._judge.name})"
        )
        return {
            f"{KEY}_calibrated" if calibrated else KEY: value,
            f"{KEY}_chance": self._chance,
            "held_out_images": self.count,
            "held_out_features": self._judge.name,
            "seconds_held_out": time.monotonic() - started,
        }

    @cached_property
    def _judge(self) -> "Features":
        name, warnings = features.choose(features.AUTO, self._loss)
        for line in warnings:
            self._say(f"warning: {line}")
        return features.build(name, (self._images.height, self._images.width), device=self._device)

    @cached_property
    def _reference(self) -> Tensor:
        return self._judge(self._some(self._held_out))

    @cached_property
    def _chance(self) -> float:
        return kernel_chance(self._reference, self._judge(self._some(self._images)))

    def _some(self, images: "ImageSet") -> Tensor:
        """(n, C, H, W) uint8, spread evenly over all of them."""
        return to_bytes(images.batch(evenly(len(images), self.count)))

    def _draw(self, sampler: "LatentSampler") -> Tensor:
        """(n, C, H, W) uint8: what `glann.GLANN.sample` gives for seed 0."""
        counts = torch.bincount(rows).tolist() if (rows := self._images.class_rows()) is not None else []
        labels = draw_labels(counts, 0, 0, self.count) if counts else None
        latents = sampler.sample(self.count, seed=0, condition=labels)
        return to_bytes(draw(self._generator, latents, labels))
