"""How well two point sets match: real points against generated ones. All pairs, in slabs, in double precision."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imle.calibration import moments
from imle.checks import check_integer, check_number
from imle.data import as_pair, slab_rows
from imle.modes import Modes, modes, nearest_mode
from imle.search import nearest

__all__ = [
    "Balls", "Distances", "Likelihood", "Modes", "balls", "distances_to", "energy_distance", "evaluate",
    "frechet_distance", "modes", "nearest_mode", "parzen_log_likelihood",
]  # fmt: skip


@dataclass(frozen=True)
class Balls:
    """What k-nearest-neighbour balls around points say of two sets."""

    precision: float  # share of generated points in a ball around a real one
    recall: float  # share of real points in a ball around a generated one
    density: float  # real balls that hold a generated point, mean over these, over k; 1 expected, may exceed it
    coverage: float  # share of real balls that hold a generated point


@dataclass(frozen=True)
class Likelihood:
    """A mean log-likelihood and how sure it is."""

    mean: float  # nats an example
    standard_error: float
    sigma: float  # bandwidth chosen on the validation set


@dataclass(frozen=True)
class Distances:
    """Euclidean distances from each real point to the nearest generated one."""

    mean: float
    median: float
    max: float


def balls(real: Any, generated: Any, k: int = 5) -> Balls:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020, equations 3 and 5).

    The ball of a point reaches to its k-th nearest neighbour in its own set.

    Args:
        real: (N, d), N > k.
        generated: (M, d), M > k.
        k: which neighbour, ≥ 1.

    Returns:
        Four numbers.

    Raises:
        ValueError: if a set is too small or the dimensions differ.
    """
    check_integer("k", k, 1)
    real, generated = as_pair(real, generated, k + 1)
    real_radii, generated_radii = _radii(real, k), _radii(generated, k)
    in_a_real_ball = torch.zeros(len(generated), dtype=torch.bool)
    real_balls_hit = torch.zeros(len(real), dtype=torch.bool)
    in_a_generated_ball = torch.zeros(len(real), dtype=torch.bool)
    hits = 0
    for start, distances in _all_pairs(generated, real):
        inside = distances <= real_radii
        in_a_real_ball[start : start + len(distances)] = inside.any(1)
        real_balls_hit |= inside.any(0)
        hits += int(inside.sum())
        in_a_generated_ball |= (distances <= generated_radii[start : start + len(distances), None]).any(0)
    return Balls(
        precision=float(in_a_real_ball.double().mean()),
        recall=float(in_a_generated_ball.double().mean()),
        density=hits / (k * len(generated)),
        coverage=float(real_balls_hit.double().mean()),
    )


