"""Draws the pictures of docs/imle.md, all or those named; about three minutes on two cores.

python docs/examples/figures.py [NAME…]
"""

import math
import os
import runpy
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor, nn

import imle
from imle.metrics import balls, distances_to, nearest_mode
from imle.networks import Residual
from imle.noise import sample_noise

IMAGES = Path(__file__).resolve().parents[1] / "images"
DATA, SAMPLE, THIRD, FOURTH, GREY = "#0b6e99", "#d1495b", "#edae49", "#66a182", "#8d99ae"
# Small and thorough: in a plane few candidates suffice, and calibration would hide what the pieces do.
QUICK: dict[str, Any] = {
    "epochs": 200, "noise_dim": 2, "width": 64, "depth": 2, "batch_size": 40, "lr": 3e-3, "pool": 0.5,
    "refresh": imle.Every(1), "calibrate": False,
}  # fmt: skip

plt.rcParams.update(
    {
        "figure.dpi": 100, "savefig.dpi": 100, "font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False,
        "axes.spines.right": False, "legend.frameon": False, "figure.constrained_layout.use": True,
    }
)  # fmt: skip


def panels(count: int, height: float = 2.0, flat: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure 700 pixels wide; flat panels show a plane and have no numbers on their axes."""
    figure, axes = plt.subplots(1, count, figsize=(7.0, height), squeeze=False)
    for axis in axes[0] if flat else []:
        axis.set_aspect("equal")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, list(axes[0])


def dots(axis: Axes, points: Any, colour: str, size: float = 9, **options: Any) -> None:
    """Points of a plane."""
    axis.scatter(points[:, 0], points[:, 1], s=size, c=colour, linewidths=0, **options)


def links(axis: Axes, start: Any, end: Any, colour: str = GREY) -> None:
    """A line from each start to its end."""
    axis.add_collection(LineCollection(list(np.stack([start, end], 1)), colors=colour, linewidths=0.8, zorder=0))


def frame(points: Tensor, margin: float = 0.15) -> dict[str, tuple[float, float]]:
    """Limits that show the points and a margin of their extent."""
    low, high = points.amin(0), points.amax(0)
    edge = margin * float((high - low).max())
    return {
        "xlim": (float(low[0]) - edge, float(high[0]) + edge),
        "ylim": (float(low[1]) - edge, float(high[1]) + edge),
    }


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def arcs(n: int = 80, seed: int = 0) -> Tensor:
    """Two half circles that reach into each other."""
    angle = math.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed))
    upper = (torch.arange(n) % 2 == 0)[:, None]
    points = torch.where(
        upper, torch.stack([angle.cos(), angle.sin()], 1), torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    )
    return points + 0.06 * normal(n, 2, seed=seed + 1)


def ring(n: int = 400, modes: int = 8, seed: int = 0) -> Tensor:
    """Gaussians on a circle."""
    angle = torch.arange(n) % modes * math.tau / modes
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * normal(n, 2, seed=seed)


def network(seed: int = 0, width: int = 64, depth: int = 2) -> nn.Module:
    """A generator of two noise dimensions that starts as a small blob."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Residual(2, 2, width, depth)


class Film:
    """A watcher that keeps what the network makes of some noise after given epochs."""

    def __init__(self, module: nn.Module, noise: Tensor, epochs: tuple[int, ...]):
        self._module, self._noise, self._epochs = module, noise, epochs
        self.frames = {0: self._shot()}
        self.rows: list[dict[str, Any]] = []

    def _shot(self) -> Tensor:
        with torch.no_grad():
            return self._module(self._noise)

    def step(self, epoch: int, epochs: int, done: int, total: int, loss: Any) -> None:
        """Nothing to see within an epoch."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Keep the frame."""
        self.rows.append(row)
        if row["epoch"] in self._epochs:
            self.frames[row["epoch"]] = self._shot()


def matched(axis: Axes, x: Tensor, pool: Tensor) -> Tensor:
    """Examples, pool, and a line from each example to its nearest sample; returns which sample that is."""
    nearest = imle.nearest(x, pool).indices[:, 0]
    links(axis, x, pool[nearest])
    dots(axis, pool, SAMPLE, 7, label="samples")
    dots(axis, x, DATA, 14, label="examples")
    return nearest


def idea() -> Figure:
    """The loop at three moments."""
    x, module = arcs(80), network()
    film = Film(module, sample_noise(0, 0, 120, 2), (10, 200))
    imle.IMLE(**QUICK).fit(x, model=module, watcher=film)
    figure, axes = panels(3, 1.8)
    for axis, (epoch, pool) in zip(axes, film.frames.items(), strict=True):
        matched(axis, x, pool)
        axis.set(title="before" if epoch == 0 else f"after {epoch} epochs", **frame(x, 0.1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=2, handletextpad=0.1)
    return figure


def promises() -> Figure:
    """Every mode, starts near and far, and five seeds."""
    figure, axes = panels(3, 2.4, flat=False)
    modes = ring(240)
    samples = imle.IMLE(**{**QUICK, "pool": 0.25}).fit(modes).sample(600, seed=1)
    dots(axes[0], modes, DATA, 8)
    dots(axes[0], samples, SAMPLE, 3)
    hit = nearest_mode(samples, modes.view(30, 8, 2).mean(0), 0.3)
    title = f"{len(hit[hit >= 0].unique())} of 8 modes have samples"
    axes[0].set(title=title, xticks=[], yticks=[], aspect="equal", **frame(modes))
    axes[0].spines[:].set_visible(False)

    x = arcs(80)
    for colour, far in zip((GREY, THIRD, SAMPLE), (1, 10, 100), strict=True):
        module = network()
        with torch.no_grad():
            list(module.parameters())[-1].copy_(torch.tensor([far, 0.0]))
        history = imle.IMLE(**{**QUICK, "lr": 1e-2}).fit(x, model=module).history
        axes[1].semilogy([row["mean_distance"] for row in history], lw=1, color=colour, label=f"start {far} away")
    axes[1].set(title="mean distance to the nearest sample", xlabel="epoch")
    axes[1].legend()

    for seed in range(5):
        history = imle.IMLE(**QUICK, seed=seed).fit(x).history
        axes[2].semilogy([row["loss"] for row in history], lw=0.8, color=DATA, alpha=0.6)
    axes[2].set(title="loss, five seeds", xlabel="epoch", ylim=(5e-3, 1))
    return figure


def density() -> Figure:
    """What the distance to the nearest sample says of the density, and what shares follow from that."""
    figure, axes = panels(2, 2.6, flat=False)
    pool = normal(40_000, 2)
    at = torch.stack([torch.linspace(0, 3, 13), torch.zeros(13)], 1)
    parts = torch.stack([imle.nearest(at, part).distances[:, 0] for part in pool.view(100, 400, 2)])
    p = torch.exp(-at.square().sum(1) / 2) / math.tau
    axes[0].loglog(p, parts.square().mean(0), "o", ms=4, color=SAMPLE, label="measured, pools of 400")
    axes[0].loglog(p, 1 / (400 * math.pi * p), color=DATA, label="1 / (π m p)")
    axes[0].set(xlabel="density p at the example", title="mean squared distance to the nearest sample")
    axes[0].legend()

    shares = (0.05, 0.1, 0.2, 0.35)
    got = torch.zeros(len(shares), 4)
    for i, share in enumerate(shares):
        x = 0.3 * normal(400, 2)
        x[: round(share * 400), 0] += 4
        for seed in range(4):
            drawn = imle.IMLE(**{**QUICK, "epochs": 100, "pool": 1.0}, seed=seed).fit(x).sample(2000)
            got[i, seed] = (drawn[:, 0] > 2).float().mean()
    line = torch.linspace(0.01, 0.5, 50)
    axes[1].errorbar(
        shares, got.mean(1), got.std(1), fmt="o", ms=4, color=SAMPLE, label="samples, mean ± sd of 4 seeds"
    )
    axes[1].plot(
        line, line.sqrt() / (line.sqrt() + (1 - line).sqrt()), color=DATA, label="proportional to the square root"
    )
    axes[1].plot(line, line, color=GREY, label="as in the data")
    axes[1].set(xlabel="share of the smaller of two groups", title="its share among the samples", ylim=(0, 0.85))
    axes[1].legend(loc="upper left")
    return figure


def blur() -> Figure:
    """Three ways to blur, and how the share of distinct samples tells."""
    x = arcs(80)
    figure, axes = panels(3, 2.0)
    cases: dict[str, dict[str, Any]] = {
        "pool too small: N/10": {"pool": 0.1},
        "network too small: 2 units": {"width": 2, "depth": 1},
        "pool N/2, 64 units": {},
    }
    for axis, (title, change) in zip(axes, cases.items(), strict=True):
        sampler = imle.IMLE(**{**QUICK, **change}).fit(x)
        matched(axis, x, sampler.sample(160))
        distinct = sampler.history[-1]["distinct_share"]
        axis.set(title=f"{title}\ndistinct share {distinct:.2f}", **frame(x, 0.05))
    return figure


def pool() -> Figure:
    """One network, three pools."""
    x = arcs(80)
    sampler = imle.IMLE(**QUICK).fit(x)
    figure, axes = panels(3, 2.0)
    for axis, times in zip(axes, (0.25, 2, 16), strict=True):
        samples = sampler.sample(round(times * len(x)), seed=3)
        nearest = matched(axis, x, samples)
        mean = float((x - samples[nearest]).norm(dim=1).mean())
        title = f"m = {times:g} N\nmean distance {mean:.2f}, distinct {len(nearest.unique()) / len(x):.2f}"
        axis.set(title=title, **frame(x, 0.05))
    return figure


def refresh() -> Figure:
    """How many examples are matched again in each epoch, and what loss follows."""

    class Counted:
        def due(self, *arguments: Any) -> Tensor:
            due = super().due(*arguments)  # type: ignore[misc]
            counts.append(len(due))
            return due

    figure, axes = panels(2, 2.6, flat=False)
    x = arcs(400)
    for colour, rule in zip((DATA, THIRD, SAMPLE), (imle.Every(1), imle.Every(10), imle.Adaptive()), strict=True):
        counts: list[int] = []
        watched = type(type(rule).__name__, (Counted, type(rule)), {})(**vars(rule))
        history = imle.IMLE(**{**QUICK, "epochs": 100, "refresh": watched}).fit(x).history
        name = repr(rule) if isinstance(rule, imle.Every) else "Adaptive()"
        axes[0].plot(np.cumsum(counts) / len(x), color=colour, label=name.replace("epochs=", ""))
        axes[1].plot([row["loss"] for row in history], color=colour, lw=1)
    axes[0].set(xlabel="epoch", title="matchings so far, per example")
    axes[0].legend()
    axes[1].set(xlabel="epoch", title="loss", yscale="log")
    return figure


def reject() -> Figure:
    """Which candidates are left out, and what an example takes instead."""
    x, eps = arcs(16, seed=4), 0.3
    candidates = imle.IMLE(**{**QUICK, "epochs": 40}).fit(arcs(80)).sample(64, seed=5)
    distance = torch.cdist(x, candidates)
    near = distance.min(0).values < eps
    figure, axes = panels(3, 1.9)
    choices = {
        "no rejection": distance,
        "Reject(eps=ε)": distance.masked_fill(near, torch.inf),
        "Reject(eps=ε, own=True)": distance.masked_fill(distance < eps, torch.inf),
    }
    for axis, (title, allowed) in zip(axes, choices.items(), strict=True):
        for point in x if title != "no rejection" else []:
            axis.add_patch(plt.Circle(tuple(point.tolist()), eps, color=DATA, alpha=0.12, lw=0))
        links(axis, x, candidates[allowed.argmin(1)], "#333333")
        dots(axis, candidates, SAMPLE, 10)
        if title == "Reject(eps=ε)":
            dots(axis, candidates[near], "white", 12)
            axis.scatter(candidates[near, 0], candidates[near, 1], s=14, c=GREY, marker="x", linewidths=0.9)
        dots(axis, x, DATA, 16)
        axis.set(title=title, **frame(torch.cat([x, candidates])))
    return figure


def direction() -> Figure:
    """From coverage to precision."""
    x = ring(240)
    figure, axes = panels(3, 2.6)
    for axis, value in zip(axes, (1.0, 0.5, 0.0), strict=True):
        samples = imle.IMLE(**{**QUICK, "pool": 0.25}, direction=value).fit(x).sample(1000, seed=1)
        score = balls(x, samples)
        dots(axis, x, DATA, 6)
        dots(axis, samples, SAMPLE, 3)
        axis.set(
            title=f"direction={value:g}\nprecision {score.precision:.2f}, coverage {score.coverage:.2f}", **frame(x)
        )
    return figure


def weights() -> Figure:
    """The same examples with three sets of weights."""
    x = ring(300, 3)
    top = torch.arange(300) % 3 == 0
    figure, axes = panels(3, 2.7)
    for axis, factor in zip(axes, (1.0, 20.0, 0.0), strict=True):
        weight = torch.where(top, factor, 1.0)
        samples = imle.IMLE(**{**QUICK, "pool": 0.25}).fit(x, weights=weight).sample(600, seed=1)
        share = float((samples[:, 0] > 1).float().mean())
        dots(axis, x, DATA, 6)
        dots(axis, samples, SAMPLE, 3)
        axis.set(title=f"right group × {factor:g}\n{share:.0%} of the samples there", **frame(x))
    return figure


def perturb() -> Figure:
    """Few examples, more or less noise on what they have committed to."""
    x = arcs(24, seed=2)
    figure, axes = panels(3, 2.2)
    for axis, value in zip(axes, (0.0, 0.1, 0.4), strict=True):
        samples = (
            imle.IMLE(**{**QUICK, "epochs": 500, "batch_size": 12, "pool": 1.0}, perturb=value)
            .fit(x)
            .sample(800, seed=1)
        )
        dots(axis, samples, SAMPLE, 3)
        dots(axis, x, DATA, 18)
        near = float((imle.nearest(samples, x).distances < 0.1).float().mean())
        axis.set(title=f"perturb={value:g}\n{near:.0%} of samples near an example", **frame(x, 0.1))
    return figure


def conditions() -> Figure:
    """Labels, and vectors."""
    x = ring(360, 6)
    labels = torch.arange(360) % 6 % 3
    figure, axes = panels(2, 2.9)
    by_label = imle.IMLE(**QUICK).fit(x, condition=labels)
    for label, colour in enumerate((SAMPLE, THIRD, FOURTH)):
        dots(axes[0], by_label.sample(150, condition=label), colour, 5, label=f"condition={label}")
    dots(axes[0], x, DATA, 3, alpha=0.35)
    axes[0].set(title="labels: opposite groups share one", **frame(x))
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncol=3, handletextpad=0.1)

    angle = math.tau * torch.rand(300, generator=torch.Generator().manual_seed(0))
    compass = torch.stack([angle.cos(), angle.sin()], 1)
    x = compass * (1 + torch.randint(2, (300, 1), generator=torch.Generator().manual_seed(1))) + 0.05 * normal(300, 2)
    by_vector = imle.IMLE(**QUICK, pool_size=2400).fit(x, condition=compass)
    dots(axes[1], x, DATA, 4, alpha=0.5)
    for degrees, colour in ((20, SAMPLE), (135, THIRD), (260, FOURTH)):
        wanted = [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
        dots(axes[1], by_vector.sample(60, condition=wanted), colour, 7, label=f"{degrees}°")
    axes[1].set(title="vectors: a direction", **frame(x))
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncol=3, handletextpad=0.1)
    return figure


def model() -> Figure:
    """Digits as pixels, drawn by the network that the tour fits."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tour = runpy.run_path(str(Path(__file__).with_name("imle_tour.py")))
        os.chdir(here)
    images, sampler = tour["images"], tour["drawer"]
    samples = sampler.sample(40, seed=1)
    nearest = images[imle.nearest(samples.flatten(1), images.flatten(1)).indices[:, 0]]
    figure, axes = panels(3, 1.9)
    for axis, title, batch in zip(
        axes, ("digits", "samples", "the digit nearest to each"), (images[:40], samples, nearest), strict=True
    ):
        sheet = nn.functional.pad(batch, (1, 1, 1, 1)).view(5, 8, 10, 10).permute(0, 2, 1, 3).reshape(50, 80)
        axis.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axis.set(title=title)
    return figure


def networks() -> Figure:
    """Distance to fresh samples over epochs and over time, of the default network and the published one."""
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    figure, axes = panels(2, 2.4, flat=False)
    for colour, (name, sizes) in zip(
        (SAMPLE, THIRD), {"residual": (256, 4), "reference": (128, 2)}.items(), strict=True
    ):
        width, depth = sizes
        settings = imle.IMLE(network=name, width=width, depth=depth, refresh=imle.Every(1), calibrate=False)
        rows = settings.fit(x).history
        distances = [row["mean_distance"] for row in rows]
        axes[0].plot([row["epoch"] for row in rows], distances, color=colour, label=f"{name}, {width} wide")
        axes[1].plot(np.cumsum([row["seconds"] for row in rows]), distances, color=colour)
    axes[0].set(xlabel="epoch", ylabel="distance to the sample")
    axes[1].set(xlabel="seconds")
    axes[0].legend()
    return figure


def calibration() -> Figure:
    """Spread along the data's principal axes, with and without the affine map."""
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    axes_of_data = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:32]
    z = (x - x.mean(0)) @ axes_of_data.T
    figure, axes = panels(2, 2.6, flat=False)
    for axis, (title, settings) in zip(
        axes, {"IMLE.reference()": imle.IMLE.reference(), "IMLE()": imle.IMLE(epochs=100)}.items(), strict=True
    ):
        sampler = imle.IMLE(**{**vars(settings), "calibrate": True}).fit(z)
        with torch.no_grad():
            plain = sampler.mean + sampler.scale * sampler.network(sample_noise(1, 0, 4000, sampler.noise_dim))
        axis.plot(range(1, 33), z.std(0), color=DATA, label="data")
        axis.plot(range(1, 33), plain.std(0), color=THIRD, label="samples, calibrate=False")
        axis.plot(range(1, 33), sampler.sample(4000).std(0), ":", lw=2, color=SAMPLE, label="samples, calibrate=True")
        axis.set(title=title, xlabel="principal axis of the data", ylim=(0, None))
    axes[0].set(ylabel="standard deviation")
    axes[1].legend()
    return figure


