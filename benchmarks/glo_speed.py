"""Images/s of stage 1 with the distance `vgg`, against the published step written plainly (`benchmarks/plain/glo.py`).

    python benchmarks/glo_speed.py                             # every variant in turn, same generator, same weights
    python benchmarks/glo_speed.py --generator residual        # this project's own generator instead of the published
    python benchmarks/glo_speed.py --quality IMAGES            # time to the plain recipe's distance after 20 epochs

VGG-16 is randomly initialised: nothing is downloaded, and time does not depend on the weights. 32×32 images, batches
of 128, two threads. Eight steps of one variant follow those of another, so that whatever else the machine does meets
all alike; medians and quartiles over all steps but the first of each eight. All keep freed buffers (`glann.memory`).
Where other programs run, look at the processor time, with ``--threads 1``.

The trunk's work falls from six units in a step (a unit: one pass over a batch; two forward, and four backward, for each
pass costs one for its input's gradient and one for the weights') to three (frozen, no gradient for the targets), and to
two once the targets' features are kept. So 3 and 2 times are the most that these alone can give in one precision; the
generator's own work, which stays, takes from it, and channels-last, bfloat16 and fused Adam add to it.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from plain.glo import BATCH_SIZE, Plain, PlainLoss
from plain.glo import fit as fit_plain
from safetensors.torch import save_file
from torch import Tensor, nn

from glann import generators, glo, losses
from glann.images import ImageSet, prepare
from glann.latents import noise_latents
from glann.losses.distance import PerceptualDistance
from glann.memory import keep_freed_buffers
from glann.settings import GLOSettings

LATENT_DIM, SIZE = 64, (32, 32)
OURS: dict[str, Any] = {
    "epochs": 16, "batch_size": 64, "latent_dim": LATENT_DIM, "latent_init": "pca", "loss": "vgg",
    "generator": "reference", "lr": 1e-3, "latent_lr": 2e-2, "decay": "cosine",
}  # fmt: skip


class Stamps(list[tuple[float, float]]):
    """A watcher that notes when each step ended, by the clock on the wall and by that of the processor."""

    def step(self, *progress: object) -> None:
        self.append((time.perf_counter(), time.process_time()))

    def epoch(self, row: object) -> None:
        pass

    def seconds(self) -> list[tuple[float, float]]:
        """Wall-clock and processor time of each step but the first."""
        return [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(self)]


def random_vgg(folder: Path) -> tuple[nn.Sequential, Path]:
    """VGG-16's features with random weights, and the file that holds the same."""
    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features
    path = folder / "vgg.safetensors"
    save_file({f"features.{k}": v for k, v in features.state_dict().items()}, path)
    return features, path


def fresh_generator(name: str) -> nn.Module:
    torch.manual_seed(0)
    return generators.build(name, latent_dim=LATENT_DIM, size=SIZE, channels=3)


def one_epoch(
    images: ImageSet, name: str, loss: PerceptualDistance, bf16: bool, cache_gib: float
) -> list[tuple[float, float]]:
    """Seconds of the steps of one epoch of this project's stage 1."""
    settings = GLOSettings(
        epochs=1, batch_size=BATCH_SIZE, latent_dim=LATENT_DIM, latent_init="noise", generator=name, cache_gib=cache_gib
    )
    stamps = Stamps()
    glo.fit(images, settings, lambda: loss, bf16=bf16, watcher=stamps)
    return stamps.seconds()


