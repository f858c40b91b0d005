"""The small trunk that this package ships: six convolutions in the manner of VGG, trained on CIFAR-10."""

from pathlib import Path

import torch
from torch import Tensor, nn

from glann.losses.combined import Shrunken, WeightedSum
from glann.losses.distance import PerceptualDistance
from glann.losses.features import uniform
from glann.statedict import read_state

FILE = Path(__file__).with_name("small-vgg.safetensors")
WIDTHS = (32, 64, 128)  # channels of the stages; each has two 3×3 convolutions and halves the grid before the next
LEAST_SIDE = 32  # pixels: what the trunk was trained on; larger images are compared at this size, too
MEAN, STD = 0.5, 0.25  # of pixels in [0, 1]


class SmallTrunk(nn.Module):
    """Three stages of two 3×3 convolutions with ReLU (Simonyan & Zisserman 2015, at an eighth of the width).

    Args:
        normalise: batch normalisation after each convolution, as trained; the shipped weights have it folded in.
        pool: what halves the grid between stages: ``avg`` or ``max``.
    """

    def __init__(self, normalise: bool = False, pool: str = "avg"):
        super().__init__()
        self.pool = {"avg": nn.AvgPool2d(2), "max": nn.MaxPool2d(2)}[pool]
        self.stages = nn.ModuleList()
        inputs = 3
        for width in WIDTHS:
            layers: list[nn.Module] = []
            for _ in range(2):
                layers.append(nn.Conv2d(inputs, width, 3, padding=1, bias=not normalise))
                layers += [nn.BatchNorm2d(width)] * normalise
                layers.append(nn.ReLU())
                inputs = width
            self.stages.append(nn.Sequential(*layers))

    def forward(self, planes: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            planes: (B, C, H, W) in [0, 1]; C is 1, or the first three channels are RGB.

        Returns:
            One (B, Cₗ, H/2ˡ, W/2ˡ) tensor ≥ 0 a stage, channels-last.
        """
        x = ((planes[:, :3] - MEAN) / STD).expand(-1, 3, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(self.pool(x) if features else x)
            features.append(x)
        return features


def load(file: Path = FILE) -> SmallTrunk:
    """Read the trunk.

    Args:
        file: what benchmarks/train_trunk.py wrote; that of the package where none is given.

    Returns:
        The trunk with fp32 weights; each of its feature maps differs by 1 on average between two images of CIFAR-10.

    Raises:
        DataError: if the file is missing or damaged.
    """
    trunk = SmallTrunk()
    trunk.load_state_dict({key: value.float() for key, value in read_state(file).items()})
    return trunk.to(memory_format=torch.channels_last)


def distance(shape: tuple[int, int, int]) -> PerceptualDistance:
    """LPIPS' distance without its heads, at the size of the images and at halves of it that keep 32 pixels or more.

    Args:
        shape: (C, H, W) of one image in pixels.

    Returns:
        The mean over those sizes, and over the stages of the trunk.
    """
    trunk = load()
    parts: list[PerceptualDistance] = [uniform(trunk, len(WIDTHS))]
    while min(shape[1:]) // 2 ** len(parts) >= LEAST_SIDE:
        parts.append(Shrunken(uniform(trunk, len(WIDTHS)), 2 ** len(parts)))
    return parts[0] if len(parts) == 1 else WeightedSum(parts, [1 / len(parts)] * len(parts), shape)
