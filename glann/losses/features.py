"""A distance of images that is the L1 distance of their feature maps in some frozen network."""

from collections.abc import Sequence

from torch import Tensor, nn

from glann.losses.distance import PerceptualDistance, difference, mean_absolute, wide


class FeatureL1(PerceptualDistance):
    """``1/L Σₗ sₗ · mean |φₗ(x) − φₗ(x')|``, φₗ the l-th of L feature maps; alpha adds its mean absolute difference.

    Args:
        trunk: (B, C, H, W) planes in [0, 1], C ≥ 3 or 1 -> L feature maps.
        scales: sₗ, which bring the levels to a common size.
    """

    def __init__(self, trunk: nn.Module, scales: Sequence[float]):
        super().__init__()
        self.trunk = trunk.requires_grad_(False).eval()
        self.scales = tuple(scales)

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        """See `PerceptualDistance.prepare`: the feature maps, then alpha where there is one."""
        return (*self.trunk(planes), *_alpha(planes))

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """See `PerceptualDistance.compare`."""
        levels = len(self.scales)
        total = planes.new_zeros(len(planes))
        for own, target, scale in zip(self.trunk(planes), prepared[:levels], self.scales, strict=True):
            total = total + scale / levels * mean_absolute(difference(wide(own), target))
        for own, target in zip(_alpha(planes), prepared[levels:], strict=True):
            total = total + mean_absolute(difference(own, target))
        return total


def _alpha(planes: Tensor) -> tuple[Tensor, ...]:
    return (planes[:, 3:],) if planes.shape[1] == 4 else ()
