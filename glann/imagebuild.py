"""Scan, decide, decode: how the cache of a folder of images is made."""

import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from glann import imagecache
from glann.decode import FORMAT_NAMES, Decoded, Header, decode, probe, why
from glann.holdout import HELD_OUT, TRAINING, Holdout, find_copies
from glann.imagecache import Facts, Pixels, Row
from glann.labels import check_classes, read_labels
from glann.scan import Found, Scan, show
from imle.console import PLAIN_SECONDS
from imle.errors import DataError

Channels = Literal["auto", "1", "3", "4"]
OnBadImage = Literal["skip", "error"]
Report = Callable[[str], None]
_Result = tuple[Found, Decoded | Exception]

MIN_IMAGES = 4
KEPT_SIDE = 256  # pixels; a shared size up to here is kept without being asked, a camera's 4000x3000 is not
CHOSEN_SIDES = (64, 32, 16)  # pixels; never above 64 without being asked: time grows with the area
_CHUNK = 16  # files a thread takes at once
_SMALL = 128 * 128  # pixels; below, Python's own work dominates and more threads only wait for each other
_MOST_THREADS = 16  # each holds one image of up to a quarter of a GiB


def choose_size(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], str]:
    """The size to work with where none was asked for.

    Args:
        sizes: (height, width) of every image, upright, in pixels; at least one.

    Returns:
        (height, width), and the reason in words.
    """
    ((height, width), shared), *_ = Counter(sizes).most_common(1)
    if all(16 <= side <= KEPT_SIDE for side in (height, width)) and 2 * shared >= len(sizes):
        divisible = height // 4 * 4, width // 4 * 4
        why = "" if divisible == (height, width) else f", {height}x{width}, made divisible by 4"
        return divisible, f"the size of {shared:,} of {len(sizes):,} images{why}"
    median = statistics.median_low(min(size) for size in sizes)
    side = next((side for side in CHOSEN_SIDES if side <= median), CHOSEN_SIDES[-1])
    why = f", and more than {CHOSEN_SIDES[0]} takes long" if median > CHOSEN_SIDES[0] else ""
    return (side, side), f"the median short side is {median}{why}"


class BadFiles:
    """The files that cannot be decoded, each with its reason; the first one ends it all where that was asked.

    Args:
        reasons: what is known to be bad from the start, by path.
        source: the folder, for the message.
        on_bad_image: ``skip`` or ``error``.
    """

    def __init__(self, reasons: dict[str, str], source: Path, on_bad_image: OnBadImage):
        self.reasons: dict[str, str] = {}
        self._source = source
        self._refuse = on_bad_image == "error"
        for path in sorted(reasons):
            self.add(path, reasons[path])

    def add(self, path: str, reason: str) -> None:
        """Note one file.

        Args:
            path: relative to the folder.
            reason: one line.

        Raises:
            DataError: if bad files were to be refused.
        """
        self.reasons[path] = reason
        if self._refuse:
            raise DataError(f"expected only usable images in {self._source}, received {show(path)}: {reason}")

    def __str__(self) -> str:
        if not self.reasons:
            return ""
        path = min(self.reasons)
        return f"; {len(self.reasons):,} bad, the first is {show(path)}: {self.reasons[path]}"


