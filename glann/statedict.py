"""Read a state dict from a file that need not be trusted.

torch is imported where it is used.
"""

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from imle.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def read_state(path: str | Path) -> "dict[str, Tensor]":
    """Read a state dict, without running anything that the file might contain.

    Args:
        path: ``.safetensors``, or a file that ``torch.save`` wrote.

    Returns:
        Name -> tensor on the CPU; tensors may be backed by the file.

    Raises:
        DataError: if the file is missing, damaged, or anything but names and tensors.
    """
    import safetensors.torch
    import torch

    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # Only files in the format of today can be mapped; of a mapped one only the entries in use are read.
        mapped = zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as error:
        raise DataError(f"expected a state dict in {path}, which cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise DataError(
            f"expected a state dict (names and tensors alone) in {path}, received another pickle"
        ) from error
    except Exception as error:  # a damaged file breaks the reader anywhere
        what = type(error).__name__
        raise DataError(
            f"expected a state dict in {path}, which is damaged or no such file ({what}); `glann weights list` says "
            "what in the cache is damaged, `glann weights fetch` replaces it"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise DataError(f"expected a state dict (names and tensors alone) in {path}, received another pickle")
    return dict(state)
