"""Stacked MNIST (Metz et al. 2017, arXiv 1611.02163): three digits as red, green and blue, so 1,000 modes.

    python benchmarks/stacked_mnist.py MNIST OUT --count 10000      # PNGs of 28x28, for `glann fit`

MNIST is a folder with one subfolder a class; the first digits of each are taken, and every image stacks three that are
drawn independently.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

sys.path.append(str(Path(__file__).parent / "studies"))
from class_folders import read

MODES = 1000
DIGITS_PER_CLASS = 1000


def stacked(digits: Tensor, count: int, seed: int) -> Tensor:
    """(N, 1, 28, 28) digits -> (count, 3, 28, 28) images of three of them, of the same type."""
    rows = torch.randint(len(digits), (3, count), generator=torch.Generator().manual_seed(seed))
    return torch.cat([digits[channel] for channel in rows], dim=1)


def mode(classes: Tensor) -> Tensor:
    """(count, 3) digits' classes -> (count,) from 0 to 999."""
    return classes @ torch.tensor([100, 10, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    digits, _ = read(options.mnist, 0, DIGITS_PER_CLASS)
    for number, image in enumerate(stacked(digits, options.count, options.seed)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(options.out / f"{number:06d}.png")


if __name__ == "__main__":
    main()