def measure(name: str, rounds: int) -> None:
    """Print a line for each variant."""
    pixels = np.random.default_rng(0).integers(0, 256, (8 * BATCH_SIZE, 3, *SIZE)).astype(np.uint8)
    images = ImageSet(pixels, [str(i) for i in range(len(pixels))], None, "", 0)
    seconds: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        features, weights = random_vgg(Path(folder))
        loss = losses.build("vgg", size=SIZE, channels=3, weights=weights)
        latents = noise_latents(len(images), LATENT_DIM, 0)
        plain = Plain(torch.from_numpy(pixels), fresh_generator(name), latents, PlainLoss(features))
        for _ in range(rounds):
            stamps = Stamps()
            for rows in torch.randperm(len(images)).split(BATCH_SIZE):
                plain.step(rows)
                stamps.step()
            seconds.setdefault("plain", []).extend(stamps.seconds())
            for precision, cache in itertools.product(("fp32", "bf16"), ("anew", "kept")):
                got = one_epoch(images, name, loss, precision == "bf16", 8.0 if cache == "kept" else 0.0)
                seconds.setdefault(f"{precision}, targets {cache}", []).extend(got)
    print(f"{name} generator, batches of {BATCH_SIZE}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':20}  {'images/s (quartiles)':22}times plain  {'per processor second':22}times plain")
    base = [statistics.median(column) for column in zip(*seconds["plain"], strict=True)]
    for variant, values in seconds.items():
        line = f"{variant:20}  "
        for column, plain_seconds in zip(zip(*values, strict=True), base, strict=True):
            low, middle, high = (BATCH_SIZE / s for s in reversed(statistics.quantiles(column, n=4)))
            line += f"{f'{middle:.0f} ({low:.0f}-{high:.0f})':22}{middle * plain_seconds / BATCH_SIZE:11.2f}  "
        print(line.rstrip(), flush=True)


def distance(generator: nn.Module, latents: Tensor, images: ImageSet, loss: PerceptualDistance) -> float:
    """Mean distance of all reconstructions, the generator in eval mode, in fp32."""
    generator.eval()
    with torch.no_grad():
        parts = torch.arange(len(images)).split(250)
        found = torch.cat([loss(generator(latents[rows]), images.batch(rows)) for rows in parts]).mean()
    generator.train()
    return float(found)


def quality(source: Path, epochs: int, per_class: int) -> None:
    """Print in which share of the plain recipe's wall-clock this project's settings reach its distance."""
    with tempfile.TemporaryDirectory() as folder:
        everything = prepare(source, Path(folder) / "cache", size=SIZE, labels=True)
        assert everything.labels is not None
        seen: Counter[str] = Counter()
        rows = [i for i, label in enumerate(everything.labels) if seen.update([label]) or seen[label] <= per_class]
        images = ImageSet(everything.pixels[rows], [everything.paths[i] for i in rows], None, "", 0)
        features, weights = random_vgg(Path(folder))
        loss = losses.build("vgg", size=SIZE, channels=3, weights=weights)
        print(f"{len(images):,} images, {torch.get_num_threads()} threads; wall-clock without judging")
        wall, processor = time.perf_counter(), time.process_time()
        bf16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        result = glo.fit(images, GLOSettings(**OURS), lambda: loss, bf16=bf16)
        ours = time.perf_counter() - wall, time.process_time() - processor
        reached = distance(result.generator, result.latents, images, loss)
        line = "{:25}  wall {:6.1f} s  processor {:6.1f} s  distance {:.4f}"
        print(line.format(f"this project, {OURS['epochs']} epochs", *ours, reached), f" bf16: {bf16}", flush=True)
        latents = noise_latents(len(images), LATENT_DIM, 0)
        plain = Plain(torch.from_numpy(images.pixels), fresh_generator("reference"), latents, PlainLoss(features))
        wall, processor = time.perf_counter(), time.process_time()
        fit_plain(plain, epochs)
        seconds = time.perf_counter() - wall, time.process_time() - processor
        goal = distance(plain.generator, plain.latents.detach(), images, loss)
        print(line.format(f"plain, {epochs} epochs", *seconds, goal))
        wall, processor = (b / a for a, b in zip(ours, seconds, strict=True))
        told = "reached" if reached <= goal else "NOT reached"
        print(f"{told} in 1/{wall:.1f} of the wall-clock, 1/{processor:.1f} of the processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", choices=sorted(generators.GENERATORS), default="reference")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of 8 steps of every variant")
    parser.add_argument("--quality", type=Path, metavar="IMAGES", help="a folder with a folder for each class")
    parser.add_argument("--epochs", type=int, default=20, help="of the plain recipe, with --quality")
    parser.add_argument("--per-class", type=int, default=250, help="images, with --quality")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_buffers()
    if options.quality:
        quality(options.quality, options.epochs, options.per_class)
    else:
        measure(options.generator, options.rounds)


if __name__ == "__main__":
    main()
