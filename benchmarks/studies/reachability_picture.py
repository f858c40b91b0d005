"""The table and the pictures of reachability.py."""

import re
from pathlib import Path
from typing import Any

from common import COLOURS, plt, table
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
from safetensors.torch import load_file
from variants import sheet

JUDGES = ("HED", "EfficientNet")
MADE = ("reconstructions", "samples")
NEAR = 1.25  # at most so much larger or smaller than the base, both ways
ORIGINS = {"stage 2 of dimension 128": "dimension 128"}  # of levers that do not start from the base
STRIPS = ("base", "samples, 2 epochs", "dimension 32", "dimension 128")
MARKERS = "ovsP^DX<>*hdp"


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
    """Reconstructions against samples, one line a lever; above all rows, below those near the base."""
    rows = {name: results[name] for name in levers if name in results}
    names = [lever for lever in dict.fromkeys(levers.values()) if any(levers[row] == lever for row in rows)]
    centre = results["base"]["0"][JUDGES[0]]
    close = [
        n for n, seeds in rows.items() if all(1 / NEAR < seeds["0"][JUDGES[0]][w] / centre[w] < NEAR for w in MADE)
    ]
    colours = [*COLOURS, "#9c6644", "#3a86ff", "#b5179e", "#90be6d", "#343a40", "#ff70a6"]
    figure, axes = plt.subplots(2, 2, figsize=(10, 9))
    for (whole, near), judge in zip(axes.T, JUDGES, strict=True):
        points = {
            name: [tuple(seed[judge][what] for what in MADE) for seed in seeds.values()] for name, seeds in rows.items()
        }
        for axis in (whole, near):
            for number, lever in enumerate(names):
                own = {name: points[name] for name in rows if levers[name] == lever}
                marks = [point for seeds in own.values() for point in seeds]
                style = {"color": colours[number], "marker": MARKERS[number], "s": 42, "zorder": 3}
                if lever == "base":
                    style |= {"color": "black", "marker": "*", "s": 130, "zorder": 4}
                axis.scatter(*zip(*marks, strict=True), label=lever, **style)
                path = sorted([points[ORIGINS.get(lever, "base")][0], *(seeds[0] for seeds in own.values())])
                axis.plot(*zip(*path, strict=True), color=style["color"], linewidth=1, alpha=0.6)
            shown = {name: seeds for name, seeds in points.items() if axis is whole or name in close}
            flat = [point for seeds in shown.values() for point in seeds]
            limits = [(min(values) / 1.03, max(values) * 1.06) for values in zip(*flat, strict=True)]
            axis.axline((1, 1), (2, 2), color="grey", linewidth=0.8, linestyle="--", zorder=0)
            axis.set(xscale="log", yscale="log", xlim=limits[0], ylim=limits[1], xlabel=MADE[0], ylabel=MADE[1])
            axis.set_title(f"{judge}{', near the base' * (axis is near)}")
            for one in (axis.xaxis, axis.yaxis):
                one.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
                one.set_minor_locator(NullLocator())
                one.set_major_formatter(ScalarFormatter())
            for name, seeds in shown.items():
                if name != "base" and levers[name] not in ORIGINS and (axis is near or name not in close):
                    value = re.findall(r"\d[\d.,]*\d(?: %)?|\d", name) or [
                        {"samples and latents": "half"}.get(name, name)
                    ]
                    axis.annotate(value[-1], seeds[0], (6, 4), textcoords="offset points", fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8.5)
    return figure


def strips(work: Path) -> Any:
    """The first samples of a few rows, from the same noise."""
    figure, axes = plt.subplots(1, len(STRIPS), figsize=(3 * len(STRIPS), 6))
    for axis, name in zip(axes, STRIPS, strict=True):
        axis.imshow(sheet(load_file(work / f"samples {name} 0.safetensors")["samples"], columns=4))
        axis.set_title(name)
        axis.axis("off")
    return figure
