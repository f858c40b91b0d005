"""Where the time of an epoch goes, as the number of examples N, the pool m and the dimension d grow.

python benchmarks/studies/cost.py
"""

import argparse
import math
import warnings
from typing import Any

import torch
from common import COLOURS, WIDTH, plt, save, table
from torch import Tensor

import imle

PHASES = ("generate", "search", "train")
BASE = {"n": 8000, "pool": 16_000, "d": 64}
SWEEPS: dict[str, tuple[int, ...]] = {
    "n": (2000, 4000, 8000, 16_000, 32_000),  # the pool stays 2N
    "pool": (4000, 16_000, 64_000, 128_000),
    "d": (16, 64, 256, 1024),
}
NAMES = {"n": "examples N, pool 2N", "pool": "pool m, N = 8,000", "d": "dimension d, N = 8,000"}


def examples(n: int, d: int) -> Tensor:
    """(n, d) unit vectors around a curved surface of eight dimensions, as latents of images are."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(8, 64, generator=generator), torch.randn(64, d, generator=generator)
    points = torch.tanh(torch.randn(n, 8, generator=generator) @ weights[0]) @ weights[1]
    return torch.nn.functional.normalize(points + 0.1 * points.std() * torch.randn(n, d, generator=generator))


def seconds(n: int, pool: int, d: int, epochs: int) -> dict[str, float]:
    """Least seconds of a phase in any epoch: what else the machine does only adds; the first epoch is left out."""
    settings = imle.IMLE(
        epochs=epochs + 1, refresh=imle.Every(1), pool_size=pool, search="exact", calibrate=False, ema=0.0
    )
    rows = settings.fit(examples(n, d)).history[1:]
    return {phase: min(row[f"seconds_{phase}"] for row in rows) for phase in PHASES}


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of log time over log size, by least squares."""
    x = torch.tensor([math.log(s) for s in sizes], dtype=torch.float64)
    y = torch.tensor([math.log(t) for t in times], dtype=torch.float64)
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def picture(rows: list[dict[str, Any]], exponents: dict[str, dict[str, float]]) -> Any:
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.2), sharey=True)
    for axis, sweep in zip(axes, SWEEPS, strict=True):
        some = [r for r in rows if r["sweep"] == sweep]
        sizes = [r[sweep] for r in some]
        for phase, colour, mark in zip(PHASES, COLOURS, "os^", strict=False):
            label = f"{phase}: exponent {exponents[sweep][phase]:.2f}"
            axis.loglog(sizes, [r[phase] for r in some], mark + "-", color=colour, ms=4, lw=1.3, label=label)
        axis.set(xlabel=NAMES[sweep])
        axis.xaxis.set_minor_formatter("")
        axis.legend(fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes[0].set(ylabel="seconds an epoch")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="epochs that are timed for each size")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "pool: ")
    rows = []
    for sweep, sizes in SWEEPS.items():
        for size in sizes:
            facts = {**BASE, sweep: size}
            if sweep == "n":
                facts["pool"] = 2 * size
            rows.append({"sweep": sweep, **facts, **seconds(facts["n"], facts["pool"], facts["d"], options.epochs)})
    exponents = {
        sweep: {
            phase: exponent(list(sizes), [r[phase] for r in rows if r["sweep"] == sweep]) for phase in PHASES
        }
        for sweep, sizes in SWEEPS.items()
    }  # fmt: skip
    lines = []
    for row in rows:
        total = sum(row[phase] for phase in PHASES)
        shares = [f"{row[phase] / total:.0%}" for phase in PHASES]
        lines.append([row["sweep"], f"{row['n']:,}", f"{row['pool']:,}", row["d"], f"{total:.2f}", *shares])
    table(["grows", "N", "m", "d", "s an epoch", *PHASES], lines)
    table(["exponent in", *PHASES], [[sweep, *(f"{e:.2f}" for e in exponents[sweep].values())] for sweep in SWEEPS])
    facts = {"threads": torch.get_num_threads(), "rows": rows, "exponents": exponents}
    save("cost", facts, {"cost": picture(rows, exponents)})
