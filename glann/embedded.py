"""Pictures that travel inside a page: small in bytes, and with the page showing between the images."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_LOSSLESS = 64  # pixels; images with a shorter side keep every pixel, for each is large on the screen
_QUALITY = 85  # of the others, in WebP's units
_LARGEST = 128  # pixels; the short side of an image on the page, at most: the files beside the page have them whole


@dataclass(frozen=True)
class Picture:
    """A WebP as part of a page."""

    src: str  # data URI
    width: int  # pixels
    height: int


def read(path: Path, size: tuple[int, int]) -> Picture | None:
    """A grid that is a PNG file; None where it is missing or damaged. For ``size`` see `embed`."""
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            return embed(picture, size)
    except (OSError, ValueError, SyntaxError):  # Pillow calls a damaged PNG a SyntaxError
        return None


def embed(picture: "Image", size: tuple[int, int]) -> Picture:
    """A grid that is in memory.

    Args:
        picture: of `glann.pictures.grid`, of mode L or RGB.
        size: (height, width) in pixels of the images in it, as the model makes them.

    Returns:
        The grid with clear gaps; lossless where its images are small, shrunken where they are large.
    """
    import numpy as np
    import PIL.Image

    from glann.pictures import GAP, cell_size

    height, width = cell_size(size)
    pixels = np.array(picture.convert("RGBA"))
    pixels[np.arange(picture.height) % (height + GAP) >= height] = 0
    pixels[:, np.arange(picture.width) % (width + GAP) >= width] = 0
    sheet = PIL.Image.fromarray(pixels)
    scale = _LARGEST / min(height, width)
    if scale < 1:
        sheet = sheet.resize((round(scale * sheet.width), round(scale * sheet.height)), PIL.Image.Resampling.LANCZOS)
    data = io.BytesIO()
    sheet.save(data, format="WEBP", lossless=min(size) < _LOSSLESS, quality=_QUALITY)
    return Picture("data:image/webp;base64," + base64.b64encode(data.getvalue()).decode(), *sheet.size)
