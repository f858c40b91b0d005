"""From a folder of images to a trained, exported, reported model: the whole of ``glann fit``."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glann.holdout import Holdout
from glann.memory import keep_freed_buffers
from glann.registry import lookup
from glann.runs import FRESH, RECORD, Run, differences, versions
from glann.scan import readable
from glann.settings import Pipeline, check_pipeline, load_pipeline
from glann.tracking import Tracked, require
from imle.checkpoint import graceful_stop
from imle.checks import check_device
from imle.errors import DataError, Failure, ResumeError, SettingsError

_RECONSTRUCTIONS = 32  # pairs in reconstructions.png


@dataclass(frozen=True)
class Request:
    """What the caller asks of a run. None and ``auto`` mean: as the run was begun, else the default."""

    source: Path
    out: Path
    pipeline: str | None = None
    overrides: Sequence[str] = ()
    size: tuple[int, int] | None = None
    channels: Literal["auto", "1", "3", "4"] = "auto"
    seed: int | None = None
    device: str = "auto"
    precision: str = "auto"
    on_bad_image: Literal["skip", "error"] = "skip"
    labels: bool | Path = False  # True: the class of an image is its first folder; a path: a file says it
    holdout: float | None = None  # share of the images that are not trained on
    track: Tracked | None = None  # what is told how the training goes on, beside metrics.jsonl
    fresh: bool = False
    command: str = ""


def begun_before(request: Request) -> dict[str, Any] | None:
    """The ``run.toml`` of the run that a request goes on with; None where it begins one, or starts one over.

    Args:
        request: what is asked.

    Returns:
        What `plan` needs to know.

    Raises:
        DataError: if there is no run to start over.
        ResumeError: if the file cannot be read.
    """
    run = Run(request.out)
    if not request.fresh:
        return run.record
    if not (run.folder / RECORD).is_file():
        raise DataError(f"--fresh starts a run over; {run.folder} holds no {RECORD}")
    return None


def plan(request: Request, record: Mapping[str, Any] | None) -> tuple[Pipeline, dict[str, Any], list[str]]:
    """Everything that a run will do, checked and decided, before anything is written.

    Args:
        request: what is asked.
        record: ``run.toml`` of a run that was begun before, or None.

    Returns:
        The stages with their settings, the record to write, and a line for each thing that was decided.

    Raises:
        SettingsError: for a setting that is unknown or out of range.
        DataError: if the weights of a named perceptual distance cannot be had.
        ResumeError: if the run was begun with other settings; the message names each.
    """
    try:
        return _plan(request, record)
    except Failure:
        raise
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _plan(request: Request, record: Mapping[str, Any] | None) -> tuple[Pipeline, dict[str, Any], list[str]]:
    require(request.track)
    tables = load_pipeline(request.pipeline or "glann")
    if record is not None and request.pipeline is None:
        tables = {"description": record["description"], "stages": record["stages"]}
    asked = check_pipeline(tables, request.overrides)
    before = {stage["name"]: stage for stage in record["stages"]} if record else {}
    stages, lines = [], []
    for spec in asked.stages:
        kept = {k: v for k, v in before.get(spec.name, {}).items() if getattr(spec.settings, k, None) == "auto"}
        settings, decided = lookup_stage(spec.use).resolve(spec.settings.model_copy(update=kept))
        stages.append(type(spec)(spec.use, spec.name, settings))
        lines += decided
    pipeline = Pipeline(asked.description, tuple(stages))

    def choose(key: str, given: Any, default: Callable[[], Any]) -> Any:
        """What is asked, else what the run was begun with, else the default."""
        if given not in (None, "auto"):
            return given
        return record.get(key) if record else default()

    device = choose("device", request.device, _best_device)
    check_device(device)
    new = {
        "description": pipeline.description,
        "seed": choose("seed", request.seed, lambda: 0),
        "device": device,
        "precision": choose("precision", request.precision, lambda: _best_precision(device)),
        "stages": [spec.to_toml() for spec in stages],
    }
    if request.labels:
        new["labels"] = "subfolders" if request.labels is True else readable(str(request.labels.resolve()))
    elif record is not None and "labels" in record:
        new["labels"] = record["labels"]
    share = choose("holdout", request.holdout, lambda: None)
    if share is not None:
        new["holdout"] = Holdout(share, new["seed"]).share
    if record is not None:
        fixed = ("seed", "device", "precision", "holdout")
        before, now = ({key: r.get(key, 0) for key in fixed} for r in (record, new))
        stages_before, stages_now = ({stage["name"]: stage for stage in r["stages"]} for r in (record, new))
        changed = differences(before, now) + differences(stages_before, stages_now)
        if changed:
            hint = "ask as before, or use --fresh to start over"
            raise ResumeError(f"{request.out} was begun with other settings: {'; '.join(changed)} ({hint})")
    import torch

    threads = record["threads"] if record else torch.get_num_threads()
    return pipeline, {**new, "threads": threads, "source": readable(str(request.source.resolve()))}, lines


def fit(request: Request, say: Callable[[str], None]) -> None:
    """Train, or go on training, and leave a model, pictures and a report in the run folder.

    Args:
        request: what is asked.
        say: is given lines for a person.

    Raises:
        SettingsError: for a setting that is unknown or out of range.
        DataError: for images that cannot be used.
        ResumeError: if settings or images are not those that the run was begun with.
        BusyError: if another process works in the run folder.
        DivergedError: if the loss is not finite.
        Interrupted: if the run was asked to stop; it can be resumed.
    """
    import torch

    from glann.images import prepare
    from glann.stages import Context, Produced

    run = Run(request.out)
    with run.locked():
        record = begun_before(request)
        pipeline, new, lines = plan(request, record)
        torch.set_num_threads(new["threads"])
        keep_freed_buffers()
        first = {"decode_seconds": 0.0, "versions": versions()}
        begun = {**new, **first, **{key: record[key] for key in first if record and key in record}}
        same = record and record["stages"] == new["stages"]
        begun["command"] = record["command"] if record and same else readable(request.command)

        # Decode once. What is there is touched only after the images and the settings were found to be usable, and a
        # new run folder is left behind only then.
        if request.fresh:
            shutil.rmtree(run.folder / FRESH, ignore_errors=True)
        elif record is None:
            run.begin(begun)
        decoded = (run.folder / "images").exists() and not request.fresh
        started = time.monotonic()
        try:
            images = prepare(
                request.source,
                run.folder / (FRESH if request.fresh else "images"),
                size=request.size,
                channels=request.channels,
                labels=request.labels or (not decoded and _labels_of(new)),
                holdout=Holdout(new["holdout"], new["seed"]) if "holdout" in new else None,
                on_bad_image=request.on_bad_image,
                report=say,
            )
            if record is None:
                for spec in pipeline.stages:
                    lookup_stage(spec.use).ready(spec.settings, images, say)
        except Failure:
            if request.fresh:
                shutil.rmtree(run.folder / FRESH, ignore_errors=True)
            elif record is None:
                run.clear()
            raise
        if request.fresh:
            run.clear(keep=FRESH)
            os.replace(run.folder / FRESH, run.folder / "images")
        run.begin(begun if decoded else {**begun, "decode_seconds": round(time.monotonic() - started, 3)})
        for line in lines:
            say(line)
        if images.skipped:
            say(f"{images.skipped} files were skipped, see {run.folder / 'images' / 'skipped.csv'}")

        # Stage by stage: each goes on from its last checkpoint, or just loads what is finished.
        produced = Produced()
        with graceful_stop():
            for number, spec in enumerate(pipeline.stages, start=1):
                context = Context(
                    folder=run.folder / spec.name,
                    title=f"stage {number}/{len(pipeline.stages)} {spec.name}",
                    images=images,
                    seed=new["seed"],
                    device=new["device"],
                    bf16=new["precision"] == "bf16",
                    say=say,
                    track=request.track,
                )
                produced = lookup_stage(spec.use).run(spec.settings, context, produced)

        # The model, the pictures, the report; each is replaced whole, so that an interruption here costs nothing.
        _finish(run, images, produced, say)


def _finish(run: Run, images: Any, produced: Any, say: Callable[[str], None]) -> None:
    from glann import gallery, pictures, report
    from glann.model import GLANN
    from imle.data import evenly

    if missing := [what for what in ("generator", "sampler") if getattr(produced, what) is None]:
        what = " and ".join(missing)
        say(f"the pipeline makes no {what}, so there is no model; its stages' results are in {run.folder}")
        return
    model = GLANN(produced.generator, produced.sampler, produced.generator_config)
    parts = ["samples.png", "report.html", *(["reconstructions.png"] if produced.latents is not None else [])]
    if all((run.folder / part).is_file() for part in parts) and model.is_saved_in(run.folder / "model"):
        say(
            f"{run.folder} is finished with the settings that it was begun with: nothing to do. It goes on with "
            "--set STAGE.epochs=MORE, and starts over with --fresh, for instance for another --pipeline"
        )
        return
    (run.folder / "report.html").unlink(missing_ok=True)  # its absence says that this is not finished
    pictures.save(gallery.samples(model), run.folder / "samples.png")
    if produced.latents is not None:
        rows = evenly(len(images), _RECONSTRUCTIONS)
        labels = images.class_rows()
        copies = model.decode(produced.latents[rows], None if labels is None else labels[rows])
        pictures.save(pictures.pairs(images.batch(rows), copies), run.folder / "reconstructions.png")
    model.save_pretrained(run.folder / "model")
    report.write(run.folder)
    say(f"model: {run.folder / 'model'}; pictures: {run.folder / 'samples.png'}; report: {run.folder / 'report.html'}")


def _labels_of(record: Mapping[str, Any]) -> bool | Path:
    """Where a run was begun to take the classes from; its cache may have been lost since."""
    labels = record.get("labels", "")
    return labels == "subfolders" or (Path(labels) if labels else False)


def lookup_stage(use: str) -> Any:
    """A fresh stage of that name, built-in or registered by another package."""
    from glann.stages import STAGES

    return lookup("stages", STAGES, use)()


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_precision(device: str) -> str:
    """bfloat16 where the processor multiplies it in hardware; elsewhere it would only cost accuracy."""
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device == "cpu":
        able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    return "fp32"
