"""What makes latents reachable? One lever at a time, judged by reconstructions and by samples of the whole pipeline.

    python benchmarks/studies/reachability.py IMAGES WEIGHTS_H5 --work FOLDER [--only ROW]…

IMAGES is a folder of 32x32 colour images, one subfolder a class, such as CIFAR-10; WEIGHTS_H5 and the second judge are
as in stage1.py. Every row is written when it is measured, and a row that is there is not measured again: an interrupted
call goes on. FOLDER keeps trained models, because several rows begin where another row's stage ends.
"""

import argparse
import functools
import json
import sys
import time
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from class_folders import as_set, read
from common import DOCS, save
from reachability_phase import Noisy, Phase, go_on, reached, slope
from reachability_picture import STRIPS, scatter, show, strips
from safetensors import safe_open
from safetensors.torch import save_file
from stage1 import HELD_OUT, looks
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from baselines.budget import BF16

import imle
from glann import GLANN, generators, glo, losses
from glann.images import ImageSet
from glann.memory import keep_freed_buffers
from glann.settings import GLOSettings, IMLESettings, check_pipeline, load_pipeline
from glann.stages import estimator
from imle.metrics import frechet_distance

EPOCHS, PER_CLASS, IMLE_EPOCHS = 12, 500, 70  # of the base
STEPS = EPOCHS * glo.batches_for(GLOSettings(), 10 * PER_CLASS)  # of the base
JUDGED, SHOWN = 2500, 32  # images
DATA = DOCS / "data" / "reachability.json"
generators.GENERATORS["noisy"] = Noisy


@dataclass(frozen=True)
class Row:
    """One setting, which differs from the base in what is given here."""

    lever: str
    seeds: tuple[int, ...] = (0,)
    glo: dict[str, Any] = field(default_factory=dict)
    imle: dict[str, Any] = field(default_factory=dict)
    per_class: int = PER_CLASS
    phase: Phase | None = None


