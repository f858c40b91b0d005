"""This project's pipeline against the published one: same images, same distance function, same processor time.

    python benchmarks/studies/stage1.py IMAGES WEIGHTS_H5 [--seconds 540] [--per-class 500]

IMAGES is a folder of 32x32 colour images, one subfolder a class, such as CIFAR-10. The first files of each class are
trained on; 250 others of each are what reconstructions and samples are compared with, in the features of networks
that no training here uses: see judge.py for WEIGHTS_H5, and EfficientNet-Lite0 of ImageNet (half of them).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from class_folders import as_set, read
from common import plt, save, table
from judge import Judge
from torch import Tensor
from variants import sheet

sys.path.append(str(Path(__file__).resolve().parents[1]))
from baselines import two_stages

from glann.features import build
from imle.metrics import frechet_distance

PIPELINES = {"this project": "glann", "published": "reference-cifar10"}
HELD_OUT, SHOWN = 250, 32  # of each class; in the picture


def looks(weights_h5: Path) -> dict[str, Callable[[Tensor], Tensor]]:
    """(N, 3, 32, 32) images in [0, 1] -> features of two networks; the second sees half of the images."""
    second = build("efficientnet-lite0", (32, 32))
    return {
        "HED": Judge(weights_h5).features,
        "EfficientNet": lambda images: second((255 * images[::2]).round().byte()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("weights_h5", type=Path)
    parser.add_argument("--seconds", type=float, default=540, help="of processor time for each pipeline")
    parser.add_argument("--per-class", type=int, default=500)
    options = parser.parse_args()

    images = as_set(read(options.images, 0, options.per_class)[0])
    real = read(options.images, -HELD_OUT, None)[0].float() / 255
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: len(real)]
    judges = looks(options.weights_h5)
    seen = {name: look(real) for name, look in judges.items()}

    results, grids = {}, {"images": images.batch(rows[:SHOWN])}
    for name, pipeline in PIPELINES.items():
        trained = two_stages.train(images, options.seconds, 0, pipeline)
        drawn = {"reconstructions": trained.copies(rows), "samples": trained.draw(len(real), 0)}
        figures = {
            f"{judge}, {what}": frechet_distance(seen[judge], look(made))
            for judge, look in judges.items()
            for what, made in drawn.items()
        }
        results[name] = {**figures, "seconds": trained.processor_seconds, **trained.facts}
        grids |= {f"{name}: {what}": made[:SHOWN] for what, made in drawn.items()}
        print(name, results[name], flush=True)
    floor = {judge: frechet_distance(seen[judge], look(images.batch(rows))) for judge, look in judges.items()}

    lines = []
    for key in [*(key for key in results["published"] if "," in key), "glo_loss"]:
        ours, theirs = (results[name][key] for name in PIPELINES)
        lines.append([key, f"{ours:.3g}", f"{theirs:.3g}", f"{ours / theirs:.2f}"])
    table(["", *PIPELINES, "ratio"], lines)
    figure, axes = plt.subplots(1, len(grids), figsize=(2.2 * len(grids), 5))
    for axis, (name, made) in zip(axes, grids.items(), strict=True):
        axis.imshow(sheet(made, columns=4), interpolation="nearest")
        axis.set_title(name, fontsize=8)
        axis.axis("off")
    save("stage1", {"images": len(images), "results": results, "training images": floor}, {"stage1": figure})


if __name__ == "__main__":
    main()
