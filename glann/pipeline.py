"""From a folder of images to a trained, exported, reported model: the whole of ``glann fit``."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glann.memory import keep_freed_buffers
from glann.registry import lookup
from glann.runs import Run, differences
from glann.settings import Pipeline, check_pipeline, load_pipeline
from imle.checkpoint import graceful_stop
from imle.errors import DataError, Failure, ResumeError, SettingsError

_SAMPLES = 64  # pictures in samples.png
_RECONSTRUCTIONS = 32  # pairs in reconstructions.png
_SAMPLE_SEED = 0


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
    fresh: bool = False
    command: str = ""


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
        return record[key] if record else default()

    device = choose("device", request.device, _best_device)
    new = {
        "description": pipeline.description,
        "seed": choose("seed", request.seed, lambda: 0),
        "device": device,
        "precision": choose("precision", request.precision, lambda: _best_precision(device)),
        "stages": [spec.to_toml() for spec in stages],
    }
    if record is not None:
        changed = differences(_comparable(record), _comparable(new))
        if changed:
            hint = "ask as before, or use --fresh to start over"
            raise ResumeError(f"{request.out} was begun with other settings: {'; '.join(changed)} ({hint})")
    import torch

    threads = record["threads"] if record else torch.get_num_threads()
    return pipeline, {**new, "threads": threads, "source": str(request.source.resolve())}, lines


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
        if request.fresh:
            run.clear()
        record = run.record
        pipeline, new, lines = plan(request, record)
        torch.set_num_threads(new["threads"])
        keep_freed_buffers()

        # Decode once. A new run folder whose images turn out to be unusable is not left behind.
        decoded = (run.folder / "images").exists()
        begun = {**new, "command": request.command, "decode_seconds": 0.0}
        begun.update({key: record[key] for key in ("command", "decode_seconds")} if record else {})
        run.begin(begun)
        started = time.monotonic()
        try:
            images = prepare(
                request.source,
                run.folder / "images",
                size=request.size,
                channels=request.channels,
                on_bad_image=request.on_bad_image,
                report=say,
            )
        except DataError:
            if record is None:
                run.clear()
            raise
        if not decoded:
            run.begin({**begun, "decode_seconds": round(time.monotonic() - started, 3)})
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
                )
                produced = lookup_stage(spec.use).run(spec.settings, context, produced)

        # The model, the pictures, the report; each is replaced whole, so that an interruption here costs nothing.
        _finish(run, images, produced, say)


def _finish(run: Run, images: Any, produced: Any, say: Callable[[str], None]) -> None:
    import torch

    from glann import pictures, report
    from glann.model import GLANN

    if produced.generator is None or produced.sampler is None:
        say(f"the pipeline ends without a generator and a sampler; its stages' results are in {run.folder}")
        return
    model = GLANN(produced.generator, produced.sampler, produced.generator_config)
    if (run.folder / "report.html").is_file() and model.is_saved_in(run.folder / "model"):
        say(f"{run.folder} is finished: nothing to do (ask for more epochs to go on, --fresh to start over)")
        return
    pictures.save(pictures.grid(model.sample(_SAMPLES, seed=_SAMPLE_SEED)), run.folder / "samples.png")
    if produced.latents is not None:
        rows = torch.linspace(0, len(images) - 1, min(_RECONSTRUCTIONS, len(images))).long()
        copies = model.decode(produced.latents[rows])
        pictures.save(pictures.pairs(images.batch(rows), copies), run.folder / "reconstructions.png")
    model.save_pretrained(run.folder / "model")
    report.write(run.folder)
    say(f"model: {run.folder / 'model'}; pictures: {run.folder / 'samples.png'}; report: {run.folder / 'report.html'}")


def lookup_stage(use: str) -> Any:
    """A fresh stage of that name, built-in or registered by another package."""
    from glann.stages import STAGES

    return lookup("stages", STAGES, use)()


def _comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that a later call must not change, stages by name."""
    kept = {key: record[key] for key in ("seed", "device", "precision")}
    return {**kept, **{stage["name"]: stage for stage in record["stages"]}}


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
