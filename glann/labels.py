"""Which class each image of a folder is of: its subfolder, or what a file says."""

import csv
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from glann.decode import SUFFIXES
from glann.scan import show
from imle.errors import DataError


def read_labels(labels: bool | Path, paths: Sequence[str], source: Path, report: Callable[[str], None]) -> list[str]:
    """The class of every image.

    Args:
        labels: True for the first folder of each path; else a CSV file of (path, class) or a JSON file of
            {path: class}, see `read_file`.
        paths: N, of the images, relative to the folder, with forward slashes.
        source: the folder of images, for the message.
        report: is given a line about paths of the file that name no image.

    Returns:
        N class names.

    Raises:
        DataError: for an image without a class, fewer than two classes, or a file that cannot be read.
    """
    if isinstance(labels, Path):
        known = read_file(labels)
        classes = [known.get(path, "") for path in paths]
        unknown = sorted(known.keys() - set(paths))
        if "" in classes:
            hint = f"; it names {show(unknown[0])}, which is not there" if unknown else ""
            raise DataError(f"expected a class for every image in {labels}, {_lacking(classes, paths, 'it')}{hint}")
        if unknown:
            report(f"{labels} names {len(unknown):,} paths that are no image there, the first is {show(unknown[0])}")
    else:
        classes = [path.split("/")[0] if "/" in path else "" for path in paths]
        if "" in classes:
            lacking = _lacking(classes, paths, "any subfolder")
            raise DataError(f"expected a subfolder for every class in {source}, {lacking}")
    check_classes(classes, source)
    return classes


def check_classes(classes: Iterable[str], source: Path) -> None:
    """Refuse a folder of images in which there is nothing to tell apart.

    Args:
        classes: of the images.
        source: their folder, for the message.

    Raises:
        DataError: for fewer than two classes.
    """
    names = set(classes)
    if len(names) < 2:
        received = f"only {show(names.pop())}" if names else "none"
        raise DataError(f"expected at least two classes in {source}, received {received}; or leave the labels out")


def read_file(file: Path) -> dict[str, str]:
    """Read which class each path is of.

    A ``.json`` file is one object {path: class}. Any other is CSV in UTF-8 with two columns, path and class; a first
    line whose path does not end as an image's does is a header. Paths are relative to the folder of images. A path may
    stand there twice if both lines agree.

    Args:
        file: the file.

    Returns:
        Path -> class.

    Raises:
        DataError: if the file is missing or of another form, or gives one path two classes.
    """
    known: dict[str, str] = {}
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            pairs = _json_pairs(json.load(text, object_pairs_hook=list)) if _is_json(file) else _csv_pairs(text)
            for place, path, name in pairs:
                path, name = posixpath.normpath(path), name.strip()
                name.encode("utf-8", "surrogateescape")  # half a character cannot be written to the manifest
                if not name:
                    raise ValueError(f"{place}: expected a class for {show(path)}, received nothing")
                if known.setdefault(path, name) != name:
                    raise ValueError(f"{place}: {show(path)} is {show(name)}, but was {show(known[path])} before")
    except (OSError, ValueError, csv.Error) as error:
        why = (error.strerror or "cannot be read") if isinstance(error, OSError) else error
        raise DataError(f"expected a CSV file of path,class or a JSON object {{path: class}}, {file}: {why}") from error
    return known


def list_some(names: Sequence[str], most: int = 20) -> str:
    """Class names for a message: the first of them, and how many more there are."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(show, names[:most])) + rest


def _is_json(file: Path) -> bool:
    return file.suffix.lower() == ".json"


def _json_pairs(content: Any) -> Iterator[tuple[str, str, str]]:
    """(place for a message, path, class) of each entry of an object that was read as a list of pairs."""
    if not isinstance(content, list) or not all(isinstance(pair, tuple) for pair in content):
        raise ValueError("expected one object {path: class}, received another kind of JSON")
    for number, (path, name) in enumerate(content, 1):
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise ValueError(f"entry {number}: expected a text or an integer as the class of {show(path)}")
        yield f"entry {number}", path, str(name)


def _csv_pairs(text: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(place for a message, path, class) of each line."""
    reader = csv.reader(text, skipinitialspace=True)
    for row in reader:
        if not row:
            continue
        if len(row) != 2:
            raise ValueError(f"line {reader.line_num}: expected path,class, received {len(row)} columns")
        path, name = row
        if reader.line_num > 1 or path.lower().endswith(SUFFIXES):
            yield f"line {reader.line_num}", path, name


def _lacking(classes: Sequence[str], paths: Sequence[str], place: str) -> str:
    """How many images have no class, and the first of them."""
    without = [path for path, name in zip(paths, classes, strict=True) if not name]
    return f"received {len(without):,} outside {place}, the first is {show(without[0])}"
