"""From an image that the model never saw to the latent that draws it best (Zhu et al. 2016, arXiv 1609.03552).

Minimises ℓ(G(z), x) over ‖z‖ = 1 with the generator G fixed, ℓ a perceptual distance: stage 1 for a single image. The
descent finds the nearest valley, so it starts from several places at once and keeps the best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glann import losses
from glann.info import read_run
from glann.latents import RowAdam, decayed, on_sphere, shrunken
from glann.losses.distance import visible
from imle.errors import DataError
from imle.noise import stream
from imle.search import nearest

if TYPE_CHECKING:
    from glann.info import StageFiles
    from glann.losses.distance import PerceptualDistance
    from glann.model import GLANN

STEPS = 200
STARTS = 4  # latents that descend for one image, together and with no other image's; 8 were 0.6 % nearer than 1
SHORTLIST = 64  # candidates whose perceptual distance is measured
SAMPLES = 4096  # candidates that the sampler makes, at most
_PIXELS = 2**22  # of the decoded candidates from one source: large images get fewer, 1,024 at 64×64, 64 at 256×256
_LR, _BETAS = 0.05, (0.9, 0.99)
_CANDIDATES = 21  # key of the random stream that the sampler's candidates come from


@dataclass(frozen=True)
class Inverted:
    """Images as latents."""

    latents: Tensor  # (N, d) float32, unit rows
    labels: Tensor | None  # (N,) int64, for a model with classes
    distances: Tensor  # (N,) perceptual distance between each image and its decoded latent


@dataclass(frozen=True)
class Learnt:
    """What stage 1 left of the images of a run, in the order of its manifest, then of augmented ones."""

    latents: Tensor  # (N, d) float32
    labels: Tensor  # (N,) int64; 0 for a model without classes
    losses: Tensor  # (N,) distance of each image to its reconstruction; may be empty


class Inverter:
    """Finds latents of images. Prepares its candidates once: samples, and training latents where the run has them.

    Args:
        model: a trained model. The distance is the one that it was trained with, where that can be had without a
            download, else ``small-vgg+laplacian``; an exported model knows no training latents.
    """

    def __init__(self, model: "GLANN"):
        self.model = model
        self.device = next(model.generator.parameters()).device
        stages = read_run(model.run).stages if model.run is not None else []
        self.loss_name, self.loss = distance_of(model, stages)
        self.loss.to(self.device)
        sources = [_samples(model), _training_latents(model, stages)]
        self.candidates = torch.cat([z for z, _ in sources])
        self._labels = torch.cat([labels for _, labels in sources])  # all 0 for a model without classes
        parts = zip(self.candidates.split(model.block), self._labels.split(model.block), strict=True)
        self._thumbnails = torch.cat([thumbnails(self._decode(z, labels)) for z, labels in parts])

    def __call__(self, images: Tensor, steps: int = STEPS, labels: Tensor | None = None) -> Inverted:
        """Find the latents. An image has the same latent whatever other images come with it.

        Args:
            images: (N, C, H, W) in [0, 1], of the model's size and channels.
            steps: of the descent from the best candidates, ≥ 0; 0 takes the best candidate as it is.
            labels: (N,) int64, the classes of the images; None, for a model with classes: whichever draws them best.

        Returns:
            The latents, their labels and their distances.

        Raises:
            ValueError: for images of another shape, of integers, out of range or not finite, or steps < 0.
        """
        check(self.model, images)
        if steps < 0:
            raise ValueError(f"expected steps >= 0, received {steps}")
        wanted = [None] * len(images) if labels is None else labels.tolist()
        found = [self._invert(*each, steps) for each in zip(images.float().split(1), wanted, strict=True)]
        latents, labels, distances = (torch.cat(part) for part in zip(*found, strict=True))
        return Inverted(latents, labels if self.model.classes else None, distances)

    def _invert(self, image: Tensor, label: int | None, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """(1, C, H, W) -> (1, d), (1,) and (1,). One image at a time: blocks of one size, so that none sees another."""
        allowed = torch.arange(len(self.candidates)) if label is None else (self._labels == label).nonzero()[:, 0]
        count = min(SHORTLIST, len(allowed))
        rows = allowed[nearest(thumbnails(image), self._thumbnails[allowed], k=count, method="exact").indices[0]]
        shortlist, labels = self.candidates[rows].to(self.device), self._labels[rows]
        image = image.to(self.device)
        with torch.no_grad():
            parts = zip(shortlist.split(STARTS), labels.split(STARTS), strict=True)
            distances = torch.cat([self.loss(self._draw(z, c), image.expand(len(z), -1, -1, -1)) for z, c in parts])
        best = distances.sort(stable=True).indices[:STARTS]
        latents, labels, least = shortlist[best], labels[best.cpu()], distances[best].float()

        target = self.loss.prepare(image.expand(len(latents), -1, -1, -1))
        adam, every = RowAdam(latents.clone(), _BETAS), torch.arange(len(latents), device=self.device)
        for step in range(steps + 1):
            z = adam.rows.clone().requires_grad_()
            with torch.enable_grad():
                distances = self.loss.compare(self._draw(z, labels).float(), target)
                (gradient,) = torch.autograd.grad(distances.sum(), z)
            better = distances.detach() < least
            latents[better], least[better] = z.detach()[better], distances.detach()[better].float()
            adam.step(every, gradient, _LR * decayed("cosine", step / max(1, steps), 1, 1))
        winner = least.argmin()
        return latents[winner][None].cpu(), labels[winner.cpu()][None], least[winner][None].cpu()

    def _draw(self, z: Tensor, labels: Tensor) -> Tensor:
        """With the gradient that `GLANN.decode` does not keep."""
        images: Tensor = (
            self.model.generator(z, labels.to(self.device)) if self.model.classes else self.model.generator(z)
        )
        return images

    def _decode(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.model.decode(z, labels if self.model.classes else None)


def check(model: "GLANN", images: Tensor) -> None:
    """ValueError for what is no batch of images of the model's size and channels, floats in [0, 1]."""
    expected = f"float images (N, {model.channels}, {model.size[0]}, {model.size[1]}) in [0, 1]"
    if images.ndim != 4 or tuple(images.shape[1:]) != (model.channels, *model.size) or len(images) == 0:
        raise ValueError(f"expected {expected}, received shape {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"expected {expected}, received {images.dtype}")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"expected {expected}, received values from {low:g} to {high:g}")


def distance_of(model: "GLANN", stages: "Sequence[StageFiles]") -> tuple[str, "PerceptualDistance"]:
    """The distance that a model was trained with, or one that needs nothing from outside.

    Args:
        model: for the name of the distance, and the size of its images.
        stages: of its run, for a file of weights that was given; empty for an exported model.

    Returns:
        The name of the distance, and the distance, on the CPU.
    """
    given = next((s.settings.get("loss_weights") for s in reversed(stages) if "loss" in s.settings), None)
    for name, weights in ((model.config.get("loss", losses.OFFLINE), given), (losses.OFFLINE, None)):
        try:
            return name, losses.build(name, size=model.size, channels=model.channels, weights=weights)
        except ValueError:  # weights that are no longer there, or a loss of a package that is not installed here
            continue
    raise AssertionError("the offline distance needs nothing")


def thumbnails(images: Tensor) -> Tensor:
    """What images look like from afar: enough to tell which are composed alike, sharp or blurred.

    Args:
        images: (B, C, H, W) in [0, 1].

    Returns:
        (B, C·h·w), h and w at most about 16.
    """
    return shrunken(visible(images)).flatten(1)


def _samples(model: "GLANN") -> tuple[Tensor, Tensor]:
    """(M, d) latents of the sampler, of a fixed seed, and (M,) labels, all in turn; 0 for a model without classes."""
    count = max(min(SAMPLES, _most(model)), len(model.classes))  # at least one of each class
    labels = torch.arange(count) % max(1, len(model.classes))
    seed = stream(0, _CANDIDATES).initial_seed()
    latents = model.sampler.sample(count, seed=seed, condition=labels if model.classes else None)
    return on_sphere(latents), labels


def training_latents(run: Path, stages: "Sequence[StageFiles]") -> Learnt | None:
    """Read the latents of a run's images.

    Args:
        run: its folder.
        stages: what `glann.info.read_run` read of it.

    Returns:
        What the last stage that left some wrote; None where no stage did.

    Raises:
        DataError: if their file is damaged.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    for stage in reversed(stages):
        path = run / stage.name / "latents.safetensors"
        if path.is_file():
            try:
                tensors = safetensors.torch.load_file(path)
                latents = tensors["latents"]
                if not torch.isfinite(latents).all():
                    raise ValueError("expected finite latents")
            except (OSError, KeyError, ValueError, SafetensorError) as error:
                raise DataError(f"{path} cannot be loaded: {error}") from error
            if latents.ndim == 2:
                labels = tensors.get("labels", torch.zeros(len(latents), dtype=torch.long))
                return Learnt(latents.float(), labels, tensors.get("losses", torch.empty(0)).float())
    return None


def _training_latents(model: "GLANN", stages: "Sequence[StageFiles]") -> tuple[Tensor, Tensor]:
    """(N, d) of the run and (N,) labels, evenly spread rows of very many; none for an exported model."""
    found = None if model.run is None else training_latents(model.run, stages)
    if found is None or found.latents.shape[1] != model.latent_dim:
        return torch.empty(0, model.latent_dim), torch.empty(0, dtype=torch.long)
    some = slice(None, None, math.ceil(len(found.latents) / _most(model)))
    return on_sphere(found.latents[some]), found.labels[some]


def _most(model: "GLANN") -> int:
    return max(SHORTLIST, _PIXELS // math.prod(model.size))
