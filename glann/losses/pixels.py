"""Distances that need no trained network: pixels, and the Laplacian pyramid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glann.losses.distance import PerceptualDistance, difference, levels_for, mean_absolute

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt & Adelson 1983 with a = 3/8
MOST_LEVELS = 8  # more than 1024 pixels have


class _PlaneDistance(PerceptualDistance):
    """A distance of the planes themselves: a prepared target is the target."""

    cacheable = False

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        return (planes,)

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        (target,) = prepared
        return self.size_of(difference(planes, target))

    def size_of(self, delta: Tensor) -> Tensor:
        """(B, C, H, W) differences of planes -> (B,)."""
        raise NotImplementedError


class L1(_PlaneDistance):
    """Mean absolute difference of the planes, ``mean |x − x'|``."""

    def size_of(self, delta: Tensor) -> Tensor:
        """(B, C, H, W) differences of planes -> (B,)."""
        return mean_absolute(delta)


class L2(_PlaneDistance):
    """Mean squared difference of the planes, ``mean (x − x')²``."""

    def size_of(self, delta: Tensor) -> Tensor:
        """(B, C, H, W) differences of planes -> (B,)."""
        return delta.square().mean((1, 2, 3))


class Laplacian(_PlaneDistance):
    """L1 between Laplacian pyramids (Ling & Okada 2006, as used by Bojanowski et al. 2017, section 3.2).

    The paper's ``Lap₁(x, x') = Σⱼ 2²ʲ ‖Lʲ(x) − Lʲ(x')‖₁`` divided by C·H·W. Level j holds 2⁻²ʲ·C·H·W values, so this is
    the sum over levels of their mean absolute differences, ``Σⱼ mean |Lʲ(x) − Lʲ(x')|``: every octave counts the same.
    The low-pass rest is the last level, so colour needs no ℓ2 term beside it. A pyramid is linear: one is built, of the
    difference of the two images.

    Reducing is the binomial filter [1 4 6 4 1]/16 along each axis with reflected borders and every second pixel kept;
    expanding is the same filter, doubled, on the grid with zeros between. Both are applied as one small matrix per
    axis, which on a CPU takes a third to an eighth of the time of depthwise convolutions at 32×32.

    Args:
        size: (height, width) of the images in pixels; derives the number of levels, see `levels_for`.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        height, width = size
        steps = []
        for _ in range(levels_for(size, MOST_LEVELS) - 1):
            steps.append(_Step(height, width))
            height, width = (height + 1) // 2, (width + 1) // 2
        self.steps = nn.ModuleList(steps)

    def size_of(self, delta: Tensor) -> Tensor:
        """(B, C, H, W) differences of planes -> (B,)."""
        # Contiguous, for the matrices work on rows; and never in the bf16 that autocast would choose for products.
        rest, total = delta.contiguous(), delta.new_zeros(len(delta))
        with torch.autocast(delta.device.type, enabled=False):
            for step in self.steps:
                reduced, expanded = step(rest)
                total = total + mean_absolute(rest - expanded)
                rest = reduced
        return total + mean_absolute(rest)


class _Step(nn.Module):
    """One step down a pyramid: (B, C, H, W) -> the reduced planes, and those expanded to (B, C, H, W) again."""

    down_rows: Tensor
    down_columns: Tensor
    up_rows: Tensor
    up_columns: Tensor

    def __init__(self, height: int, width: int):
        super().__init__()
        self.size = (height, width)
        self.register_buffer("down_rows", _reduce_matrix(height), persistent=False)
        self.register_buffer("down_columns", _reduce_matrix(width).T.contiguous(), persistent=False)
        self.register_buffer("up_rows", _expand_matrix(height), persistent=False)
        self.register_buffer("up_columns", _expand_matrix(width).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[2:] != self.size:
            raise ValueError(f"expected planes of {self.size} pixels, received {tuple(x.shape[2:])}")
        reduced = self.down_rows.to(x.dtype) @ x @ self.down_columns.to(x.dtype)  # (B, C, ⌈H/2⌉, ⌈W/2⌉)
        return reduced, self.up_rows.to(x.dtype) @ reduced @ self.up_columns.to(x.dtype)


def _reduce_matrix(n: int) -> Tensor:
    """(⌈n/2⌉, n): filter and keep every second value; indices reflect at both ends."""
    matrix = torch.zeros((n + 1) // 2, n)
    for row in range(len(matrix)):
        for offset, weight in zip(range(-2, 3), BINOMIAL, strict=True):
            at = abs(2 * row + offset)
            matrix[row, at if at < n else 2 * (n - 1) - at] += weight
    return matrix


def _expand_matrix(n: int) -> Tensor:
    """(n, ⌈n/2⌉): put zeros between and filter, times two; the last values repeat beyond both ends."""
    half = (n + 1) // 2
    matrix = torch.zeros(n, half)
    for row in range(n):
        for offset, weight in zip(range(-2, 3), BINOMIAL, strict=True):
            if (row + offset) % 2 == 0:
                matrix[row, min(max((row + offset) // 2, 0), half - 1)] += 2 * weight
    return matrix