def search() -> Figure:
    """Time and recall of every method at one size."""
    figure, (axis,) = panels(1, 2.2, flat=False)
    # Like embeddings: of 512 directions a few dozen hold nearly all variance.
    scales = torch.arange(1, 513).float().rsqrt()
    candidates, queries = normal(20_000, 512) * scales, normal(2_000, 512, seed=1) * scales
    truth = imle.nearest(queries, candidates, method="torch").distances[:, 0]
    for row, method in enumerate(("hnsw", "ivf", "refine", "torch", "exact")):
        started = time.perf_counter()
        found = imle.nearest(queries, candidates, method=method)
        seconds = time.perf_counter() - started
        recall = float((found.distances[:, 0] <= truth * (1 + 1e-6)).float().mean())
        axis.barh(row, seconds, 0.6, color=DATA if recall == 1 else THIRD)
        axis.text(seconds, row, f"  {seconds:.2g} s, recall {recall:.3f}", va="center")
    axis.set(yticks=range(5), yticklabels=("hnsw", "ivf", "refine", "torch", "exact"), xlabel="seconds, index included")
    axis.set(title="2,000 queries among 20,000 points of 512 dimensions", xlim=(0, 1.35 * axis.get_xlim()[1]))
    return figure


def sampler() -> Figure:
    """Between two noises, and back from points to noise."""
    x = arcs(300)
    fitted = imle.IMLE(**{**QUICK, "epochs": 100}).fit(x)
    figure, axes = panels(2, 2.3)
    ends = fitted.nearest_noise(torch.tensor([[-0.98, 0.2], [1.98, 0.3]]))
    path = fitted.interpolate(ends[0], ends[1], 40)
    dots(axes[0], x, DATA, 5, alpha=0.4)
    axes[0].plot(*path.T, "-o", ms=3, lw=0.8, color=SAMPLE)
    axes[0].set(title="interpolate(start, end, 40)", **frame(x))
    points = 0.75 * normal(24, 2, seed=3) + torch.tensor([0.5, 0.25])
    with torch.no_grad():
        reached = fitted(fitted.nearest_noise(points))
    dots(axes[1], fitted.sample(1000), "#e3b7bd", 3)
    links(axes[1], points, reached, "#333333")
    dots(axes[1], points, DATA, 16)
    dots(axes[1], reached, SAMPLE, 16)
    axes[1].set(title="nearest_noise(points): points and what is reached", **frame(torch.cat([x, points]), 0.05))
    return figure


