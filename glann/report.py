"""The story of a run on one page: ``report.html``, a single file that needs no network and no script."""

import shlex
from importlib import resources
from pathlib import Path
from typing import Any

from glann import exhibits, info, tables
from glann.charts import SIDE, Chart, chart, figure
from glann.info import ModelFiles, RunFiles, StageFiles, amount, duration, number, size_text
from glann.scan import show
from imle.atomic import write_atomically
from imle.errors import DataError

_SKIPPED_SHOWN = 20  # files named one by one; the rest is counted


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
    facts: Any = model.config if model else run.images
    size = [facts[key] for key in ("height", "width") if isinstance(facts.get(key), int)]
    trained = exhibits.trained(run)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("glann").joinpath("report.html").read_text(encoding="utf-8")
    )
    text = page.render(
        name=folder.resolve().name,
        description=run.record.get("description", ""),
        count=_trained_on(run),
        model=_model(model),
        key_figures=_key_figures(run, model),
        samples=exhibits.sheet(folder / "samples.png", size),
        reconstructions=exhibits.sheet(folder / "reconstructions.png", size),
        classes=model.config.get("classes", []) if model else [],
        class_rows=exhibits.class_rows(trained) if trained else [],
        progress=exhibits.progress(run),
        worst=exhibits.worst(trained) if trained else [],
        ways=exhibits.ways(trained) if trained else None,
        alike=exhibits.alike(trained) if trained else None,
        reach=exhibits.reach(trained) if trained else None,
        charts=[drawn for position, stage in enumerate(run.stages, 1) for drawn in _charts(position, stage)],
        side=SIDE,
        figure=figure,
        phases=tables.phases(run),
        total_time=duration(run.seconds),
        decisions=tables.decisions(run),
        stages=[(position, stage, tables.settings(stage)) for position, stage in enumerate(run.stages, 1)],
        skipped=[(show(path), reason) for path, reason in run.skipped[:_SKIPPED_SHOWN]],
        skipped_count=len(run.skipped),
        command=run.record.get("command", ""),
        versions=tables.table(run.record.get("versions")),
        sample_command=f"glann sample {shlex.quote(str(folder))} -n 64 --seed 1 --out more.png",
        class_command=_class_command(folder, model),
        way_command=" ".join(
            ["glann interpolate", shlex.quote(str(folder)), *_class_option(model), "--loop --out way.gif"]
        ),
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
    count = _trained_on(run)
    if count is not None:
        figures.append(("training images", f"{count:,.0f}"))
        if run.held_out:
            figures.append(("held out", f"{run.held_out:,}"))
        figures.append(("size", size_text(run.images)))
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


def _trained_on(run: RunFiles) -> float | None:
    count = number(run.images.get("count"))
    return None if count is None else count - run.held_out


def _charts(position: int, stage: StageFiles) -> list[Chart]:
    """The curves of one stage: those for which it wrote figures."""
    title = f"Stage {position}, {stage.name}"
    notes = {
        "glo": f"Mean distance ({stage.settings.get('loss', 'perceptual')}) between an image and its reconstruction",
        "imle": "Squared distance between a latent and its sample; 1 would be to answer the mean every time",
    }
    distances = {"median": stage.series("median_distance"), "farthest": stage.series("max_distance")}
    far = "Euclidean distance from each training latent to the nearest candidate of its last matching"
    distinct = (
        "How many different candidates were chosen, over the number of latents; at 100\u202f% no two latents share one"
    )
    drawn = [
        chart(f"{title}: loss", notes.get(stage.use, ""), {"loss": stage.series("loss")}),
        chart(f"{title}: how far the nearest sample is", far, distances),
        chart(f"{title}: distinct samples", distinct, {"distinct": stage.series("distinct_share")}, percent=True),
        _held_out_chart(title, stage),
    ]
    return [one for one in drawn if one is not None]


def _held_out_chart(title: str, stage: StageFiles) -> Chart | None:
    scored = [row for row in stage.rows if "held_out_images" in row]
    if not scored:
        return None
    count, judge = scored[-1]["held_out_images"], scored[-1].get("held_out_features")
    note = (
        f"Kernel distance × 1000 of {count} samples to {count} held-out images at some moments, in features of "
        f"{judge}. Real images in the place of the samples come to less than their line 95 times of 100. Calibration "
        "follows the last epoch"
    )
    key = "held_out_kernel_distance"
    keys = {"samples": key, "calibrated samples": f"{key}_calibrated", "real images": f"{key}_chance"}
    series = {what: [(epoch, 1000 * value) for epoch, value in stage.series(key)] for what, key in keys.items()}
    return chart(f"{title}: distance to held-out images", note, series, linear=True)


def _class_command(folder: Path, model: ModelFiles | None) -> str:
    one = _class_option(model)
    return f"glann sample {shlex.quote(str(folder))} -n 64 {one[0]} --out one-class.png" if one else ""


def _class_option(model: ModelFiles | None) -> list[str]:
    names = model.config.get("classes", []) if model else []
    return [f"--class {shlex.quote(show(names[0]))}"] if names else []
