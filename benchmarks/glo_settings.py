"""Stage 1 at a fixed number of epochs under settings that differ in one thing from the default.

    python benchmarks/glo_settings.py IMAGES [--size 32] [--limit 2500] [--epochs 8] [--loss laplacian] [--only NAME]…

Prints the mean distance of the final reconstructions, wall-clock and processor seconds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from glann import glo, losses
from glann.images import ImageSet, prepare
from glann.memory import keep_freed_buffers
from glann.settings import GLOSettings

VARIANTS = {
    "default": {},
    "latents from noise": {"latent_init": "noise"},
    "batch 128": {"batch_size": 128},
    "batch 64": {"batch_size": 64},
    "batch 32": {"batch_size": 32},
    "batch 16": {"batch_size": 16},
    "batch 8": {"batch_size": 8},
    "batch 4": {"batch_size": 4},
    "latent step 0.01": {"latent_lr": 0.01},
    "latent step 0.1": {"latent_lr": 0.1},
    "generator step 3e-3": {"lr": 3e-3},
    "width 24": {"generator_options": {"width": 24}},
    "float32": {"bf16": False},
    "averaged 0.99": {"ema": 0.99},
    "averaged 0.999": {"ema": 0.999},
    "step decay": {"decay": "step"},
    "step decay, averaged 0.99": {"decay": "step", "ema": 0.99},
}


def first(images: ImageSet, limit: int) -> ImageSet:
    """Every (N / limit)-th image, so that all folders have their share."""
    rows = torch.linspace(0, len(images) - 1, min(limit, len(images))).long().numpy()
    return ImageSet(images.pixels[rows], [images.paths[r] for r in rows], None, images.fingerprint, images.skipped)


def main() -> None:
    """Run the variants one after the other and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--limit", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--loss", default="laplacian")
    parser.add_argument("--only", action="append", choices=sorted(VARIANTS))
    arguments = parser.parse_args()
    keep_freed_buffers()
    size = (arguments.size, arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        images = first(prepare(arguments.images, Path(folder) / "cache", size=size), arguments.limit)
        loss = losses.build(arguments.loss, size=size, channels=images.channels)
        for name in arguments.only or VARIANTS:
            changes = dict(VARIANTS[name])
            bf16 = changes.pop("bf16", True)
            settings = GLOSettings(epochs=arguments.epochs, loss=arguments.loss, **changes)
            wall, processor = time.perf_counter(), time.process_time()
            result = glo.fit(images, settings, lambda: loss, bf16=bf16)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            with torch.no_grad():
                parts = zip(result.latents.split(256), torch.arange(len(images)).split(256), strict=True)
                distance = torch.cat([loss(result.generator(z), images.batch(rows)) for z, rows in parts]).mean()
            print(f"{name:<26} distance {distance:.4f}  wall {wall:4.0f} s  processor {processor:4.0f} s", flush=True)


if __name__ == "__main__":
    main()
