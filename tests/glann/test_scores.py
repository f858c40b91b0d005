import math

import pytest
import torch

import imle.metrics
from glann.scores import kernel_chance, kernel_distance, score, spread


def normal(n, d, seed):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_moments(points, mean, covariance):
    """Moved and stretched so that mean and (unbiased) covariance are exactly the given ones."""
    centred = points - points.mean(0)
    whitened = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(centred.T))).T
    return whitened @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_two_known_normal_distributions():
    # Diagonal covariances commute: ‖μ₁ − μ₂‖² + Σ (σ₁ − σ₂)².
    first = with_moments(normal(200, 3, 0), torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0]).double()))
    second = with_moments(
        normal(300, 3, 1), torch.tensor([1.0, 0, 2]).double(), torch.diag(torch.tensor([4.0, 4.0, 1.0]).double())
    )
    assert math.isclose(score(first, second).frechet_distance, 1 + 4 + 1 + 0 + 4, abs_tol=1e-4)


def test_precision_recall_density_and_coverage_are_those_of_all_pairs():
    real, other = normal(90, 5, 0), 1.3 * normal(70, 5, 1) + 0.4
    found = score(real, other)

    def radius(points, k):
        return torch.tensor([sorted(float((p - q).norm()) for q in points)[k] for p in points], dtype=torch.float64)

    between = torch.tensor([[float((p - q).norm()) for q in real] for p in other], dtype=torch.float64)
    assert found.precision == pytest.approx(float((between <= radius(real, 3)).any(1).double().mean()))
    assert found.recall == pytest.approx(float((between <= radius(other, 3)[:, None]).any(0).double().mean()))
    inside = between <= radius(real, 5)
    assert found.density == pytest.approx(float(inside.sum()) / (5 * len(other)))
    assert found.coverage == pytest.approx(float(inside.any(0).double().mean()))
    ours = imle.metrics.balls(real, other, 3)
    assert (found.precision, found.recall) == pytest.approx((ours.precision, ours.recall))


def test_kernel_distance_of_equal_distributions_is_zero_on_average():
    values = torch.tensor(
        [score(normal(80, 8, 2 * k), normal(80, 8, 2 * k + 1), seed=k).kernel_distance for k in range(40)]
    )
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean())) < 2 * error
    moved = score(normal(80, 8, 0), normal(80, 8, 1) + 0.5).kernel_distance
    assert moved > 10 * error


def test_the_kernel_distance_of_all_pairs():
    def kernel(one, two):
        return torch.tensor([[(float(p @ q) / len(p) + 1) ** 3 for q in two] for p in one], dtype=torch.float64)

    real, other = normal(9, 5, 0), 1.2 * normal(9, 5, 1)
    within = [kernel(points, points)[~torch.eye(9, dtype=torch.bool)].mean() for points in (real, other)]
    assert kernel_distance(real, other) == pytest.approx(float(sum(within) - 2 * kernel(real, other).mean()))


def test_the_kernel_distance_of_all_pairs_is_that_of_subsets_on_average():
    real, other = normal(64, 6, 0), 1.3 * normal(64, 6, 1)
    by_subsets = score(real, other)
    distance = kernel_distance(real, other)
    assert abs(distance - by_subsets.kernel_distance) < by_subsets.kernel_distance_deviation


def test_one_in_twenty_comparisons_of_equal_sets_is_above_chance():
    chance = kernel_chance(normal(40, 6, 0), normal(40, 6, 1))
    above = [kernel_distance(normal(40, 6, 2 * k), normal(40, 6, 2 * k + 1)) > chance for k in range(1, 400)]
    assert 0.01 < sum(above) / len(above) < 0.12
    assert kernel_distance(normal(40, 6, 0), normal(40, 6, 1) + 0.5) > chance
    assert chance == kernel_chance(normal(40, 6, 0), normal(40, 6, 1))


def test_diversity_is_the_spread_beside_that_of_real_images():
    real = normal(64, 6, 0)
    assert score(real, 0.5 * normal(64, 6, 1)).diversity == pytest.approx(0.5, abs=0.05)
    assert spread(torch.ones(20, 3)) == 0


def test_one_set_is_equal_to_itself():
    real = normal(64, 6, 0)
    found = score(real, real)
    assert found.frechet_distance < 1e-6
    assert (found.precision, found.recall, found.coverage, found.diversity) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("real", "other", "message"),
    [
        (normal(15, 4, 0), normal(40, 4, 1), "N >= 16"),
        (normal(40, 4, 0), normal(40, 5, 1), "one dimension"),
        (normal(40, 4, 0) / 0, normal(40, 4, 1), "finite"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(real, other, message):
    with pytest.raises(ValueError, match=message):
        score(real, other)
