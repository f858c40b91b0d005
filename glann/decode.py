"""One image file -> uint8 pixels of the asked size: turned upright, resized to cover, cropped in the centre."""

import hashlib
import io
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # a closed list: Pillow would also run Ghostscript on an EPS
FORMAT_NAMES = "JPEG, PNG, WebP, BMP, GIF or TIFF"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a GiB of RGB; beyond it a small file can fill the memory
MIN_SIDE, MAX_SIDE, SIDE_STEP = 16, 1024, 4  # pixels

_TURNS = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag

logging.getLogger("PIL").addHandler(
    logging.NullHandler()
)  # else Pillow's complaints about bad files reach the terminal


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file say."""

    width: int  # pixels, upright
    height: int
    channels: int  # 1, 3 or 4: enough to hold the image without loss


@dataclass(frozen=True)
class Decoded:
    """One image, ready for the cache."""

    pixels: npt.NDArray[np.uint8]  # (C, H, W)
    needed: int  # 1, 3 or 4: the fewest channels that hold these pixels without loss
    sha256: str  # of the file's bytes, hexadecimal
    width: int  # of the original in pixels, upright
    height: int


def parse_size(text: str) -> tuple[int, int]:
    """Read an image size.

    Args:
        text: one side of a square in pixels, as ``64``, or height x width, as ``48x64``.

    Returns:
        (height, width).

    Raises:
        ValueError: for another form, a side below 16 or above 1024, or one that 4 does not divide.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?:[xX×]([0-9]{1,6}))?", text.strip())
    if match is None:
        raise ValueError(f"expected a size as 64 or 48x64 (height x width), received {text!r}")
    height = int(match[1])
    size = (height, int(match[2]) if match[2] else height)
    check_size(size)
    return size


def check_size(size: tuple[int, int]) -> None:
    """Refuse a size that no generator can make.

    Args:
        size: (height, width) in pixels.

    Raises:
        ValueError: for a side below 16 or above 1024, or one that 4 does not divide.
    """
    if not all(MIN_SIDE <= side <= MAX_SIDE and side % SIDE_STEP == 0 for side in size):
        raise ValueError(
            f"expected a height and a width from {MIN_SIDE} to {MAX_SIDE} that {SIDE_STEP} divides, "
            f"received {size[0]}x{size[1]}"
        )


def probe(path: Path) -> Header:
    """Read what the header of an image file says, without decoding the pixels.

    Args:
        path: the file.

    Returns:
        The size of the upright image, and as many channels as it may need.

    Raises:
        Exception: whatever Pillow raises for a file that is no image; `why` puts it in words.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError("empty file")
        with _open(file) as image:
            width, height = image.size
            # Asking a PNG for an orientation that its header lacks decodes it; Pillow turns a TIFF by itself.
            told = image.format in ("JPEG", "MPO", "WEBP") or "exif" in image.info
            if told and image.format != "TIFF" and _orientation(image) >= 5:
                width, height = height, width
            if image.mode == "F" or image.mode.startswith("I"):
                channels = 1
            elif image.has_transparency_data:
                channels = 4
            else:
                channels = 1 if image.mode in ("1", "L") else 3
    return Header(width, height, channels)


def decode(path: Path, size: tuple[int, int], channels: int) -> Decoded:
    """Decode one file, turn it upright, resize it so that it covers ``size``, and crop the centre.

    Resizing is antialiased (Lanczos) and weighs colours by their opacity. Colour profiles are ignored.

    Args:
        path: a JPEG, PNG, WebP, BMP, GIF (its first frame) or TIFF (its first page).
        size: (height, width) in pixels.
        channels: 1 (luma, ITU-R 601), 3 (RGB) or 4 (RGBA). With 1 and 3, transparent pixels are laid over white;
            with 4, the colour of wholly transparent pixels, which is arbitrary in the file, becomes white.

    Returns:
        The pixels with what the manifest says of them.

    Raises:
        Exception: whatever Pillow raises for a file it cannot decode; `why` puts it in words.
    """
    data = path.read_bytes()
    if not data:
        raise ValueError("empty file")
    with _open(io.BytesIO(data)) as image:
        width, height = image.size
        enough = 2 * max(size)  # a JPEG is decoded at a fraction of its size, twice what the antialiasing needs
        image.draft(None, (enough, enough))
        image.load()
        turn = _orientation(image)  # after loading: a PNG may carry it behind its pixels
        flat = _eight_bits(image)
    if turn >= 5:
        width, height = height, width
        small = _cover(flat, size[::-1])
    else:
        small = _cover(flat, size)
    if turn in _TURNS:
        small = small.transpose(_TURNS[turn])
    pixels = _planes(small, channels)
    return Decoded(pixels, _needed(pixels), hashlib.sha256(data).hexdigest(), width, height)


def why(error: Exception) -> str:
    """One line that tells a person why a file could not be decoded."""
    if isinstance(error, UnidentifiedImageError):
        return f"not a {FORMAT_NAMES} image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _open(file: io.BufferedReader | io.BytesIO) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:  # Pillow itself only warns up to twice its limit
        raise Image.DecompressionBombError
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to lose a good picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image as L, RGB or RGBA, 8 bits a channel."""
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # also refuses NaN
            raise ValueError("floating-point pixels outside 0 ... 1")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("integer pixels outside 0 ... 65535")
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))  # 65535 = 257 · 255
    if image.has_transparency_data:
        return _as(image, "RGBA")
    return _as(image, "L" if image.mode in ("1", "L") else "RGB")


def _as(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # convert() would copy


def _cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest centred part of the image that has the shape of ``size``, at that size."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    if scale == 1:  # whole pixels: nothing is interpolated
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
    across, down = min(width / scale, image.width), min(height / scale, image.height)
    left_edge, top_edge = (image.width - across) / 2, (image.height - down) / 2
    box = (left_edge, top_edge, left_edge + across, top_edge + down)
    # A gap of 3 halves huge images by averaging first: far faster, and no difference that could be seen.
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _planes(image: Image.Image, channels: int) -> npt.NDArray[np.uint8]:
    """The image as (C, H, W)."""
    if channels == 4:
        rgba = np.array(_as(image, "RGBA"))
        rgba[rgba[..., 3] == 0, :3] = 255
        return np.ascontiguousarray(rgba.transpose(2, 0, 1))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    if channels == 1:
        return np.array(_as(image, "L"))[None]
    return np.ascontiguousarray(np.asarray(_as(image, "RGB")).transpose(2, 0, 1))


def _needed(pixels: npt.NDArray[np.uint8]) -> int:
    if len(pixels) == 4 and pixels[3].min() < 255:
        return 4
    if len(pixels) >= 3 and not (np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2])):
        return 3
    return 1
