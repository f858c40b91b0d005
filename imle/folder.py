"""The folder of ``imle fit``: what is in it, and whose it is."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

OURS = ("checkpoints", "metrics.jsonl", "config.json", "model.safetensors")  # what a fit writes
LOCK = ".lock"


def foreign(out: Path) -> str:
    """What a fit would write over although another program made it.

    Args:
        out: the folder, which may be missing.

    Returns:
        Its description, or nothing where the folder is missing, empty or our own.
    """
    for path in (out / "checkpoints").glob("*"):
        if not re.fullmatch(r"step-\d{12}(\.tmp)?", path.name):
            return f"checkpoints/{path.name} of another program"
    there = {name: (out / name).exists() for name in OURS}
    if there["metrics.jsonl"] and not _has(out / "metrics.jsonl", {"epoch", "loss"}):
        return "a metrics.jsonl of another program"
    if there["config.json"] and not (_has(out / "config.json", {"noise_dim", "shape"}) and there["checkpoints"]):
        return "another model"
    return "another model" if there["model.safetensors"] and not there["checkpoints"] else ""


def clear(out: Path) -> None:
    """Remove what a fit has written into its folder, nothing else."""
    for name in OURS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def removed_if_nothing_is_begun(out: Path) -> Iterator[None]:
    """Leave no folder behind that has nothing but the lock, which the caller holds, of a fit that failed."""
    try:
        yield
    finally:
        if [path.name for path in out.iterdir()] == [LOCK]:
            (out / LOCK).unlink()
            out.rmdir()


def _has(path: Path, keys: set[str]) -> bool:
    """Whether a file, or the first of its JSON lines, is an object with these keys; a line cut short may be ours."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".jsonl":
        text, end, _ = text.partition("\n")
        if not end:
            return True
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and keys <= set(found)