def build(
    source: Path,
    folder: Path,
    found: Scan,
    bad: BadFiles,
    size: tuple[int, int] | None,
    channels: Channels,
    labels: bool | Path,
    holdout: Holdout | None,
    report: Report,
) -> None:
    """Make a cache; its settings are those of `glann.images.prepare`.

    Args:
        source: the folder of images.
        folder: the cache, missing or empty.
        found: what `glann.scan.scan` found in ``source``.
        bad: takes up the files that cannot be decoded.
        size: (height, width) in pixels, or None to choose it.
        channels: how many, or ``auto``.
        labels: where the class of an image is from: its first folder (True), a file, or nowhere (False).
        holdout: which images go last, not to be trained on.
        report: is given lines for a person.

    Raises:
        DataError: for fewer than 4 usable images, fewer than 16 to hold out, an image without a class, fewer than two
            classes, or a bad file where these are refused.
    """
    # What is there, and what the headers say of it.
    if not found.files and not found.bad:
        received = f"only other kinds of files ({found.others:,})" if found.others else "an empty folder"
        raise DataError(f"expected {FORMAT_NAMES} files in {source}, received {received}")
    headers: dict[Found, Header] = {}
    tell = every_few_seconds("looked at", len(found.files), report)
    for done, file in enumerate(found.files, 1):
        try:
            headers[file] = probe(source / file.path)
        except Exception as error:  # every format fails in ways of its own
            bad.add(file.path, why(error))
        tell(done)
    if len(headers) < MIN_IMAGES:
        raise DataError(f"expected at least {MIN_IMAGES} usable images in {source}, received {len(headers)}{bad}")
    usable = [file.path for file in headers]
    classes = dict(zip(usable, read_labels(labels, usable, source, report), strict=True)) if labels else {}

    # The size, and as many channels as the headers allow for.
    size_reason = "given"
    if size is None:
        size, size_reason = choose_size([(header.height, header.width) for header in headers.values()])
        report(f"size {size[0]}x{size[1]}: {size_reason}; --size chooses another")
    widest = max(header.channels for header in headers.values()) if channels == "auto" else int(channels)

    # Those to train on first, each part in the order of the paths.
    held: set[str] = set()
    if holdout:
        copied = find_copies(source, {file.path: file.bytes for file in headers})
        held = holdout.choose({file.path: classes.get(file.path, "") for file in headers}, copied)
    headers = dict(sorted(headers.items(), key=lambda entry: entry[0].path in held))

    # Decode in that order, straight to disk.
    rows: list[Row] = []
    needed = 1

    def decoded() -> Iterator[Pixels]:
        nonlocal needed
        tell = every_few_seconds("decoded", len(headers), report)
        for done, (file, image) in enumerate(_decode_all(source, headers, size, widest), 1):
            if isinstance(image, Decoded):
                facts = (image.sha256, len(rows), image.width, image.height, file.bytes, file.mtime_ns)
                split = HELD_OUT if file.path in held else TRAINING
                rows.append(Row(file.path, *facts, classes.get(file.path, ""), split))
                needed = max(needed, image.needed)
                yield image.pixels[None]  # (1, C, H, W)
            else:
                bad.add(file.path, why(image))
            tell(done)

    with imagecache.building(folder) as scratch:
        imagecache.write_pixels(scratch, (widest, *size), decoded())
        trained = [row for row in rows if row.split == TRAINING]
        if len(trained) < MIN_IMAGES:
            raise DataError(f"expected at least {MIN_IMAGES} usable images in {source}, received {len(trained)}{bad}")
        if holdout:
            holdout.check(len(rows) - len(trained), len(rows))
        if labels:
            check_classes([row.label for row in trained], source)

        # Now that every pixel was seen: no more channels than hold them all.
        count, channels_reason = widest, "given"
        if channels == "auto":
            count = needed
            channels_reason = {1: "all grey, opaque", 3: "some colour, opaque", 4: "some pixels transparent"}[count]
        if count < widest:
            imagecache.drop_channels(scratch, count)
        facts = Facts(
            format=imagecache.FORMAT,
            count=len(rows),
            height=size[0],
            width=size[1],
            size_reason=size_reason,
            channels=count,
            channels_reason=channels_reason,
            labels=bool(labels),
            skipped=len(bad.reasons),
            others=found.others,
            fingerprint=imagecache.fingerprint(rows, size, count),
            held_out=len(rows) - len(trained),
        )
        imagecache.write_lists(scratch, facts, rows, bad.reasons)


def _decode_all(source: Path, headers: dict[Found, Header], size: tuple[int, int], channels: int) -> Iterator[_Result]:
    """Decode in threads, in order, never far ahead of the reader. Pillow lets go of Python's lock while it works."""

    def some(files: Sequence[Found]) -> list[_Result]:
        results: list[_Result] = []
        for file in files:
            try:
                results.append((file, decode(source / file.path, size, channels)))
            except Exception as error:  # every format fails in ways of its own
                results.append((file, error))
        return results

    files = list(headers)
    large = statistics.median(header.width * header.height for header in headers.values()) >= _SMALL
    workers = min(_cores(), _MOST_THREADS) if large else 1
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[_Result]]] = deque()
    try:
        for start in range(0, len(files), _CHUNK):
            waiting.append(pool.submit(some, files[start : start + _CHUNK]))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def every_few_seconds(what: str, total: int, report: Report) -> Callable[[int], None]:
    """A function that is told the number done, and reports it at most every few seconds."""
    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            report(f"{what} {done:,} of {total:,} images")

    return tell


def name_some(paths: Sequence[str]) -> str:
    """The first few of the paths, for a message."""
    return ", ".join(show(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
