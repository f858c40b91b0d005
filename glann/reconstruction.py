"""How faithfully a model draws images that it knows: PSNR and LPIPS of reconstructions.

Reconstructions are copies of training images by design; what they score says nothing about new images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glann import losses, weights
from glann.features import networks_in
from glann.inversion import Inverter, training_latents
from glann.losses.distance import visible
from imle.data import evenly
from imle.errors import DataError

if TYPE_CHECKING:
    from glann.images import ImageSet
    from glann.info import StageFiles
    from glann.model import GLANN

KNOWN, INVERTED = 500, 16  # images reconstructed from the latents of a run; and by descent, which takes seconds each
_STEPS = 50  # of the descent
_EXACT = 1e-10  # mean squared error of images that are the same: 100 dB
_LPIPS = ("lpips-alex", "lpips-vgg", "lpips-squeeze")


@dataclass(frozen=True)
class Reconstructions:
    """Images and what a model draws of them."""

    originals: Tensor  # (N, C, H, W) in [0, 1]
    copies: Tensor  # (N, C, H, W) in [0, 1]
    how: str  # where the latents are from, for a person


def reconstruct(
    model: "GLANN", stages: "list[StageFiles]", training: "ImageSet | None", others: Callable[[int], Tensor]
) -> Reconstructions:
    """Draw images that the model knows, from their latents; where these are not at hand, look for latents.

    Args:
        model: the model.
        stages: those of its run, none for an exported model.
        training: the images of the run, where they are at hand.
        others: n -> (n, C, H, W) images in [0, 1], taken where the run has no latents.

    Returns:
        Up to 500 pairs from a run, 16 by descent.

    Raises:
        DataError: if the latents of the run are damaged.
    """
    known = None if model.run is None or training is None else training_latents(model.run, stages)
    # Rows after those of the images are augmented ones.
    if (
        training is not None
        and known is not None
        and known.latents[: len(training)].shape == (len(training), model.latent_dim)
    ):
        rows = evenly(len(training), KNOWN)
        labels = known.labels[rows] if model.classes else None
        how = "training images from their own latents"
        return Reconstructions(training.batch(rows), model.decode(known.latents[rows], labels), how)
    originals = others(INVERTED)
    found = Inverter(model)(originals, _STEPS)
    how = f"images from latents found in {_STEPS} steps"
    return Reconstructions(originals, model.decode(found.latents, found.labels), how)


def psnr(originals: Tensor, copies: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB: of each image 10 log₁₀(1 / mean squared error), 100 for equal ones.

    Args:
        originals: (N, C, H, W) in [0, 1]; transparent ones count as they look over mid-grey, and by their alpha.
        copies: the same.

    Returns:
        dB.
    """
    parts = zip(originals.split(50), copies.split(50), strict=True)
    squared = torch.cat([(visible(a).double() - visible(b).double()).square().mean((1, 2, 3)) for a, b in parts])
    return float((-10 * squared.clamp_min(_EXACT).log10()).mean())


def lpips(originals: Tensor, copies: Tensor, loss: str | None) -> tuple[float | None, str | None, str | None]:
    """Mean LPIPS (Zhang et al. 2018), with a network that is at hand and that the model was not trained with.

    Args:
        originals: (N, C, H, W) in [0, 1].
        copies: the same.
        loss: the distance that the model was trained with, by name.

    Returns:
        The mean and the name of the LPIPS, both None without any network; and a warning, or what would bring one.
    """
    cached = [name for name in _LPIPS if weights.cached(name).is_file()]
    trained = networks_in(loss)
    trained |= {"lpips-vgg"} if "vgg" in trained else set()
    name = next((n for n in cached if n not in trained), next(iter(cached), None))
    if name is None:
        return None, None, "no LPIPS: `glann weights fetch lpips-squeeze` brings the smallest of its networks (5 MB)"
    size = (originals.shape[2], originals.shape[3])
    try:
        distance = losses.build(name, size=size, channels=originals.shape[1])
    except DataError as error:
        return None, None, f"no LPIPS: {error}"
    with torch.no_grad():
        parts = zip(originals.split(50), copies.split(50), strict=True)
        value = float(torch.cat([distance(copy, original) for original, copy in parts]).mean())
    warning = f"{name} is in the loss {loss}: it flatters the reconstructions" if name in trained else None
    return value, name, warning
