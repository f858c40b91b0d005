"""What each score says of sets of images whose faults are known: the table of docs/metrics.md.

    python benchmarks/studies/metrics.py CIFAR10 [--n 1000]

CIFAR10 has one folder a class, 1.5 n images in each at least. The reference is n images, as many of each class; it also
stands for the training images. All sets have n images.
"""

import argparse
from pathlib import Path

import common
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glann import features
from glann.evaluation_images import features_of
from glann.memorisation import TrainingImages
from glann.scores import score

NOISE = 20 / 255  # standard deviation, of pixels in [0, 1]
PORTION = 250


def read(paths: list[Path]) -> Tensor:
    """(N, 3, H, W) in [0, 1]."""
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def blurred(images: Tensor) -> Tensor:
    """The mean of 3×3 pixels."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def sets(folder: Path, n: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The reference, and every set by name."""
    classes = [sorted(c.iterdir()) for c in sorted(folder.iterdir()) if c.is_dir()]
    each = n // len(classes)
    reference = read([path for c in classes for path in c[:each]])
    real = read([path for c in classes for path in c[each : 2 * each]])
    more = -(-each // (len(classes) - 1))
    extra = read([path for c in classes[1:] for path in c[2 * each : 2 * each + more]])[:each]
    noise = NOISE * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    return reference, {
        "real": real,
        "blurred": blurred(real),
        "noisy": (real + noise).clamp(0, 1),
        f"without {classes[0][0].parent.name}": torch.cat([real[each:], extra]),
        f"only {classes[0][0].parent.name}": read(classes[0][2 * each : 2 * each + n]),
        "memorised": reference,
        "memorised, blurred": blurred(reference),
    }


def cells(row: dict[str, float], keys: tuple[str, ...]) -> list[str]:
    """One row of the table."""
    distances = [f"{row['frechet_distance']:.1f}", f"{1000 * row['kernel_distance']:.2f}"]
    return distances + [f"{row[key]:.3f}" for key in keys]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    reference, others = sets(asked.cifar10, asked.n)
    judge = features.build("efficientnet-lite0", (reference.shape[2], reference.shape[3]))
    held = TrainingImages([reference])

    def of(images: Tensor, name: str) -> Tensor:
        return features_of(judge, images.split(PORTION), len(images), name, lambda line: print(line, flush=True))

    real, results = of(reference, "reference"), {}
    for name, images in others.items():
        if len(images) != len(reference):
            raise SystemExit(f"{name}: expected {len(reference)} images, received {len(images)}")
        results[name] = score(real, of(images, name)).to_json() | {"memorised_share": held.share(held(images))}
    facts = {"n": len(reference), "features": judge.name, "resize": judge.resize, "sets": results}
    common.save("metrics", facts, {})
    head = ["set", "Fréchet", "kernel × 1000", "precision", "recall", "density", "coverage", "diversity", "memorised"]
    keys = ("precision", "recall", "density", "coverage", "diversity", "memorised_share")
    common.table(head, ([name, *cells(row, keys)] for name, row in results.items()))


if __name__ == "__main__":
    main()
