"""GLO with a Gaussian in place of stage 2 (Bojanowski et al. 2017, arXiv 1707.05776, section 4): what GLANN replaces.

A normal distribution with the mean and the full covariance of the latents; its samples are scaled to unit norm, like
the latents that the generator was trained with.
"""

import torch
from baselines.budget import Clock, Trained, count, fit_glo
from torch import Tensor
from torch.nn.functional import normalize

from glann import losses
from glann.images import ImageSet
from glann.settings import GLOSettings


def train(images: ImageSet, budget: float, seed: int) -> Trained:
    """Stage 1 with the default settings for the whole budget, then the mean and covariance of its latents."""
    clock = Clock(budget)
    result, settings = fit_glo(images, GLOSettings(loss=losses.OFFLINE), 0.99 * budget, seed)
    mean, root = gaussian(result.latents)

    @torch.no_grad()
    def draw(n: int, seed: int) -> Tensor:
        latents = normalize(sample(mean, root, n, seed), dim=1)
        return torch.cat([result.generator(part) for part in latents.split(100)])

    facts = {"glo_epochs": settings.epochs, "glo_loss": float(result.losses.mean()), "loss": settings.loss}
    numbers = count(result.generator) + mean.numel() + root.numel()
    return Trained(draw, numbers, clock.spent(), facts)


def gaussian(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Of (N, d) latents, the mean (d,) and the Cholesky root (d, d) of the covariance, in float64."""
    z = latents.double()
    return z.mean(0), torch.linalg.cholesky(torch.cov(z.T) + 1e-8 * torch.eye(z.shape[1]))


def sample(mean: Tensor, root: Tensor, n: int, seed: int) -> Tensor:
    """(n, d) float32 draws from the normal distribution."""
    noise = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + noise @ root.T).float()
