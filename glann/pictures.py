"""Images to files: single ones, grids, animations, and originals above what a model made of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

_MARK = "glann"  # in the PNGs that this package writes, so that it overwrites no others
GAP = 2  # pixels between two pictures of a grid
_SHORT_SIDE = 64  # pixels; smaller images are enlarged by whole factors, so that a person sees them
_ANIMATED_SIDE = 128  # pixels; the same for animations, which are looked at one frame at a time
_FRAME_MS = 60  # how long a frame of an animation is shown
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
    h, w = cell_size((h, w))
    images = _enlarged(images, _SHORT_SIDE)
    if channels == 4:
        y, x = torch.meshgrid(torch.arange(h) // _CHECKER, torch.arange(w) // _CHECKER, indexing="ij")
        board = 0.6 + 0.2 * ((x + y) % 2)
        images = images[:, :3] * images[:, 3:] + board * (1 - images[:, 3:])
    sheet = torch.ones(images.shape[1], rows * (h + GAP) - GAP, columns * (w + GAP) - GAP)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + GAP), (i % columns) * (w + GAP)
        sheet[:, top : top + h, left : left + w] = image
    return to_pil(sheet)


def cell_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels that an image of a size takes in a `grid`, without the gap to the next one."""
    factor = _factor(size, _SHORT_SIDE)
    return size[0] * factor, size[1] * factor


def pairs(originals: Tensor, copies: Tensor, columns: int = 8) -> Image.Image:
    """Rows of originals, each with a row of their copies below it; both (N, C, H, W) in [0, 1]."""
    columns = min(columns, len(originals))
    parts: list[Tensor] = []
    for above, below in zip(originals.split(columns), copies.split(columns), strict=True):
        missing = originals.new_ones(columns - len(above), *originals.shape[1:])  # white, as the sheet is
        parts += [above, missing, below, missing]
    return grid(torch.cat(parts), columns)


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG, marked as ours, so that a reader never sees half of it."""
    mark = PngInfo()
    mark.add_text("Software", _MARK)
    _save(picture, path, format="PNG", pnginfo=mark)


def save_animation(images: Tensor, path: Path) -> None:
    """Write frames as an endless animation, small ones enlarged without smoothing.

    Args:
        images: (N, C, H, W) in [0, 1]. Transparency stays: whole in a WebP, all or nothing in a GIF.
        path: a .gif or .webp file. Equal frames in a row become one that is shown longer.
    """
    first, *others = [to_pil(image) for image in _enlarged(images, _ANIMATED_SIDE)]
    options: dict[str, Any] = {"save_all": True, "append_images": others, "duration": _FRAME_MS, "loop": 0}
    if path.suffix.lower() == ".webp":
        if first.mode == "RGBA":  # each frame whole: readers take frames cut to what is visible for opaque ones
            options["kmax"] = 1
        _save(first, path, format="WEBP", lossless=True, **options)
    else:
        _save(first, path, format="GIF", disposal=2, **options)  # else transparent frames pile up


def _save(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write beside, then rename, so that a reader never sees half of a file."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        picture.save(scratch, **options)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _enlarged(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) with pixels repeated a whole number of times, until the short side is about ``side``."""
    factor = _factor(images.shape[2:], side)
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def _factor(size: Sequence[int], side: int) -> int:
    return max(1, round(side / min(size)))


def is_ours(path: Path) -> bool:
    """Whether a file is a PNG that `save` wrote."""
    try:
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") == _MARK)
    except (OSError, ValueError, SyntaxError):
        return False