def energy_distance(real: Any, generated: Any, unbiased: bool = False) -> float:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ (Székely & Rizzo 2013), zero only for equal distributions.

    Args:
        real: (N, d).
        generated: (M, d).
        unbiased: leave the pairs of a point with itself out: the expectation is then zero for two samples of one
            distribution, and single values may be negative. Otherwise the value is ≥ 0 and biased by about 1/N + 1/M.

    Returns:
        The distance, in the unit of the data.

    Raises:
        ValueError: if the dimensions differ, or for fewer than two points a set where unbiased.
    """
    real, generated = as_pair(real, generated, 2 if unbiased else 1)
    between = _mean_distance(real, generated, False)
    return 2 * between - _mean_distance(real, real, unbiased) - _mean_distance(generated, generated, unbiased)


def frechet_distance(real: Any, generated: Any) -> float:
    """‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½): between the normal distributions with the sets' moments.

    A global distance: two sets with equal mean and covariance score 0 however different they are.

    Args:
        real: (N, d).
        generated: (M, d).

    Returns:
        The distance, in squared units of the data.

    Raises:
        ValueError: if the dimensions differ.
    """
    real, generated = as_pair(real, generated, 1)
    (mean1, cov1), (mean2, cov2) = moments([(real, None)]), moments([(generated, None)])
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp_min(0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(float(distance), 0.0)


def parzen_log_likelihood(
    generated: Any, test: Any, validation: Any, sigmas: Sequence[float] | None = None
) -> Likelihood:
    """Mean log-likelihood of test points under a kernel density estimate of generated points (Breuleux et al. 2011).

    log p(x) = log 1/M Σⱼ N(x; yⱼ, σ² I). Read Theis, van den Oord & Bethge 2016 ("A note on the evaluation of
    generative models") before believing it: in many dimensions the estimate is far from the true likelihood for any
    affordable M, it ranks models wrongly, and k-means centres score higher than real data. It is here to compare with
    published figures.

    Args:
        generated: (M, d).
        test: (N, d).
        validation: (V, d), points that σ is chosen on.
        sigmas: bandwidths to choose from, all > 0; by default 40 steps around the distances seen on the validation set.

    Returns:
        Mean, standard error over the test points, and σ.

    Raises:
        ValueError: if the dimensions differ, or a bandwidth is not positive.
    """
    generated, test = as_pair(generated, test, 1)
    generated, validation = as_pair(generated, validation, 1)
    if sigmas is None:
        typical = nearest(validation.float(), generated.float()).distances.double().square().mean().sqrt()
        middle = max(float(typical) / math.sqrt(generated.shape[1]), 1e-12)
        sigmas = (middle * np.geomspace(0.1, 3.0, 40)).tolist()
    for sigma in sigmas:
        check_number("sigmas", float(sigma), 0, open_low=True)
    scores = _kernel_log_likelihoods(generated, validation, list(sigmas)).mean(0)
    sigma = float(sigmas[int(scores.argmax())])
    each = _kernel_log_likelihoods(generated, test, [sigma])[:, 0]
    error = float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    return Likelihood(float(each.mean()), error, sigma)


def distances_to(real: Any, generated: Any) -> Distances:
    """How far each real point is from the nearest generated one.

    Args:
        real: (N, d).
        generated: (M, d).

    Returns:
        Mean, median and worst.

    Raises:
        ValueError: if the dimensions differ.
    """
    found = nearest(real, generated).distances[:, 0]
    return Distances(float(found.mean()), float(found.median()), float(found.max()))


def evaluate(real: Any, generated: Any, k: int = 5) -> dict[str, float]:
    """All measures that need nothing but the two sets, by name.

    Args:
        real: (N, d), N > k.
        generated: (M, d), M > k.
        k: see `balls`.

    Returns:
        JSON-able numbers.

    Raises:
        ValueError: if a set is too small or the dimensions differ.
    """
    return {
        **asdict(balls(real, generated, k)),
        "energy_distance": energy_distance(real, generated),
        "energy_distance_unbiased": energy_distance(real, generated, unbiased=True),
        "frechet_distance": frechet_distance(real, generated),
        **{f"{name}_distance": value for name, value in asdict(distances_to(real, generated)).items()},
    }


def _all_pairs(one: Tensor, two: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, (s, M) distances), slab by slab of the first set."""
    centre = two.mean(0)
    two = two - centre
    for start in range(0, len(one), slab_rows(2 * len(two))):
        yield start, torch.cdist(one[start : start + slab_rows(2 * len(two))] - centre, two)


def _radii(points: Tensor, k: int) -> Tensor:
    """(N,) distance to the k-th nearest other point, and a hair more, so that it is inside whatever the rounding."""
    parts = [d.kthvalue(k + 1, dim=1).values for _, d in _all_pairs(points, points)]
    return torch.cat(parts) + 1e-7 * (points - points.mean(0)).norm(dim=1).mean()


def _mean_distance(one: Tensor, two: Tensor, without_diagonal: bool) -> float:
    total = sum(float(d.sum()) for _, d in _all_pairs(one, two))
    pairs = len(one) * len(two)
    return total / (pairs - len(one) if without_diagonal else pairs)


def _kernel_log_likelihoods(generated: Tensor, points: Tensor, sigmas: list[float]) -> Tensor:
    """(N, number of sigmas) log-likelihoods."""
    dim = generated.shape[1]
    rows = []
    for _, distances in _all_pairs(points, generated):
        squared = distances.square_()
        rows.append(
            torch.stack(
                [
                    torch.logsumexp(-squared / (2 * s * s), 1)
                    - math.log(len(generated)) - dim / 2 * math.log(2 * math.pi * s * s)
                    for s in sigmas
                ],
                1,
            )
        )  # fmt: skip
    return torch.cat(rows)
