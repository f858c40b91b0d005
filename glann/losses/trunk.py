"""A frozen ImageNet network, run as deep as the last feature map that a distance compares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glann.statedict import read_state
from imle.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network of torchvision, and where its feature maps are taken.

    Attributes:
        model: the torchvision function that makes it.
        taps: indices into its ``features``, each the output of a ReLU, from fine to coarse.
        smallest_side: pixels below which its last tap has no output.
    """

    model: str
    taps: tuple[int, ...]
    smallest_side: int


ARCHITECTURES = {
    "vgg": Architecture("vgg16", (3, 8, 15, 22, 29), 16),  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
    "alex": Architecture("alexnet", (1, 4, 7, 9, 11), 31),  # relu1 … relu5
    "squeeze": Architecture("squeezenet1_1", (1, 4, 7, 9, 10, 11, 12), 17),  # relu1, fire3, fire5, fire6 … fire9
}


class TappedTrunk(nn.Module):
    """Feature maps that the layers of an ImageNet network give on their way.

    Args:
        layers: the network up to the last tap.
        taps: numbers of the layers whose outputs are wanted.
        smallest_side: pixels; smaller images are enlarged.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Sequential, taps: Sequence[int], smallest_side: int):
        super().__init__()
        self.layers, self.taps, self.smallest_side = layers.requires_grad_(False).eval(), taps, smallest_side
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, planes: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            planes: (B, C, H, W) in [0, 1]; C is 1, or the first three channels are RGB.

        Returns:
            One (B, Cₗ, Hₗ, Wₗ) tensor per tap, channels-last; ≥ 0 where the tap is a ReLU.
        """
        x = planes[:, :3].to(self.mean.dtype)
        enlarge = math.ceil(self.smallest_side / min(x.shape[2:]))
        if enlarge > 1:
            x = F.interpolate(x, scale_factor=float(enlarge), mode="bilinear", align_corners=False)
        x = (x - self.mean) / self.std  # (B, 1, H, W) becomes (B, 3, H, W) here
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.taps:
                features.append(x)
        return features


class Trunk(TappedTrunk):
    """Feature maps of a frozen network.

    Grey is repeated to three channels and alpha is left to the caller. Images smaller than the network can take are
    enlarged bilinearly by the smallest whole factor that suffices (28×28 for AlexNet: twice). Every tap is the output
    of a ReLU and is followed by a convolution or a pooling, so torchvision's in-place ReLUs never write into a captured
    map. Tensors are kept channels-last throughout: on a CPU 5 (AlexNet), 15 (VGG-16) and 45 % (SqueezeNet) faster.

    Attributes:
        mean: (3, 1, 1), of ImageNet's pixels.
        std: (3, 1, 1), of ImageNet's pixels.

    Args:
        name: ``vgg``, ``alex`` or ``squeeze``.
        weights: file with the network's state dict as torchvision names its entries; classifier entries are not read.
        levels: how many of the taps are wanted, from the finest; all where None. No layer beyond the last is built.

    Raises:
        DataError: if the file is not such a state dict; lists every missing, unexpected and misshapen entry.
    """

    def __init__(self, name: str, weights: Path, levels: int | None = None):
        architecture = ARCHITECTURES[name]
        taps = architecture.taps[:levels]
        super().__init__(_load_features(architecture.model, weights, taps[-1] + 1), taps, architecture.smallest_side)


def _load_features(model: str, path: Path, depth: int) -> nn.Sequential:
    """The first layers of a torchvision network, with weights from a file."""
    import torchvision

    with torch.device("meta"):  # shapes alone: VGG-16's classifier would take half a gigabyte
        network = getattr(torchvision.models, model)(weights=None)
    known = {key: value.shape for key, value in network.state_dict().items()}
    layers: nn.Sequential = network.features[:depth]
    wanted = [f"features.{key}" for key in layers.state_dict()]
    found = read_state(path)
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in known]
    misshapen = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(known[key])}"
        for key in wanted
        if key in found and found[key].shape != known[key]
    ]
    if missing or unexpected or misshapen:
        lists = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        faults = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in lists if keys)
        raise DataError(f"expected the weights of torchvision's {model} in {path}, received other entries: {faults}")
    # Fresh memory: a mapped file has another alignment, and with it another order of additions.
    fresh = {key.removeprefix("features."): found[key].to(torch.float32, copy=True) for key in wanted}
    layers.load_state_dict(fresh, assign=True)
    return layers.to(memory_format=torch.channels_last)
