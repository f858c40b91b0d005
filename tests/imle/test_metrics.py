import math

import numpy as np
import pytest
import torch

import imle.data
from imle import metrics
from imle.metrics import modes, nearest_mode


def normal(n, d=3, seed=0, shift=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def brute_balls(real, generated, k):
    d_rr, d_gg, d_gr = torch.cdist(real, real), torch.cdist(generated, generated), torch.cdist(generated, real)
    r_radii, g_radii = d_rr.sort(1).values[:, k], d_gg.sort(1).values[:, k]
    inside = d_gr <= r_radii
    return (
        inside.any(1).double().mean(), (d_gr <= g_radii[:, None]).any(0).double().mean(),
        inside.sum() / (k * len(generated)), inside.any(0).double().mean(),
    )  # fmt: skip


@pytest.mark.parametrize("slab", [2**27, 2**11])
def test_balls_equal_brute_force(slab, monkeypatch):
    monkeypatch.setattr(imle.data, "SLAB_BYTES", slab)
    real, generated = normal(80).double(), normal(60, seed=1, shift=0.7).double()
    found = metrics.balls(real, generated, 4)
    expected = brute_balls(real, generated, 4)
    got = (found.precision, found.recall, found.density, found.coverage)
    assert got == pytest.approx([float(e) for e in expected])


def test_balls_of_equal_and_of_distant_sets():
    x = normal(100)
    same = metrics.balls(x, x.clone())
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(1.2, abs=0.2)  # every ball holds its k neighbours and its own centre
    far = metrics.balls(x, x + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_a_dropped_mode_costs_recall_and_coverage_but_not_precision():
    real = torch.cat([normal(100), normal(100, seed=1, shift=20.0)])
    half = metrics.balls(real, normal(200, seed=2))
    assert half.precision > 0.8
    assert half.recall < 0.55
    assert half.coverage < 0.55


@pytest.mark.parametrize("slab", [2**27, 2**11])
def test_energy_distance_equals_brute_force(slab, monkeypatch):
    monkeypatch.setattr(imle.data, "SLAB_BYTES", slab)
    x, y = normal(50).double() + 1000, normal(70, seed=1, shift=1000.5).double()
    xy, xx, yy = (
        float(torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").sum()) for a, b in ((x, y), (x, x), (y, y))
    )
    assert metrics.energy_distance(x, y) == pytest.approx(2 * xy / 3500 - xx / 2500 - yy / 4900, abs=1e-6)
    assert metrics.energy_distance(x, y, unbiased=True) == pytest.approx(
        2 * xy / 3500 - xx / 2450 - yy / 4830, abs=1e-6
    )


def test_unbiased_energy_distance_is_zero_on_average():
    values = [metrics.energy_distance(normal(60, seed=s), normal(40, seed=s + 1000), unbiased=True) for s in range(200)]
    plain = [metrics.energy_distance(normal(60, seed=s), normal(40, seed=s + 1000)) for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(200)
    assert np.mean(plain) > 10 * np.std(plain) / math.sqrt(200)
    assert min(plain) >= 0


def test_frechet_distance_of_known_normals():
    one = normal(200_000, d=2, shift=1.0)
    two = normal(200_000, d=2, seed=1, scale=3.0)
    assert metrics.frechet_distance(one, two) == pytest.approx(2 * 1 + 2 * (3 - 1) ** 2, rel=0.02)
    assert metrics.frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    flat = torch.cat([one[:, :1], torch.zeros(200_000, 1)], 1)  # a singular covariance
    assert metrics.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


def test_parzen_finds_the_density_of_a_normal():
    truth = -0.5 * 2 * (math.log(2 * math.pi) + 1)  # minus the entropy of a standard normal in two dimensions
    found = metrics.parzen_log_likelihood(normal(5000, d=2), normal(2000, d=2, seed=1), normal(500, d=2, seed=2))
    assert found.mean == pytest.approx(truth, abs=0.1)
    assert 0.01 < found.standard_error < 0.05
    assert 0.1 < found.sigma < 0.6


def test_parzen_by_hand():
    found = metrics.parzen_log_likelihood(
        torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5]]), sigmas=[0.5]
    )
    density = [(math.exp(0) + math.exp(-8)) / 2, math.exp(-2)]
    each = [math.log(p / math.sqrt(2 * math.pi * 0.25)) for p in density]
    assert found.mean == pytest.approx(np.mean(each), rel=1e-6)
    assert found.standard_error == pytest.approx(np.std(each, ddof=1) / math.sqrt(2), rel=1e-6)


def test_modes_of_a_grid():
    centres = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
    points = torch.cat([centres[:6].repeat(10, 1) + 0.05, torch.full((20, 2), 9.0)])
    labels = nearest_mode(points, centres, 0.2)
    found = modes(labels, 9)
    assert found.found == 6
    assert found.share == 60 / 80
    assert found.reverse_kl == pytest.approx(math.log(9 / 6))
    assert modes(torch.arange(9), 9).reverse_kl == pytest.approx(0)
    assert modes([0, 0, 0, 1], 2, expected=[3, 1]).reverse_kl == pytest.approx(0)
    assert modes(torch.full((5,), -1), 9) == (type(found))(0, 0.0, math.inf)


def test_distances_to():
    found = metrics.distances_to(torch.tensor([[0.0, 0], [0, 3], [4, 0]]), torch.tensor([[0.0, 0], [9, 9]]))
    assert (found.mean, found.median, found.max) == (pytest.approx(7 / 3), 3, 4)


def test_evaluate_names_everything():
    figures = metrics.evaluate(normal(50), normal(60, seed=1))
    assert set(figures) == {
        "precision", "recall", "density", "coverage", "energy_distance", "energy_distance_unbiased", "frechet_distance",
        "mean_distance", "median_distance", "max_distance",
    }  # fmt: skip
    assert all(isinstance(v, float) for v in figures.values())


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.balls(normal(5), normal(50)),
        lambda: metrics.balls(normal(50), normal(50), k=0),
        lambda: metrics.energy_distance(normal(5), normal(5, d=4)),
        lambda: metrics.energy_distance(normal(1), normal(5), unbiased=True),
        lambda: metrics.frechet_distance(normal(5)[:, 0], normal(5)),
        lambda: metrics.frechet_distance(normal(5) * math.nan, normal(5)),
        lambda: metrics.parzen_log_likelihood(normal(5), normal(5), normal(5), sigmas=[0.0]),
        lambda: nearest_mode(normal(5), normal(5), 0.0),
        lambda: modes([0, 3], 3),
        lambda: modes([0.5], 3),
        lambda: modes([], 3),
        lambda: modes([0], 3, expected=[1, 0, 1]),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="expected"):
        call()
