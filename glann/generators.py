"""Latent -> image networks, by name. Each maps (B, latent_dim) to (B, C, H, W) in [0, 1].

With classes it is told one for each latent: ``generator(z, labels)`` with labels (B,) int64 from 0 to K − 1.
"""

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glann.registry import lookup
from imle.checks import check_integer

SMALLEST_SIDE, LARGEST_SIDE = 16, 1024  # pixels; the same as in `glann.decode`, which must not import torch
_CODE = 32  # numbers that stand for a class


def grid_sizes(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """The grids from the stem to the image: halved, rounding up, until the short side is below ``2·smallest``.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        smallest: the short side of the first grid is in ``smallest … 2·smallest − 1``.

    Returns:
        (height, width) of each grid, the image's own last.
    """
    sizes = [(height, width)]
    while min(sizes[0]) >= 2 * smallest:
        h, w = sizes[0]
        sizes.insert(0, (math.ceil(h / 2), math.ceil(w / 2)))
    return sizes


def upsampled_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3×3 convolution of ``x`` doubled by repetition, without ever making the doubled grid.

    Repetition followed by a 3×3 kernel k is a transposed convolution of stride 2 whose 4×4 kernel is k spread over a
    2×2 box: 4 products for each output instead of 9, the same function (so no checkerboard), about twice as fast.

    Args:
        x: (B, I, h, w).
        weight: (O, I, 3, 3).
        bias: (O,) or None.

    Returns:
        (B, O, 2h, 2w).
    """
    spread = sum(F.pad(weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1))
    assert isinstance(spread, Tensor)
    return F.conv_transpose2d(x, spread.flip(2, 3).transpose(0, 1), bias, stride=2, padding=1)


class ClassCode(nn.Embedding):
    """A learnt vector for each of K classes, of norm about 1 like the latent that it stands beside."""

    def __init__(self, classes: int):
        super().__init__(classes, _CODE)
        nn.init.normal_(self.weight, std=_CODE**-0.5)


def _code(table: ClassCode | None, labels: Tensor | None) -> Tensor | None:
    """(B, 32) codes of (B,) labels; None for a network without classes."""
    if (table is None) != (labels is None):
        wanted = "no labels" if table is None else f"labels (B,) from 0 to {table.num_embeddings - 1}"
        raise ValueError(f"this generator expects {wanted}, received {type(labels).__name__}")
    return None if table is None or labels is None else table(labels)


def _beside(z: Tensor, code: Tensor | None) -> Tensor:
    return z if code is None else torch.cat([z, code], 1)


class _Norm(nn.GroupNorm):
    """Normalisation inside each example, so that no image depends on the others of its batch.

    In the precision of its weights: under autocast float32, as on a GPU; on a CPU bf16 takes twice as long. With
    classes the code of the class scales and shifts what comes out; at first by nothing.
    """

    def __init__(self, channels: int, code: int = 0):
        super().__init__(math.gcd(8, channels), channels)
        self.style = None
        if code:
            self.style = nn.Linear(code, 2 * channels)
            nn.init.zeros_(self.style.weight)
            nn.init.zeros_(self.style.bias)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        x = super().forward(x.to(self.weight.dtype))
        if self.style is None or code is None:
            return x
        scale, shift = self.style(code)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
        return x * (1 + scale) + shift


class _UpBlock(nn.Module):
    """Double the grid by repetition, crop it to the wanted size, two convolutions beside a skip path."""

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int], code: int = 0):
        super().__init__()
        self.size = size
        self.norm1, self.conv1 = _Norm(channels_in, code), nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2, self.conv2 = _Norm(channels_out, code), nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        h, w = self.size
        residual = upsampled_conv(F.silu(self.norm1(x, code)), self.conv1.weight, self.conv1.bias)[:, :, :h, :w]
        residual = self.conv2(F.silu(self.norm2(residual, code)))
        return F.interpolate(self.skip(x), scale_factor=2.0, mode="nearest")[:, :, :h, :w] + residual


class ResidualGenerator(nn.Module):
    """Linear stem, residual blocks that double the grid by repetition, group normalisation, sigmoid output.

    Any height and width from 16 to 1024 pixels: an odd grid is cropped from the doubled one below it. The code of a
    class enters the stem beside the latent, and scales and shifts after every normalisation.

    Args:
        latent_dim: dimension of the latents.
        size: (height, width) of the images in pixels.
        channels: 1, 3 or 4.
        width: channels at full resolution; each grid below has twice as many, up to ``8·width``. By default 32 up to
            64 pixels and 16 above, so that one image costs about the same share of a batch's time at any size.
        classes: how many, or None.
    """

    def __init__(
        self,
        latent_dim: int,
        size: tuple[int, int],
        channels: int,
        width: int | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        code = _CODE if classes else 0
        self.code = ClassCode(classes) if classes else None
        sizes = grid_sizes(*size)
        if width is None:
            width = 32 if max(size) <= 64 else 16
        width = check_integer("width", width, 1)
        widths = [width * min(2**i, 8) for i in reversed(range(len(sizes)))]
        self.first = (widths[0], *sizes[0])
        self.stem = nn.Linear(latent_dim + code, math.prod(self.first))
        steps = zip(widths, widths[1:], sizes[1:], strict=False)
        self.blocks = nn.Sequential(*(_UpBlock(wide, narrow, size, code) for wide, narrow, size in steps))
        self.norm, self.out = _Norm(widths[-1], code), nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, latent_dim), with classes also (B,) int64 -> (B, C, H, W) in [0, 1]."""
        code = _code(self.code, labels)
        x = self.stem(_beside(z, code)).reshape(-1, *self.first).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x, code)
        return torch.sigmoid(self.out(F.silu(self.norm(x, code))))


