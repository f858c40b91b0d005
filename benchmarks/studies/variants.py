"""Variants of IMLE and two fitted densities, on the latents of a trained stage 1 or on pixels, in equal time.

    python benchmarks/studies/digit_classifier.py MNIST digits.safetensors
    python benchmarks/studies/variants.py --name mnist --run RUN --digits MNIST digits.safetensors
    python benchmarks/studies/variants.py --name pixels --digits MNIST digits.safetensors     # pixels, no stage 1
    python benchmarks/studies/variants.py --name codes --pca 32 --digits MNIST digits.safetensors
    python benchmarks/studies/variants.py --name cifar --run RUN --judge IMAGES WEIGHTS_H5    # see judge.py

RUN is the folder of a finished `glann fit`; MNIST or IMAGES a folder of real images, one subfolder a class, the last of
which are compared with what is drawn. A tenth of the vectors is held out, another for every seed; every sampler is
fitted to the rest, and every IMLE gets as many epochs as fit into the same processor seconds.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from class_folders import read
from common import gaussian_samples, latents, plt, save, split
from digit_classifier import CLASSES, load, read_digits
from judge import Judge as ImageJudge
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

import imle
from glann import GLANN
from imle.metrics import balls, distances_to, energy_distance, frechet_distance

DRAWN, DECODED = 10_000, 3000
PROBES = (5, 15)  # epochs; multiples of those between two matchings
PIXELS = 5000  # digits, for the study without a stage 1
COMPONENTS = (5, 10, 20)  # of the mixture; that with the best likelihood on a tenth of what it may see is taken

Draw = Callable[[int], Tensor]  # n -> (n, d) samples

FAST = imle.IMLE(width=128, pool=1.0)
VARIANTS = {
    "imle.IMLE()": imle.IMLE(),
    "fast": FAST,
    "imle.IMLE(refresh=imle.Every(1))": imle.IMLE(refresh=imle.Every(1)),
    "imle.IMLE(noise_dim=8)": imle.IMLE(noise_dim=8),
    "fast, adaptive": replace(FAST, refresh=imle.Adaptive()),
    "fast, rejecting 5 %": replace(FAST, reject=imle.Reject(quantile=0.05)),
    "fast, both directions": replace(FAST, direction=0.5),
    "fast, not calibrated": replace(FAST, calibrate=False),
    "published": imle.IMLE.reference(),
}


@dataclass(frozen=True)
class Judge:
    """Measures samples against held-out latents, and what they decode to against real images where there are some."""

    held_out: Tensor  # (n, d)
    decode: Callable[[Tensor], Tensor]
    look: Callable[[Tensor], Tensor]  # images -> (N, k) features
    real: Tensor  # (N, k) features of real images

    def __call__(self, samples: Tensor) -> dict[str, float]:
        few = samples[: len(self.held_out)]
        near = balls(self.held_out, few)
        return {
            "energy": energy_distance(self.held_out, samples, unbiased=True),
            "coverage": near.coverage,
            "precision": near.precision,
            "density": near.density,
            "nearest": distances_to(self.held_out, samples).mean,
            "decoded": frechet_distance(self.real, self.look(self.decode(samples[:DECODED]))),
        }


def energy_of_the_mean(x: Tensor) -> float:
    """Energy distance, expected, of a sampler that has all right but for its mean, which it takes from N examples.

    Moved by δ, a distribution is at E[δᵀ H δ] of itself in second order, H the mean Hessian of ‖X − X′‖; δ has
    covariance Σ / N.
    """
    apart = (x - x.flip(0))[: len(x) // 2].double()  # each a pair of its own
    length = apart.norm(dim=1)
    hessian = torch.eye(x.shape[1]) * (1 / length).mean() - (apart.T / length**3) @ apart / len(apart)
    return float((hessian * torch.cov(x.T.double())).sum()) / len(x)


def with_time(settings: imle.IMLE, latents: Tensor, seconds: float, seed: int) -> imle.IMLE:
    """The settings with as many epochs as fit into the seconds; two short fits tell what an epoch costs."""
    spent = []
    for epochs in PROBES:
        started = time.process_time()
        replace(settings, seed=seed, epochs=epochs).fit(latents)
        spent.append(time.process_time() - started)
    epoch = (spent[1] - spent[0]) / (PROBES[1] - PROBES[0])
    fixed = max(spent[0] - PROBES[0] * epoch, 0.0)
    return replace(settings, seed=seed, epochs=max(1, math.floor((seconds - fixed) / epoch)))


def gaussian(latents: Tensor, seed: int) -> Draw:
    """A normal distribution with the latents' mean and covariance."""
    return lambda n: gaussian_samples(latents, n, seed)


