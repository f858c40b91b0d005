"""The story of a run on one page: ``report.html``, a single file that needs no network and no script."""

import json
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from glann import embedded, info
from glann.charts import SIDE, Chart, chart
from glann.info import ModelFiles, RunFiles, StageFiles, amount, duration, number, size_text
from glann.scan import show
from imle.atomic import write_atomically
from imle.errors import DataError, Failure

_SKIPPED_SHOWN = 20  # files named one by one; the rest is counted
_WORST_SHOWN = 12  # images with the largest distance to their reconstruction
_PHASES = {"generate": "candidate generation", "search": "nearest-neighbour search", "train": "training"}


@dataclass(frozen=True)
class Worst:
    """An image that its latent and the generator do not bring back."""

    path: str
    distance: str
    picture: embedded.Picture  # original above reconstruction


@dataclass(frozen=True)
class Phase:
    """What time was spent on."""

    name: str
    time: str
    share: float  # of the whole, 0 … 1


def write(folder: Path) -> Path:
    """Write ``report.html`` from whatever a run folder holds; what is missing has no section.

    Args:
        folder: a run folder; it need not be finished.

    Returns:
        The path of the report.

    Raises:
        DataError: if the folder is no run.
    """
    from jinja2 import Environment, StrictUndefined

    run = info.read_run(folder)
    try:
        model = info.read_model(folder)
    except DataError:  # not exported yet
        model = None
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("glann").joinpath("report.html").read_text(encoding="utf-8")
    )
    text = page.render(
        name=folder.resolve().name,
        description=run.record.get("description", ""),
        model=_model(model),
        key_figures=_key_figures(run, model),
        samples=embedded.read(folder / "samples.png"),
        reconstructions=embedded.read(folder / "reconstructions.png"),
        classes=model.config.get("classes", []) if model else [],
        class_rows=_class_rows(folder) if model else [],
        worst=_worst(run),
        charts=[drawn for position, stage in enumerate(run.stages, 1) for drawn in _charts(position, stage)],
        side=SIDE,
        phases=_phases(run),
        total_time=duration(run.seconds),
        decisions=_decisions(run),
        stages=[(position, stage, _settings(stage)) for position, stage in enumerate(run.stages, 1)],
        skipped=[(show(path), reason) for path, reason in run.skipped[:_SKIPPED_SHOWN]],
        skipped_count=len(run.skipped),
        command=run.record.get("command", ""),
        versions=_table(run.record.get("versions")),
        sample_command=f"glann sample {shlex.quote(str(folder))} -n 64 --seed 1 --out more.png",
        class_command=_class_command(folder, model),
    )
    path = folder / "report.html"
    write_atomically(path, text.encode("utf-8", "replace"))
    return path


def _model(model: ModelFiles | None) -> dict[str, Any] | None:
    """What the page says of the model in its first sentence."""
    if model is None:
        return None
    return {
        "noise_dim": model.config.get("sampler", {}).get("noise_dim", "?"),
        "latent_dim": model.config.get("latent_dim", "?"),
        "sampler_weights": amount(model.sampler_weights),
        "generator_weights": amount(model.generator_weights),
        "what": size_text(model.config),
    }


def _key_figures(run: RunFiles, model: ModelFiles | None) -> list[tuple[str, str]]:
    """The few numbers that a person asks for first."""
    figures = []
    count = number(run.images.get("count"))
    if count is not None:
        figures += [("training images", f"{count:,.0f}"), ("size", size_text(run.images))]
    if run.seconds:
        figures.append(("time", duration(run.seconds)))
    epochs = [f"{stage.epochs_done:,}" for stage in run.stages if stage.rows]
    if epochs:
        figures.append(("epochs", " + ".join(epochs)))
    if model is not None:
        figures.append(("model file", f"{model.bytes / 1e6:,.1f} MB"))
    if model is not None and model.config.get("classes"):
        figures.append(("classes", f"{len(model.config['classes']):,}"))
    if run.skipped:
        figures.append(("files skipped", f"{len(run.skipped):,}"))
    return figures