class ReferenceGenerator(nn.Module):
    """The published network: two linear layers, two transposed convolutions, batch normalisation, sigmoid output.

    The architecture of InfoGAN's generator that Hoshen et al. 2019 (arXiv 1812.08985, section 4) train, for any height
    and width divisible by 4. The code of a class stands beside the latent, as InfoGAN's categorical code does.

    Args:
        latent_dim: dimension of the latents.
        size: (height, width) of the images in pixels, each divisible by 4.
        channels: 1, 3 or 4.
        classes: how many, or None.
    """

    def __init__(self, latent_dim: int, size: tuple[int, int], channels: int, classes: int | None = None):
        super().__init__()
        self.code = ClassCode(classes) if classes else None
        h, w = size
        if h % 4 or w % 4:
            raise ValueError(f"the reference generator expects a height and width divisible by 4, received {h}x{w}")
        self.first = (128, h // 4, w // 4)
        flat = math.prod(self.first)
        self.linear = nn.Sequential(
            *(nn.Linear(latent_dim + (_CODE if classes else 0), 1024, bias=False), nn.BatchNorm1d(1024), nn.ReLU()),
            *(nn.Linear(1024, flat, bias=False), nn.BatchNorm1d(flat), nn.ReLU()),
        )
        self.conv = nn.Sequential(
            *(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.ConvTranspose2d(64, channels, 4, stride=2, padding=1), nn.Sigmoid()),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, latent_dim), with classes also (B,) int64 -> (B, C, H, W) in [0, 1]."""
        images: Tensor = self.conv(self.linear(_beside(z, _code(self.code, labels))).reshape(-1, *self.first))
        return images


GENERATORS: dict[str, type[nn.Module]] = {"residual": ResidualGenerator, "reference": ReferenceGenerator}


def build(
    name: str, *, latent_dim: int, size: tuple[int, int], channels: int, classes: int | None = None, **options: Any
) -> nn.Module:
    """A fresh generator.

    Args:
        name: ``residual``, ``reference``, or one that another package registers under ``glann.generators``.
        latent_dim: dimension of the latents, ≥ 1.
        size: (height, width) in pixels, 16 … 1024 each.
        channels: 1, 3 or 4.
        classes: how many classes the generator is told apart, ≥ 1; None for one that is told none.
        **options: further arguments of that network, for instance ``width``.

    Returns:
        A module that maps (B, latent_dim), with classes also (B,) labels, to (B, channels, height, width) in [0, 1].

    Raises:
        ValueError: for an unknown name, a size, dimension, channel or class count out of range, or a generator that
            takes no classes where they are asked for.
    """
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in size):
        expected = f"sides from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
        raise ValueError(f"expected {expected}, received {size[0]}x{size[1]}")
    if latent_dim < 1 or channels not in (1, 3, 4):
        raise ValueError(f"expected latent_dim >= 1 and 1, 3 or 4 channels, received {latent_dim} and {channels}")
    make = lookup("generators", GENERATORS, name)
    if classes is not None:
        if classes < 1:
            raise ValueError(f"expected at least one class, received {classes}")
        parameters = inspect.signature(make).parameters.values()
        if not any(p.name == "classes" or p.kind is p.VAR_KEYWORD for p in parameters):
            raise ValueError(f"the generator {name} takes no classes; expected one that does, or images without labels")
        options["classes"] = classes
    network: nn.Module = make(latent_dim=latent_dim, size=size, channels=channels, **options)
    return network
