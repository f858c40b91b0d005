"""Run folders: who holds one, with which settings it was begun, and whether it may go on."""

import contextlib
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from imle.atomic import write_atomically
from imle.errors import BusyError, DataError, ResumeError

RECORD = "run.toml"
FRESH = "images.fresh"  # the decoded images of a run that starts over, until the old run is removed
EVALUATION = "evaluation.png"  # the last that `glann evaluate` drew
_OURS = ("images", "images.tmp", FRESH, "model", "samples.png", "reconstructions.png", EVALUATION, "report.html")
_NEEDED = ("description", "seed", "device", "precision", "threads", "stages", "command", "decode_seconds")
_RAISABLE = "epochs"  # the one setting of a stage that a later call may raise
_PACKAGES = ("glann", "torch", "torchvision", "faiss-cpu", "lpips", "numpy", "pillow", "safetensors")


class Run:
    """One run folder.

    Args:
        folder: where it lies, or will lie.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @property
    def record(self) -> dict[str, Any] | None:
        """What ``run.toml`` says, or None where nothing was begun.

        Raises:
            ResumeError: if the file cannot be read.
        """
        try:
            record = tomllib.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ResumeError(f"{self.folder / RECORD} cannot be read: {error}") from error
        missing = [key for key in _NEEDED if key not in record]
        if missing or not all(isinstance(stage, dict) and "name" in stage for stage in record["stages"]):
            raise ResumeError(
                f"{self.folder / RECORD} is no record of a run: {', '.join(missing or ['stages'])} missing"
            )
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone; made where it does not exist.

        Raises:
            DataError: if the path is not a folder, or holds something that is not a run.
            BusyError: if another process holds it.
        """
        from filelock import FileLock, Timeout

        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"expected a folder for the run, {self.folder} is a file")
        if self.folder.is_dir() and not (self.folder / RECORD).exists():
            foreign = sorted(p.name for p in self.folder.iterdir() if p.name not in ("lock", RECORD + ".tmp"))
            if foreign:
                raise DataError(
                    f"{self.folder} is not empty and holds no {RECORD} ({foreign[0]}, …); name another --out"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(f"{self.folder} is in use by another process") from error
        try:
            yield
        finally:
            lock.release()
            if not (self.folder / RECORD).exists():  # nothing was begun here
                with contextlib.suppress(OSError):
                    (self.folder / "lock").unlink(missing_ok=True)
                    self.folder.rmdir()

    def begin(self, record: Mapping[str, Any]) -> None:
        """Write ``run.toml``, so that readers see the old one or the new one."""
        import tomli_w

        write_atomically(self.folder / RECORD, tomli_w.dumps(dict(record)).encode())

    def clear(self, keep: str | None = None) -> None:
        """Remove what an earlier run left here, ``run.toml`` last; a person's own files stay.

        Args:
            keep: a name that is not removed.
        """
        try:
            stages = [str(stage["name"]) for stage in (self.record or {"stages": []})["stages"]]
        except ResumeError:  # a damaged record names no stages
            stages = []
        for name in {*_OURS, *stages} - {keep}:
            path = self.folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (self.folder / RECORD).unlink(missing_ok=True)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that a run was begun with and that are asked otherwise now; more epochs are no difference."""
    found = []
    raisable = _RAISABLE if prefix.count(".") == 1 else None  # of a stage, not of a rule among its settings
    for key in sorted({*old, *new}):
        name = f"{prefix}{key}"
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += differences(was, now, f"{name}.")
        elif key == raisable and isinstance(now, int) and (was is None or (isinstance(was, int) and now >= was)):
            continue  # None: as many as the stage found right, which alone knows whether these are more
        elif was != now:
            was, now = ("not given" if value is None else repr(value) for value in (was, now))
            found.append(f"{name} was {was}, asked {now}")
    return found


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide what a run computes."""
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
