"""Training states on disk: committed or absent, never half.

A commit writes ``NAME.tmp/`` with every file flushed to disk, a manifest of SHA-256 hashes last, then renames the
folder to ``step-000000000123``. A crash before the rename leaves a ``.tmp`` folder that nobody reads; one after it
leaves a whole checkpoint. Tensors are safetensors, the rest is JSON, pickle is nowhere.
"""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from imle.atomic import flush, sha256
from imle.errors import Interrupted, ResumeError

KEEP = 2  # checkpoints that stay on disk, so that one damaged by the disk has a predecessor
EVERY_SECONDS = 45.0  # at least one checkpoint per minute of training

_stop = threading.Event()


@contextlib.contextmanager
def graceful_stop() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into "commit a checkpoint, then raise Interrupted"; the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(signum: int, frame: object) -> None:
        if _stop.is_set():
            raise KeyboardInterrupt
        _stop.set()

    previous = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        _stop.clear()
        for s, handler in previous.items():
            signal.signal(s, handler)


@dataclass(frozen=True)
class Checkpoint:
    """One committed state: tensors in memory of their own, and JSON-able facts."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    path: Path


class Checkpoints:
    """The committed states in one folder, newest last.

    Args:
        folder: where the checkpoints lie; made on the first commit.
        every_seconds: how long training may go on without a commit.
    """

    def __init__(self, folder: str | Path, every_seconds: float = EVERY_SECONDS):
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the training loop should commit now: the time is up, or somebody asked the run to stop."""
        return _stop.is_set() or time.monotonic() - self._last >= self.every_seconds

    def commit(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write one state so that it is on disk whole, or not at all.

        Args:
            step: optimiser steps so far; a later state has a higher number, the same number replaces nothing.
            tensors: what is stored in ``tensors.safetensors``; may live on any device.
            facts: what is stored in ``facts.json``; JSON-able.

        Raises:
            Interrupted: after the commit, where the run was asked to stop.
        """
        final = self.folder / f"step-{step:012d}"
        if not final.exists() or not _whole(final):
            scratch = final.with_name(final.name + ".tmp")
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(scratch)
            scratch.mkdir()
            # Through Python's own I/O, whose errors tell a full disk from a wrong tensor.
            (scratch / "tensors.safetensors").write_bytes(safetensors.torch.save(storable(tensors)))
            (scratch / "facts.json").write_text(json.dumps(dict(facts)), encoding="utf-8")
            hashes = {name: sha256(scratch / name) for name in ("tensors.safetensors", "facts.json")}
            (scratch / "manifest.json").write_text(json.dumps(hashes), encoding="utf-8")
            for name in (*hashes, "manifest.json"):
                flush(scratch / name)
            flush(scratch)
            _remove(final)  # only a damaged checkpoint of the same step
            os.replace(scratch, final)
            flush(self.folder)
            self._prune()
        self._last = time.monotonic()
        if _stop.is_set():
            raise Interrupted("stopped on request; the same command, without --fresh, goes on from here")

    def latest(self) -> Checkpoint | None:
        """Load the newest state whose hashes hold.

        Returns:
            The state, or None where nothing was ever committed.

        Raises:
            ResumeError: if there are checkpoints and every one is damaged.
        """
        found = self._all()
        for path in reversed(found):
            if _whole(path):
                try:
                    loaded = safetensors.torch.load_file(path / "tensors.safetensors")
                    facts = json.loads((path / "facts.json").read_text(encoding="utf-8"))
                except (
                    OSError,
                    ValueError,
                    SafetensorError,
                ) as error:  # pragma: no cover - the hashes held a moment ago
                    warnings.warn(f"checkpoint {path} cannot be read ({error}), taking the one before", stacklevel=2)
                    continue
                # Fresh memory: a mapped file has another alignment, and with it another order of additions.
                return Checkpoint({k: v.clone() for k, v in loaded.items()}, facts, path)
            warnings.warn(f"checkpoint {path} is damaged, taking the one before", stacklevel=2)
        if found:
            raise ResumeError(f"every checkpoint in {self.folder} is damaged; start over with --fresh")
        return None

    def clear(self) -> None:
        """Remove every state, for a caller that was told to start over."""
        _remove(self.folder)

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.glob("step-*") if p.is_dir() and p.suffix != ".tmp")

    def _prune(self) -> None:
        for old in self._all()[:-KEEP]:
            _remove(old)
        for scratch in self.folder.glob("step-*.tmp"):
            _remove(scratch)


def storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as a safetensors file takes them: on the CPU, contiguous, and tied ones once for each name."""
    taken: set[int] = set()
    flat = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        flat[name] = tensor.clone() if memory in taken else tensor
        taken.add(memory)
    return flat


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a model.

    Args:
        path: a safetensors file.

    Returns:
        Name -> tensor on the CPU.

    Raises:
        ValueError: if one holds NaN, of which a network makes nothing but NaN; infinity may be a mask.
        OSError: if the file cannot be read, or SafetensorError if it is damaged.
    """
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.float().isnan().any():
            raise ValueError(f"expected numbers, {name} holds NaN")
    return tensors


def module_tensors(prefix: str, module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers under ``prefix.``, ready for a commit."""
    return {f"{prefix}.{k}": v for k, v in module.state_dict().items()}


def load_module(prefix: str, module: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors under ``prefix.`` into a module; every key must match."""
    module.load_state_dict(unprefixed(prefix, tensors), strict=True)


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of a torch optimiser under ``prefix.``, ready for a commit.

    Only tensors are kept: learning rates and other settings come from the caller's own settings on resume.
    """
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{i}.{k}": v for i, entry in state.items() for k, v in entry.items() if isinstance(v, Tensor)}


def load_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put what `optimizer_tensors` stored back into an optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in unprefixed(prefix, tensors).items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    # A file holds every tensor row by row; torch's fused optimisers read moments in the layout of their parameter.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entry in state.items():
        like = parameters[index]
        for name, value in entry.items():
            if value.shape == like.shape:
                entry[name] = torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries under ``prefix.``, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def _whole(path: Path) -> bool:
    try:
        hashes = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return bool(hashes) and all(sha256(path / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
