"""What a run folder or a model folder holds, read from its files alone: no network is built, torch is not imported."""

import csv
import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glann.labels import list_some
from imle.errors import DataError

COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}
_BY_COUNT = ("epochs", "batch_size")  # settings that follow from the number of images where they are not asked
_NOT_LEARNT = ("running_mean", "running_var", "num_batches_tracked")  # statistics of batch normalisation, not weights


@dataclass(frozen=True)
class StageFiles:
    """One stage of a run: what was asked of it, and how far it came."""

    name: str  # and the name of its folder
    use: str  # which stage it is
    settings: dict[str, Any]  # as asked, and those that followed from the number of images
    rows: list[dict[str, Any]]  # of metrics.jsonl, one an epoch; empty where the stage wrote none

    @property
    def epochs_done(self) -> int:
        """The last epoch that has a row, 0 where there is none."""
        done = self.rows[-1].get("epoch") if self.rows else 0
        return done if isinstance(done, int) else len(self.rows)

    def series(self, key: str) -> list[tuple[float, float]]:
        """(epoch, value) for each row in which both are finite numbers."""
        pairs = [(number(row.get("epoch")), number(row.get(key))) for row in self.rows]
        return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]

    def phases(self) -> dict[str, float]:
        """Phase -> seconds over all epochs; a stage that does not time its phases is one phase with an empty name."""
        names = sorted({key for row in self.rows for key in row if key.startswith("seconds_")})
        parts = {name.removeprefix("seconds_"): self._total(name) for name in names}
        return parts or ({"": self._total("seconds")} if self.series("seconds") else {})

    def _total(self, key: str) -> float:
        return math.fsum(value for _, value in self.series(key))


@dataclass(frozen=True)
class RunFiles:
    """A run folder's records. What is missing or damaged is empty, but for ``run.toml``."""

    folder: Path
    record: dict[str, Any]  # run.toml
    images: dict[str, Any]  # images/images.json
    skipped: list[tuple[str, str]]  # (path, reason) of each file that could not be decoded
    stages: list[StageFiles]  # in the order of the pipeline

    @property
    def held_out(self) -> int:
        """Images that are not trained on."""
        return int(number(self.images.get("held_out")) or 0)

    @property
    def seconds(self) -> float:
        """Time of decoding and of all epochs so far."""
        decode = number(self.record.get("decode_seconds")) or 0.0
        return decode + math.fsum(s for stage in self.stages for s in stage.phases().values())


@dataclass(frozen=True)
class ModelFiles:
    """What the header of an exported model says."""

    path: Path  # of model.safetensors
    config: dict[str, Any]
    generator_weights: int  # learnt numbers of G
    sampler_weights: int  # learnt numbers of T
    dtypes: list[str]
    bytes: int


def describe(path: Path) -> dict[str, str]:
    """Say what a run or a model is.

    Args:
        path: a run folder, or the folder of an exported model.

    Returns:
        Key -> text for a person, in the order to be shown; no key is longer than 14 letters.

    Raises:
        DataError: if the path is neither, or its ``run.toml`` or ``model.safetensors`` is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"expected a run or model folder, {path} {'is a file' if path.exists() else 'does not exist'}")
    if (path / "run.toml").is_file():
        return _describe_run(read_run(path))
    return _describe_model(read_model(path))


def read_run(folder: Path) -> RunFiles:
    """Read the records of a run folder, also of one that is still being trained.

    Args:
        folder: holds ``run.toml``.

    Returns:
        The records, with one row an epoch for each stage.

    Raises:
        DataError: if there is no ``run.toml``, or it cannot be read.
    """
    try:
        record = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"expected a run folder, {folder} holds no run.toml") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{folder / 'run.toml'} cannot be read: {error}") from error
    stages = []
    entries = record.get("stages")
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        use = str(entry.get("use", ""))
        name = str(entry.get("name", use))
        asked = {key: value for key, value in entry.items() if key not in ("use", "name")}
        rows = _read_rows(folder / name / "metrics.jsonl")
        decided = {key: rows[-1][key] for key in _BY_COUNT if rows and key in rows[-1]}
        stages.append(StageFiles(name, use, decided | asked, rows))
    images = folder / "images"
    return RunFiles(folder, record, _read_json(images / "images.json"), _read_skipped(images / "skipped.csv"), stages)


def read_model(folder: Path) -> ModelFiles:
    """Read the header of an exported model, not its tensors.

    Args:
        folder: holds ``model.safetensors``, or a ``model`` folder with it.

    Returns:
        What it says.

    Raises:
        DataError: if there is no model, or its file is damaged or not one of glann's.
    """
    from safetensors import SafetensorError, safe_open

    path = (folder / "model" if (folder / "model").is_dir() else folder) / "model.safetensors"
    if not path.is_file():
        raise DataError(f"expected a run or model folder, {folder} holds neither run.toml nor model.safetensors")
    weights: Counter[str] = Counter()
    try:
        with safe_open(path, framework="numpy") as file:
            config = json.loads((file.metadata() or {})["config"])
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            dtypes = sorted({part.get_dtype() for part in slices.values()})
        for key, part in slices.items():
            if key.startswith(("generator.", "sampler.network.")) and not key.endswith(_NOT_LEARNT):
                weights[key.partition(".")[0]] += math.prod(part.get_shape())
        if not isinstance(config, dict) or "generator" not in config:
            raise ValueError("its config names no generator")
        return ModelFiles(path, config, weights["generator"], weights["sampler"], dtypes, path.stat().st_size)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise DataError(f"{path} is not a model of glann, or damaged: {error}") from error


def number(value: Any) -> float | None:
    """The value where it is a finite number, else None."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def duration(seconds: float) -> str:
    """A time for a person: ``0.41 s``, ``9.5 s``, ``12 s``, ``3 min 05 s``, ``2 h 04 min``."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def amount(count: int) -> str:
    """A count of weights for a person, three figures: ``950``, ``12.3 thousand``, ``1.25 million``."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= 0.9995 * size:  # three figures of less than that round up to the next name
            return f"{count / size:.3g} {name}"
    return str(count)


