"""Networks that turn images into the features that scores are computed of, registered with torch-fidelity.

Importing this module lets ``torch_fidelity.calculate_metrics(feature_extractor="efficientnet-lite0")`` find them, too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from glann.losses import small
from glann.losses.efficientnet import load_network
from glann.losses.trunk import IMAGENET_MEAN, IMAGENET_STD

SMALL_SIDE, LARGE_SIDE = 160, 224  # pixels; 224 is what the network was trained at
# 10 nearest neighbours find the class of 1,500 images of CIFAR-10 as often at 160 as at 224 pixels, in a third of the
# time, and less often at 128.


class _Features(FeatureExtractorBase):
    """What torch-fidelity asks of a network: uint8 (B, 3, H, W) -> one (B, d) float32 tensor."""

    dims: int

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        """The one feature vector, named by its length as torch-fidelity names those of Inception."""
        return (str(cls.dims),)

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        """The same for every metric."""
        return str(cls.dims)

    @staticmethod
    def can_be_compiled() -> bool:
        """Not worth it: these networks are small."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """See `can_be_compiled`."""
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W) uint8 -> ((B, d) float32,)."""
        return (self.extract(images.float() / 255),)

    def extract(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, d)."""
        raise NotImplementedError


class EfficientNetLite0(_Features):
    """The pooled output of EfficientNet-Lite0 (Tan & Le 2019) with its ImageNet weights.

    Images are brought to 160×160, larger ones to 224×224, bicubic, with antialiasing (Parmar et al. 2022).
    """

    dims = 1280
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, features_list: list[str], **kwargs: Any):
        super().__init__(name, features_list)
        self.network = load_network().to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def extract(self, images: Tensor) -> Tensor:
        """See `_Features.extract`."""
        x = (resized(images, side_for(images.shape[2:])) - self.mean) / self.std
        maps: Tensor = self.network.extract_features(x.contiguous(memory_format=torch.channels_last))
        return maps.mean((2, 3))


class SmallVGG(_Features):
    """The feature maps of the network that this package ships, averaged over space: 32 + 64 + 128 numbers.

    It was trained on CIFAR-10 alone, and is part of the distance that stage 1 takes by itself: a stopgap.
    """

    dims = sum(small.WIDTHS)

    def __init__(self, name: str, features_list: list[str], **kwargs: Any):
        super().__init__(name, features_list)
        self.network: nn.Module = small.load().requires_grad_(False).eval()

    def extract(self, images: Tensor) -> Tensor:
        """See `_Features.extract`."""
        return torch.cat([m.mean((2, 3)) for m in self.network(resized(images, small.LEAST_SIDE))], dim=1)


def side_for(size: "torch.Size | tuple[int, ...]") -> int:
    """The side in pixels that `EfficientNetLite0` brings images of a (height, width) to."""
    return SMALL_SIDE if min(size) <= SMALL_SIDE else LARGE_SIDE


def resized(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) in [0, 1] -> (B, C, side, side): stretched where not square, as for Inception."""
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


register_feature_extractor("efficientnet-lite0", EfficientNetLite0)
register_feature_extractor("small-vgg", SmallVGG)
