"""The decoded images of a folder on disk: whole or absent, never half.

    manifest.csv   a line an image: path, sha256, row, width, height (of the original, upright), bytes, mtime_ns, label,
                   split; first those to train on, then those held out, each in the order of the paths
    skipped.csv    a line a file that could not be decoded: path, reason
    pixels.npy     (N, C, H, W) uint8
    images.json    `Facts`: size, channels, counts, what was decided and why, and the fingerprint of the whole

The folder is built beside, flushed, and renamed. Names that are no valid text travel as the bytes they are.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glann.holdout import HELD_OUT, TRAINING
from imle.atomic import flush
from imle.errors import ResumeError

Pixels = npt.NDArray[np.uint8]

FORMAT = 1  # of the cache; one of another number is not read
_NARROW_BYTES = 64 << 20  # of the pixels that are held in memory while channels are dropped


@dataclass(frozen=True)
class Row:
    """One line of the manifest."""

    path: str  # relative to the folder of images, with forward slashes
    sha256: str  # of the file's bytes, hexadecimal
    row: int  # in pixels.npy
    width: int  # of the original in pixels, upright
    height: int
    bytes: int
    mtime_ns: int  # last change, nanoseconds since 1970
    label: str  # class name, or nothing
    split: str = TRAINING  # or held out


@dataclass(frozen=True)
class Facts:
    """What holds for all images of the cache."""

    format: int
    count: int
    height: int  # pixels
    width: int
    size_reason: str
    channels: int  # 1, 3 or 4
    channels_reason: str
    labels: bool
    skipped: int  # files that could not be decoded
    others: int  # files whose name is not that of an image
    fingerprint: str
    held_out: int = 0  # of the count


@dataclass(frozen=True)
class Cache:
    """A finished cache, opened."""

    facts: Facts
    rows: list[Row]
    bad: dict[str, str]  # path -> why it could not be decoded
    pixels: Pixels  # (N, C, H, W), mapped from disk, read only

    @property
    def trained_on(self) -> set[str]:
        """The hashes of the files that are not held out."""
        return {row.sha256 for row in self.rows if row.split == TRAINING}


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write to, which takes its place as ``folder`` when the block ends without an error."""
    scratch = folder.with_name(folder.name + ".tmp")
    if scratch.exists():  # a crash left it
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        for path in (*scratch.iterdir(), scratch):
            flush(path)
        if folder.exists():
            folder.rmdir()  # an empty one; anything else is not ours to remove
        os.replace(scratch, folder)
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def write_pixels(folder: Path, frame: tuple[int, int, int], images: Iterable[Pixels]) -> int:
    """Write ``pixels.npy`` as the images come, so that a full disk is an error and not a crash of the process.

    Args:
        folder: where the file goes.
        frame: (C, H, W).
        images: (B, C, H, W) arrays, one after the other.

    Returns:
        The number of images written.
    """
    path, count = folder / "pixels.npy", 0
    scratch = path.with_suffix(".tmp")
    with scratch.open("wb") as file:
        file.write(_npy_header(0, frame))
        for block in images:
            file.write(np.ascontiguousarray(block).data)
            count += len(block)
        file.seek(0)
        file.write(_npy_header(count, frame))  # NumPy leaves room in it for any first dimension
    os.replace(scratch, path)
    return count


def drop_channels(folder: Path, channels: int) -> None:
    """Keep only the first ``channels`` planes of ``pixels.npy``, a block of images at a time."""
    wide: Pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    step = max(1, _NARROW_BYTES // wide[0].nbytes)
    narrow = (wide[i : i + step, :channels] for i in range(0, len(wide), step))
    write_pixels(folder, (channels, *wide.shape[2:]), narrow)


def write_lists(folder: Path, facts: Facts, rows: Sequence[Row], bad: dict[str, str]) -> None:
    """Write everything but the pixels."""
    write_manifest(folder, rows)
    _write_csv(folder / "skipped.csv", ["path", "reason"], sorted(bad.items()))
    (folder / "images.json").write_text(json.dumps(asdict(facts), indent=1), encoding="utf-8")


def write_manifest(folder: Path, rows: Sequence[Row]) -> None:
    """Write or replace ``manifest.csv``, at once."""
    _write_csv(folder / "manifest.csv", [field.name for field in fields(Row)], map(astuple, rows))


def read(folder: Path) -> Cache:
    """Open a finished cache.

    Args:
        folder: the cache.

    Returns:
        Its contents; the pixels stay on disk until they are used.

    Raises:
        ResumeError: if the folder is no cache, or one of its files is missing, damaged, or at odds with the others.
    """
    try:
        facts = Facts(**json.loads((folder / "images.json").read_text(encoding="utf-8")))
        if facts.format != FORMAT:
            raise ValueError(f"expected format {FORMAT}, received {facts.format}")
        rows = [
            Row(path, sha256, int(row), int(width), int(height), int(size), int(mtime_ns), *rest)
            for path, sha256, row, width, height, size, mtime_ns, *rest in _read_csv(folder / "manifest.csv")
        ]
        bad = {line[0]: line[1] for line in _read_csv(folder / "skipped.csv")}
        pixels: Pixels = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        if len(bad) != facts.skipped:
            raise ValueError(f"expected {facts.skipped} lines in skipped.csv, received {len(bad)}")
        expected = (facts.count, facts.channels, facts.height, facts.width)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise ValueError(f"expected pixels {expected} uint8, received {pixels.shape} {pixels.dtype}")
        if fingerprint(rows, (facts.height, facts.width), facts.channels) != facts.fingerprint:
            raise ValueError("the manifest is not the one that was written")
    except (OSError, ValueError, TypeError, IndexError, EOFError, csv.Error) as error:
        raise ResumeError(
            f"the decoded images in {folder} are damaged ({error}); remove that folder to decode them again"
        ) from error
    return Cache(facts, rows, bad, pixels)


def fingerprint(rows: Iterable[Row], size: tuple[int, int], channels: int) -> str:
    """A hash of what a model can see: paths, contents, classes and split of the images in order, size and channels."""
    digest = hashlib.sha256(f"{size[0]}x{size[1]}x{channels}\n".encode())
    for row in rows:
        label = b"\0" + row.label.encode("utf-8", "surrogateescape") if row.label else b""
        held = b"" if row.split == TRAINING else b"\0\0" + HELD_OUT.encode()
        digest.update(row.path.encode("utf-8", "surrogateescape") + b"\0" + row.sha256.encode() + label + held + b"\n")
    return digest.hexdigest()


def _npy_header(count: int, frame: tuple[int, int, int]) -> bytes:
    header = io.BytesIO()
    what = {"descr": "|u1", "fortran_order": False, "shape": (count, *frame)}
    np.lib.format.write_array_header_1_0(header, what)
    return header.getvalue()


def _write_csv(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    scratch = path.with_suffix(".tmp")
    with scratch.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)
    flush(scratch)
    os.replace(scratch, path)


def _read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))[1:]
