"""The perceptual loss of the 2019 publication: L1 between VGG-16 features and between pixels."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from glann.losses.distance import PerceptualDistance, difference, levels_for, mean_absolute, wide
from glann.losses.trunk import ARCHITECTURES, Trunk

PIXEL_WEIGHT = 2.0  # the published pixels lie in [−1, 1]


class VGG(PerceptualDistance):
    """``2 · mean |x − x'| + Σₗ mean |φₗ(x) − φₗ(x')|``, as in the code of Hoshen, Li, Malik, CVPR 2019.

    φₗ are relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 of VGG-16, as many as suit the size: 2 levels at 16 pixels, 3 at
    28 and 32, 4 at 64. Deviations from the published code: images are normalised for ImageNet; every level is taken
    after its ReLU (the code's third and later levels were not, and its third was conv3_2); every size has its levels.
    Alpha counts as a fourth plane of pixels.

    Args:
        size: (height, width) of the images in pixels.
        weights: file with the trunk's state dict.

    Raises:
        DataError: if the file cannot be used.
    """

    def __init__(self, size: tuple[int, int], weights: Path):
        super().__init__()
        self.trunk = Trunk("vgg", weights, levels_for(size, len(ARCHITECTURES["vgg"].taps)))

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        """See `PerceptualDistance.prepare`: the planes, then the features of every level."""
        return (planes, *self.trunk(planes))

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """See `PerceptualDistance.compare`."""
        pixels, *features = prepared
        total = PIXEL_WEIGHT * mean_absolute(difference(planes, pixels))
        for own, target in zip(self.trunk(planes), features, strict=True):
            total = total + mean_absolute(difference(wide(own), target))
        return total
