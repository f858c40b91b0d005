"""A folder of images -> uint8 pixels, decoded once and reused for as long as the images stay the same."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glann.decode import check_size, decode, parse_size, probe, why
from glann.holdout import TRAINING, Holdout
from glann.imagebuild import BadFiles, Channels, OnBadImage, Report, build, every_few_seconds, name_some
from glann.imagecache import Cache, Pixels, read, write_manifest
from glann.labels import read_labels
from glann.scan import Scan, scan, show
from imle.errors import ResumeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Channels", "ImageSet", "OnBadImage", "load", "parse_size", "prepare"]

_NAMED = 10  # bad files that are reported one by one before the rest is only counted


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The decoded images of a folder that are to be trained on, in the order of their paths."""

    pixels: Pixels  # (N, C, H, W), mapped from disk, read only
    paths: list[str]  # N, relative to the folder, with forward slashes
    labels: list[str] | None  # N class names
    fingerprint: str  # changes with any path, content, class, size or channel count
    skipped: int  # files that could not be decoded
    held_out: "ImageSet | None" = field(default=None, kw_only=True)  # those that are not to be trained on

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def channels(self) -> int:
        """1 (grey), 3 (RGB) or 4 (RGBA)."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[2])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[3])

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted as text; empty without labels."""
        return sorted(set(self.labels or ()))

    def class_rows(self) -> "Tensor | None":
        """(N,) int64 tensor, the place of each image's class among `classes`; None without labels."""
        import torch

        if self.labels is None:
            return None
        place = {name: k for k, name in enumerate(self.classes)}
        return torch.tensor([place[name] for name in self.labels])

    def batch(self, rows: "Sequence[int] | npt.NDArray[np.int64] | Tensor") -> "Tensor":
        """Some of the images as a tensor in memory of its own.

        Args:
            rows: (B,) integers from 0 to N − 1, on the CPU.

        Returns:
            (B, C, H, W) float32 tensor in [0, 1] on the CPU.

        Raises:
            IndexError: for a row that is not there.
        """
        import torch

        chosen = np.asarray(self.pixels[np.asarray(rows, dtype=np.int64)])
        return torch.from_numpy(chosen).to(torch.float32).div_(255)