def metrics() -> Figure:
    """Three sets of samples that a single figure would not tell apart."""
    x, fresh = ring(400), ring(400, seed=9)
    figure, axes = panels(3, 3.4)
    cases = {
        "good": fresh,
        "two modes missing": fresh[(torch.arange(400) % 8 != 0) & (torch.arange(400) % 8 != 3)],
        "too wide": fresh + 0.3 * normal(400, 2, seed=5),
    }
    for axis, (title, samples) in zip(axes, cases.items(), strict=True):
        score, far = balls(x, samples), distances_to(x, samples)
        dots(axis, x, DATA, 5)
        dots(axis, samples, SAMPLE, 5)
        figures = f"precision {score.precision:.2f}   recall {score.recall:.2f}\n"
        figures += f"density {score.density:.2f}   coverage {score.coverage:.2f}\nworst distance {far.max:.2f}"
        axis.set(title=title, **frame(x, 0.2))
        axis.text(0.5, -0.02, figures, transform=axis.transAxes, ha="center", va="top", fontsize=8.5)
    return figure


FIGURES = (
    idea, promises, density, blur, pool, refresh, reject, direction, weights, perturb, conditions, model, networks,
    calibration, search, sampler, metrics,
)  # fmt: skip


def main(names: list[str]) -> None:
    """Draw what is named, or all."""
    known = {draw.__name__: draw for draw in FIGURES}
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"expected some of {', '.join(known)}, received {', '.join(unknown)}")
    warnings.filterwarnings("ignore", "pool: ")
    IMAGES.mkdir(exist_ok=True)
    for name in names or known:
        started = time.perf_counter()
        figure = known[name]()
        figure.savefig(IMAGES / f"imle-{name}.png")
        plt.close(figure)
        print(f"{IMAGES / f'imle-{name}.png'}  {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
