"""Candidates: fresh noise, mapped without gradient, a slab at a time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imle.data import slab_rows
from imle.errors import DivergedError
from imle.noise import stream
from imle.sampler import LatentSampler

POOL = 101  # what the random stream is for
FORWARD_NUMBERS = 2**20  # outputs that one forward pass without gradient makes at most


class Stopwatch:
    """Seconds per phase of an epoch."""

    def __init__(self, device: torch.device):
        self.seconds = {"generate": 0.0, "build": 0.0, "search": 0.0, "train": 0.0}
        self._device = device
        self._last = time.perf_counter()

    def lap(self, phase: str | None) -> None:
        """Count the time since the last call for a phase, or for none."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if phase is not None:
            self.seconds[phase] += now - self._last
        self._last = now


@dataclass(frozen=True)
class Generator:
    """Noise -> samples in search space, with the network as it stands."""

    sampler: LatentSampler
    features: Callable[[Tensor], Tensor]
    device: torch.device
    seed: int
    clock: Stopwatch

    def draw(self, count: int, *key: int) -> Tensor:
        """(count, noise_dim) standard normal noise that belongs to the key."""
        generator = stream(self.seed, POOL, *key)
        return torch.randn(count, self.sampler.noise_dim, generator=generator).to(self.device)

    def __call__(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Map noise to search space, without gradient.

        Args:
            noise: (B, noise_dim).
            condition: (B,) or (B, c), or None.

        Returns:
            (B, k).

        Raises:
            DivergedError: if a sample is not finite.
        """
        self.clock.lap("search")  # what happened since the slab before
        rows = max(16, FORWARD_NUMBERS // self.sampler.dim)
        parts = []
        with torch.no_grad():
            for start in range(0, len(noise), rows):
                some = None if condition is None else condition[start : start + rows]
                parts.append(self.features(self.sampler(noise[start : start + rows], some)).float())
        samples = torch.cat(parts)
        if not torch.isfinite(samples).all():
            raise DivergedError("the samples are no longer finite; a smaller lr may help")
        self.clock.lap("generate")
        return samples


@dataclass
class Pool:
    """m candidates of one condition; the same slab again has the same candidates.

    Args:
        generate: draws and maps the noise.
        size: m.
        label: the condition of all of them, (), or None.
        dim: numbers a candidate has in search space.
        key: what tells this pool's randomness from that of others.
    """

    generate: Generator
    size: int
    label: Tensor | None
    dim: int
    key: tuple[int, ...]
    _only: tuple[int, Tensor, Tensor] | None = field(default=None, init=False)

    def slabs(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(index of the first candidate, noise (s, noise_dim), samples in search space (s, k)), in order."""
        if self._only is not None:
            yield self._only
            return
        rows = slab_rows(max(self.dim, self.generate.sampler.dim, self.generate.sampler.noise_dim))
        for number, start in enumerate(range(0, self.size, rows)):
            noise = self.generate.draw(min(rows, self.size - start), *self.key, number)
            condition = None if self.label is None else self.label.expand(len(noise))
            slab = (start, noise, self.generate(noise, condition))
            if len(noise) == self.size:
                self._only = slab
            yield slab
