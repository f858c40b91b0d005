"""What truncation does to the samples of a run: precision up, recall down, and how shrinking the noise compares.

    glann fit mnist5000 --out run --pipeline quick --set glo.epochs=40 --set imle.epochs=100
    python benchmarks/truncation.py run HELD_OUT_IMAGES --picture truncation.png

As many samples as there are held-out images, at most 5,000, measured twice: latents against those of the training
images, and images against the held-out ones, both shrunken to half. Balls reach to the 3rd neighbour.
"""

import argparse
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glann import GLANN, pictures
from glann.decode import decode
from glann.scan import scan
from imle.metrics import balls
from imle.noise import sample_noise
from imle.truncation import Truncation

SEED, MOST, K = 1, 5000, 3
SHARES, FACTORS = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1), (0.9, 0.8, 0.7, 0.6, 0.5)
SHOWN, COLUMNS = (1.0, 0.7, 0.4), 8  # grids in the picture


def features(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C·H·W/4)."""
    return F.avg_pool2d(images, 2).flatten(1)


def main() -> None:
    """Print the table, and draw the picture where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, help="held-out images")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    model = GLANN.from_pretrained(options.run)
    latents = safetensors.torch.load_file(options.run / "glo" / "latents.safetensors")["latents"][:MOST]
    paths = [options.images / file.path for file in scan(options.images).files]
    paths = paths[:: -(-len(paths) // MOST)]
    pixels = np.stack([decode(path, model.size, model.channels).pixels for path in paths])
    held_out, count = features(torch.from_numpy(pixels).float() / 255), len(paths)

    truncation = Truncation(model.sampler)
    rows = [(f"T = {share:g}", truncation.sample(count, share, seed=SEED)) for share in SHARES]
    noise = sample_noise(SEED, 0, count, model.sampler.noise_dim)
    with torch.no_grad():
        rows += [(f"noise × {factor:g}", model.sampler(factor * noise)) for factor in FACTORS]
    print("| | latents: precision | recall | coverage | density | images: precision | recall | coverage | density |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, z in rows:
        inner, outer = balls(latents, z, K), balls(held_out, features(model.decode(z)), K)
        figures = [(b.precision, b.recall, b.coverage, b.density) for b in (inner, outer)]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in sum(figures, ())) + " |", flush=True)

    if options.picture:
        grids = [
            pictures.grid(model.sample(COLUMNS**2, SEED, truncation=share), columns=COLUMNS).convert("RGB")
            for share in SHOWN
        ]
        gap = 16
        sheet = Image.new("RGB", (sum(g.width + gap for g in grids) - gap, grids[0].height), "white")
        for i, grid in enumerate(grids):
            sheet.paste(grid, (i * (grid.width + gap), 0))
        pictures.save(sheet, options.picture)


if __name__ == "__main__":
    main()
