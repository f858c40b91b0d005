"""Doubling by repetition and a 3×3 convolution: as written, and as `glann.generators.upsampled_conv` computes it.

    python benchmarks/upsampling.py

Forward and backward of a batch of 64 in channels-last layout, both ways in turns; medians of 9.
"""

import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from glann.generators import upsampled_conv

LAYERS = [(256, 128, 4), (128, 64, 8), (64, 32, 16)]  # channels in, channels out, grid of the default at 32×32


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The definition."""
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


if __name__ == "__main__":
    for channels_in, channels_out, side in LAYERS:
        x = torch.randn(64, channels_in, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(channels_out, channels_in, 3, 3, requires_grad=True)
        bias = torch.zeros(channels_out, requires_grad=True)
        for bf16 in (False, True):
            seconds: dict[str, list[float]] = {"plain": [], "fused": []}
            for _ in range(9):
                for name, function in (("plain", plain), ("fused", upsampled_conv)):
                    started = time.perf_counter()
                    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                        y = function(x, weight, bias)
                    y.backward(torch.ones_like(y))
                    seconds[name].append(time.perf_counter() - started)
            slow, fast = (statistics.median(seconds[name]) * 1e3 for name in ("plain", "fused"))
            kind = "bf16" if bf16 else "fp32"
            layer = f"{channels_in:>3} -> {channels_out:<3} at {side:>2}²  {kind}"
            print(f"{layer}  {slow:5.1f} ms -> {fast:5.1f} ms  {slow / fast:.1f}×")
