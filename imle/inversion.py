"""From a point back to the noise that a sampler maps near it, and between two such noises."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imle.noise import sample_noise
from imle.search import nearest

if TYPE_CHECKING:
    from imle.sampler import LatentSampler

STARTS = 4096  # samples among which the nearest is where the descent starts
LR = 0.05  # Adam's, in units of the noise's standard deviation


def nearest_noise(sampler: "LatentSampler", z: Tensor, condition: Tensor | None, steps: int, seed: int) -> Tensor:
    """The best noise that descent from the nearest of many samples finds; see `LatentSampler.nearest_noise`."""
    device = sampler.mean.device
    target = z.to(device)
    with torch.no_grad():
        noise = sample_noise(seed, 0, STARTS, sampler.noise_dim).to(device)
        if condition is None:
            start = noise[nearest(target.flatten(1), sampler(noise).flatten(1)).indices[:, 0]]
        else:  # each under its own condition
            start = torch.cat([_start(sampler, t, c, noise) for t, c in zip(target, condition.to(device), strict=True)])
            condition = condition.to(device)
    noise = start.clone().requires_grad_()
    best, least = start.clone(), torch.full((len(z),), torch.inf, device=device)
    optimizer = torch.optim.Adam([noise], lr=LR)
    for step in range(steps + 1):
        with torch.enable_grad():
            errors = (sampler(noise, condition) - target).square().flatten(1).sum(1)
            (gradient,) = torch.autograd.grad(errors.sum(), noise)
        closer = errors.detach() < least
        best[closer], least[closer] = noise.detach()[closer], errors.detach()[closer]
        noise.grad = gradient
        optimizer.param_groups[0]["lr"] = LR * (1 - step / (steps + 1))
        optimizer.step()
    return best.cpu()


def between(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Noise on the great circle from start to end, with norms in between.

    A straight line would leave the shell where nearly all normal noise lies (White 2016, arXiv 1609.04468).

    Args:
        start: (noise_dim,).
        end: (noise_dim,).
        steps: points, both ends included, ≥ 2.

    Returns:
        (steps, noise_dim).
    """
    share = torch.linspace(0, 1, steps)[:, None]
    lengths = torch.lerp(start.norm(), end.norm(), share)
    one, two = torch.nn.functional.normalize(torch.stack([start, end]), dim=1)
    angle = torch.acos((one @ two).clamp(-1, 1))
    if angle.sin() < 1e-4:  # nearly the same direction, or opposite ones, between which no circle is shortest
        return torch.lerp(start, end, share)
    return lengths * (((1 - share) * angle).sin() * one + (share * angle).sin() * two) / angle.sin()


def _start(sampler: "LatentSampler", target: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
    samples = sampler(noise, condition.expand(len(noise), *condition.shape))
    return noise[nearest(target.flatten()[None], samples.flatten(1)).indices[:, 0]]
