"""A picture of a run: originals above their reconstructions above samples.

python benchmarks/run_picture.py RUN OUT.png [--columns 12] [--sample-rows 1]
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from glann import GLANN, pictures
from glann.images import load


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--sample-rows", type=int, default=1)
    arguments = parser.parse_args()
    model, images = GLANN.from_pretrained(arguments.run), load(arguments.run / "images")
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: arguments.columns]
    labels = images.class_rows()
    latents = load_file(arguments.run / "glo" / "latents.safetensors")["latents"]
    copies = model.decode(latents[rows], None if labels is None else labels[rows])
    samples = model.sample(arguments.columns * arguments.sample_rows, seed=0)
    sheet = pictures.grid(torch.cat([images.batch(rows), copies, samples]), columns=arguments.columns)
    sheet.save(arguments.out, optimize=True, quality=88)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
