"""Images to files: single ones, grids, and originals above what a model made of them."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

_MARK = "glann"  # in the PNGs that this package writes, so that it overwrites no others
_GAP = 2  # pixels between two pictures of a grid
_SHORT_SIDE = 64  # pixels; smaller images are enlarged by whole factors, so that a person sees them
_CHECKER = 8  # pixels; side of a square of the board behind transparent images


def to_bytes(images: Tensor) -> np.ndarray:
    """(N, C, H, W) in [0, 1] -> (N, H, W, C) uint8, rounded to the nearest."""
    return (images.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def to_pil(image: Tensor) -> Image.Image:
    """(C, H, W) in [0, 1] -> a picture of mode L, RGB or RGBA."""
    pixels = to_bytes(image[None])[0]
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """Images in rows, small ones enlarged without smoothing, transparent ones over a checkerboard.

    Args:
        images: (N, C, H, W) in [0, 1].
        columns: pictures in a row; the square root of N by default.

    Returns:
        The grid, of mode L or RGB.
    """
    n, channels, h, w = images.shape
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = -(-n // columns)
    factor = max(1, round(_SHORT_SIDE / min(h, w)))
    h, w = h * factor, w * factor
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    if channels == 4:
        y, x = torch.meshgrid(torch.arange(h) // _CHECKER, torch.arange(w) // _CHECKER, indexing="ij")
        board = 0.6 + 0.2 * ((x + y) % 2)
        images = images[:, :3] * images[:, 3:] + board * (1 - images[:, 3:])
    sheet = torch.ones(images.shape[1], rows * (h + _GAP) - _GAP, columns * (w + _GAP) - _GAP)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + _GAP), (i % columns) * (w + _GAP)
        sheet[:, top : top + h, left : left + w] = image
    return to_pil(sheet)


def pairs(originals: Tensor, copies: Tensor, columns: int = 8) -> Image.Image:
    """Rows of originals, each with a row of their copies below it; both (N, C, H, W) in [0, 1]."""
    parts: list[Tensor] = []
    for above, below in zip(originals.split(columns), copies.split(columns), strict=True):
        parts += [above, below] if len(above) == columns or not parts else []
    return grid(torch.cat(parts), min(columns, len(originals)))


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG, marked as ours, so that a reader never sees half of it."""
    mark = PngInfo()
    mark.add_text("Software", _MARK)
    scratch = path.with_name(path.name + ".tmp")
    try:
        picture.save(scratch, format="PNG", pnginfo=mark)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def is_ours(path: Path) -> bool:
    """Whether a file is a PNG that `save` wrote."""
    try:
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") == _MARK)
    except (OSError, ValueError, SyntaxError):
        return False