def _charts(position: int, stage: StageFiles) -> list[Chart]:
    """The curves of one stage: those for which it wrote figures."""
    title = f"Stage {position}, {stage.name}"
    notes = {
        "glo": f"Mean distance ({stage.settings.get('loss', 'perceptual')}) between an image and its reconstruction",
        "imle": "Squared distance between a latent and its sample; 1 would be to answer the mean every time",
    }
    distances = {"median": stage.series("median_distance"), "farthest": stage.series("max_distance")}
    far = "Euclidean distance from each training latent to the nearest candidate of the epoch"
    distinct = (
        "How many different candidates were chosen, over the number of latents; at 100\u202f% no two latents share one"
    )
    drawn = [
        chart(f"{title}: loss", notes.get(stage.use, ""), {"loss": stage.series("loss")}),
        chart(f"{title}: how far the nearest sample is", far, distances),
        chart(f"{title}: distinct samples", distinct, {"distinct": stage.series("distinct_share")}, percent=True),
    ]
    return [one for one in drawn if one is not None]


def _phases(run: RunFiles) -> list[Phase]:
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


def _decisions(run: RunFiles) -> list[tuple[str, str]]:
    """What the program chose, or was told, beyond the settings of the stages."""
    record, facts = run.record, run.images
    rows: list[tuple[str, str]] = [
        (key, str(record[key]))
        for key in ("source", "labels", "seed", "device", "precision", "threads")
        if key in record
    ]
    if facts.get("size_reason"):
        rows.append(("size", f"{facts.get('height')}×{facts.get('width')}: {facts['size_reason']}"))
    if facts.get("channels_reason"):
        rows.append(("channels", f"{info.COLOURS.get(facts.get('channels', 0), '')}: {facts['channels_reason']}"))
    return rows


def _settings(stage: StageFiles) -> list[tuple[str, str, str]]:
    """(key, value, what it means), for a built-in stage in the words of its settings."""
    from glann.stages import STAGES

    known = getattr(STAGES.get(stage.use), "Settings", None)
    meanings = {key: field.description or "" for key, field in known.model_fields.items()} if known else {}
    return [(key, value, meanings.get(key, "")) for key, value in _table(stage.settings)]


def _table(values: Any) -> list[tuple[str, str]]:
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


def _class_command(folder: Path, model: ModelFiles | None) -> str:
    names = model.config.get("classes", []) if model else []
    one = f"--class {shlex.quote(show(names[0]))}" if names else ""
    return f"glann sample {shlex.quote(str(folder))} -n 64 {one} --out one-class.png" if names else ""


def _class_rows(folder: Path) -> list[tuple[str, embedded.Picture]]:
    """(name, a row of new images) of each class, of a model that has some."""
    from glann import gallery
    from glann.model import GLANN

    try:
        return [(show(name), embedded.embed(row)) for name, row in gallery.class_rows(GLANN.from_pretrained(folder))]
    except DataError:  # a damaged model
        return []


def _worst(run: RunFiles) -> list[Worst]:
    """The images that stage 1 brings back worst: often a sign of odd files, or of too few epochs."""
    import safetensors.torch
    from safetensors import SafetensorError

    from glann import images, pictures
    from glann.model import GLANN

    found = [path for stage in run.stages if (path := run.folder / stage.name / "latents.safetensors").is_file()]
    try:
        learnt = safetensors.torch.load_file(found[-1])
        originals, model = images.load(run.folder / "images"), GLANN.from_pretrained(run.folder)
        losses, latents = (learnt[key][: len(originals)] for key in ("losses", "latents"))  # the rest is augmented
        if not len(losses) == len(latents) == len(originals):
            return []
        rows = losses.nan_to_num(nan=float("-inf")).topk(min(_WORST_SHOWN, len(losses))).indices
        labels = originals.class_rows()
        copies = model.decode(latents[rows], None if labels is None else labels[rows])
        targets = originals.batch(rows)
    except (IndexError, KeyError, OSError, ValueError, SafetensorError, Failure):  # an unfinished run, or a damaged one
        return []
    worst = []
    for k, row in enumerate(rows.tolist()):
        both = embedded.embed(pictures.pairs(targets[k : k + 1], copies[k : k + 1]))
        worst.append(Worst(show(originals.paths[row]), f"{float(losses[row]):.3g}", both))
    return worst
