"""Parzen-window log-likelihood of IMLE on MNIST pixels, beside published figures, real images and k-means centres.

    python benchmarks/studies/parzen.py --mnist DIR

DIR has one subfolder a digit, 0 … 9, with the 28×28 training images as PNG files.
"""

import argparse
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from class_folders import read
from common import COLOURS, WIDTH, plt, save, table
from torch import Tensor

import imle
from imle.metrics import parzen_log_likelihood

SAMPLES, TEST, VALIDATION = 10_000, 10_000, 1000
SIGMAS = [round(s, 4) for s in np.geomspace(0.08, 0.4, 40).tolist()]
PUBLISHED = {
    "DBN": (138, 2), "stacked CAE": (121, 1.6), "deep GSN": (214, 1.1), "GAN": (225, 2), "GMMN": (147, 2),
    "IMLE (2018)": (257, 6), "GMMN + autoencoder": (282, 2),
}  # fmt: skip


def k_means(x: Tensor, count: int, rounds: int, seed: int) -> Tensor:
    """(count, d) centres by Lloyd's algorithm from random examples; a centre without examples stays."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    centres = x[order[:count]].clone()
    for _ in range(rounds):
        which = imle.nearest(x, centres).indices[:, 0]
        sums = torch.zeros_like(centres).index_add_(0, which, x)
        sizes = torch.bincount(which, minlength=count).float()[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


def picture(results: list[dict[str, Any]], tiles: dict[str, Tensor]) -> Any:
    figure = plt.figure(figsize=(WIDTH, 3.9))
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    bars = [(name, mean, error, "#b8c0cc") for name, (mean, error) in PUBLISHED.items()]
    for row in results:
        if row["seed"] == 0:
            bars.append((row["name"], row["mean"], row["standard_error"], COLOURS[row["name"].startswith("IMLE")]))
    bars.sort(key=lambda bar: bar[1])
    axis = left.subplots()
    axis.barh([b[0] for b in bars], [b[1] for b in bars], xerr=[b[2] for b in bars], color=[b[3] for b in bars])
    axis.set(xlabel="Parzen log-likelihood, nats (grey: published)")
    axis.grid(axis="y", visible=False)
    for axis, (name, images) in zip(right.subplots(len(tiles), 1), tiles.items(), strict=True):
        sheet = images[:30].reshape(3, 10, 28, 28).permute(0, 2, 1, 3).reshape(84, 280)
        axis.imshow(1 - sheet, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="folder with the subfolders 0 … 9")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--test", type=int, default=TEST, help="held-out images that the mean is over")
    options = parser.parse_args()
    digits, _ = read(options.mnist)
    least = SAMPLES + TEST + VALIDATION
    if len(digits) < least or digits.shape[1:] != (1, 28, 28):
        raise SystemExit(f"expected (N, 1, 28, 28) digits, N >= {least:,}, received {tuple(digits.shape)}")
    pixels = digits.flatten(1).float() / 255
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    test, validation, train = pixels[order].split([options.test, VALIDATION, len(pixels) - options.test - VALIDATION])

    results, tiles = [], {}

    def score(name: str, images: Tensor, seconds: float, seed: int) -> None:
        found = asdict(parzen_log_likelihood(images, test, validation, SIGMAS))
        results.append({"name": name, "seed": seed, "seconds": seconds, **found})
        print(f"{name}: {found['mean']:.1f} ± {found['standard_error']:.1f}, sigma {found['sigma']:.3f}", flush=True)
        tiles.setdefault(name, images)

    for seed in range(options.seeds):
        started = time.perf_counter()
        settings = imle.IMLE(
            epochs=options.epochs, noise_dim=16, width=512, depth=2, pool_size=5000, refresh=imle.Every(2),
            lr=5e-3, batch_size=512, calibrate=False, search="exact", seed=seed,
        )  # fmt: skip
        warnings.filterwarnings("ignore", "pool: ")
        sampler = settings.fit(train)
        score("IMLE (here)", sampler.sample(SAMPLES, seed=seed).clamp(0, 1), time.perf_counter() - started, seed)
    score("real training images", train[:SAMPLES], 0.0, 0)
    started = time.perf_counter()
    score("k-means centres", k_means(train, SAMPLES, 5, 0), time.perf_counter() - started, 0)
    lines = []
    for row in results:
        mean, error = f"{row['mean']:.1f}", f"{row['standard_error']:.1f}"
        lines.append([row["name"], row["seed"], f"{mean} ± {error}", f"{row['sigma']:.3f}", f"{row['seconds']:.0f}"])
    table(["samples", "seed", "log-likelihood", "σ", "s"], lines)
    facts = {"published": PUBLISHED, "settings": settings.to_dict(), "rows": results}
    save("parzen", facts, {"parzen": picture(results, tiles)})
