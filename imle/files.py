"""Arrays on disk: .npy and .safetensors (memory-mapped) and .npz in, .npy and .safetensors out."""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imle.atomic import write_atomically
from imle.errors import DataError

READS = (".npy", ".npz", ".safetensors")
WRITES = (".npy", ".safetensors")
KEY = "samples"  # what samples are called in a .safetensors file
_MAPPED = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # types of safetensors that numpy has too  # fmt: skip


def read_array(source: str | Path) -> Any:
    """One array of a file; that of a .npy or .safetensors stays on disk until used, and a pickle is never opened.

    Args:
        source: ``FILE.npy``, or ``FILE.npz`` or ``FILE.safetensors`` with one array; ``FILE:NAME`` for one of several.

    Returns:
        A numpy array, a memory map or a tensor.

    Raises:
        DataError: for a file that is missing, of another type, damaged or pickled, or an array that is not there.
    """
    path, name = Path(source), ""
    if not path.exists() and ":" in str(source):
        before, _, name = str(source).rpartition(":")
        path = Path(before)
    if path.suffix not in READS:
        raise DataError(f"expected a file that ends in {', '.join(READS)}, received {path}")
    if not path.is_file():
        raise DataError(f"expected a file, found none at {path}")
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".safetensors":
            return _mapped(path, name)
        with np.load(path, allow_pickle=False) as archive:
            return archive[_only(path, name, archive.keys())]
    except DataError:
        raise
    except (ValueError, OSError, EOFError, KeyError, SafetensorError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def write_array(path: str | Path, shape: tuple[int, ...], parts: Iterator[Tensor]) -> None:
    """Write float32 parts that make up one array; a reader sees the whole file or none.

    Args:
        path: ``FILE.npy``, written part by part, or ``FILE.safetensors``, put together in memory.
        shape: of the whole array.
        parts: consecutive rows.

    Raises:
        DataError: for another ending.
    """
    path = Path(path)
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        whole = torch.cat([torch.empty(0, *shape[1:]), *parts])
        write_atomically(path, safetensors.torch.save({KEY: whole}))
        return
    scratch = path.with_name(path.name + ".tmp")
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with scratch.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.numpy().astype("<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def check_writable(path: str | Path) -> None:
    """Refuse a file that `write_array` cannot write.

    Args:
        path: where to.

    Raises:
        DataError: for another ending.
    """
    if Path(path).suffix not in WRITES:
        raise DataError(f"expected a file that ends in {' or '.join(WRITES)}, received {path}")


def _mapped(path: Path, name: str) -> Any:
    """One array of a .safetensors file, as a memory map where numpy has its type."""
    with safe_open(path, "pt") as opened:  # checks the header
        key = _only(path, name, opened.keys())
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[key]
        if entry["dtype"] not in _MAPPED or 0 in (entry["shape"] or [0]):
            return opened.get_tensor(key)
    offset = 8 + length + entry["data_offsets"][0]
    return np.memmap(path, _MAPPED[entry["dtype"]], "r", offset, tuple(entry["shape"]))


def _only(path: Path, name: str, found: Iterable[str]) -> str:
    """The name that was asked for, or the only one that there is."""
    names = sorted(found)
    if name not in names and (name or len(names) != 1):
        wanted = f"an array {name!r}" if name else "one array, or FILE:NAME"
        raise DataError(f"{path}: expected {wanted}, found {', '.join(names) or 'none'}")
    return name or names[0]
