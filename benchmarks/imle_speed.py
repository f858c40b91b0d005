"""In which share of the published recipe's time `imle.IMLE` matches as well as it does after 50 epochs.

    python benchmarks/imle_speed.py                          # 50,000 x 64, both at full size
    python benchmarks/imle_speed.py --latents RUN/glo/latents.safetensors
    python benchmarks/imle_speed.py --n 5000 --epochs 10     # to see that it works

Quality is that of fresh samples: the mean distance from 5,000 training latents to the nearest of a fixed pool of
20,000, and the energy distance (unbiased) from 5,000 samples to 5,000 latents held out. Judging is not timed. After the
comparison, one lever after another is set back, so that each row says what that lever alone is worth.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from plain.imle import NOISE_DIM
from plain.imle import fit as fit_plain
from safetensors.torch import load_file
from torch import Tensor, nn

import imle
from imle.metrics import distances_to, energy_distance
from imle.noise import sample_noise

HELD_OUT, QUERIES, POOL = 5000, 5000, 20_000

FAST: dict[str, Any] = {
    "epochs": 16, "refresh": imle.Every(5), "pool": 0.5, "noise_dim": 16, "width": 128, "depth": 4, "lr": 3e-3,
}  # fmt: skip
LEVERS: dict[str, dict[str, Any]] = {
    "re-match every epoch": {"refresh": imle.Every(1)},
    "pool of N": {"pool": 1.0},
    "pool of 2N": {"pool": 2.0},
    "learning rate 1e-3": {"lr": 1e-3},
    "batches of 128": {"batch_size": 128},
    "256 wide": {"width": 256},
    "2 blocks": {"depth": 2},
    "published network": {"network": "reference"},
    "noise of 32 dimensions": {"noise_dim": 32},
    "last weights, no average": {"ema": 0.0},
    "no calibration": {"calibrate": False},
    "and: batches of 512": {"batch_size": 512},
    "and: re-match every 10 epochs": {"refresh": imle.Every(10)},
    "and: inverted lists": {"search": "ivf"},
}


@dataclass(frozen=True)
class Quality:
    """Lower is better in both."""

    distance: float
    energy: float


def glo_like(n: int, dim: int = 64, seed: int = 0) -> Tensor:
    """(n, dim) unit vectors in 20 clusters, each a curved sheet of 12 dimensions with noise around it."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    centres, bends, sheets = draw(20, dim), draw(20, 12, 32), draw(20, 32, dim)
    cluster = torch.randint(20, (n,), generator=generator)
    place, noise = draw(n, 12), draw(n, dim)
    points = torch.empty(n, dim)
    for k in range(20):
        rows = (cluster == k).nonzero()[:, 0]
        sheet = torch.tanh(place[rows] @ bends[k] / 12**0.5) @ sheets[k] / 32**0.5
        points[rows] = 0.7 * centres[k] + 1.2 * sheet + 0.3 * noise[rows]
    return nn.functional.normalize(points, dim=1)


def enlarged(latents: Tensor, n: int) -> Tensor:
    """(n, d) unit vectors: the given ones in turn, the repeated ones with a fifth of noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, latents.shape[1], generator=generator) / latents.shape[1] ** 0.5
    noise[: len(latents)] = 0
    return nn.functional.normalize(latents[torch.arange(n) % len(latents)] + 0.2 * noise, dim=1)


class Judge:
    """Measures samplers against the same latents with the same noise."""

    def __init__(self, train: Tensor, held_out: Tensor):
        self.queries, self.held_out = train[:QUERIES], held_out

    def __call__(self, draw: Callable[[Tensor], Tensor], noise_dim: int) -> Quality:
        with torch.no_grad():
            samples = draw(sample_noise(1, 0, POOL, noise_dim))
        return Quality(
            distances_to(self.queries, samples).mean,
            energy_distance(self.held_out, samples[: len(self.held_out)], unbiased=True),
        )


class Clock:
    """Wall-clock, and processor seconds of all threads: the latter hardly change when other programs run."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds since it was made."""
        return time.perf_counter() - self._wall, time.process_time() - self._processor


def run_imle(train: Tensor, judge: Judge, settings: dict[str, Any]) -> tuple[tuple[float, float], Quality]:
    """Seconds and quality of one fit."""
    clock = Clock()
    sampler = imle.IMLE(**settings).fit(train)
    seconds = clock.read()
    return seconds, judge(sampler, sampler.noise_dim)


def run_plain(train: Tensor, judge: Judge, epochs: int) -> tuple[tuple[float, float], Quality]:
    """Seconds and quality of the published recipe."""
    clock = Clock()
    network = fit_plain(train, epochs)
    seconds = clock.read()
    return seconds, judge(network, NOISE_DIM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000, help="training latents")
    parser.add_argument("--epochs", type=int, default=50, help="of the published recipe")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--levers", action="store_true", help="the levers alone, without the published recipe")
    only.add_argument("--no-levers", action="store_true", help="the comparison alone")
    parser.add_argument("--latents", type=Path, help="a .safetensors with real ones, repeated with noise up to n")
    options = parser.parse_args()

    if options.latents:
        latents = load_file(options.latents)["latents"].float()
        latents = latents[torch.randperm(len(latents), generator=torch.Generator().manual_seed(0))]
        tenth = len(latents) // 10
        train, held_out = enlarged(latents[tenth:], options.n), enlarged(latents[:tenth], HELD_OUT)
    else:
        train, held_out = glo_like(options.n + HELD_OUT).split([options.n, HELD_OUT])
    judge = Judge(train, held_out)
    print(f"{options.n:,} x {train.shape[1]}, {torch.get_num_threads()} threads")
    print(f"{'':40}  seconds  processor  distance  energy distance")

    def show(name: str, seconds: tuple[float, float], quality: Quality) -> None:
        print(
            f"{name:40}  {seconds[0]:7.1f}  {seconds[1]:9.1f}  {quality.distance:8.4f}  {quality.energy:15.5f}",
            flush=True,
        )

    imle.IMLE(epochs=1).fit(train[:500])  # loads what it needs
    fast, quality = run_imle(train, judge, FAST)
    show("imle, fast settings", fast, quality)
    if not options.levers:
        plain, goal = run_plain(train, judge, options.epochs)
        show(f"published recipe, {options.epochs} epochs", plain, goal)
        reached = quality.distance <= goal.distance and quality.energy <= goal.energy
        print(f"{'reached' if reached else 'NOT reached'} in 1/{plain[0] / fast[0]:.1f} of the wall-clock,", end=" ")
        print(f"1/{plain[1] / fast[1]:.1f} of the processor time", flush=True)
    if options.no_levers:
        return
    print("one lever set back at a time:")
    for name, change in LEVERS.items():
        show(name, *run_imle(train, judge, {**FAST, **change}))


if __name__ == "__main__":
    main()