def mixture(latents: Tensor, seed: int) -> Draw:
    """A mixture of normal distributions with full covariances."""
    other, seen = (part.double().numpy() for part in latents.tensor_split([len(latents) // 10]))
    fits = [GaussianMixture(k, reg_covar=1e-5, random_state=seed).fit(seen) for k in COMPONENTS]
    best = max(fits, key=lambda model: model.score(other))
    return lambda n: torch.from_numpy(best.sample(n)[0][np.random.default_rng(seed).permutation(n)]).float()


def sheet(images: Tensor, columns: int = 8) -> np.ndarray:
    """(n, C, H, W) -> one picture (H', W', C)."""
    rows = [torch.cat(list(line), dim=2) for line in images.split(columns)]
    return torch.cat(rows, dim=1).permute(1, 2, 0).squeeze(-1).clamp(0, 1).numpy()


def picture(grids: dict[str, Tensor]) -> Any:
    """Samples of each sampler, side by side."""
    figure, axes = plt.subplots(math.ceil(len(grids) / 4), 4, figsize=(10, 2.7 * math.ceil(len(grids) / 4)))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, images) in zip(axes.flat, grids.items(), strict=False):
        axis.imshow(sheet(images), cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=10)
    return figure


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
    parser.add_argument("--name", required=True, help="of the results: docs/studies/data/variants_NAME.json")
    parser.add_argument("--run", type=Path, help="folder of a finished glann fit; without it, pixels are the vectors")
    parser.add_argument("--pca", type=int, help="without --run: so many principal components of the pixels instead")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--digits", type=Path, nargs=2, metavar=("FOLDER", "CLASSIFIER"))
    what.add_argument("--judge", type=Path, nargs=2, metavar=("FOLDER", "WEIGHTS_H5"))
    parser.add_argument("--seconds", type=float, default=20, help="of processor time for every IMLE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one of the IMLE variants, by its name")
    options = parser.parse_args()

    look: Callable[[Tensor], Tensor]
    if options.digits:
        look = load(options.digits[1]).features
        reference = read_digits(options.digits[0], 2 * DECODED)[0]
    else:
        look = ImageJudge(options.judge[1]).features
        reference = read(options.judge[0], -DECODED // CLASSES)[0].float() / 255
    decode: Callable[[Tensor], Tensor]
    if options.run:
        decode = GLANN.from_pretrained(options.run).decode
        vectors = nn.functional.normalize(latents(str(options.run / "glo" / "latents.safetensors")), dim=1)
    else:
        vectors = read_digits(options.digits[0])[0].flatten(1)[:PIXELS]  # the first of each class, in turn
        mean, basis = torch.zeros(1), torch.eye(vectors.shape[1])
        if options.pca:
            mean = vectors.mean(0)
            basis = torch.linalg.svd(vectors - mean, full_matrices=False)[2][: options.pca]
            vectors = (vectors - mean) @ basis.T
        decode = lambda samples: (samples @ basis + mean).clamp(0, 1).view(-1, 1, 28, 28)  # noqa: E731

    rows: dict[str, list[dict[str, float]]] = {}
    grids: dict[str, Tensor] = {}

    def record(name: str, seconds: float, epochs: int, samples: Tensor) -> None:
        samples = nn.functional.normalize(samples, dim=1) if options.run else samples
        result: dict[str, Any] = {"seconds": seconds, "epochs": epochs, **judge(samples)}
        rows.setdefault(name, []).append(result)
        grids.setdefault(name, decode(samples[:64]))
        print(seed, name, {k: round(v, 4) for k, v in result.items()}, flush=True)

    print(f"energy of a mean from nine tenths of them: {energy_of_the_mean(vectors) / 0.9:.3g}")
    replace(imle.IMLE(), epochs=1).fit(vectors[:500])  # loads what it needs
    for seed in range(options.seeds):
        train, held_out = split(vectors, len(vectors) // 10, seed)
        judge = Judge(held_out, decode, look, look(reference))
        # What a perfect memory would draw. Drawn with replacement, because an unbiased distance takes every set for a
        # sample of its own: of the training set itself it would subtract the chance that a fit to it inherits.
        memory = torch.randint(len(train), (DRAWN,), generator=torch.Generator().manual_seed(seed))
        record("a perfect memory", 0.0, 0, train[memory])
        for name, fit_density in (("Gaussian", gaussian), ("Gaussian mixture", mixture)):
            started = time.process_time()
            draw = fit_density(train, seed)
            record(name, time.process_time() - started, 0, draw(DRAWN))
        for name, settings in VARIANTS.items():
            if options.only not in (None, name):
                continue
            timed = with_time(settings, train, options.seconds, seed)
            started = time.process_time()
            sampler = timed.fit(train)
            seconds = time.process_time() - started
            record(name, seconds, timed.epochs, sampler.sample(DRAWN, seed=1))
            if name == "imle.IMLE()":  # what calibration's second half, the frequencies of regions, is worth
                sampler.balance = None
                record("imle.IMLE(), frequencies as trained", seconds, timed.epochs, sampler.sample(DRAWN, seed=1))
    print(table(rows))
    save("variants", {"rows": rows}, {f"variants_{options.name}": picture(grids)}, options.name)


if __name__ == "__main__":
    main()
