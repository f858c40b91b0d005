"""Images from a folder with one subfolder a class, by their place among the sorted files of each."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glann.images import ImageSet


def read(folder: Path, first: int | None = None, last: int | None = None) -> tuple[Tensor, Tensor]:
    """Files ``first`` to ``last`` of each class as (N, C, H, W) uint8, and (N,) the class of each."""
    classes = sorted(path for path in folder.glob("*") if path.is_dir())
    chosen = [(file, k) for k, c in enumerate(classes) for file in sorted(c.iterdir())[first:last]]
    if not chosen:
        raise SystemExit(f"expected a folder of images in one subfolder a class, received {folder}")
    pixels = np.stack([np.atleast_3d(np.asarray(Image.open(file))) for file, _ in chosen])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor([k for _, k in chosen])


def as_set(pixels: Tensor) -> ImageSet:
    """(N, C, H, W) uint8 as what stage 1 is trained on."""
    return ImageSet(pixels.numpy(), [str(i) for i in range(len(pixels))], None, "", 0)
