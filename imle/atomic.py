"""Files that are on disk whole or not at all. Light to import: no torch."""

import contextlib
import hashlib
import os
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Replace one file so that a reader sees the old bytes or the new ones, never a mixture."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        scratch.write_bytes(data)
        flush(scratch)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # pragma: no cover - Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
