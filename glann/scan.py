"""A folder -> the image files in it, in a fixed order."""

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from glann.decode import SUFFIXES
from imle.errors import DataError

RUN_FILE = "run.toml"  # marks a run folder; its pictures are results, not images to learn


@dataclass(frozen=True)
class Found:
    """A file that looks like an image by its name."""

    path: str  # relative to the scanned folder, with forward slashes
    bytes: int
    mtime_ns: int  # last change, nanoseconds since 1970


@dataclass
class Scan:
    """What a folder holds."""

    files: list[Found] = field(default_factory=list)  # sorted by path
    bad: dict[str, str] = field(default_factory=dict)  # path -> why it cannot be read
    others: int = 0  # files whose name is not that of an image


def readable(path: str) -> str:
    """A path that may not be UTF-8 as text that a TOML or JSON file can hold."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def scan(source: Path) -> Scan:
    """Find the image files in a folder and in all folders below it.

    Hidden files and folders are left out, and so is every folder that holds a ``run.toml``. Links are followed, each
    folder once: what lies in the folder itself goes before what is only linked.

    Args:
        source: the folder.

    Returns:
        The image files, the ones that cannot be read, and the number of other files.

    Raises:
        DataError: if ``source`` is missing, not a folder, not readable, or itself a run folder.
    """
    if not source.is_dir():
        received = "a file" if source.exists() else "no such folder"
        raise DataError(f"expected a folder of images, received {source}: {received}")
    result = Scan()
    seen: set[tuple[int, int]] = set()  # device and inode of every folder, so that a loop of links ends
    folders, links = [""], deque[str]()
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        try:
            status = os.stat(source / folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(source / folder), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise DataError(f"expected a readable folder of images, received {source}: {error.strerror}") from error
            result.bad[folder] = f"folder cannot be opened: {error.strerror}"
            continue
        if any(entry.name == RUN_FILE for entry in entries):
            if not folder:
                raise DataError(f"expected a folder of images, received {source}: a run folder (it holds {RUN_FILE})")
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            looks_right = entry.name.lower().endswith(SUFFIXES)
            try:
                status = entry.stat()
            except OSError as error:  # a link to nothing, or to itself
                if looks_right:
                    result.bad[path] = error.strerror or "cannot be read"
                else:
                    result.others += 1
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if entry.is_symlink() else folders).append(path)
            elif not looks_right:
                result.others += 1
            elif not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                result.bad[path] = "not a regular file"
            else:
                result.files.append(Found(path, status.st_size, status.st_mtime_ns))
    result.files.sort(key=lambda file: file.path)
    return result


def show(path: str) -> str:
    """A path as a person can read it on one line, whatever bytes are in it."""
    return path if path.isprintable() else repr(path)
