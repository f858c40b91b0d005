"""Train the small trunk that the package ships, as a classifier of CIFAR-10, and write its file.

    python benchmarks/train_trunk.py CIFAR10_FOLDER glann/losses/small-vgg.safetensors

The folder holds one folder of images a class. The last tenth of every class is not trained on: it gives the accuracy.
Batch normalisation is folded into the convolutions, and every stage is scaled so that its features of two different
held-out images differ by 1 on average: a sum over stages then needs no weights.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from glann.losses.small import WIDTHS, SmallTrunk

BATCH, PEAK_LR, DECAY = 128, 0.1, 5e-4
PAD = 4  # pixels a crop may be shifted by
GREY = 0.1  # part of the images that are seen without colour
SMOOTHING = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--pool", choices=("avg", "max"), default="avg")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    (images, labels), (held_out, held_labels) = read(arguments.folder)
    trunk = SmallTrunk(normalise=True, pool=arguments.pool).to(memory_format=torch.channels_last)
    head = nn.Linear(WIDTHS[-1], int(labels.max()) + 1)
    seconds = train(trunk, head, images, labels, arguments.epochs)
    accuracy = judge(trunk, head, held_out, held_labels)
    print(f"accuracy {accuracy:.4f} on {len(held_out)} held-out images, {seconds:.0f} s")

    folded = fold(trunk.eval(), arguments.pool)
    equalise(folded, held_out[torch.randperm(len(held_out))[:1000]])
    assert abs(judge(folded, head, held_out, held_labels, scaled=trunk) - accuracy) < 2e-3
    facts = {
        "data": f"CIFAR-10 (Krizhevsky 2009), {len(images)} of its 50,000 training images, labelled",
        "accuracy": f"{accuracy:.4f} on {len(held_out)} images not trained on",
        "command": f"python benchmarks/train_trunk.py cifar10 {arguments.out.name} --epochs {arguments.epochs} "
        f"--pool {arguments.pool} --seed {arguments.seed}",
        "torch": torch.__version__,
        "pool": arguments.pool,
        "licence": "Apache-2.0, as this project; the images of CIFAR-10 are not in here",
    }
    save_file({k: v.half().contiguous() for k, v in folded.state_dict().items()}, arguments.out, facts)


def read(folder: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((N, 3, H, W) uint8, (N,) int64) of the first nine tenths of every class, then of the last tenth."""
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    for label, name in enumerate(sorted(p.name for p in folder.iterdir() if p.is_dir())):
        paths = sorted((folder / name).iterdir())
        for i, path in enumerate(paths):
            which = int(i >= len(paths) * 9 // 10)
            parts[which].append(torch.from_numpy(np.array(Image.open(path).convert("RGB"))))
            labels[which].append(label)
    stacked = [torch.stack(part).permute(0, 3, 1, 2).contiguous() for part in parts]  # (N, 3, H, W)
    return (stacked[0], torch.tensor(labels[0])), (stacked[1], torch.tensor(labels[1]))


def train(trunk: SmallTrunk, head: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> float:
    parameters = [*trunk.parameters(), *head.parameters()]
    sgd = torch.optim.SGD(parameters, lr=PEAK_LR, momentum=0.9, weight_decay=DECAY, nesterov=True)
    batches = len(images) // BATCH
    cycle = torch.optim.lr_scheduler.OneCycleLR(sgd, PEAK_LR, total_steps=epochs * batches, pct_start=0.2)
    started = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images))[: batches * BATCH].split(BATCH):
            x = augment(images[rows].float() / 255)
            with torch.autocast("cpu", torch.bfloat16):
                scores = head(trunk(x)[-1].mean((2, 3)))
            loss = F.cross_entropy(scores.float(), labels[rows], label_smoothing=SMOOTHING)
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            cycle.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}/{epochs}: loss {total / batches:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return time.monotonic() - started


def augment(x: Tensor) -> Tensor:
    """(B, 3, H, W): each shifted by up to `PAD` pixels, every second mirrored, some without colour."""
    count, height, width = len(x), x.shape[2], x.shape[3]
    padded = F.pad(x, (PAD,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * PAD + 1, (2, count, 1))
    columns = right + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    lines = down + torch.arange(height)
    x = padded[torch.arange(count)[:, None, None], :, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    grey = x.mean(1, keepdim=True).expand_as(x)
    return torch.where(torch.rand(count, 1, 1, 1) < GREY, grey, x)


@torch.no_grad()
def judge(trunk: nn.Module, head: nn.Module, images: Tensor, labels: Tensor, scaled: nn.Module | None = None) -> float:
    """Part of the images whose class is found; with ``scaled``, after undoing how the last stage was scaled to it."""
    trunk.eval()
    features = torch.cat([trunk(x.float() / 255)[-1].mean((2, 3)) for x in images.split(500)])
    if scaled is not None:
        features = features * (
            scaled(images[:500].float() / 255)[-1].mean() / trunk(images[:500].float() / 255)[-1].mean()
        )
    return float((head(features).argmax(1) == labels).float().mean())


def fold(trunk: SmallTrunk, pool: str) -> SmallTrunk:
    """The same network without batch normalisation."""
    folded = SmallTrunk(pool=pool)
    for own, stage in zip(folded.stages, trunk.stages, strict=True):
        own[0], own[2] = fuse_conv_bn_eval(stage[0], stage[1]), fuse_conv_bn_eval(stage[3], stage[4])
    return folded.eval()


@torch.no_grad()
def equalise(trunk: SmallTrunk, images: Tensor) -> None:
    """Scale each stage to a mean absolute difference of 1 between images; the next undoes it: ReLU(sx) = s ReLU(x)."""
    for level, stage in enumerate(trunk.stages):
        features = trunk(images.float() / 255)[level]
        scale = 1 / (features - features.roll(1, 0)).abs().mean()
        stage[2].weight.mul_(scale)
        stage[2].bias.mul_(scale)
        if level + 1 < len(trunk.stages):
            trunk.stages[level + 1][0].weight.div_(scale)


if __name__ == "__main__":
    main()
