"""Where the weights of ImageNet networks come from: a given file, the torch cache, or a download.

torch is imported where it is used.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from glann.download import CHUNK, TIMEOUT_SECONDS, Report, download
from imle.atomic import sha256
from imle.errors import DataError

DEFAULT_URL = "https://download.pytorch.org/models"
URL_VARIABLE = "GLANN_WEIGHTS_URL"  # a mirror's address; http, https or file


@dataclass(frozen=True)
class TrunkFile:
    """A weights file; its name ends in the first eight hex digits of its SHA-256.

    Attributes:
        file: its name, in the torch cache and on the server.
        megabytes: its size.
        url: the folder of the server where it lies.
    """

    file: str
    megabytes: int
    url: str = DEFAULT_URL

    @property
    def digest(self) -> str:
        """The first eight hex digits of its SHA-256."""
        return Path(self.file).stem.rpartition("-")[2]


_VGG16 = TrunkFile("vgg16-397923af.pth", 553)
TRUNKS: dict[str, TrunkFile] = {  # loss -> its trunk; and the network that FID is known by
    "lpips-vgg": _VGG16,
    "lpips-alex": TrunkFile("alexnet-owt-7be5be79.pth", 244),
    "lpips-squeeze": TrunkFile("squeezenet1_1-b8a52dc0.pth", 5),
    "vgg": _VGG16,
    # Inception as TensorFlow published it in 2015, converted: torchvision's own has other weights, and other scores.
    "inception": TrunkFile(
        "weights-inception-2015-12-05-6726825d.pth",
        96,
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0",
    ),
}


@dataclass(frozen=True)
class Row:
    """What is known about the weights of one loss or network.

    Attributes:
        name: one of `TRUNKS`.
        path: where the file lies or would lie.
        state: ``cached``, ``missing``, or ``damaged`` where the hash is not the one in the name.
        bytes: size on disk; None where missing.
        megabytes: size of the whole file, for one who thinks of fetching it.
    """

    name: str
    path: Path
    state: str
    bytes: int | None
    megabytes: int


def available() -> list[Row]:
    """The weights of everything that wants some, cached or not; cached files are hashed."""
    rows = []
    states: dict[Path, str] = {}
    for name, trunk in TRUNKS.items():
        path = cached(name)
        if path not in states:
            whole = path.is_file() and sha256(path).startswith(trunk.digest)
            states[path] = "cached" if whole else "damaged" if path.is_file() else "missing"
        size = None if states[path] == "missing" else path.stat().st_size
        rows.append(Row(name, path, states[path], size, trunk.megabytes))
    return rows


def cached(name: str) -> Path:
    """Where the torch cache keeps the trunk of a loss, whether or not it is there.

    Args:
        name: one of `TRUNKS`.

    Returns:
        A path in the checkpoint folder of ``torch.hub``, which TORCH_HOME moves.

    Raises:
        ValueError: for another name.
    """
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints" / _trunk(name).file


def locate(name: str, given: str | Path | None = None, download: Report | None = None) -> Path:
    """The file with the trunk weights of a loss: the given one, else the cached one, else a download.

    Args:
        name: one of `TRUNKS`.
        given: a file of the user's own; nothing else is tried then.
        download: told how a download goes on; None forbids it.

    Returns:
        A file that is there. A given one need not be torchvision's: its entries are checked when it is read.

    Raises:
        ValueError: for another name.
        DataError: if there is no such file; the message says which command would bring it.
    """
    if given is not None:
        if not Path(given).is_file():
            raise DataError(f"expected a file with the trunk weights of {name}, found none at {given}")
        return Path(given)
    path = cached(name)
    if path.is_file():
        return path
    trouble = f"not found at {path}"
    if download is not None:
        try:
            return fetch(name, download)
        except DataError as error:
            trouble = f"{trouble}; {error}"
    raise DataError(
        f"{name} needs {path.name} ({_trunk(name).megabytes} MB), {trouble}. "
        f"`glann weights fetch {name}` downloads it, `glann weights import FILE` takes a copy from elsewhere"
    )


def fetch(name: str, report: Report | None = None, timeout: float = TIMEOUT_SECONDS) -> Path:
    """Download the trunk weights of a loss into the torch cache, unless they are there already, whole.

    Args:
        name: one of `TRUNKS`.
        report: told how the download goes on.
        timeout: seconds without a byte after which the download is given up.

    Returns:
        The cached file; its hash was checked.

    Raises:
        ValueError: for another name.
        DataError: if the server cannot be reached, answers with an error, goes silent, or sends something else.
    """
    path = cached(name)
    if path.is_file() and sha256(path).startswith(_trunk(name).digest):
        return path
    url = f"{os.environ.get(URL_VARIABLE, '').rstrip('/') or _trunk(name).url}/{path.name}"
    with _new_file(path) as file:
        digest = download(url, file, report, timeout)
        if not digest.startswith(_trunk(name).digest):
            raise DataError(
                f"{url} is not what it should be: expected a SHA-256 that starts with {_trunk(name).digest}, "
                f"received {digest[:16]}…"
            )
    return path


def import_file(path: str | Path, name: str | None = None) -> Path:
    """Copy a local file with trunk weights into the torch cache; its hash says which one it is.

    Args:
        path: the file, whatever its name.
        name: the loss it is for, one of `TRUNKS`; None where any will do.

    Returns:
        The cached file.

    Raises:
        ValueError: for another name.
        DataError: if there is no such file, or its hash is not the one expected.
    """
    source = Path(path)
    if not source.is_file():
        raise DataError(f"expected a file with trunk weights, found none at {source}")
    wanted = [name] if name is not None else list(TRUNKS)
    expected = sorted({f"{_trunk(n).digest} ({_trunk(n).file})" for n in wanted})
    try:
        digest = sha256(source)
        match = next((n for n in wanted if digest.startswith(_trunk(n).digest)), None)
        if match is None:
            raise DataError(
                f"{source} is none of the known weights files: expected a SHA-256 that starts with "
                f"{' or '.join(expected)}, received {digest[:16]}…. "
                "Other weights need no import: a run's settings can name their file"
            )
        target = cached(match)
        if target.exists() and target.samefile(source):
            return target
        with _new_file(target) as file, source.open("rb") as reader:
            shutil.copyfileobj(reader, file, CHUNK)
    except PermissionError as error:
        raise DataError(f"cannot read {source}: {error}") from error
    return target


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside its place and move it there when all went well; leave nothing behind otherwise."""
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = scratch.open("xb")
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise DataError(f"cannot write to the torch cache, set TORCH_HOME to another folder: {error}") from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _trunk(name: str) -> TrunkFile:
    if name not in TRUNKS:
        raise ValueError(f"expected a name that has weights, one of {', '.join(TRUNKS)}, received {name!r}")
    return TRUNKS[name]
