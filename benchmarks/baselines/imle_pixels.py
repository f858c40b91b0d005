"""IMLE without a stage 1 (Li & Malik 2018, arXiv 1809.09087): noise -> image, matched and compared in pixels."""

import torch
from baselines.budget import BF16, LATENT_DIM, Clock, Trained, count, from_normal, imle_epochs
from torch import Tensor, nn

import imle
from glann import generators
from glann.images import ImageSet

SETTINGS = imle.IMLE(noise_dim=LATENT_DIM, batch_size=64, lr=1e-3, pool=1.0, refresh=imle.Every(2))


class Half(nn.Module):
    """A generator that computes in bfloat16 where that is faster."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            images: Tensor = self.generator(z)
        return images.float()


def train(images: ImageSet, budget: float, seed: int) -> Trained:
    """Squared Euclidean distance of pixels, for the search and for the loss."""
    clock = Clock(budget)
    torch.manual_seed(seed)
    size = (images.height, images.width)

    def fresh() -> nn.Module:
        made = generators.build("residual", latent_dim=LATENT_DIM, size=size, channels=images.channels)
        return made.to(memory_format=torch.channels_last)

    generator = fresh()
    pixels = images.batch(range(len(images)))
    settings = imle_epochs(SETTINGS, pixels, clock.left(), model=Half(fresh()))
    settings = imle.IMLE(**{**vars(settings), "seed": seed})
    sampler = settings.fit(pixels, model=Half(generator))
    facts = {"epochs": settings.epochs, "loss": sampler.history[-1]["loss"]}
    return Trained(from_normal(generator.eval()), count(generator), clock.spent(), facts)
