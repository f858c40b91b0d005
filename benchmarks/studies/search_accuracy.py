"""How exact the search must be: quality of the sampler against recall@1 of the search that it was fitted with.

    python benchmarks/studies/search_accuracy.py --latents RUN/glo/latents.safetensors

Recall is set, not hoped for: every example overlooks each sample with a fixed chance, so that it takes its nearest
sample with probability r and else a near one, as an approximate index does (near misses); or it takes a sample at
random whenever it misses, which no index does (far misses).
"""

import argparse
import itertools
import time
from typing import Any

import plain_loop
import torch
from common import COLOURS, WIDTH, in_workers, latents, plt, save, split, spread, table
from torch import Tensor

from imle.metrics import balls, distances_to, energy_distance
from imle.networks import Residual
from imle.search import nearest

RECALLS = (1.0, 0.9, 0.7, 0.5, 0.3)
MISSES = ("near", "far")
ROWS, HELD_OUT, DRAWN, NOISE_DIM, HIDDEN, DEPTH, BATCH = 5000, 1000, 5000, 16, 128, 2, 128
LOOK = 12  # neighbours that a near miss may come from
MEASURES = ("energy", "coverage", "precision", "nearest")


class Careless:
    """A search that finds the nearest sample with a given probability, and remembers how often it did."""

    def __init__(self, recall: float, miss: str, seed: int):
        self.recall, self.miss = recall, miss
        self.draw = torch.Generator().manual_seed(seed)
        self.right = self.asked = 0
        self.excess = 0.0

    def __call__(self, x: Tensor, samples: Tensor) -> Tensor:
        found = nearest(x, samples, LOOK if self.miss == "near" and self.recall < 1 else 1)
        if self.miss == "near":
            seen = torch.rand(found.indices.shape, generator=self.draw) < self.recall
            seen[:, -1] = True
            rank = seen.int().argmax(1, keepdim=True)  # the first that is not overlooked
            chosen = found.indices.gather(1, rank)
        else:
            lost = torch.rand(len(x), 1, generator=self.draw) >= self.recall
            chosen = torch.where(lost, torch.randint(len(samples), lost.shape, generator=self.draw), found.indices)
        self.right += int((chosen == found.indices[:, :1]).sum())
        self.asked += len(x)
        self.excess += float(((samples[chosen[:, 0]] - x).norm(dim=1) / found.distances[:, 0] - 1).sum())
        return chosen


def one_fit(path: str, epochs: int, recall: float, miss: str, seed: int) -> dict[str, Any]:
    """Fit with a careless search, sample, measure on held-out latents."""
    x, held_out = split(latents(path)[: ROWS + HELD_OUT], HELD_OUT, seed)
    torch.manual_seed(seed)
    search = Careless(recall, miss, seed)
    started = time.perf_counter()
    sample = plain_loop.fit(
        x, Residual(NOISE_DIM, x.shape[1], HIDDEN, DEPTH), NOISE_DIM, pool=2 * len(x), epochs=epochs,
        batch_size=BATCH, match=search, seed=seed,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    with torch.no_grad():
        points = sample(torch.randn(DRAWN, NOISE_DIM, generator=torch.Generator().manual_seed(10_000 + seed)))
    near = balls(held_out, points[:HELD_OUT])
    return {
        "recall": recall, "miss": miss, "seed": seed, "seconds": seconds,
        "measured_recall": search.right / search.asked, "excess_distance": search.excess / search.asked,
        "energy": energy_distance(held_out, points, unbiased=True), "coverage": near.coverage,
        "precision": near.precision, "nearest": distances_to(held_out, points).mean,
    }  # fmt: skip


def picture(rows: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.8))
    names = ("energy distance", "coverage", "precision", "distance to nearest")
    for axis, measure, name in zip(axes, MEASURES, names, strict=True):
        for miss, colour, mark in zip(MISSES, COLOURS, "os", strict=False):
            values = torch.tensor(
                [[r[measure] for r in rows if (r["recall"], r["miss"]) == (recall, miss)] for recall in RECALLS]
            )
            axis.errorbar(
                RECALLS, values.mean(1), values.std(1), fmt=mark + "-", color=colour, ms=4, lw=1.3,
                label=f"{miss} misses",
            )  # fmt: skip
        axis.set(xlabel="recall@1", xlim=(1.04, 0.26))
        axis.set_title(name, fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    settings = [(r, miss) for miss in MISSES for r in RECALLS if r < 1 or miss == "near"]
    jobs = [
        (options.latents, options.epochs, *s, seed) for s, seed in itertools.product(settings, range(options.seeds))
    ]
    rows = in_workers(one_fit, jobs, options.workers)
    lines = []
    for recall, miss in settings:
        some = [r for r in rows if (r["recall"], r["miss"]) == (recall, miss)]
        lines.append(
            [
                recall, miss if recall < 1 else "–", f"{sum(r['measured_recall'] for r in some) / len(some):.3f}",
                f"{sum(r['excess_distance'] for r in some) / len(some):.1%}",
                *(spread([r[m] for r in some], 4 if m == "energy" else 3) for m in MEASURES),
            ]
        )  # fmt: skip
    table(["recall", "misses", "measured", "excess distance", *MEASURES], lines)
    rows += [{**r, "miss": "far"} for r in rows if r["recall"] == 1.0]
    save("search_accuracy", {"epochs": options.epochs, "rows": rows}, {"search_accuracy": picture(rows)})
