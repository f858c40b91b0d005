"""A GAN (Goodfellow et al. 2014, arXiv 1406.2661) with the generator of GLANN and a discriminator as in DCGAN.

The discriminator has the convolutions of DCGAN (Radford et al. 2016, arXiv 1511.06434) without batch normalisation; the
loss is the non-saturating one. The penalty R1 on its gradient at real images (Mescheder et al. 2018, arXiv
1801.04406, equation 9) keeps the two stable; it is taken at every 8th step and weighted by 8 (Karras et al. 2020, arXiv
1912.04958). Samples are drawn with an average of the generator's weights (Yazıcı et al. 2019, arXiv 1806.04498).
"""

import copy
import itertools

import torch
from baselines.budget import BF16, LATENT_DIM, Clock, Trained, count, from_normal
from torch import Tensor, nn
from torch.nn.functional import softplus

from glann import generators
from glann.images import ImageSet

BATCH_SIZE, LR, BETAS = 64, 1e-3, (0.5, 0.999)
GAMMA, EVERY = 0.1, 8  # weight of R1, and steps between two of them
EMA = 0.999  # at most: decay of the average; less while the training is young
WIDTH = 64


class Discriminator(nn.Sequential):
    """(B, C, H, W) in [0, 1] -> (B, 1) logits: stride 2 until 3x3 or 4x4, leaky ReLU."""

    def __init__(self, channels: int, size: tuple[int, int]):
        widths = [channels, WIDTH, 2 * WIDTH, 4 * WIDTH]
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        flat = widths[-1] * (size[0] // 8) * (size[1] // 8)
        super().__init__(*layers, nn.Flatten(), nn.Linear(flat, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(2 * images - 1)
        return logits.float()


def train(images: ImageSet, budget: float, seed: int, lr: float = LR, gamma: float = GAMMA) -> Trained:
    """A step of the discriminator and one of the generator in turn until the budget is spent."""
    clock = Clock(budget)
    torch.manual_seed(seed)
    size = (images.height, images.width)
    generator = generators.build("residual", latent_dim=LATENT_DIM, size=size, channels=images.channels)
    critic = Discriminator(images.channels, size)
    generator, critic = (m.to(memory_format=torch.channels_last) for m in (generator, critic))
    averaged = copy.deepcopy(generator).requires_grad_(False)
    adam = torch.optim.Adam(generator.parameters(), lr, BETAS, fused=True)
    critic_adam = torch.optim.Adam(critic.parameters(), lr, BETAS, fused=True)

    step = 0
    while step == 0 or clock.left() > 0:
        real = images.batch(torch.randint(len(images), (BATCH_SIZE,)))
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            fake = generator(torch.randn(BATCH_SIZE, LATENT_DIM)).float()
            scores = critic(torch.cat([real, fake.detach()]))
        critic_loss = softplus(-scores[:BATCH_SIZE]).mean() + softplus(scores[BATCH_SIZE:]).mean()
        critic_adam.zero_grad(set_to_none=True)
        critic_loss.backward()
        if step % EVERY == 0:  # in float32: the gradient of a gradient
            real.requires_grad_(True)
            (slope,) = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
            (EVERY * gamma / 2 * slope.square().sum((1, 2, 3)).mean()).backward()
        critic_adam.step()

        # The generator's gradient passes through the discriminator and leaves its weights alone.
        critic.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            loss = softplus(-critic(fake)).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        critic.requires_grad_(True)

        step += 1
        decay = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.parameters()), list(generator.parameters()), 1 - decay)
    facts = {
        "steps": step, "passes": step * BATCH_SIZE / len(images), "lr": lr, "gamma": gamma,
        "discriminator_loss": float(critic_loss.detach()), "generator_loss": float(loss.detach()),
        "training_parameters": count(generator, critic),
    }  # fmt: skip
    return Trained(from_normal(averaged.eval()), count(averaged), clock.spent(), facts)
