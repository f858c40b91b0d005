"""What every model of the table shares: a budget of processor seconds, and what training leaves behind."""

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import imle
from glann import glo, losses
from glann.images import ImageSet
from glann.settings import GLOSettings

BF16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))  # networks run in bfloat16 where `glann fit` would, too
LATENT_DIM = 64  # of every generator
PROBE_STEPS, PROBE_EXAMPLES = 12, 512


class Clock:
    """Processor seconds of all threads since it was made, against a budget."""

    def __init__(self, budget: float):
        self.budget, self._start = budget, time.process_time()

    def spent(self) -> float:
        """Processor seconds."""
        return time.process_time() - self._start

    def left(self) -> float:
        """Processor seconds."""
        return self.budget - self.spent()

    def progress(self) -> float:
        """Share of the budget that is spent, 0 … 1."""
        return min(self.spent() / self.budget, 1.0)


@dataclass(frozen=True)
class Trained:
    """What a model of the table leaves behind."""

    draw: Callable[[int, int], Tensor]  # (n, seed) -> (n, C, H, W) float32 in [0, 1]
    parameters: int  # needed to sample
    processor_seconds: float  # spent on training, whatever was measured beforehand included
    facts: dict[str, Any] = field(default_factory=dict)  # epochs, steps, settings: for the row's file
    copies: Callable[[Tensor], Tensor] | None = None  # (n,) rows -> (n, C, H, W) reconstructions, where there are any


def count(*modules: nn.Module) -> int:
    """Parameters of all modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


def from_normal(generator: nn.Module) -> Callable[[int, int], Tensor]:
    """Draw images from standard normal latents."""

    def draw(n: int, seed: int) -> Tensor:
        z = torch.randn(n, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return torch.cat([generator(part) for part in z.split(100)])

    return draw


class _EnoughError(Exception):
    """A probe has seen as many steps as it wanted."""


class _Probe(list[float]):
    """A watcher that notes when each step ended and stops the training after `PROBE_STEPS` of them."""

    def step(self, *progress: object) -> None:
        self.append(time.process_time())
        if len(self) > PROBE_STEPS:
            raise _EnoughError

    def epoch(self, row: object) -> None:
        pass


def probe(fit: Callable[[Any], object]) -> tuple[float, float]:
    """Processor seconds before the first step, and of a step (median), of a training that takes a watcher."""
    started, stamps = time.process_time(), _Probe()
    with contextlib.suppress(_EnoughError):
        fit(stamps)
    step = statistics.median(b - a for a, b in itertools.pairwise(stamps))
    return max(stamps[0] - started - step, 0.0), step


def fit_glo(images: ImageSet, settings: GLOSettings, seconds: float, seed: int) -> tuple[glo.GLOResult, GLOSettings]:
    """Stage 1 with as many epochs as fit into the seconds, by a short training on a few of the images."""
    clock = Clock(seconds)
    size, whole = glo.batch_size(settings, len(images)), glo.epochs_for(settings, len(images))
    settings = settings.model_copy(update={"batch_size": size})
    made = losses.build(settings.loss, size=(images.height, images.width), channels=images.channels)

    def train(some: ImageSet, epochs: int, watcher: Any = None) -> glo.GLOResult:
        chosen = settings.model_copy(update={"epochs": epochs})
        return glo.fit(some, chosen, lambda: made, seed=seed, bf16=BF16, watcher=watcher)

    few = ImageSet(images.pixels[:PROBE_EXAMPLES], images.paths[:PROBE_EXAMPLES], None, "", 0)
    probe(lambda watcher: train(few, 10, watcher))  # what is done for the first time takes longer
    before, step = probe(lambda watcher: train(few, 10, watcher))
    fill = before * len(images) / len(few)  # the latents' start, and the targets' features
    epochs = max(1, math.floor((clock.left() - fill) / (step * glo.batches_for(settings, len(images)))))
    halving = max(1, round(settings.decay_epochs * epochs / whole))  # as often as in the whole training
    settings = settings.model_copy(update={"epochs": epochs, "decay_epochs": halving})
    return train(images, epochs), settings


def imle_epochs(settings: imle.IMLE, x: Tensor, seconds: float, **arguments: Any) -> imle.IMLE:
    """The settings with as many epochs as fit into the seconds, by the first steps of the same fit."""
    clock, many = Clock(seconds), replace(settings, epochs=100)
    probe(lambda watcher: many.fit(x[:PROBE_EXAMPLES], watcher=watcher, **arguments))  # the first time takes longer
    match, step = probe(lambda watcher: many.fit(x, watcher=watcher, **arguments))
    assert isinstance(settings.refresh, imle.Every)
    epoch = match / settings.refresh.epochs + step * settings.steps_for(len(x))
    return replace(settings, epochs=max(1, math.floor(clock.left() / epoch)))
