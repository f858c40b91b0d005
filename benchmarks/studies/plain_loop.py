"""Vanilla IMLE in twenty lines, for the studies that change what the library has no setting for: the match itself."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Match = Callable[[Tensor, Tensor], Tensor]  # examples (N, d), samples (m, d) -> (N, k) indices of samples
LR = 2e-3


def fit(
    x: Tensor, network: nn.Module, noise_dim: int, *, pool: int, epochs: int, batch_size: int, match: Match,
    of_mean: bool = False, seed: int = 0,
) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """Train a network and return it as a map noise -> samples, on the unit sphere where x is.

    Args:
        x: (N, d).
        network: noise -> (…, d).
        noise_dim: dimension of the noise.
        pool: fresh samples an epoch.
        epochs: passes over x.
        batch_size: examples a gradient step.
        match: which samples of the pool every example pulls.
        of_mean: pull the mean of these samples instead of each of them.
        seed: of noise and order.
    """
    draw = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(network.parameters(), LR, fused=True)
    on_sphere = bool(((x.norm(dim=1) - 1).abs() < 1e-3).all())
    scale = float(x.var(0).sum()) ** 0.5

    def sample(noise: Tensor) -> Tensor:
        output = network(noise)
        return nn.functional.normalize(output, dim=-1) if on_sphere else x.mean(0) + scale * output

    steps = -(-len(x) // batch_size)
    for epoch in range(epochs):
        noise = torch.randn(pool, noise_dim, generator=draw)
        with torch.no_grad():
            matches = match(x, sample(noise))
        for number, rows in enumerate(torch.randperm(len(x), generator=draw).tensor_split(steps)):
            adam.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * (epoch + number / steps) / epochs))
            output = sample(noise[matches[rows]])  # (B, k, d)
            if of_mean:
                output = output.mean(1, keepdim=True)
            loss = (output - x[rows, None]).square().sum(2).mean() / scale**2
            adam.zero_grad()
            loss.backward()
            adam.step()
    return sample
