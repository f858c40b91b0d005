"""The plain GAN that the toys are compared with (Goodfellow et al. 2014), nothing added that fights mode collapse."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

LR, BETAS = 1e-3, (0.5, 0.999)  # the best of lr 2e-4 / 1e-3, beta1 0.5 / 0.9 on both toys


def train(
    generator: nn.Module,
    discriminator: nn.Module,
    x: Tensor,
    noise_dim: int,
    batch_size: int,
    seed: int,
    *,
    seconds: float = float("inf"),
    steps: int = 10**9,
    saturating: bool = False,
    after_step: Callable[[int, float], None] | None = None,
) -> int:
    """One discriminator step and one generator step in turn until time or steps are up; returns the number of steps."""
    draw = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(generator.parameters(), LR, BETAS, fused=True)
    critic_adam = torch.optim.Adam(discriminator.parameters(), LR, BETAS, fused=True)
    started, step = time.perf_counter(), 0
    while step < steps and time.perf_counter() - started < seconds:
        real = x[torch.randint(len(x), (batch_size,), generator=draw)]
        fake = generator(torch.randn(batch_size, noise_dim, generator=draw))

        critic_loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake.detach())).mean()
        critic_adam.zero_grad()
        critic_loss.backward()
        critic_adam.step()

        score = discriminator(fake)
        loss = -softplus(score).mean() if saturating else softplus(-score).mean()
        adam.zero_grad()
        loss.backward(inputs=list(generator.parameters()))
        adam.step()
        step += 1
        if after_step is not None:
            after_step(step, loss.item())
    return step
