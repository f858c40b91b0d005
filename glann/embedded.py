"""Pictures that travel inside a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Picture:
    """A PNG as part of a page."""

    src: str  # data URI
    width: int  # pixels
    height: int


def read(path: Path) -> Picture | None:
    """A PNG file; None where it is missing or damaged."""
    import PIL.Image

    try:
        data = path.read_bytes()
        with PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            picture.load()
            return _picture(data, picture)
    except (OSError, ValueError, SyntaxError):  # Pillow calls a damaged PNG a SyntaxError
        return None


def embed(picture: "Image") -> Picture:
    """A picture that is in memory."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return _picture(data.getvalue(), picture)


def _picture(data: bytes, picture: "Image") -> Picture:
    return Picture("data:image/png;base64," + base64.b64encode(data).decode(), *picture.size)
