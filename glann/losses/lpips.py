"""LPIPS: a learned perceptual metric on the features of an ImageNet network (Zhang et al., CVPR 2018)."""

import importlib.util
from pathlib import Path

from torch import Tensor

from glann.losses.features import NormalisedFeatures
from glann.losses.trunk import Trunk
from glann.statedict import read_state
from imle.errors import DataError

VERSION = "v0.1"  # of the linear heads in package lpips; v0.0 was published with a scaling error


class LPIPS(NormalisedFeatures):
    """`NormalisedFeatures` of an ImageNet network, its channels weighted by the linear heads of package lpips.

    Equal to ``lpips.LPIPS(net=…)`` for the same trunk weights: the package maps [−1, 1] to what ImageNet's mean and
    standard deviation map [0, 1] to.

    Args:
        net: ``vgg``, ``alex`` or ``squeeze``.
        weights: file with the trunk's state dict.

    Raises:
        DataError: if the file or the heads cannot be used.
    """

    def __init__(self, net: str, weights: Path):
        super().__init__(Trunk(net, weights), _read_heads(net))


def _read_heads(net: str) -> list[Tensor]:
    """The linear heads, each (C, 1, 1) and ≥ 0, from package lpips, which need not be imported for it."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the loss lpips-{net} needs package lpips; install it with `pip install lpips`")
    state = read_state(Path(spec.submodule_search_locations[0]) / "weights" / VERSION / f"{net}.pth")
    return [state[f"lin{i}.model.1.weight"].reshape(-1, 1, 1).float() for i in range(len(state))]
