"""How much the metric of the search matters: Euclidean, cosine, standardised, whitened, projected, decoded.

    python benchmarks/studies/metric.py --latents RUN/glo/latents.safetensors [--model RUN]

The loss stays the Euclidean one, so that the metric decides only which sample an example pulls. With --model, a
`glann` run or model whose decoder the latents belong to, one metric is that of the decoded images.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from common import COLOURS, WIDTH, in_workers, latents, plt, save, split, spread, table
from torch import Tensor

import imle
from imle.metrics import balls, distances_to, energy_distance

ROWS, HELD_OUT, DRAWN, DECODED, COMPONENTS = 5000, 1000, 5000, 1000, 32
METRICS = ("Euclidean", "cosine", "standardised", "whitened", "random projection, 32", "random projection, 8")
IMAGES = "decoded images"
MEASURES = ("energy", "coverage", "precision", "nearest")


def image_map(path: str, x: Tensor) -> Tensor:
    """(d, 32) linear map from latents to the principal components of what they decode to, by least squares."""
    from glann import GLANN

    few = x[:DECODED]
    images = GLANN.from_pretrained(path).decode(few).flatten(1)
    images = images - images.mean(0)
    _, _, directions = torch.pca_lowrank(images, COMPONENTS, center=False)
    return torch.linalg.lstsq(few - few.mean(0), images @ directions).solution


def features(name: str, x: Tensor, to_images: Tensor | None, seed: int) -> Callable[[Tensor], Tensor] | None:
    """The map to the space where the nearest sample is looked for; None for the latents themselves."""
    if name == "Euclidean":
        return None
    if name == "cosine":
        return torch.nn.functional.normalize
    mean = x.mean(0)
    if name == "standardised":
        matrix = torch.diag(1 / x.std(0))
    elif name == "whitened":
        values, vectors = torch.linalg.eigh(torch.cov(x.T.double()))
        matrix = (vectors / values.clamp_min(1e-6 * values[-1]).sqrt()).float()
    elif name == IMAGES:
        assert to_images is not None
        matrix = to_images
    else:
        matrix = torch.randn(x.shape[1], int(name.split()[-1]), generator=torch.Generator().manual_seed(seed))
    return lambda batch: (batch - mean) @ matrix


def one_fit(path: str, epochs: int, name: str, to_images: Tensor | None, seed: int) -> dict[str, Any]:
    """Fit with a metric, sample, measure in the latents' own metric."""
    x, held_out = split(latents(path)[: ROWS + HELD_OUT], HELD_OUT, seed)
    started = time.perf_counter()
    settings = imle.IMLE(
        epochs=epochs, width=128, depth=2, batch_size=128, lr=2e-3, refresh=imle.Every(1), calibrate=False, seed=seed
    )
    sampler = settings.fit(x, features=features(name, x, to_images, seed))
    seconds = time.perf_counter() - started
    points = sampler.sample(DRAWN, seed=10_000 + seed)
    near = balls(held_out, points[:HELD_OUT])
    row = {
        "metric": name, "seed": seed, "seconds": seconds,
        "energy": energy_distance(held_out, points, unbiased=True), "coverage": near.coverage,
        "precision": near.precision, "nearest": distances_to(held_out, points).mean,
        "distinct": sampler.history[-1]["distinct_share"],
    }  # fmt: skip
    if to_images is not None:
        seen = balls(held_out @ to_images, points[:HELD_OUT] @ to_images)
        row |= {"image_coverage": seen.coverage, "image_precision": seen.precision}
    return row


def picture(rows: list[dict[str, Any]], names: list[str]) -> Any:
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.6), sharey=True)
    titles = ("energy distance", "coverage", "precision", "distance to nearest")
    for axis, measure, title in zip(axes, MEASURES, titles, strict=True):
        for line, name in enumerate(names):
            values = [r[measure] for r in rows if r["metric"] == name]
            axis.plot(values, [line] * len(values), "o", color=COLOURS[line % len(COLOURS)], ms=4.5, alpha=0.75)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
        axis.locator_params(axis="x", nbins=3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--model", help="run or model folder that decodes the latents")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = [*METRICS, *([IMAGES] if options.model else [])]
    to_images = image_map(options.model, latents(options.latents)) if options.model else None
    jobs = [
        (options.latents, options.epochs, name, to_images, seed)
        for name, seed in itertools.product(names, range(options.seeds))
    ]
    rows = in_workers(one_fit, jobs, options.workers)
    measures = [*MEASURES, "distinct", *(["image_coverage", "image_precision"] if options.model else [])]
    lines = []
    for name in names:
        some = [r for r in rows if r["metric"] == name]
        lines.append([name, *(spread([r[m] for r in some], 4 if m == "energy" else 3) for m in measures)])
    table(["metric of the search", *measures], lines)
    save("metric", {"epochs": options.epochs, "rows": rows}, {"metric": picture(rows, names)})
