"""A variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114) with the generator and the distance of GLANN.

Minimises  mean of  ℓ(G(z), x) + β KL(N(μ(x), σ(x)²) ‖ N(0, I)),  z = μ(x) + σ(x) ε,  ε ~ N(0, I).

ℓ is the perceptual distance of stage 1, so that the two differ in how they find latents, not in what they take for
similar: exp(−ℓ/β) then stands for the likelihood.
"""

import itertools
import math

import torch
from baselines.budget import BF16, LATENT_DIM, Clock, Trained, count, from_normal
from torch import Tensor, nn

from glann import generators, losses
from glann.images import ImageSet
from glann.targets import Targets

BATCH_SIZE, LR, BETAS = 64, 1e-3, (0.9, 0.99)  # of stage 1
BETA = {1: 3e-3, 3: 1e-3}  # per nat, grey and colour: docs/results.md says how they were chosen
CACHE = 12 * 2**30  # bytes of target features at most, as stage 1 has it
WIDTH = 64


class Encoder(nn.Sequential):
    """(B, C, H, W) -> (B, 128): mean and log variance of 64 latents. Three convolutions of stride 2, as DCGAN's."""

    def __init__(self, channels: int, size: tuple[int, int]):
        widths = [channels, WIDTH, 2 * WIDTH, 4 * WIDTH]
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.GroupNorm(8, wide), nn.SiLU()]
        flat = widths[-1] * (size[0] // 8) * (size[1] // 8)
        super().__init__(*layers, nn.Flatten(), nn.Linear(flat, 2 * LATENT_DIM))


def train(images: ImageSet, budget: float, seed: int, beta: float | None = None) -> Trained:
    """One step after the other until the budget is spent; the step size falls as a cosine, as that of stage 1 does."""
    clock = Clock(budget)
    torch.manual_seed(seed)
    beta = beta or BETA[images.channels]
    size = (images.height, images.width)
    generator = generators.build("residual", latent_dim=LATENT_DIM, size=size, channels=images.channels)
    encoder = Encoder(images.channels, size)
    generator, encoder = (m.to(memory_format=torch.channels_last) for m in (generator, encoder))
    adam = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], LR, BETAS, fused=True)
    distance = losses.build(losses.OFFLINE, size=size, channels=images.channels)
    targets = Targets(images, distance, "cpu", BF16)
    targets.keep(CACHE, BATCH_SIZE, lambda line: None)

    step = 0
    while step == 0 or clock.left() > 0:
        for rows in torch.randperm(len(images)).tensor_split(len(images) // BATCH_SIZE):
            for group in adam.param_groups:
                group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * clock.progress()))

            # Encode, draw a latent, decode, compare.
            with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
                mean, log_variance = encoder(images.batch(rows)).float().chunk(2, 1)
                z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
                distances = distance.compare(generator(z), targets(rows)).float()
            divergence = divergence_from_normal(mean, log_variance)
            adam.zero_grad(set_to_none=True)
            (distances + beta * divergence).mean().backward()
            adam.step()
            step += 1
            if clock.left() <= 0:
                break
    facts = {
        "steps": step, "passes": step * BATCH_SIZE / len(images), "beta": beta, "loss": losses.OFFLINE,
        "distance": float(distances.detach().mean()), "nats": float(divergence.detach().mean()),
        "training_parameters": count(generator, encoder),
    }  # fmt: skip
    return Trained(from_normal(generator.eval()), count(generator), clock.spent(), facts)


def divergence_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) of each example in nats; (B, d) -> (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
