"""The folder of ``imle fit``: what is in it, and whose it is."""

import json
import re
import shutil
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


def remove_if_nothing_was_begun(out: Path) -> None:
    """Leave no folder behind that has nothing but the lock of a fit that failed."""
    if [path.name for path in out.iterdir()] == [LOCK]:
        (out / LOCK).unlink()
        out.rmdir()


def _has(path: Path, keys: set[str]) -> bool:
    """Whether a JSON file, or its first line, is an object with these keys; an empty file may have any."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(text if path.suffix == ".json" else text.partition("\n")[0] or "null")
    except ValueError:
        return False
    return not text or (isinstance(found, dict) and keys <= set(found))
