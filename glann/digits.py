"""Real images that need no download: the handwritten digits that scikit-learn brings along."""

from pathlib import Path

import numpy as np
from PIL import Image

from imle.errors import DataError

_SIDE = 32  # pixels; four times that of the data set
_INK = 16  # the largest value of the data set


def write_digits(folder: Path) -> int:
    """Write the 1,797 handwritten digits of scikit-learn as PNGs, white on black, 32x32, one subfolder a class.

    They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998, UCI), 8x8 pixels,
    enlarged four times by bicubic interpolation, without a border. Digit k is ``CLASS/k.png``, k with four figures.
    A digit that is already there stays as it is.

    Args:
        folder: where the ten subfolders go; made if missing.

    Returns:
        The number of digits in the folder.

    Raises:
        DataError: if scikit-learn is missing, or if the folder is a file, cannot be written, or holds anything else.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError('the digits come with scikit-learn, which is missing: pip install "glann[demo]"') from error
    if folder.exists() and not folder.is_dir():
        raise DataError(f"expected a folder to write the digits to, received a file: {folder}")
    data = load_digits()
    digits = {f"{data.target[k]}/{k:04d}.png": _enlarged(image) for k, image in enumerate(data.images)}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not (path.is_dir() and name in map(str, data.target_names)) and not _holds(path, digits.get(name)):
            raise DataError(f"expected an empty folder or one with these digits, received {folder} with {name}")
    try:
        for name, digit in digits.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                digit.save(folder / name)
    except PermissionError as error:
        raise DataError(f"expected a folder to write the digits to, received {folder}: {error.strerror}") from error
    return len(digits)


def _enlarged(image: np.ndarray) -> Image.Image:
    grey = np.rint(image * (255 / _INK)).astype(np.uint8)
    return Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)


def _holds(path: Path, digit: Image.Image | None) -> bool:
    """Whether a file shows this digit, however it was compressed."""
    if digit is None or not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.mode == digit.mode and image.size == digit.size and image.tobytes() == digit.tobytes()
    except (OSError, SyntaxError, ValueError):
        return False
