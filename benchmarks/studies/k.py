"""Why the single nearest sample: pull the k nearest samples of every example, for k = 1, 2, 5, 10.

    python benchmarks/studies/k.py --latents RUN/glo/latents.safetensors

`imle` takes the nearest sample only, so that the loop here is a plain one, with the same network, optimiser and pool
for all k.
"""

import argparse
import itertools
import time
from typing import Any

import modes
import plain_loop
import torch
from common import COLOURS, MLP, WIDTH, in_workers, latents, plt, save, split, spread, table
from torch import Tensor

from imle.metrics import balls, distances_to, energy_distance, nearest_mode
from imle.metrics import modes as modes_reached
from imle.networks import Residual
from imle.search import nearest

KS, RULES = (1, 2, 5, 10), ("each", "mean", "one of m/k")
HIDDEN, BATCH = 128, 128
NOISE_DIM = {"grid": 2, "latents": 16}
EPOCHS = {"grid": 120, "latents": 15}


def fit(x: Tensor, k: int, rule: str, data: str, seed: int) -> Any:
    """Train on the k nearest of m samples of every example, ``each`` of them or their ``mean``.

    ``one of m/k`` is the control: the single nearest of a pool that is k times smaller.
    """
    pool = 200 if data == "grid" else 2 * len(x)
    if rule == "one of m/k":
        pool, k = pool // k, 1
    torch.manual_seed(seed)
    noise_dim = NOISE_DIM[data]
    return plain_loop.fit(
        x, MLP(2, 2, HIDDEN, 3) if data == "grid" else Residual(noise_dim, x.shape[1], HIDDEN, 2), noise_dim,
        pool=pool, epochs=EPOCHS[data], batch_size=BATCH, match=lambda x, y: nearest(x, y, k).indices,
        of_mean=rule == "mean", seed=seed,
    )  # fmt: skip


def one_fit(data: str, path: str, k: int, rule: str, seed: int) -> dict[str, Any]:
    """Fit, sample, measure."""
    if data == "grid":
        x, held_out = modes.draw("grid", 1000, seed), modes.draw("grid", 1000, 10_000 + seed)
    else:
        x, held_out = split(latents(path), 500, seed)
    started = time.perf_counter()
    sample = fit(x, k, rule, data, seed)
    seconds = time.perf_counter() - started
    with torch.no_grad():
        points = sample(torch.randn(5000, NOISE_DIM[data], generator=torch.Generator().manual_seed(seed)))
    near = balls(held_out, points[: len(held_out)])
    row = {
        "data": data, "k": k, "rule": rule, "seed": seed, "seconds": seconds,
        "energy": energy_distance(held_out, points, unbiased=True), "coverage": near.coverage,
        "precision": near.precision, "nearest": distances_to(held_out, points).mean,
        "spread": float((points.var(0).sum() / x.var(0).sum()).sqrt()),
    }  # fmt: skip
    if data == "grid":
        middle, sigma = modes.centres("grid")
        row["high_quality"] = modes_reached(nearest_mode(points, middle, 3 * sigma), len(middle)).share
        row["points"] = points[:1500].tolist() if seed == 0 else None
    return row


def picture(rows: list[dict[str, Any]]) -> Any:
    figure = plt.figure(figsize=(WIDTH, 5.2))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    shown = [(1, "each"), (2, "each"), (10, "each"), (2, "mean"), (10, "mean")]
    for axis, (k, rule) in zip(top.subplots(1, 5), shown, strict=True):
        (row,) = [r for r in rows if (r["data"], r["k"], r["rule"], r["seed"]) == ("grid", k, rule, 0)]
        points = torch.tensor(row["points"])
        axis.scatter(points[:, 0], points[:, 1], s=1.2, alpha=0.6, lw=0, color=COLOURS[RULES.index(rule)])
        middle = modes.centres("grid")[0]
        axis.plot(middle[:, 0], middle[:, 1], "+", color="black", ms=3, mew=0.6)
        axis.set(xlim=(-6, 6), ylim=(-6, 6), xticks=[], yticks=[], aspect="equal")
        axis.set_title("k = 1" if k == 1 else f"k = {k}, {rule}", fontsize=9)
    measures = ("energy", "coverage", "precision", "nearest")
    names = ("energy distance", "coverage", "precision", "distance to nearest")
    for axis, measure, name in zip(bottom.subplots(1, 4), measures, names, strict=True):
        for rule, colour, mark in zip(RULES, COLOURS, "os^", strict=False):
            values = torch.tensor(
                [[r[measure] for r in rows if (r["data"], r["k"], r["rule"]) == ("latents", k, rule)] for k in KS]
            )
            axis.errorbar(KS, values.mean(1), values.std(1), fmt=mark + "-", color=colour, ms=4, lw=1.3, label=rule)
        axis.set(xscale="log", xlabel="k")
        axis.set_xticks(KS, [str(k) for k in KS])
        axis.minorticks_off()
        axis.set_title(name, fontsize=9)
    bottom.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    settings = [(k, rule) for k in KS for rule in (RULES if k > 1 else RULES[:1])]
    jobs = [
        (data, options.latents, k, rule, seed)
        for data, (k, rule), seed in itertools.product(("grid", "latents"), settings, range(options.seeds))
    ]
    rows = in_workers(one_fit, jobs, options.workers)
    rows += [{**r, "rule": rule} for r in rows if r["k"] == 1 for rule in RULES[1:]]  # k = 1 is the same for all
    measures = ("energy", "coverage", "precision", "nearest", "spread", "seconds")
    for data in ("grid", "latents"):
        lines = []
        for k, rule in settings:
            some = [r for r in rows if (r["data"], r["k"], r["rule"]) == (data, k, rule)]
            line = [k, rule if k > 1 else "–", *(spread([r[m] for r in some]) for m in measures)]
            lines.append(line + ([spread([r["high_quality"] for r in some])] if data == "grid" else []))
        table(["k", data, *measures, *(["high quality"] if data == "grid" else [])], lines)
    figure = picture(rows)
    for row in rows:
        row.pop("points", None)
    save("k", {"epochs": EPOCHS, "rows": rows}, {"k": figure})
