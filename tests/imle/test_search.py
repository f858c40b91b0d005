import numpy as np
import pytest
import torch

import imle
import imle.data
from imle.exact import nearest_beyond


def brute_force(queries, candidates, k):
    d = (queries[:, None].double() - candidates[None].double()).norm(dim=2)
    order = d.sort(dim=1, stable=True)
    return order.indices[:, :k], order.values[:, :k].float()


@pytest.mark.parametrize("method", ["exact", "torch"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("slab", [2**27, 2**12])
def test_exact_methods_equal_brute_force(method, k, offset, slab, monkeypatch):
    monkeypatch.setattr(imle.data, "SLAB_BYTES", slab)
    g = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(60, 7, generator=g) + offset, torch.randn(300, 7, generator=g) + offset
    found = imle.nearest(queries, candidates, k, method)
    indices, distances = brute_force(queries, candidates, k)
    assert torch.equal(found.indices, indices)
    assert torch.allclose(found.distances, distances, atol=1e-6)
    assert found.indices.dtype == torch.int64
    assert found.distances.dtype == torch.float32


@pytest.mark.parametrize("method", ["exact", "torch"])
@pytest.mark.parametrize("slab", [2**27, 2**10])
def test_ties_go_to_the_lowest_index(method, slab, monkeypatch):
    monkeypatch.setattr(imle.data, "SLAB_BYTES", slab)
    g = torch.Generator().manual_seed(1)
    grid = torch.randint(0, 3, (200, 3), generator=g).float()  # 27 places, so every one is taken many times
    found = imle.nearest(grid[:50] + 0.25, grid, 5, method)
    indices, distances = brute_force(grid[:50] + 0.25, grid, 5)
    assert torch.equal(found.indices, indices)
    assert torch.allclose(found.distances, distances)
    same = torch.randn(1, 5, generator=g).expand(40, 5)
    assert torch.equal(imle.nearest(same, same, 3, method).indices, torch.arange(3).expand(40, 3))


def test_near_ties_far_from_zero_are_measured_and_not_guessed():
    """Distances that a squared-norm expansion in float32 cannot tell apart."""
    g = torch.Generator().manual_seed(2)
    queries, candidates = torch.randn(20, 4, generator=g), torch.randn(500, 4, generator=g) * 1e-4
    candidates[0] = 500.0  # one far point makes the norms, and with them the rounding, large
    found = imle.nearest(queries * 1e-4, candidates)
    assert torch.equal(found.indices, brute_force(queries * 1e-4, candidates, 1)[0])


def test_arrays_memory_maps_and_integers(tmp_path):
    rng = np.random.default_rng(0)
    candidates, queries = rng.integers(0, 255, (100, 5), np.uint16), rng.integers(0, 255, (30, 5), np.uint16)
    expected = brute_force(torch.tensor(queries.astype(float)), torch.tensor(candidates.astype(float)), 2)[0]
    np.save(tmp_path / "c.npy", candidates)
    mapped = np.load(tmp_path / "c.npy", mmap_mode="r")
    assert torch.equal(imle.nearest(queries, mapped, 2).indices, expected)


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_beyond_leaves_out_what_is_too_near(shift):
    g = torch.Generator().manual_seed(3)
    queries, candidates = torch.randn(50, 4, generator=g) + shift, torch.randn(200, 4, generator=g) + shift
    d = (queries[:, None] - candidates).norm(dim=2)
    indices, distances = nearest_beyond(queries, candidates, 0.8)
    expected = d.masked_fill(d < 0.8, torch.inf).min(1)
    assert torch.equal(indices, expected.indices)
    assert torch.allclose(distances, expected.values, atol=1e-4)
    assert nearest_beyond(queries, candidates, 1e6)[1].isinf().all()


@pytest.mark.parametrize(
    ("queries", "candidates", "k", "method", "message"),
    [
        (torch.ones(3, 2), torch.ones(3, 3), 1, "auto", "one dimension"),
        (torch.ones(3), torch.ones(3, 3), 1, "auto", "queries"),
        (torch.ones(3, 3), torch.ones(0, 3), 1, "auto", "candidates"),
        (torch.ones(3, 3), torch.ones(3, 3), 4, "auto", "k: expected at most the 3"),
        (torch.ones(3, 3), torch.ones(3, 3), 0, "auto", "k"),
        (torch.ones(3, 3), torch.ones(3, 3), 1, "best", "method: expected one of auto"),
    ],
)
def test_bad_input(queries, candidates, k, method, message):
    with pytest.raises(ValueError, match=message):
        imle.nearest(queries, candidates, k, method)
