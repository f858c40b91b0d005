"""How far samples of runs on few images are from their training images, and from others of the same kind.

    python benchmarks/few_images.py HELD_OUT RUN…

HELD_OUT is a folder of images that no run has seen. Distances are Euclidean between image features: the last maps of
the small network that the package brings, averaged over space (128 numbers). The network also judges in stage 1, so
compare runs with each other, not with models trained otherwise. A line a run, of 2,000 samples: *Fréchet* to the images
held out; *new*, the mean distance from a sample to the nearest training image; *cover*, the mean distance from an image
held out to the nearest sample. The first line is what the training images themselves score; its *new* is that of the
images held out, what samples that are like them but no copies would have.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import imle
from glann import GLANN
from glann.images import ImageSet, load, prepare
from glann.losses import small
from imle.metrics import frechet_distance

SAMPLES = 2000


@torch.no_grad()
def features(trunk: small.SmallTrunk, images: Tensor) -> Tensor:
    """(N, C, H, W) in [0, 1] -> (N, 128)."""
    return torch.cat([trunk(batch)[-1].mean((2, 3)) for batch in images.split(250)])


def mean_nearest(queries: Tensor, candidates: Tensor) -> float:
    """Mean distance from each query to its nearest candidate."""
    return float(imle.nearest(queries, candidates).distances.mean())


def everything(images: ImageSet) -> Tensor:
    """All images as one tensor."""
    return images.batch(range(len(images)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("held_out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    trunk = small.load()
    train = load(arguments.runs[0] / "images")
    with tempfile.TemporaryDirectory() as folder:
        held = prepare(arguments.held_out, Path(folder) / "cache", size=(train.height, train.width))
        unseen, seen = features(trunk, everything(held)), features(trunk, everything(train))
    print(f"{'training images':<24} Fréchet {frechet_distance(seen, unseen):.4f}  new {mean_nearest(unseen, seen):.3f}")
    for run in arguments.runs:
        drawn = features(trunk, GLANN.from_pretrained(run).sample(SAMPLES, seed=1))
        print(
            f"{run.name:<24} Fréchet {frechet_distance(drawn, unseen):.4f}  new {mean_nearest(drawn, seen):.3f}  "
            f"cover {mean_nearest(unseen, drawn):.3f}"
        )


if __name__ == "__main__":
    main()
