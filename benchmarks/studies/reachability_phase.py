"""What reachability.py changes in stage 1: noise on its latents, or a few more epochs with something else in them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from baselines.budget import BF16

import imle
from glann import glo
from glann.generators import ResidualGenerator
from glann.images import ImageSet
from glann.latents import RowAdam, decayed, on_sphere
from glann.losses.distance import PerceptualDistance
from glann.settings import GLOSettings
from glann.targets import Targets

SHARE = 0.3  # of stage 1's step sizes, at the start
CANDIDATES = 10_000  # samples among which a latent's nearest is looked for
POOL = 100  # seed of the samples that latents are matched with; others are judged
STEP = 0.2  # norm of the step in which a slope is measured; latents have norm 1


@dataclass(frozen=True)
class Phase:
    """A few more epochs after stage 1, with what differs from it."""

    epochs: int = 2
    latents: bool = True  # whether they learn, too
    noise: float = 0.0  # root mean square norm of what is added to each latent
    penalty: float = 0.0  # on the squared slope of the images in random directions
    sampled: float = 0.0  # share of the images that are drawn from the sample nearest to their latent
    moved: float = 0.0  # part of the way to that sample by which latents move first


def reached(latents: Tensor, sampler: imle.LatentSampler, seed: int) -> tuple[Tensor, Tensor]:
    """(N, d) nearest of fresh samples to each latent; (N,) their distances."""
    pool = sampler.sample(CANDIDATES, seed=seed)
    found = imle.nearest(latents, pool)
    return pool[found.indices[:, 0]], found.distances[:, 0]


def go_on(
    generator: nn.Module,
    latents: Tensor,
    images: ImageSet,
    loss: PerceptualDistance,
    phase: Phase,
    sampler: imle.LatentSampler | None,
    seed: int,
) -> Tensor:
    """Train the generator on, in place, at ``SHARE`` of the step sizes of stage 1; the latents afterwards."""
    targets = Targets(images, loss, "cpu", BF16)
    targets.keep(2**34, 64, lambda line: None)
    stage = GLOSettings()
    betas = (stage.beta1, stage.beta2)
    adam = torch.optim.Adam(generator.parameters(), stage.lr, betas, fused=True)
    learnt = RowAdam(latents.clone(), betas)
    if phase.moved:
        learnt.rows = on_sphere(latents.lerp(reached(latents, sampler, POOL)[0], phase.moved))
    batches = glo.batches_for(stage, len(images))
    generator.train()
    torch.manual_seed(seed)
    for epoch in range(phase.epochs):
        if phase.sampled:  # matched anew among fresh samples
            near, _ = reached(latents, sampler, POOL + epoch)
            near = torch.where(torch.rand(len(near), 1) < phase.sampled, near, latents)
        for batch, rows in enumerate(torch.randperm(len(images)).tensor_split(batches)):
            factor = SHARE * decayed("cosine", (epoch + batch / batches) / phase.epochs, phase.epochs, 1)
            adam.param_groups[0]["lr"] = stage.lr * factor
            z = (near if phase.sampled else learnt.rows)[rows].requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
                drawn = generator(shaken(z, phase.noise))
                value = loss.compare(drawn, targets(rows)).mean()
                if phase.penalty:  # on a quarter of the batch, by finite differences
                    change = generator(shaken(z[:16], STEP)) - drawn[:16]
                    value = value + phase.penalty * change.float().square().mean() / STEP**2
            value.backward()
            adam.step()
            adam.zero_grad(set_to_none=True)
            if phase.latents:
                assert z.grad is not None
                learnt.step(rows, z.grad, stage.latent_lr * factor)
    generator.eval()
    return learnt.rows


def shaken(z: Tensor, norm: float) -> Tensor:
    """(B, d) latents, each moved by normal noise whose norm is ``norm`` in the mean square, back on the sphere."""
    return on_sphere(z + norm / z.shape[1] ** 0.5 * torch.randn_like(z)) if norm else z


class Noisy(ResidualGenerator):
    """The default generator, that is given latents with noise while it trains.

    Args:
        norm: of the noise, as for :func:`shaken`.
        steps: after so many training steps the norm has fallen to zero, in a straight line; None: it stays.
        **options: of the default generator.
    """

    def __init__(self, norm: float, steps: int | None = None, **options: Any):
        super().__init__(**options)
        self.noise, self.steps, self.done = norm, steps, 0

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """As the default's."""
        if self.training:
            left = 1.0 if self.steps is None else max(0.0, 1 - self.done / self.steps)
            self.done += 1
            z = shaken(z, self.noise * left)
        return super().forward(z, labels)


@torch.no_grad()
def slope(generator: nn.Module, latents: Tensor) -> float:
    """Root mean square change of a pixel, in [0, 1], for a unit of movement of the latent."""
    torch.manual_seed(0)
    changes = [(generator(shaken(z, STEP)) - generator(z)).square().mean() for z in latents[:500].split(100)]
    return float(torch.stack(changes).mean().sqrt()) / STEP
