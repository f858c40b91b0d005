"""Which copies of training images `glann evaluate` would see, in thumbnails and in the features of a network.

    python benchmarks/studies/memorised.py RUN IMAGES [--features]

RUN is a finished run; of IMAGES, up to 1,000 that it was not trained on count as new. --features adds the features of
efficientnet-lite0, which takes minutes.
"""

import argparse
import tempfile
from pathlib import Path

import common
import torch
import torch.nn.functional as F
from torch import Tensor

from glann import GLANN, features, imagecache, images
from glann.evaluation_images import to_bytes
from glann.info import read_run
from glann.inversion import thumbnails, training_latents
from glann.memorisation import TrainingImages
from imle.data import evenly

COUNT = 1000
PORTION = 250
MIXED = 16


def sets(run: Path, folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """The training images, and images of every kind by name."""
    model, training = GLANN.from_pretrained(run), images.load(run / "images")
    hashes = imagecache.read(run / "images").trained_on
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "images"
        found = images.prepare(folder, cache, size=model.size, channels=str(model.channels))
        new = torch.tensor([k for k, row in enumerate(imagecache.read(cache).rows) if row.sha256 not in hashes])
        unseen = found.batch(new[evenly(len(new), COUNT)])
    rows = evenly(len(training), COUNT)
    copies, learnt = training.batch(rows), training_latents(run, read_run(run).stages)
    noise = torch.randn(copies.shape, generator=torch.Generator().manual_seed(0))
    flat = unseen[: len(unseen) // MIXED * MIXED].view(-1, MIXED, *unseen.shape[1:]).mean(1)
    return training.batch(range(len(training))), {
        "images never seen": unseen,
        **{f"the same, mean of {k}×{k} pixels": coarse(unseen, k) for k in (3, 8, 16)},
        f"means of {MIXED} images never seen": flat,
        "reconstructions": model.decode(learnt.latents[rows], learnt.labels[rows] if model.classes else None),
        "samples": model.sample(COUNT, seed=3),
        "training images + noise (σ = 8/255)": (copies + 8 / 255 * noise).clamp(0, 1),
        "training images, mean of 3×3 pixels": coarse(copies, 3),
        "training images, shifted by a pixel": copies.roll(1, 3),
        "training images, mirrored": copies.flip(3),
    }


def coarse(images: Tensor, k: int) -> Tensor:
    """Each pixel the mean of k×k around it."""
    return F.avg_pool2d(F.pad(images, ((k - 1) // 2, k // 2) * 2, mode="replicate"), k, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--features", action="store_true")
    asked = parser.parse_args()
    training, others = sets(asked.run, asked.images)
    spaces = {"thumbnails": thumbnails}
    if asked.features:
        judge = features.build("efficientnet-lite0", (training.shape[2], training.shape[3]))
        spaces[judge.name] = lambda batch: judge(to_bytes(batch))
    held = {name: TrainingImages(training.split(PORTION), points) for name, points in spaces.items()}
    rows = []
    for name, batch in others.items():
        found = {space: one(batch) for space, one in held.items()}
        shares = [f"{held[space].share(near):.3f}" for space, near in found.items()]
        rows.append([name, *shares, f"{found['thumbnails'].contrast.mean():.2f}"])
    common.table(["", *spaces, "contrast"], rows)


if __name__ == "__main__":
    main()
