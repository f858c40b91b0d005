"""Distances of images in the feature maps of a frozen network, every position scaled to unit norm over the channels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glann.losses.distance import PerceptualDistance, difference, mean_absolute, wide

EPSILON = 1e-10  # added to the norm of a feature vector, as in package lpips


class NormalisedFeatures(PerceptualDistance):
    """``d(x, x') = Σₗ 1/(HₗWₗ) Σₕᵥ Σ_c w_lc (ŷ_lhvc − ŷ'_lhvc)²`` (Zhang et al. 2018, equation 1).

    ŷₗ is the trunk's l-th feature map, every position scaled to unit norm over the channels. Prepared targets are
    √w · ŷ'. Alpha, where there is one, adds its mean absolute difference.

    Args:
        trunk: (B, C, H, W) planes in [0, 1], C ≥ 3 or 1 -> feature maps.
        weights: wₗ ≥ 0, one a map: (Cₗ, 1, 1), or (1, 1, 1) where all channels count the same.
    """

    def __init__(self, trunk: nn.Module, weights: Sequence[Tensor]):
        super().__init__()
        self.trunk = trunk.requires_grad_(False).eval()
        self.roots = nn.ParameterList(nn.Parameter(w.sqrt(), requires_grad=False) for w in weights)

    def prepare_planes(self, planes: Tensor) -> tuple[Tensor, ...]:
        """See `PerceptualDistance.prepare`: √w · ŷ' of every tap, then alpha where there is one."""
        features = map(wide, self.trunk(planes))
        scaled = [y * _inverse_norm(y) * wide(root) for y, root in zip(features, self.roots, strict=True)]
        return (*scaled, *_alpha(planes))

    def compare_planes(self, planes: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """See `PerceptualDistance.compare`."""
        total, taps = planes.new_zeros(len(planes)), len(self.roots)
        for y, target, root in zip(map(wide, self.trunk(planes)), prepared[:taps], self.roots, strict=True):
            total = total + _tap_distance(y, target, root)
        for alpha, target in zip(_alpha(planes), prepared[taps:], strict=True):
            total = total + mean_absolute(difference(alpha, target))
        return total


class _TapDistance(torch.autograd.Function):
    """One l of the sum: (B, C, H, W) features, (B, C, H, W) targets √w · ŷ', (C, 1, 1) roots √w -> (B,).

    With n = ‖y‖ over the channels and δ = √w · y/n − √w · ŷ', the value is ``1/(HW) Σ δ²`` and its gradient in y is
    ``2/(HW·n) (e − ŷ ⟨ŷ, e⟩)``, e = √w · δ: written out, both take a quarter of the time that recording every step
    takes. Where y is zero, so is the gradient that passes the ReLU before it.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, target: Tensor, root: Tensor) -> Tensor:
        inverse = _inverse_norm(y)  # (B, 1, H, W)
        delta = (y * inverse).mul_(root).sub_(target)
        ctx.save_for_backward(y, inverse, delta, root)
        return torch.linalg.vector_norm(delta, dim=(1, 2, 3)).square() / (y.shape[2] * y.shape[3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        y, inverse, delta, root = ctx.saved_tensors
        e = delta * root
        with torch.autocast(y.device.type, enabled=False):
            along = torch.einsum("bchw,bchw->bhw", e, y)[:, None] * inverse.square()  # ⟨ŷ, e⟩/n
        e.addcmul_(y, along, value=-1)
        return e.mul_(inverse * (2 * grad / (y.shape[2] * y.shape[3]))[:, None, None, None]), None, None


def _tap_distance(y: Tensor, target: Tensor, root: Tensor) -> Tensor:
    if y.shape != target.shape:
        raise ValueError(f"expected target features of shape {tuple(y.shape)}, received {tuple(target.shape)}")
    return _TapDistance.apply(y, target.to(y.dtype), root.to(y.dtype))


def _inverse_norm(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W): one over the norm across the channels."""
    return 1 / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPSILON)


def _alpha(planes: Tensor) -> tuple[Tensor, ...]:
    return (planes[:, 3:],) if planes.shape[1] == 4 else ()


def uniform(trunk: nn.Module, levels: int) -> NormalisedFeatures:
    """The mean over the feature maps of a trunk, all channels alike.

    Args:
        trunk: see `NormalisedFeatures`.
        levels: how many feature maps it has.

    Returns:
        The distance: 0 … 4, and 0 … 2 where no feature is negative.
    """
    return NormalisedFeatures(trunk, [torch.full((1, 1, 1), 1 / levels)] * levels)
