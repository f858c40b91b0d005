"""The folder of ``imle fit``: what is in it, and whose it is."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

OURS = ("model.safetensors", "config.json", "metrics.jsonl")  # what a fit writes, beside its checkpoints
CHECKPOINTS = "checkpoints"
LOCK = ".lock"


def foreign(out: Path) -> str:
    """What a fit would write over although another program made it.

    Args:
        out: the folder, which may be missing.

    Returns:
        Its description, or nothing where the folder is missing, empty or our own.
    """
    for path in (out / CHECKPOINTS).glob("*"):
        if not re.fullmatch(r"step-\d{12}(\.tmp)?|\..*", path.name):
            return f"{CHECKPOINTS}/{path.name} of another program"
    model, config, metrics = (out / name for name in OURS)
    if metrics.exists() and not _has(metrics, {"epoch", "loss"}):
        return "a metrics.jsonl of another program"
    if config.exists() and not (_has(config, {"noise_dim", "shape"}) and (out / CHECKPOINTS).is_dir()):
        return "another model"
    return "another model" if model.exists() and not (out / CHECKPOINTS).is_dir() else ""


def clear(out: Path) -> None:
    """Remove what a fit has written into its folder, nothing else; last what says that the folder is ours."""
    from imle.checkpoint import Checkpoints

    for name in OURS:
        (out / name).unlink(missing_ok=True)
    Checkpoints(out / CHECKPOINTS).clear()


@contextlib.contextmanager
def made(out: Path) -> Iterator[None]:
    """Make the folder; where it was missing and the body fails before it has written anything, remove it again."""
    there = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if not there and [path.name for path in out.iterdir()] == [LOCK]:
                (out / LOCK).unlink()
                out.rmdir()
        raise


def _has(path: Path, keys: set[str]) -> bool:
    """Whether a file, or the first of its JSON lines, is an object with these keys; a line of ours may be cut short."""
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    line, end, _ = text.partition("\n")
    try:
        found = json.loads(line if path.suffix == ".jsonl" else text)
    except ValueError:
        return path.suffix == ".jsonl" and not end and '{"epoch": '.startswith(line[:10])
    return isinstance(found, dict) and keys <= set(found)
