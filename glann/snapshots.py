"""How a training looked at fixed moments: the same few images, drawn again and again."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from glann import pictures
from imle.noise import sample_noise

if TYPE_CHECKING:
    from imle import LatentSampler

COUNT = 8  # images in one snapshot, at most
FOLDER = "snapshots"  # of a stage's folder
_PORTION = 50  # images drawn at a time
_NAME = re.compile(r"epoch-(\d{6,})\.png")


def due(epoch: int, epochs: int) -> bool:
    """Whether a training of so many epochs is looked at after this one: after powers of two, and at the end.

    A function of the epoch alone, so that a run that was interrupted is looked at when an undisturbed one is; early on
    much changes, and a long training has few moments more than a short one.
    """
    return epoch == epochs or epoch & (epoch - 1) == 0


@torch.no_grad()
def of_the_same_noise(sampler: "LatentSampler", labels: Tensor | None) -> Tensor:
    """Latents of noise that never changes; samples would change it once their frequencies are balanced.

    Args:
        sampler: noise -> latents.
        labels: (n,) classes, where there are classes, n = `COUNT`.

    Returns:
        (n, d) on the CPU.
    """
    device = sampler.mean.device
    latents: Tensor = sampler(
        sample_noise(0, 0, COUNT, sampler.noise_dim).to(device), None if labels is None else labels.to(device)
    )
    return latents.float().cpu()


@torch.no_grad()
def draw(generator: nn.Module, latents: Tensor, labels: Tensor | None) -> Tensor:
    """What a generator that is being trained makes of latents, a few at a time.

    Args:
        generator: (B, d), with classes also (B,) -> (B, C, H, W), on the CPU.
        latents: (n, d).
        labels: (n,) classes, where there are classes.

    Returns:
        (n, C, H, W).
    """
    told = () if labels is None else (labels.split(_PORTION),)
    return torch.cat([generator(*part) for part in zip(latents.split(_PORTION), *told, strict=True)])


class Snapshots:
    """The pictures of one stage, ``epoch-000008.png`` and so on: its images side by side, one pixel a pixel.

    Args:
        folder: of the stage; the pictures lie in a folder of their own inside.
        width: of one image in pixels.
    """

    def __init__(self, folder: Path, width: int):
        self.folder, self.width = folder / FOLDER, width

    def epochs(self) -> list[int]:
        """Those that have a picture, in order."""
        names = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(name[1]) for name in names if name)

    def path(self, epoch: int) -> Path:
        """Where the picture of an epoch lies, or would lie."""
        return self.folder / f"epoch-{epoch:06d}.png"

    def add(self, epoch: int, images: Tensor) -> None:
        """Keep one look. Pictures of later epochs are of a training that was given up, and go.

        Args:
            epoch: after which these images were drawn, from 1.
            images: (n, C, H, W) in [0, 1].
        """
        for later in self.epochs():
            if later > epoch:
                self.path(later).unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        pictures.save(pictures.to_pil(torch.cat(tuple(images.float().cpu()), dim=2)), self.path(epoch))

    def read(self, epoch: int) -> Tensor | None:
        """One look.

        Args:
            epoch: one of `epochs`.

        Returns:
            (n, C, H, W) float32 in [0, 1]; None for a picture that is damaged, or of images of another width.
        """
        try:
            with Image.open(self.path(epoch), formats=["PNG"]) as picture:
                pixels = np.atleast_3d(np.array(picture))  # (H, n·W, C)
        except (OSError, ValueError, SyntaxError):  # Pillow calls a damaged PNG a SyntaxError
            return None
        if pixels.shape[1] % self.width:
            return None
        strip = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        return torch.stack(strip.split(self.width, dim=2))