def prepare(
    source: Path,
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    channels: Channels = "auto",
    on_bad_image: OnBadImage = "skip",
    labels: bool | Path = False,
    holdout: Holdout | None = None,
    report: Report = lambda line: None,
) -> ImageSet:
    """Decode a folder of images into a cache, or reuse the cache where the images are still the same.

    Every image is turned upright, resized so that it covers the size, and cropped in the centre (see `decode`).
    Files are compared with the cache by size and time of change, and by content only where these differ.

    Args:
        source: the folder; searched with all folders below it, but for hidden ones and run folders.
        folder: the cache, made if missing, and its parents too.
        size: (height, width) in pixels, each from 16 to 1024 and divisible by 4. None keeps that of the cache; for a
            new one it takes the size that at least half of the images share, up to 256x256 and made divisible by 4,
            else a square of 64, 32 or 16, the largest that the median short side reaches.
        channels: ``1`` grey, ``3`` RGB, ``4`` RGBA. ``auto`` keeps that of the cache; for a new one it takes 4 if a
            pixel of any image is not opaque, else 3 if one is coloured, else 1. With 1 and 3, transparent pixels are
            laid over white.
        on_bad_image: whether a file that cannot be decoded is left out and listed in ``skipped.csv``, or refused.
        labels: where the class of an image is from: True for its first folder, or a file (see
            `glann.labels.read_file`). False keeps those of the cache; a new one has none then.
        holdout: which images of a new cache are held out; one that is there keeps its own.
        report: is given lines for a person: what was decided and why, bad files, progress every few seconds.

    Returns:
        The images.

    Raises:
        ValueError: for a size or channels other than those above.
        DataError: if the folder is missing or holds fewer than 4 usable images, or fewer than 16 to hold out; for a
            bad file with ``on_bad_image="error"``; with ``labels`` for an image without a class, or fewer than two
            classes.
        ResumeError: if the cache is of other images or settings, or damaged.
    """
    if size is not None:
        check_size(size)
    if channels not in ("auto", "1", "3", "4"):
        raise ValueError(f"expected channels auto, 1, 3 or 4, received {channels!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about files that are either fine or named with a reason
        found = scan(source)
        bad = BadFiles(found.bad, source, on_bad_image)
        if folder.is_dir() and any(folder.iterdir()):
            cache = read(folder)
            _compare(
                cache, source, folder, found, bad, _settings(cache, size, channels, labels, source, report), report
            )
        else:
            build(source, folder, found, bad, size, channels, labels, holdout, report)
    for path in sorted(bad.reasons)[:_NAMED]:
        report(f"skipped {show(path)}: {bad.reasons[path]}")
    if len(bad.reasons) > _NAMED:
        report(f"skipped {len(bad.reasons) - _NAMED:,} more files, listed in {folder / 'skipped.csv'}")
    cache = read(folder)
    facts = cache.facts
    held_out = f"{facts.held_out:,} of them held out, " if facts.held_out else ""
    report(
        f"{facts.count:,} images, {held_out}{facts.height}x{facts.width}, channels {facts.channels} "
        f"({facts.channels_reason}); bad files skipped: {len(bad.reasons):,}, other files ignored: {found.others:,}"
    )
    return _image_set(cache)


def load(folder: Path) -> ImageSet:
    """Open a finished cache without looking at the images it was made from.

    Args:
        folder: the cache.

    Returns:
        The images.

    Raises:
        ResumeError: if there is none, or it is damaged.
    """
    return _image_set(read(folder))


def _settings(
    cache: Cache, size: tuple[int, int] | None, channels: Channels, labels: bool | Path, source: Path, report: Report
) -> list[str]:
    """How the settings that were asked for differ from those of a cache."""
    facts, differences = cache.facts, []
    if size not in (None, (facts.height, facts.width)):
        differences.append(f"size was {facts.height}x{facts.width}, asked {size[0]}x{size[1]}")
    if channels not in ("auto", str(facts.channels)):
        differences.append(f"channels were {facts.channels}, asked {channels}")
    if labels and not facts.labels:
        differences.append("labels were off, asked on")
    elif labels:
        now = read_labels(labels, [row.path for row in cache.rows], source, report)
        moved = [(row, name) for row, name in zip(cache.rows, now, strict=True) if row.label != name]
        if moved:
            row, name = moved[0]
            example = f"{show(row.path)} was {show(row.label)}, asked {show(name)}"
            differences.append(f"{len(moved):,} images of another class ({example})")
    return differences


def _compare(
    cache: Cache, source: Path, folder: Path, found: Scan, bad: BadFiles, differences: list[str], report: Report
) -> None:
    """Refuse a cache of other settings, or of other images than those found."""
    known = {row.path: row for row in cache.rows}
    now = {file.path: file for file in found.files}
    added, changed, touched = [], [], {}
    tell = every_few_seconds("compared", len(now), report)
    for done, (path, file) in enumerate(now.items(), 1):
        row = known.get(path)
        try:
            if row is None:
                probe(source / path)
                if path in cache.bad:  # its header may have been fine then, too
                    decode(source / path, (cache.facts.height, cache.facts.width), cache.facts.channels)
                added.append(path)
            elif (row.bytes, row.mtime_ns) != (file.bytes, file.mtime_ns):
                with (source / path).open("rb") as data:
                    same = hashlib.file_digest(data, "sha256").hexdigest() == row.sha256
                if same:
                    touched[path] = replace(row, mtime_ns=file.mtime_ns)
                else:
                    changed.append(path)
        except Exception as error:
            if row is None:
                bad.add(path, why(error))  # left out then or new, and nothing that a model would see
            else:
                changed.append(path)
        tell(done)
    removed = [path for path in known if path not in now]
    for what, paths in (("added", added), ("removed", removed), ("changed", changed)):
        if paths:
            differences.append(f"{len(paths):,} {what} ({name_some(paths)})")
    if differences:
        raise ResumeError(
            f"{folder} was made from other images or settings: {'; '.join(differences)}; "
            "start over with --fresh, or choose another --out"
        )
    if touched:  # so that the next start need not read these files again
        write_manifest(folder, [touched.get(row.path, row) for row in cache.rows])


def _image_set(cache: Cache) -> ImageSet:
    count = sum(row.split == TRAINING for row in cache.rows)

    def part(rows: slice, held_out: ImageSet | None) -> ImageSet:
        return ImageSet(
            pixels=cache.pixels[rows],
            paths=[row.path for row in cache.rows[rows]],
            labels=[row.label for row in cache.rows[rows]] if cache.facts.labels else None,
            fingerprint=cache.facts.fingerprint,
            skipped=cache.facts.skipped,
            held_out=held_out,
        )

    return part(slice(count), part(slice(count, None), None) if count < len(cache.rows) else None)
