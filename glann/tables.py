"""What a run was asked, what it decided and what it spent, as the tables of its report."""

import json
from dataclasses import dataclass
from typing import Any

from glann.info import COLOURS, RunFiles, StageFiles, duration, number

_PHASES = {
    "generate": "candidate generation",
    "build": "building of search indices",
    "search": "nearest-neighbour search",
    "train": "training",
    "held_out": "held-out scores",
}


@dataclass(frozen=True)
class Phase:
    """What time was spent on."""

    name: str
    time: str
    share: float  # of the whole, 0 … 1


def phases(run: RunFiles) -> list[Phase]:
    """Decoding, then every stage with its parts, in order."""
    seconds = {}
    decode = number(run.record.get("decode_seconds"))
    if decode is not None:
        seconds["Decoding the images"] = decode
    for position, stage in enumerate(run.stages, 1):
        for name, value in stage.phases().items():
            what = _PHASES.get(name, name.replace("_", " ")) or "training"
            seconds[f"Stage {position}, {stage.name}: {what}"] = value
    total = sum(seconds.values())
    return [Phase(name, duration(value), value / total) for name, value in seconds.items()] if total > 0 else []


def decisions(run: RunFiles) -> list[tuple[str, str]]:
    """What the program chose, or was told, beyond the settings of the stages."""
    record, facts = run.record, run.images
    rows: list[tuple[str, str]] = [
        (key, str(record[key]))
        for key in ("source", "labels", "holdout", "seed", "device", "precision", "threads")
        if key in record
    ]
    if facts.get("size_reason"):
        rows.append(("size", f"{facts.get('height')}×{facts.get('width')}: {facts['size_reason']}"))
    if facts.get("channels_reason"):
        rows.append(("channels", f"{COLOURS.get(facts.get('channels', 0), '')}: {facts['channels_reason']}"))
    return rows


def settings(stage: StageFiles) -> list[tuple[str, str, str]]:
    """(key, value, what it means), for a built-in stage in the words of its settings."""
    from glann.stages import STAGES

    known = getattr(STAGES.get(stage.use), "Settings", None)
    meanings = {key: field.description or "" for key, field in known.model_fields.items()} if known else {}
    return [(key, value, meanings.get(key, "")) for key, value in table(stage.settings)]


def table(values: Any) -> list[tuple[str, str]]:
    """The entries of a table of run.toml as text; nothing for what is empty or no table."""
    entries = values.items() if isinstance(values, dict) else ()
    return [
        (key, value if isinstance(value, str) else _toml(value)) for key, value in entries if value not in ({}, [], "")
    ]


def _toml(value: Any) -> str:
    """A value as a person would type it into a pipeline file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
