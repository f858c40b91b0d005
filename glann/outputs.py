"""Where the commands write their images, and what they may replace there. Light to import: no torch."""

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imle.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FILE_SUFFIXES = (".png", ".npy", ".safetensors")
PICTURE, TABLE, TABLE_HEAD = "reconstructions.png", "distances.csv", "path,distance,reconstruction"
_OTHER_SUFFIXES = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".npz", ".pt")


def check_folder(out: Path, count: int, *, reconstructions: bool = False) -> None:
    """A folder of results holds results and nothing else: it must be new, empty, or about to be overwritten.

    Args:
        out: the folder.
        count: how many images ``000000.png`` upward will be written.
        reconstructions: whether the picture and the table of ``glann reconstruct`` will be, too.

    Raises:
        UsageError: for a path that has the suffix of another kind of file.
        DataError: for a file, or a folder with a file that would be left over or is not ours.
    """
    kinds = "a folder" if reconstructions else f"a folder or a {', '.join(FILE_SUFFIXES)} file"
    files = _OTHER_SUFFIXES + FILE_SUFFIXES if reconstructions else _OTHER_SUFFIXES
    if out.suffix.lower() in files and not out.is_dir():
        raise click.UsageError(f"expected {kinds} as --out, received {out}")
    if out.exists() and not out.is_dir():
        raise DataError(f"expected {kinds} as --out, {out} is another file")
    for path in out.iterdir() if out.is_dir() else ():
        replaced = re.fullmatch(r"\d{6}\.png", path.name) and int(path.stem) < count
        replaced = replaced or (reconstructions and path.name in (PICTURE, TABLE))
        if not (replaced and _is_ours(path)):
            raise DataError(f"{out} holds {path.name}, which the new images would not replace; name another --out")


def check_file(out: Path, suffixes: tuple[str, ...], option: str = "--out") -> None:
    """A file of results goes into a folder that exists.

    Args:
        out: the file.
        suffixes: those that can be written.
        option: which one it was given as.

    Raises:
        UsageError: for another suffix, or a folder.
        DataError: where the folder of the file does not exist.
    """
    if out.suffix.lower() not in suffixes:
        raise click.UsageError(f"expected a {', '.join(suffixes)} file as {option}, received {out}")
    if out.is_dir():
        raise click.UsageError(f"{out} is a folder")
    if not out.parent.is_dir():
        raise DataError(f"the folder of {out} does not exist")


def write_images(images: "Tensor", out: Path, grid: bool) -> None:
    """Write (N, C, H, W) images in [0, 1] as one file: a .png picture (of the first, or a grid of all) or an array."""
    from glann import pictures
    from imle.atomic import write_atomically

    if out.suffix.lower() == ".png":
        pictures.save(pictures.grid(images) if grid else pictures.to_pil(images[0]), out)
    elif out.suffix.lower() == ".npy":
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, images.numpy())
        write_atomically(out, buffer.getvalue())
    else:
        import safetensors.torch

        write_atomically(out, safetensors.torch.save({"images": images}))


def _is_ours(path: Path) -> bool:
    from glann import pictures

    if path.name != TABLE:
        return pictures.is_ours(path)
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().strip() == TABLE_HEAD
    except (OSError, UnicodeDecodeError):
        return False
