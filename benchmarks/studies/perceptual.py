"""Which perceptual distance without downloads: stage 1 for equal processor time with each, judged by another network.

    python benchmarks/studies/perceptual.py TRAIN HELD_OUT JUDGE_H5 [--seconds 120] [--only NAME]… [--trunk FILE]…

TRAIN is a folder of images. HELD_OUT has one folder a class; the last 250 images of each are compared with, the 250
before them show what two sets of real images score. JUDGE_H5: see judge.py. Results are written after every candidate;
--only adds to those that are there. --tag NAME keeps the results of other images apart.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import torch
from judge import Judge
from PIL import Image
from torch import Tensor, nn

import imle
from glann import glo, losses
from glann.images import ImageSet, prepare
from glann.losses import small
from glann.losses.combined import WeightedSum
from glann.losses.distance import PerceptualDistance, difference, mean_absolute, wide
from glann.losses.efficientnet import EfficientNetTrunk
from glann.losses.features import uniform
from glann.memory import keep_freed_buffers
from glann.settings import GLOSettings

COLUMNS, SAMPLE_ROWS = 16, 3
PER_CLASS = 250
COUNT = 2500  # images on each side of a Fréchet distance


class FeatureL1(PerceptualDistance):
    """Mean over the levels of sₗ · mean |φₗ(x) − φₗ(x')|."""

    def __init__(self, trunk: nn.Module, scales: list[float]):
        super().__init__()
        self.trunk, self.scales = trunk.requires_grad_(False).eval(), scales

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.trunk(planes))

    def compare_planes(self, planes: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        own = self.trunk(planes)
        parts = zip(own, prepared, self.scales, strict=True)
        return sum(scale / len(own) * mean_absolute(difference(wide(y), target)) for y, target, scale in parts)


class RandomVGG(nn.Module):
    """VGG-16 to conv 3_3 as He et al. 2015 initialise it, features after ReLU of each block's last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, inputs = nn.ModuleList(), 3
        generator = torch.Generator().manual_seed(0)
        for width, count in ((64, 2), (128, 2), (256, 3)):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if self.blocks else []
            for _ in range(count):
                layer = nn.Conv2d(inputs, width, 3, padding=1)
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
                layers, inputs = [*layers, layer, nn.ReLU()], width
            self.blocks.append(nn.Sequential(*layers))

    def forward(self, planes: Tensor) -> list[Tensor]:
        x = ((planes - 0.5) / 0.25).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


def equal(trunk: nn.Module, images: Tensor) -> FeatureL1:
    """L1 of the features, levels scaled so that two images differ by 1 in each."""
    with torch.no_grad():
        scales = [float(1 / (f - f.roll(1, 0)).abs().mean()) for f in trunk.eval()(images)]
    return FeatureL1(trunk.to(memory_format=torch.channels_last), scales)


def candidates(images: Tensor, trunks: dict[str, Path]) -> dict[str, Callable[[], PerceptualDistance]]:
    """All distances by name; ``images`` set the scales of levels."""
    shape = tuple(images.shape[1:])
    laplacian = lambda: losses.build("laplacian", size=shape[1:], channels=shape[0])  # noqa: E731

    def plus(part: PerceptualDistance, weight: float = 1.0) -> WeightedSum:
        return WeightedSum([part, laplacian()], [1.0, weight], shape)

    found: dict[str, Callable[[], PerceptualDistance]] = {
        "laplacian": laplacian,
        "random VGG-16, L1": lambda: equal(RandomVGG(), images),
        "random VGG-16+laplacian": lambda: plus(uniform(RandomVGG(), 3)),
        "efficientnet-lite0, L1": lambda: equal(EfficientNetTrunk(), images),
        "efficientnet-lite0": lambda: uniform(EfficientNetTrunk(), 3),
        "efficientnet-lite0+laplacian": lambda: plus(uniform(EfficientNetTrunk(), 3)),
    }
    for name, file in trunks.items():
        found |= {
            f"{name}, L1": lambda file=file: equal(small.load(file), images),
            f"{name}, L1, +laplacian": lambda file=file: plus(equal(small.load(file), images)),
            name: lambda file=file: uniform(small.load(file), 3),
            f"{name}+laplacian": lambda file=file: plus(uniform(small.load(file), 3)),
        }
    return found


def held_out(folder: Path, size: tuple[int, int], channels: int) -> Iterator[Tensor]:
    """The last 250 of each class, then the 250 before: (N, C, H, W) in [0, 1]."""
    for part in (slice(-PER_CLASS, None), slice(-2 * PER_CLASS, -PER_CLASS)):
        paths = [p for c in sorted(folder.iterdir()) if c.is_dir() for p in sorted(c.iterdir())[part]]
        opened = [Image.open(p).convert("L" if channels == 1 else "RGB").resize(size[::-1]) for p in paths]
        pixels = np.stack([np.array(image).reshape(*size, channels) for image in opened])
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def fit(images: ImageSet, loss: nn.Module, seconds: float) -> tuple[glo.GLOResult, dict[str, float]]:
    """Stage 1 for as many epochs as fit into the processor seconds, at least one."""
    rows = np.arange(0, len(images), len(images) // 320)[:320]
    part = ImageSet(images.pixels[rows], [images.paths[i] for i in rows], None, "part", 0)
    for _ in range(2):  # the first one warms up
        started = time.process_time()
        glo.fit(part, GLOSettings(epochs=1), lambda: loss, bf16=True)
        rate = len(part) / (time.process_time() - started)
    epochs = max(1, round(seconds * rate / len(images)))
    started = time.process_time()
    result = glo.fit(images, GLOSettings(epochs=epochs), lambda: loss, bf16=True)
    spent = time.process_time() - started
    return result, {"epochs": epochs, "seconds": spent, "images_per_second": len(images) * epochs / spent}


@torch.no_grad()
def decode(generator: nn.Module, latents: Tensor) -> Tensor:
    return torch.cat([generator(z) for z in latents.split(250)]).clamp(0, 1)


def grid(images: Tensor) -> np.ndarray:
    """(R·16, C, H, W) -> (R·H, 16·W, 3) uint8."""
    images = (255 * images).round().byte().expand(-1, 3, -1, -1)
    rows = [torch.cat(list(row), dim=2) for row in images.split(COLUMNS)]
    return torch.cat(rows, dim=1).permute(1, 2, 0).numpy()


def picture(name: str, pictures: dict[str, Path], height: int) -> None:
    """Originals, reconstructions of each candidate; samples of each candidate."""
    folder = common.DOCS / "images"
    for what, first, rows in (("reconstructions", 1, 1), ("samples", 2, SAMPLE_ROWS)):
        figure, axes = plt.subplots(
            len(pictures) + (first == 1), 1, figsize=(common.WIDTH, (len(pictures) + 1) * (0.26 + rows * 0.44))
        )
        shown = [(n, np.array(Image.open(p))[first * height : (first + rows) * height]) for n, p in pictures.items()]
        if first == 1:
            shown.insert(0, ("images", np.array(Image.open(next(iter(pictures.values()))))[:height]))
        for axis, (title, pixels) in zip(np.atleast_1d(axes), shown, strict=True):
            axis.imshow(pixels, interpolation="nearest")
            axis.set_title(title, loc="left", fontsize=8, pad=2)
            axis.axis("off")
        figure.savefig(folder / f"{name}-{what}.png")
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("--seconds", type=float, default=120, help="processor seconds of stage 1")
    parser.add_argument("--imle-epochs", type=int, default=100)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--trunk", action="append", default=[], metavar="NAME=FILE", help="more trunks like small-vgg")
    parser.add_argument("--only", action="append")
    parser.add_argument("--tag", help="for instance mnist")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_buffers()
    name = "-".join(filter(None, ["perceptual", arguments.tag]))
    with tempfile.TemporaryDirectory() as folder:
        images = prepare(arguments.train, Path(folder) / "cache", size=(arguments.size,) * 2)
        judge = Judge(arguments.judge)
        real, other = held_out(arguments.held_out, (images.height, images.width), images.channels)
        real_features = judge.features(real)
        distance = lambda x: imle.metrics.frechet_distance(real_features, judge.features(x))  # noqa: E731
        every = torch.linspace(0, len(images) - 1, COUNT).long()
        originals = images.batch(every)
        features = judge.features(originals)
        trunks = {"small-vgg": small.FILE} | {k: Path(v) for k, v in (t.split("=") for t in arguments.trunk)}
        path, kept = common.DOCS / "data" / f"{name}.json", {}
        scratch = Path(tempfile.gettempdir()) / f"glann-{name}"
        scratch.mkdir(exist_ok=True)
        made = candidates(originals[torch.randperm(COUNT)[:500]], trunks)
        for candidate in arguments.only or made:
            torch.manual_seed(0)
            result, row = fit(images, made[candidate](), arguments.seconds)
            drawn = decode(result.generator, result.latents[every])
            settings = imle.IMLE(epochs=arguments.imle_epochs, refresh=imle.Every(1), noise_dim=16)
            sampler = settings.fit(result.latents)
            samples = decode(result.generator, sampler.sample(COUNT, seed=1))
            drawn_features = judge.features(drawn)
            row["reconstruction_frechet"] = imle.metrics.frechet_distance(real_features, drawn_features)
            row["reconstruction_distance"] = float((features - drawn_features).norm(dim=1).mean())
            row["samples_frechet"] = distance(samples)
            some = torch.linspace(0, COUNT - 1, COLUMNS).long()
            rows = torch.cat([originals[some], drawn[some], samples[: SAMPLE_ROWS * COLUMNS]])
            Image.fromarray(grid(rows)).save(scratch / f"{candidate}.png")
            print(candidate, common.rounded(row), flush=True)
            facts = {"real": distance(other), "train": imle.metrics.frechet_distance(real_features, features)}
            if arguments.only and path.exists():  # read just before it is written: calls may run side by side
                kept = json.loads(path.read_text())["candidates"]
            kept[candidate] = row
            common.save(name, {**facts, "candidates": kept}, {})
            picture(name, {n: scratch / f"{n}.png" for n in kept if (scratch / f"{n}.png").exists()}, images.height)
    common.table(
        ["distance", "images/s", "epochs", "reconstructions", "per image", "samples"],
        [
            (n, f"{r['images_per_second']:.0f}", r["epochs"], f"{r['reconstruction_frechet']:.0f}",
             f"{r['reconstruction_distance']:.1f}", f"{r['samples_frechet']:.0f}")
            for n, r in kept.items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
