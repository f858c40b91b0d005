"""The table and the pictures of reachability.py."""

from pathlib import Path
from typing import Any

from common import COLOURS, plt, table
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from safetensors.torch import load_file
from variants import sheet

JUDGES = ("HED", "EfficientNet")
MADE = ("reconstructions", "samples")
TICKS = (10, 15, 20, 25, 30, 40, 50, 70, 100, 130, 150, 170, 200, 250, 300, 400, 500)
STRIPS = ("base", "samples, 2 epochs", "noise 0.4")  # the base, the best and a bad one
MARKERS = "ovsP^DX<>*hd"


def mean(seeds: dict[str, Any], *keys: str) -> float:
    """Of one figure over all seeds that were measured."""
    values = []
    for figures in seeds.values():
        for key in keys:
            figures = figures[key]
        values.append(figures)
    return sum(values) / len(values)


def show(results: dict[str, Any], levers: dict[str, str]) -> None:
    """Print the table: means over the seeds that were measured.

    Args:
        results: of each row, of each seed, its figures; and ``training images``.
        levers: the lever that each row belongs to.
    """
    head = [
        "row",
        "seeds",
        *(f"{judge}, {what}" for judge in JUDGES for what in ("reconstructions", "samples", "ratio")),
    ]
    lines = []
    for name, seeds in results.items():
        if name not in levers:
            continue
        cells = [name, len(seeds)]
        for judge in JUDGES:
            pair = [mean(seeds, judge, what) for what in MADE]
            cells += [*(f"{value:.1f}" for value in pair), f"{pair[1] / pair[0]:.2f}"]
        cells += [f"{mean(seeds, key):.2f}" for key in ("nearest sample", "nearest latent", "slope")]
        lines.append([*cells, f"{mean(seeds, 'seconds'):.0f}"])
    table([*head, "nearest sample", "nearest latent", "slope", "seconds"], lines)
    print("training images:", {judge: round(results["training images"][judge], 1) for judge in JUDGES})


def scatter(results: dict[str, Any], levers: dict[str, str]) -> Any:
    """Reconstructions against samples, one colour a lever."""
    rows = {name: results[name] for name in levers if name in results}
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.6))
    names = [lever for lever in dict.fromkeys(levers.values()) if any(levers[row] == lever for row in rows)]
    for axis, judge in zip(axes, JUDGES, strict=True):
        points = {
            name: [(s[judge]["reconstructions"], s[judge]["samples"]) for s in seeds.values()]
            for name, seeds in rows.items()
        }
        for number, lever in enumerate(names):
            own = [name for name in rows if levers[name] == lever]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            chosen = [point for name in own for point in points[name]]
            style = {"color": "black", "marker": "*", "s": 120, "zorder": 5} if lever == "base" else {}
            axis.scatter(
                *zip(*chosen, strict=True), label=lever, **{"color": colour, "marker": marker, "s": 38, **style}
            )
        both = [value for own in points.values() for point in own for value in point]
        low, high = min(both) / 1.03, max(both) * 1.03
        axis.plot([low, high], [low, high], color="grey", linewidth=0.8, linestyle="--", zorder=0)
        axis.set(xscale="log", yscale="log", xlabel="reconstructions", ylabel="samples", title=f"judge: {judge}")
        for one in (axis.xaxis, axis.yaxis):
            one.set_major_locator(FixedLocator(TICKS))
            one.set_minor_locator(NullLocator())
            one.set_major_formatter(ScalarFormatter())
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def strips(work: Path) -> Any:
    """The first samples of a few rows, from the same noise."""
    figure, axes = plt.subplots(1, len(STRIPS), figsize=(3 * len(STRIPS), 6))
    for axis, name in zip(axes, STRIPS, strict=True):
        axis.imshow(sheet(load_file(work / f"samples {name} 0.safetensors")["samples"], columns=4))
        axis.set_title(name)
        axis.axis("off")
    return figure
