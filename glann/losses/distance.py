"""What every perceptual distance is: a frozen module with targets that can be prepared once and compared often."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
BACKDROP = 0.5  # the grey that transparent images are laid over
COARSEST = 7  # pixels: the short side of the coarsest grid that a multi-level distance looks at, at least


class PerceptualDistance(nn.Module):
    """How different two images look, one value per example, differentiable in the first image only.

    A subclass implements `prepare_planes` and `compare_planes`; they receive what `visible` makes of the images. All
    parameters are frozen and the module stays in evaluation mode, whatever the training loop asks for.

    Attributes:
        cacheable: whether prepared targets are worth keeping: False where preparing them costs next to nothing.
    """

    cacheable = True

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance of every image to its target.

        Args:
            images: (B, C, H, W) in [0, 1], C one of 1, 3, 4.
            targets: (B, C, H, W) in [0, 1]; no gradient flows into them.

        Returns:
            (B,) distances ≥ 0, float32 or wider.

        Raises:
            ValueError: if the shapes differ or are not those of images.
        """
        return self.compare(images, self.prepare(targets))

    def prepare(self, targets: Tensor) -> tuple[Tensor, ...]:
        """All that `compare` needs of the targets, without gradient.

        Args:
            targets: (B, C, H, W) in [0, 1].

        Returns:
            Tensors whose first dimension is B: rows can be cached, as fp16 too, and gathered for another batch. Feature
            maps are channels-last; a cache that keeps them so is a few percent faster.

        Raises:
            ValueError: if the shape is not one of images.
        """
        with torch.no_grad():
            return self.prepare_planes(visible(targets.detach()))

    def compare(self, images: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """Distance of every image to its prepared target.

        Args:
            images: (B, C, H, W) in [0, 1].
            prepared: what `prepare` returned for the targets, on the same device.

        Returns:
            (B,) distances ≥ 0, float32 or wider.

        Raises:
            ValueError: if the shapes of images and prepared targets do not belong together.
        """
        return self.compare_planes(visible(images), prepared)

    def feature_bytes(self, shape: tuple[int, int, int]) -> int:
        """Memory that a cache of prepared targets takes, in fp32.

        Args:
            shape: (C, H, W) of one image.

        Returns:
            Bytes per image; 0 where caching saves nothing because the distance is not ``cacheable``.
        """
        if not self.cacheable:
            return 0
        like = next((t for t in (*self.parameters(), *self.buffers())), torch.empty(0))
        return sum(4 * t.numel() for t in self.prepare(torch.zeros(1, *shape, device=like.device)))

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        """See `prepare`; ``planes`` is `visible` of the targets."""
        raise NotImplementedError

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """See `compare`; ``planes`` is `visible` of the images."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a distance is a measure, not something that learns."""
        return super().train(False)


def visible(images: Tensor) -> Tensor:
    """What can be seen of images: transparent ones are composited over mid-grey and keep their alpha as a fourth plane.

    So the colour of a transparent pixel counts for nothing, and a grey object still differs from a transparent one.

    Args:
        images: (B, C, H, W) in [0, 1], C one of 1, 3, 4, alpha not premultiplied.

    Returns:
        (B, C, H, W) planes, float32 or wider.

    Raises:
        ValueError: if the shape is not one of images.
    """
    if images.ndim != 4 or images.shape[1] not in CHANNELS:
        raise ValueError(f"expected images of shape (B, C, H, W) with C in {CHANNELS}, received {tuple(images.shape)}")
    images = wide(images)
    if images.shape[1] != 4:
        return images
    colour, alpha = images[:, :3], images[:, 3:]
    return torch.cat([colour * alpha + BACKDROP * (1 - alpha), alpha], dim=1)


def wide(x: Tensor) -> Tensor:
    """Half-precision tensors as float32, in which sums over pixels keep their digits; others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def difference(x: Tensor, target: Tensor) -> Tensor:
    """``x − target`` in the precision of x, refusing to broadcast one shape against another.

    Args:
        x: of any shape.
        target: of the same shape; may be of lower precision.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: if the shapes differ.
    """
    if x.shape != target.shape:
        raise ValueError(f"expected targets of shape {tuple(x.shape)}, received {tuple(target.shape)}")
    return x - target.to(x.dtype)


def mean_absolute(x: Tensor) -> Tensor:
    """(B, …) -> (B,): the mean of |x| over all but the first dimension.

    As a norm, because ``x.abs().mean()`` writes three more tensors of x's size on its way there and back.
    """
    return torch.linalg.vector_norm(x, ord=1, dim=tuple(range(1, x.ndim))) / x[0].numel()


def levels_for(size: tuple[int, int], most: int) -> int:
    """How many grids, each half the one before, a multi-level distance looks at.

    Args:
        size: (height, width) of the images in pixels.
        most: not more levels than this.

    Returns:
        1 … ``most``: as many as keep the short side of the coarsest grid at 7 pixels or more (16 px: 2; 28 and 32 px:
        3; 64 px: 4).
    """
    levels, side = 1, min(size)
    while levels < most and (side + 1) // 2 >= COARSEST:
        levels, side = levels + 1, (side + 1) // 2
    return levels
