"""Averaged weights: a network that follows the trained one more calmly."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float, steps: Callable[[], int]) -> AveragedModel | None:
    """An exponential moving average of a network's weights and buffers, at first equal to them.

    Step t has decay min(decay, (1 + t) / (10 + t)), so that short fits forget their start.

    Args:
        network: what is trained; call ``update_parameters(network)`` on the average after each of its steps.
        decay: per step, 0 ≤ decay < 1.
        steps: gives t, the gradient steps so far, this one included.

    Returns:
        The average, or None for decay 0, which is to take the last weights.
    """

    masked = any(b.is_floating_point() and not b.isfinite().all() for b in network.buffers())  # between ∞ and ∞ is NaN

    @torch.no_grad()
    def move(average: Any, current: Any, count: Any) -> None:
        if average[0].is_floating_point():
            t = steps()  # not the count, which lies on the device: reading it back would wait for it
            torch._foreach_lerp_(average, current, 1 - min(decay, (1 + t) / (10 + t)))
            for old, new in zip(average, current, strict=True) if masked else ():
                old.copy_(torch.where(new.isfinite(), old, new))
        else:  # counters of batch norm
            torch._foreach_copy_(average, current)

    return AveragedModel(network, multi_avg_fn=move, use_buffers=True) if decay else None
