"""What happens when all samples start far from all data: gradient norms and losses of IMLE and of a GAN's generator.

python benchmarks/studies/stability.py
"""

import argparse
import itertools
import math
import warnings
from statistics import fmean, median
from typing import Any

import gan
import torch
from common import COLOURS, MLP, WIDTH, GradientNorm, in_workers, plt, save, spread, table
from torch import Tensor

import imle
from imle.metrics import energy_distance

N, NOISE_DIM, HIDDEN, DEPTH, BATCH, EPOCHS = 1000, 2, 128, 3, 128, 100
STEPS = EPOCHS * -(-N // BATCH)
SHIFT = 20.0  # standard deviations of the data between the centre of the samples and that of the data
LOOK_EVERY = 40  # steps between two energy distances
IMLES: dict[str, dict[str, Any]] = {
    "IMLE, pool 50": {"pool_size": 50},
    "IMLE, pool 200": {"pool_size": 200},
    "IMLE, pool 200, direction 0.9": {"pool_size": 200, "direction": 0.9},
}
METHODS = (*IMLES, "GAN, non-saturating", "GAN, saturating")


def data(seed: int) -> Tensor:
    """(N, 2) points: a ring of radius √2 with noise, so that each axis has a standard deviation of one."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.rand(N, generator=generator) * 2 * torch.pi
    ring = 2**0.5 * torch.stack([angle.cos(), angle.sin()], 1)
    return ring + 0.1 * torch.randn(N, 2, generator=generator)


class Record:
    """Gradient norm and loss at every step, energy distance to fresh data now and then."""

    def __init__(self, network: MLP, seed: int):
        self.network, self.norm, self.test = network, GradientNorm(network), data(10_000 + seed)
        self.noise = torch.randn(N, NOISE_DIM, generator=torch.Generator().manual_seed(seed))
        self.norms: list[float] = []
        self.losses: list[float] = []
        self.distances = [self.distance()]

    @torch.no_grad()
    def distance(self) -> float:
        return energy_distance(self.test, self.network(self.noise))

    def after_step(self, step: int, loss: float) -> None:
        self.norms.append(self.norm.take())
        self.losses.append(loss)
        if step % LOOK_EVERY == 0:
            self.distances.append(self.distance())

    def step(self, epoch: int, epochs: int, done: int, total: int, loss: Tensor) -> None:
        """As a watcher of an IMLE fit."""
        self.after_step(len(self.losses) + 1, float(loss))

    def epoch(self, row: dict[str, Any]) -> None:
        pass


def one_seed(method: str, seed: int) -> dict[str, Any]:
    """One training with everything that was seen on the way."""
    warnings.filterwarnings("ignore", "pool: ")
    x = data(seed)
    torch.manual_seed(seed)
    network = MLP(NOISE_DIM, 2, HIDDEN, DEPTH, shift=SHIFT / 2**0.5)
    record = Record(network, seed)
    if method in IMLES:
        settings = imle.IMLE(
            epochs=EPOCHS, noise_dim=NOISE_DIM, batch_size=BATCH, lr=gan.LR, refresh=imle.Every(1), calibrate=False,
            ema=0.0, seed=seed, **IMLES[method],
        )  # fmt: skip
        settings.fit(x, model=network, watcher=record)
    else:
        critic = MLP(2, 1, HIDDEN, DEPTH)
        saturating = method == "GAN, saturating"
        gan.train(
            network, critic, x, NOISE_DIM, BATCH, seed, steps=STEPS, saturating=saturating,
            after_step=record.after_step,
        )  # fmt: skip
    return {
        "method": method, "seed": seed, "norms": record.norms, "losses": record.losses, "energy": record.distances,
    }  # fmt: skip


def figures_of(run: dict[str, Any]) -> dict[str, Any]:
    """What the table says of one training."""
    late = torch.tensor(run["norms"][STEPS // 2 :])
    below = [i * LOOK_EVERY for i, distance in enumerate(run["energy"]) if distance < 1]
    return {
        "method": run["method"], "seed": run["seed"], "first_norm": fmean(run["norms"][:10]),
        "smallest_norm": min(smooth(run["norms"])), "norm_jitter": float(late.std() / late.mean()),
        "final_loss": fmean(run["losses"][-40:]), "final_energy": run["energy"][-1],
        "first_energy_below_1": below[0] if below else math.inf,
    }  # fmt: skip


def band(axis: Any, steps: Any, curves: list[list[float]], colour: str, label: str) -> None:
    """Median over seeds, and the range from the 10 % to the 90 % quantile."""
    low, middle, high = torch.tensor(curves).quantile(torch.tensor([0.1, 0.5, 0.9]), dim=0)
    axis.plot(steps, middle, color=colour, lw=1.4, label=label)
    axis.fill_between(steps, low, high, color=colour, alpha=0.2, lw=0)


def smooth(curve: list[float], window: int = 10) -> list[float]:
    """Means of ten steps."""
    return torch.tensor(curve).unfold(0, window, window).mean(1).tolist()


def picture(runs: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.1))
    for method, colour in zip(METHODS, (COLOURS[3], COLOURS[0], COLOURS[6], COLOURS[1], COLOURS[2]), strict=True):
        some = [r for r in runs if r["method"] == method]
        norms = [smooth(r["norms"]) for r in some]
        band(axes[0], range(5, STEPS, 10), norms, colour, method)
        losses = [smooth(r["losses"]) for r in some]
        if method == "GAN, saturating":  # shown as distance from its bound of 0
            losses = [[-v for v in curve] for curve in losses]
        band(axes[1], range(5, STEPS, 10), losses, colour, method)
        band(axes[2], range(0, STEPS + 1, LOOK_EVERY), [r["energy"] for r in some], colour, method)
    axes[0].set(title="gradient norm", yscale="log", xlabel="step")
    axes[1].set(title="loss (saturating: −loss)", yscale="log", xlabel="step")
    axes[2].set(title="energy distance to data", yscale="log", xlabel="step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    jobs = list(itertools.product(METHODS, range(options.seeds)))
    runs = in_workers(one_seed, jobs, options.workers)
    lines, rows = [], []
    for method in METHODS:
        own = [figures_of(run) for run in runs if run["method"] == method]
        rows += own
        lines.append(
            [
                method,
                *(f"{median([r[key] for r in own]):.2g}" for key in ("first_norm", "smallest_norm")),
                spread([r["norm_jitter"] for r in own], 2),
                spread([r["final_loss"] for r in own]),
                spread([r["final_energy"] for r in own]),
                f"{max(r['final_energy'] for r in own):.3g}",
                f"{median([r['first_energy_below_1'] for r in own]):.0f}",
            ]
        )
    head = [
        "method", "gradient norm, first 10 steps", "smallest", "second half, sd / mean", "final loss",
        "final energy distance", "worst seed", "steps until it is below 1",
    ]  # fmt: skip
    table(head, lines)
    settings = {"shift": SHIFT, "steps": STEPS, "n": N, "lr": gan.LR, "batch_size": BATCH}
    curves = {
        method: {
            key: torch.tensor([smooth(r[key], 40 if key != "energy" else 1) for r in runs if r["method"] == method])
            .median(0).values.tolist()
            for key in ("norms", "losses", "energy")
        }
        for method in METHODS
    }  # fmt: skip
    for row in rows:
        if math.isinf(row["first_energy_below_1"]):
            row["first_energy_below_1"] = None
    save(
        "stability",
        {"settings": settings, "imle": IMLES, "rows": rows, "median_curves": curves},
        {"stability": picture(runs)},
    )