def size_text(facts: Mapping[str, Any]) -> str:
    """``32×32 RGB``, height before width, from anything with height, width and channels; missing facts are left out."""
    height, width, channels = (facts.get(key) for key in ("height", "width", "channels"))
    size = f"{height}×{width}" if height and width else ""
    return f"{size} {COLOURS.get(channels, '') if isinstance(channels, int) else ''}".strip()


def _describe_run(run: RunFiles) -> dict[str, str]:
    record, lines = run.record, {"run": run.folder.resolve().name}
    if record.get("description"):
        lines["pipeline"] = str(record["description"])
    count = number(run.images.get("count"))
    if count is not None:
        held_out = f", {run.held_out:,} held out" if run.held_out else ""
        skipped = f", {len(run.skipped):,} skipped" if run.skipped else ""
        lines["images"] = f"{count:,.0f}, {size_text(run.images)}{held_out}{skipped}"
    if record.get("source"):
        lines["source"] = str(record["source"])
    for position, stage in enumerate(run.stages, 1):
        loss = stage.series("loss")
        epochs, size = (stage.settings.get(key) for key in _BY_COUNT)
        asked = f" of {epochs:,}" if isinstance(epochs, int) else ""
        batches = f" in batches of {size:,}" if isinstance(size, int) else ""
        last = f", last loss {loss[-1][1]:.4g}" if loss else ""
        kind = stage.settings.get("augment", "none")
        augmented = "" if kind == "none" else f", images augmented by {kind}"
        lines[f"stage {position}"] = f"{stage.name}: {stage.epochs_done:,}{asked} epochs{batches}{augmented}{last}"
    lines["time"] = duration(run.seconds)
    for key in ("device", "precision", "seed"):
        if key in record:
            lines[key] = str(record[key])
    if not (run.folder / "model" / "model.safetensors").is_file():
        return {**lines, "model": "none yet; the same `glann fit` goes on, if the pipeline makes one"}
    return {**lines, **_describe_model(read_model(run.folder))}


def _describe_model(model: ModelFiles) -> dict[str, str]:
    config = model.config
    sampler = config.get("sampler") or {}
    network = (sampler.get("network") or {}).get("name", "?")
    return {
        "model": str(model.path.parent),
        "image": size_text(config),
        **_classes(config.get("classes")),
        "latent dim": str(config.get("latent_dim", "?")),
        "noise dim": str(sampler.get("noise_dim", "?")),
        "generator": f"{config['generator']}, {amount(model.generator_weights)} weights",
        "sampler": f"{network}, {amount(model.sampler_weights)} weights",
        "file": f"{model.path.name}, {model.bytes / 1e6:,.1f} MB, {', '.join(model.dtypes)}",
        "format": str(config.get("format", "?")),
    }


def _classes(names: Any) -> dict[str, str]:
    if not isinstance(names, list) or not names:
        return {}
    return {"classes": f"{len(names):,}: {list_some([str(name) for name in names], most=100)}"}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``; a line that a crash has cut ends them."""
    rows: list[dict[str, Any]] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    except (OSError, ValueError):
        pass
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _read_skipped(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [(row[0], row[1]) for row in list(csv.reader(file))[1:] if len(row) >= 2]
    except (OSError, csv.Error):
        return []
