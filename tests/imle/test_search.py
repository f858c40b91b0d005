import numpy as np
import pytest
import torch

import imle
import imle.data
import imle.exact
from imle.exact import nearest_beyond
from imle.search import choose


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


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("method", ["exact", "torch"])
@pytest.mark.parametrize("slab", [2**27, 2**11])
def test_rows_that_occur_many_times_are_ties_like_others(k, method, slab, monkeypatch):
    monkeypatch.setattr(imle.data, "SLAB_BYTES", slab)
    g = torch.Generator().manual_seed(3)
    some = torch.randn(40, 6, generator=g)
    for candidates in (some.repeat(9, 1), torch.cat([some.repeat_interleave(11, 0), torch.randn(30, 6, generator=g)])):
        queries = torch.cat([some[:15], torch.randn(15, 6, generator=g)])
        found = imle.nearest(queries, candidates, k, method)
        indices, distances = brute_force(queries, candidates, k)
        assert torch.equal(found.indices, indices)
        assert torch.allclose(found.distances, distances, atol=1e-6)


def test_rows_that_occur_many_times_are_measured_once(monkeypatch):
    """Not every pair: that took a hundred times as long."""
    monkeypatch.setattr(imle.exact, "_every_difference", None)
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(4))
    assert torch.equal(imle.nearest(rows, rows.repeat(20, 1)).indices[:, 0], torch.arange(50))
    minus = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [2.0, 0.0]]).repeat(10, 1)  # −0 equals 0
    assert imle.nearest(minus[:2].repeat(5, 1), minus, 2).indices.tolist() == [[0, 1]] * 10


def test_numbers_that_are_none_are_refused():
    good = torch.randn(30, 3)
    for bad in (torch.nan, torch.inf):
        wrong = good.clone()
        wrong[7, 1] = bad
        for method in ("exact", "torch"):
            with pytest.raises(ValueError, match=r"candidates: expected finite numbers .* in row 7"):
                imle.nearest(good, wrong, 1, method)
            with pytest.raises(ValueError, match=r"queries: expected finite numbers .* in row 7"):
                imle.nearest(wrong, good, 1, method)
    with pytest.raises(ValueError, match="in row 2"):
        imle.nearest(np.eye(3), np.eye(3) * [1, 1, 1e300])
    for wrong in (good > 0, good.to(torch.complex64)):
        with pytest.raises(ValueError, match="expected floats or integers"):
            imle.nearest(wrong, wrong)
    huge = torch.full((2, 4), 3e38)  # finite, although their sum is not
    assert imle.nearest(huge[:1], huge).indices.tolist() == [[0]]


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


@pytest.fixture(scope="module")
def pictures():
    """Points near a 20-dimensional subspace of 300 dimensions, with many near neighbours."""
    g = torch.Generator().manual_seed(4)
    basis = torch.randn(20, 300, generator=g)
    points = torch.randn(3000, 20, generator=g) @ basis + 0.3 * torch.randn(3000, 300, generator=g) + 2
    return points[:400] + 0.1 * torch.randn(400, 300, generator=g), points[100:]


@pytest.mark.parametrize("method", ["refine", "ivf", "hnsw"])
@pytest.mark.parametrize("k", [1, 5])
def test_approximate_methods_reach_their_recall_and_measure_exactly(method, k, pictures):
    queries, candidates = pictures
    found = imle.nearest(queries, candidates, k, method)
    indices, _ = brute_force(queries, candidates, k)
    assert found.method == method
    assert found.recall >= 0.95
    assert float((found.indices[:, 0] == indices[:, 0]).float().mean()) >= 0.95
    measured = (queries[:, None] - candidates[found.indices]).norm(dim=2)
    assert torch.allclose(found.distances, measured, atol=1e-4)
    assert (found.distances.diff(dim=1) >= 0).all()
    assert all(len(row.unique()) == k for row in found.indices)


@pytest.mark.parametrize("method", ["refine", "ivf"])
def test_what_a_fit_may_use_repeats(method, pictures):
    one, two = (imle.nearest(*pictures, 3, method) for _ in range(2))
    assert torch.equal(one.indices, two.indices)
    assert torch.equal(one.distances, two.distances)


@pytest.mark.parametrize("method", ["refine", "ivf", "hnsw"])
@pytest.mark.parametrize("m", [1, 2, 50])
def test_approximate_methods_with_hardly_any_candidates(method, m):
    candidates = torch.randn(m, 6, generator=torch.Generator().manual_seed(5))
    found = imle.nearest(candidates, candidates, m, method)
    assert torch.equal(found.indices[:, 0], torch.arange(m))
    assert torch.equal(found.indices.sort(1).values, torch.arange(m).expand(m, m))
    constant = imle.nearest(torch.ones(7, 4), torch.ones(9, 4), 2, method)
    assert torch.equal(constant.distances, torch.zeros(7, 2))


def test_auto_goes_by_sizes_and_device():
    assert choose(1000, 10_000, 64) == "exact"
    assert choose(10_000, 1_000_000, 64) == "exact"
    assert choose(8000, 200_000, 3072) == "refine"
    assert choose(8000, 200_000, 3072, "cuda") == "refine"
    assert choose(1_000_000, 1_000_000, 64) == "ivf"
    assert choose(1_000_000, 1_000_000, 64, "cuda") == "torch"
    assert choose(1_000_000, 1_000_000, 64, has_faiss=False) == "torch"


def test_auto_falls_back_to_exact_where_a_subspace_loses_too_much(monkeypatch):
    monkeypatch.setattr("imle.search.REFINE_WORK", 1)
    g = torch.Generator().manual_seed(6)
    queries, candidates = torch.randn(100, 400, generator=g), torch.randn(3000, 400, generator=g)  # no subspace at all
    found = imle.nearest(queries, candidates)
    assert found.method == "exact"
    assert found.recall == 1
    assert torch.equal(found.indices, brute_force(queries, candidates, 1)[0])


def test_without_faiss_everything_but_its_own_indices_works(monkeypatch):
    monkeypatch.setattr("imle.search.find_spec", lambda name: None)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(7))
    assert imle.nearest(x, x).method == "torch"
    with pytest.raises(ValueError, match="needs faiss"):
        imle.nearest(x, x, method="ivf")
