"""Which modes of 25 Gaussians on a grid and 8 on a ring are found, by IMLE and by a plain GAN in the same time.

python benchmarks/studies/modes.py
"""

import argparse
import itertools
import math
import time
import warnings
from typing import Any

import gan
import torch
from common import COLOURS, MLP, WIDTH, gaussian_samples, in_workers, plt, save, spread, table
from torch import Tensor

import imle
from imle.metrics import modes, nearest_mode

N, SAMPLES = 1000, 10_000
WIDTH_HIDDEN, DEPTH, NOISE_DIM, BATCH = 128, 3, 2, 128
SETTINGS = {
    "epochs": 300, "noise_dim": NOISE_DIM, "batch_size": BATCH, "lr": 3e-3, "pool_size": 200, "refresh": imle.Every(1),
    "calibrate": False,
}  # fmt: skip
METHODS = ("IMLE", "IMLE, direction 0.9", "GAN", "Gaussian", "real")


def centres(name: str) -> tuple[Tensor, float]:
    """Mode centres and their standard deviation."""
    if name == "grid":
        return torch.tensor(list(itertools.product([-4.0, -2.0, 0.0, 2.0, 4.0], repeat=2))), 0.05
    angles = torch.arange(8) * math.tau / 8
    return 2 * torch.stack([angles.cos(), angles.sin()], 1), 0.02


def draw(name: str, count: int, seed: int) -> Tensor:
    """(count, 2) points of the mixture."""
    middle, sigma = centres(name)
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(middle), (count,), generator=generator)
    return middle[which] + sigma * torch.randn(count, 2, generator=generator)


def one_seed(name: str, seed: int) -> list[dict[str, Any]]:
    """All methods on one data set of one seed."""
    warnings.filterwarnings("ignore", "pool: 200 candidates")
    x = draw(name, N, seed)
    noise = torch.randn(SAMPLES, NOISE_DIM, generator=torch.Generator().manual_seed(10_000 + seed))
    drawn, seconds = {}, {}
    for method, direction in (("IMLE", 1.0), ("IMLE, direction 0.9", 0.9)):
        network = generator(x, seed)
        started = time.perf_counter()
        imle.IMLE(**SETTINGS, direction=direction, seed=seed).fit(x, model=network)
        seconds[method] = time.perf_counter() - started
        drawn[method] = network

    # The GAN gets the longer of the two times, and a discriminator of the generator's size.
    network, critic = generator(x, seed), MLP(2, 1, WIDTH_HIDDEN, DEPTH)
    started = time.perf_counter()
    gan.train(network, critic, x, NOISE_DIM, BATCH, seed, seconds=max(seconds.values()))
    seconds["GAN"] = time.perf_counter() - started
    drawn["GAN"] = network

    with torch.no_grad():
        points = {method: network.eval()(noise) for method, network in drawn.items()}
    points["Gaussian"] = gaussian_samples(x, SAMPLES, seed)
    points["real"] = draw(name, SAMPLES, 10_000 + seed)
    rows = []
    for method in METHODS:
        middle, sigma = centres(name)
        labels = nearest_mode(points[method], middle, 3 * sigma)
        found = modes(labels, len(middle))
        shares = torch.bincount(labels[labels >= 0], minlength=len(middle)) / max(int((labels >= 0).sum()), 1)
        rows.append(
            {
                "data": name, "seed": seed, "method": method, "modes_found": found.found,
                "modes_held": int((shares >= 0.2 / len(middle)).sum()), "high_quality": found.share,
                "reverse_kl": found.reverse_kl, "seconds": seconds.get(method, 0.0),
                "points": points[method][:1500].tolist() if seed == 0 else None,
            }
        )  # fmt: skip
    return rows


def generator(x: Tensor, seed: int) -> MLP:
    """The network that IMLE and GAN both train, from the same weights."""
    torch.manual_seed(seed)
    return MLP(NOISE_DIM, 2, WIDTH_HIDDEN, DEPTH, scale=float(x.std()))


def picture(rows: list[dict[str, Any]]) -> Any:
    """Samples of seed 0, a row a data set."""
    figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 3.9))
    shown = ("real", "IMLE", "IMLE, direction 0.9", "GAN")
    for line, name in zip(axes, ("grid", "ring"), strict=True):
        for axis, method in zip(line, shown, strict=True):
            (row,) = [r for r in rows if (r["data"], r["method"], r["seed"]) == (name, method, 0)]
            points = torch.tensor(row["points"])
            colour = {"real": "#333333", "GAN": COLOURS[1]}.get(method, COLOURS[0])
            axis.scatter(points[:, 0], points[:, 1], s=1.5, alpha=0.6, linewidths=0, color=colour)
            limit = 5.2 if name == "grid" else 2.7
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
            axis.set_title(f"{method}\n{row['modes_found']} modes, {row['high_quality']:.0%} within 3σ", fontsize=8.5)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    jobs = [(name, seed) for name in ("grid", "ring") for seed in range(options.seeds)]
    rows = [row for answer in in_workers(one_seed, jobs, options.workers) for row in answer]
    lines = []
    for name, method in itertools.product(("grid", "ring"), METHODS):
        some = [r for r in rows if (r["data"], r["method"]) == (name, method)]
        total = len(centres(name)[0])
        lines.append(
            [
                name, method, f"{sum(r['modes_found'] == total for r in some)} of {len(some)}",
                spread([r["modes_found"] for r in some], 1), spread([r["modes_held"] for r in some], 1),
                spread([r["high_quality"] for r in some]),
                spread([r["reverse_kl"] for r in some if math.isfinite(r["reverse_kl"])] or [math.nan]),
                f"{sum(math.isinf(r['reverse_kl']) for r in some)}",
                f"{sum(r['seconds'] for r in some) / len(some):.1f}",
            ]
        )  # fmt: skip
    head = ["data", "method", "all modes", "modes found", "modes held", "high quality", "reverse KL", "no mode", "s"]
    table(head, lines)
    figure = picture(rows)
    for row in rows:
        del row["points"]
        row["reverse_kl"] = row["reverse_kl"] if math.isfinite(row["reverse_kl"]) else None
    save("modes", {"settings": SETTINGS, "rows": rows}, {"modes": figure})
