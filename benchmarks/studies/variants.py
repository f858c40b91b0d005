"""Variants of IMLE and two fitted densities, on the latents of a trained stage 1, in equal time.

    python benchmarks/studies/digit_classifier.py MNIST digits.safetensors
    python benchmarks/studies/variants.py --run RUN --digits MNIST digits.safetensors  # compares images too
    python benchmarks/studies/variants.py --run RUN                                    # latents alone

RUN is the folder of a finished `glann fit`; MNIST a folder of at least as many digits, the last of which are compared
with what is drawn. A tenth of the latents is held out, another for every seed; every sampler is fitted to the rest, and
every IMLE gets as many epochs as fit into the same processor seconds. Prints a table, and draws what each samples.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from digit_classifier import DigitClassifier, load, read_digits
from safetensors.torch import load_file
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

import imle
from glann import GLANN
from imle.metrics import balls, distances_to, energy_distance, frechet_distance

DRAWN, DECODED, PROBE_EPOCHS = 10_000, 3000, 10
COMPONENTS = (5, 10, 20)  # of the mixture; that with the best likelihood on a tenth of what it may see is taken

Draw = Callable[[int], Tensor]  # n -> (n, d) samples

FAST = imle.IMLE(width=128, refresh=imle.Every(5), pool=1.0)
VARIANTS = {
    "imle.IMLE()": imle.IMLE(),
    "fast": FAST,
    "fast, noise 8": replace(FAST, noise_dim=8),
    "fast, adaptive": replace(FAST, refresh=imle.Adaptive()),
    "fast, rejecting 5 %": replace(FAST, reject=imle.Reject(quantile=0.05)),
    "fast, both directions": replace(FAST, direction=0.5),
    "fast, not calibrated": replace(FAST, calibrate=False),
    "published": imle.IMLE.reference(lr=1e-3),
}


@dataclass(frozen=True)
class Judge:
    """Measures samples against held-out latents, and what they decode to against real images where there are some."""

    held_out: Tensor  # (n, d)
    decode: Callable[[Tensor], Tensor]
    classifier: DigitClassifier | None
    real: Tensor | None  # (N, 128) features of real images

    def __call__(self, samples: Tensor) -> dict[str, float]:
        few = samples[: len(self.held_out)]
        near = balls(self.held_out, few)
        row = {
            "energy": energy_distance(self.held_out, samples[:DECODED], unbiased=True),
            "coverage": near.coverage,
            "precision": near.precision,
            "density": near.density,
            "nearest": distances_to(self.held_out, samples).mean,
        }
        if self.classifier is not None:
            row["decoded"] = frechet_distance(self.real, self.classifier.features(self.decode(samples[:DECODED])))
        return row


def with_time(settings: imle.IMLE, latents: Tensor, seconds: float, seed: int) -> imle.IMLE:
    """The settings with as many epochs as fit into the seconds, by a short fit of the same kind."""
    started = time.process_time()
    replace(settings, seed=seed, epochs=PROBE_EPOCHS).fit(latents)
    epochs = max(1, math.floor(seconds * PROBE_EPOCHS / (time.process_time() - started)))
    return replace(settings, seed=seed, epochs=epochs)


def gaussian(latents: Tensor, seed: int) -> Draw:
    """A normal distribution with the latents' mean and covariance."""
    normal = torch.distributions.MultivariateNormal(latents.mean(0).double(), latents.T.cov().double())
    torch.manual_seed(seed)
    return lambda n: normal.sample((n,)).float()


def mixture(latents: Tensor, seed: int) -> Draw:
    """A mixture of normal distributions with full covariances."""
    split = len(latents) // 10
    seen, other = latents[split:].double().numpy(), latents[:split].double().numpy()
    fits = [GaussianMixture(k, reg_covar=1e-5, random_state=seed).fit(seen) for k in COMPONENTS]
    best = max(fits, key=lambda model: model.score(other))
    return lambda n: torch.from_numpy(best.sample(n)[0][np.random.default_rng(seed).permutation(n)]).float()


def sheet(images: Tensor, columns: int = 8) -> np.ndarray:
    """(n, C, H, W) -> one picture (H', W', C)."""
    rows = [torch.cat(list(line), dim=2) for line in images.split(columns)]
    return torch.cat(rows, dim=1).permute(1, 2, 0).squeeze(-1).numpy()


def draw_grids(grids: dict[str, Tensor], path: Path) -> None:
    """Samples of each sampler, side by side."""
    figure, axes = plt.subplots(2, math.ceil(len(grids) / 2), figsize=(14, 7.5))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, images) in zip(axes.flat, grids.items(), strict=False):
        axis.imshow(sheet(images), cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean and, over several seeds, the standard deviation."""
    columns = list(next(iter(rows.values()))[0])
    lines = ["| sampler | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, results in rows.items():
        cells = []
        for column in columns:
            values = np.array([result[column] for result in results if column in result])
            spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3g}{spread}" if len(values) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished glann fit")
    parser.add_argument("--digits", type=Path, nargs=2, metavar=("FOLDER", "CLASSIFIER"))
    parser.add_argument("--seconds", type=float, default=20, help="of processor time for every IMLE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="of the IMLE variants, those whose names contain one of these words")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()

    model = GLANN.from_pretrained(options.run)
    latents = nn.functional.normalize(load_file(options.run / "glo" / "latents.safetensors")["latents"].float(), dim=1)
    classifier, real = None, None
    if options.digits:
        classifier = load(options.digits[1])
        real = classifier.features(read_digits(options.digits[0], len(latents))[0])

    rows: dict[str, list[dict[str, float]]] = {}
    grids: dict[str, Tensor] = {}

    def record(name: str, seconds: float, samples: Tensor) -> None:
        samples = nn.functional.normalize(samples, dim=1)
        result: dict[str, Any] = {"seconds": seconds, **judge(samples)}
        rows.setdefault(name, []).append(result)
        grids.setdefault(name, model.decode(samples[:64]))
        print(seed, name, {k: round(v, 4) for k, v in result.items()}, flush=True)

    wanted = {n: s for n, s in VARIANTS.items() if not options.only or any(word in n for word in options.only)}
    for seed in range(options.seeds):
        order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed))
        held_out, train = latents[order].tensor_split([len(order) // 10])
        judge = Judge(held_out, model.decode, classifier, real)
        record("the training latents", 0.0, train)
        for name, fit_density in (("Gaussian", gaussian), ("Gaussian mixture", mixture)):
            started = time.process_time()
            draw = fit_density(train, seed)
            record(name, time.process_time() - started, draw(DRAWN))
        for name, settings in wanted.items():
            timed = with_time(settings, train, options.seconds, seed)
            started = time.process_time()
            sampler = timed.fit(train)
            record(name, time.process_time() - started, sampler.sample(DRAWN, seed=1))
    print(table(rows))
    if options.picture:
        draw_grids(grids, options.picture)


if __name__ == "__main__":
    main()