# In the order of what was expected of them.
ROWS = {
    "base": Row("base", seeds=(0, 1)),
    "samples, 2 epochs": Row("tuned on samples", phase=Phase(latents=False, sampled=1.0)),
    "2 more epochs": Row("more of stage 1", phase=Phase()),
    "noise dimension 16": Row("noise dimension", imle={"noise_dim": 16}),
    "stage 2, 210 epochs": Row("more of stage 2", imle={"epochs": 3 * IMLE_EPOCHS}),
    "dimension 32": Row("dimension", glo={"latent_dim": 32}),
    "moved 30 %": Row("moved latents", phase=Phase(latents=False, moved=0.3)),
    "noise 0.2": Row("latent noise", phase=Phase(noise=0.2)),
    "noise dimension 4": Row("noise dimension", imle={"noise_dim": 4}),
    "dimension 16": Row("dimension", glo={"latent_dim": 16}),
    "dimension 128": Row("dimension", glo={"latent_dim": 128}),
    "dimension 128, noise 4": Row("stage 2 of dimension 128", glo={"latent_dim": 128}, imle={"noise_dim": 4}),
    "dimension 128, 210 epochs": Row(
        "stage 2 of dimension 128", glo={"latent_dim": 128}, imle={"epochs": 3 * IMLE_EPOCHS}
    ),
    "penalty 0.3": Row("smoothness", phase=Phase(penalty=0.3)),
    "samples and latents": Row("tuned on samples", phase=Phase(latents=False, sampled=0.5)),
    "10,000 images": Row("images", glo={"epochs": EPOCHS // 2}, imle={"epochs": IMLE_EPOCHS // 2}, per_class=1000),
    "noise 0.4": Row("latent noise", phase=Phase(noise=0.4)),
    "moved 10 %": Row("moved latents", phase=Phase(latents=False, moved=0.1)),
    "noise dimension 32": Row("noise dimension", imle={"noise_dim": 32}),
    "samples, 1 epoch": Row("tuned on samples", phase=Phase(1, latents=False, sampled=1.0)),
    "2,500 images": Row("images", glo={"epochs": EPOCHS * 2}, imle={"epochs": IMLE_EPOCHS * 2}, per_class=250),
    "samples, 4 epochs": Row("tuned on samples", phase=Phase(4, latents=False, sampled=1.0)),
    "laplacian": Row("distance", glo={"loss": "laplacian"}),
    "noise 0.2 throughout": Row("noise throughout", glo={"generator": "noisy", "generator_options": {"norm": 0.2}}),
    "noise 0.4, falling": Row(
        "noise throughout", glo={"generator": "noisy", "generator_options": {"norm": 0.4, "steps": STEPS}}
    ),
}


def settings_of(row: Row, seed: int) -> tuple[GLOSettings, imle.IMLE]:
    """Both stages of the pipeline ``glann``, with the base's epochs and the row's changes."""
    first, second = (stage.settings for stage in check_pipeline(load_pipeline("glann")).stages)
    assert isinstance(first, GLOSettings)
    glo_settings = GLOSettings(**{**first.model_dump(), "epochs": EPOCHS, "loss": losses.OFFLINE, **row.glo})
    assert isinstance(second, IMLESettings)
    return glo_settings, replace(estimator(second, seed), **{"epochs": IMLE_EPOCHS, **row.imle})


@functools.cache
def training_images(folder: Path, per_class: int) -> ImageSet:
    """The first images of each class."""
    return as_set(read(folder, 0, per_class)[0])


@functools.cache
def distance(name: str) -> nn.Module:
    """A perceptual distance for 32x32 colour images."""
    return losses.build(name, size=(32, 32), channels=3)


def stage_1(images: ImageSet, settings: GLOSettings, seed: int, work: Path) -> tuple[nn.Module, Tensor, float]:
    """Generator, latents and processor seconds; trained, or taken from an earlier row."""
    key = json.dumps([settings.model_dump(), len(images), seed], sort_keys=True)
    file = work / f"{sha256(key.encode()).hexdigest()[:12]}.safetensors"
    if not file.is_file():
        started = time.process_time()
        result = glo.fit(images, settings, lambda: distance(settings.loss), seed=seed, bf16=BF16)
        facts = {"seconds": str(time.process_time() - started), "key": key}
        weights = {f"generator.{k}": v.contiguous() for k, v in result.generator.state_dict().items()}
        save_file({**weights, "latents": result.latents}, file, facts)
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        seconds = float(opened.metadata()["seconds"])
    latents = tensors.pop("latents")
    like = {"latent_dim": settings.latent_dim, "size": (32, 32), "channels": 3, **settings.generator_options}
    generator = generators.build(settings.generator, **like)
    generator.load_state_dict({name.removeprefix("generator."): value for name, value in tensors.items()})
    return generator.to(memory_format=torch.channels_last).eval(), latents, seconds


def stage_2(latents: Tensor, settings: imle.IMLE, work: Path) -> tuple[imle.LatentSampler, float]:
    """Sampler and processor seconds; fitted, or taken from an earlier row."""
    folder = work / sha256(latents.numpy().tobytes() + repr(settings).encode()).hexdigest()[:12]
    if not (folder / "seconds.json").is_file():
        started = time.process_time()
        settings.fit(latents).save_pretrained(folder)
        (folder / "seconds.json").write_text(json.dumps(time.process_time() - started))
    return imle.LatentSampler.from_pretrained(folder), json.loads((folder / "seconds.json").read_text())


def measure(row: Row, seed: int, folder: Path, judges: dict[str, Any], work: Path) -> tuple[dict[str, Any], Tensor]:
    """Train one row; its figures, and its first samples."""
    images = training_images(folder, row.per_class)
    first, second = settings_of(row, seed)
    generator, latents, first_seconds = stage_1(images, first, seed, work)
    spent = [first_seconds]
    phase = row.phase
    sampler = None
    if phase is None or phase.sampled or phase.moved:
        sampler, seconds = stage_2(latents, second, work)
        spent.append(seconds)
    if phase is not None:
        started = time.process_time()
        latents = go_on(generator, latents, images, distance(first.loss), phase, sampler, seed)
        spent.append(time.process_time() - started)
        if not phase.sampled:
            sampler, seconds = stage_2(latents, second, work)
            spent.append(seconds)
    assert sampler is not None

    config = {"latent_dim": first.latent_dim, "height": 32, "width": 32, "channels": 3}
    model = GLANN(generator, sampler, config)
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:JUDGED]
    made = {"reconstructions": model.decode(latents[rows]), "samples": model.sample(JUDGED, seed=0)}
    figures = {
        judge: {what: frechet_distance(real, look(some)) for what, some in made.items()}
        for judge, (look, real) in judges.items()
    }
    facts = {
        "nearest sample": float(reached(latents, sampler, 1)[1].mean()),
        "nearest latent": float(imle.nearest(latents, latents, 2).distances[:, 1].mean()),
        "slope": slope(generator, latents[rows]),
        "seconds": sum(spent),
    }
    return {**figures, **facts}, made["samples"][:SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("weights_h5", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of trained models, made where it is missing")
    parser.add_argument("--only", action="append", choices=tuple(ROWS), metavar="ROW", help="may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_buffers()
    options.work.mkdir(parents=True, exist_ok=True)

    results: dict[str, Any] = json.loads(DATA.read_text())["rows"] if DATA.is_file() else {}
    missing = [
        (name, seed)
        for name in options.only or ROWS
        for seed in ROWS[name].seeds
        if str(seed) not in results.get(name, {})
    ]
    if missing:
        real = read(options.images, -HELD_OUT, None)[0].float() / 255
        judges = {name: (look, look(real)) for name, look in looks(options.weights_h5).items()}
        if "training images" not in results:
            some = training_images(options.images, PER_CLASS)
            rows = torch.randperm(len(some), generator=torch.Generator().manual_seed(0))[:JUDGED]
            floor = {name: frechet_distance(seen, look(some.batch(rows))) for name, (look, seen) in judges.items()}
            results["training images"] = floor
    for name, seed in missing:
        figures, samples = measure(ROWS[name], seed, options.images, judges, options.work)
        save_file({"samples": samples}, options.work / f"samples {name} {seed}.safetensors")
        results.setdefault(name, {})[str(seed)] = figures
        DATA.write_text(json.dumps({"torch": torch.__version__, "rows": results}, indent=1) + "\n")
        print(name, seed, figures, flush=True)

    levers = {name: row.lever for name, row in ROWS.items()}
    show(results, levers)
    pictures = {"reachability": scatter(results, levers)}
    if all((options.work / f"samples {name} 0.safetensors").is_file() for name in STRIPS):  # measured with this FOLDER
        pictures["reachability-samples"] = strips(options.work)
    command = "python benchmarks/studies/reachability.py IMAGES WEIGHTS_H5 --work FOLDER"  # this call may add one row
    save("reachability", {"command": command, "rows": results}, pictures)


if __name__ == "__main__":
    main()
