"""Approximate neighbour indices: each proposes a shortlist, with an effort that buys recall; the caller measures it."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from imle.data import as_rows, slab_rows, take_rows
from imle.exact import FastPass

PCA_DIM = 64  # measured on natural images: enough for recall 0.99 with a shortlist of 32
PCA_ROWS = 4096  # candidates that the projection is fitted to


class Index(Protocol):
    """What a shortlist comes from."""

    efforts: Sequence[int]  # from cheap to thorough

    def shortlist(self, queries: Tensor, k: int, effort: int) -> Tensor:
        """(Q, d) -> (Q, s) candidate indices, s ≥ k; −1 where the index found no more."""


class Projected:
    """Candidates in the subspace of their largest variance, found by a randomised PCA (Halko, Martinsson, Tropp 2011).

    A point is its projection Px and the length r of what the projection leaves out, its rest. Were the rests of two
    points orthogonal, as they nearly are in high dimensions, then ‖x − y‖² = ‖Px − Py‖² + r_x² + r_y²; were they
    parallel, the last two terms would be (r_x − r_y)². The shortlist is ranked in between, by
    ‖Px − Py‖² + r_x² + r_y² − 2ρ r_x r_y, with ρ the mean cosine of the rests of some true neighbours.

    Args:
        candidates: (M, d).
        device: where to compute.
        fast_pass: exact search in the subspace.
        queries: (n, d) some queries.
        neighbours: (n, d) the nearest candidate of each of them.
    """

    efforts: Sequence[int] = (32, 128, 512)  # length of the shortlist

    def __init__(self, candidates: Any, device: torch.device, fast_pass: FastPass, queries: Tensor, neighbours: Tensor):
        self._fast_pass = fast_pass
        step = max(1, len(candidates) // PCA_ROWS)
        sample = take_rows(candidates, torch.arange(0, len(candidates), step), device)
        self._middle = sample.mean(0)
        self._axes = _principal_axes(sample - self._middle, min(PCA_DIM, sample.shape[1], len(sample)))
        cosine = torch.nn.functional.cosine_similarity(self._rest(queries), self._rest(neighbours), dim=1)
        self._rho = float(cosine.mean().clamp(0, 1))
        self._points = torch.empty(len(candidates), self._axes.shape[1] + 1, device=device)
        size = slab_rows(sample.shape[1])
        for start in range(0, len(candidates), size):
            self._points[start : start + size] = self._project(as_rows(candidates, start, start + size, device))

    def shortlist(self, queries: Tensor, k: int, effort: int) -> Tensor:
        """See `Index.shortlist`."""
        points = self._project(queries)
        points[:, -1] *= self._rho  # (ρ r_x − r_y)² ranks the candidates of one query like r_y² − 2ρ r_x r_y
        return self._fast_pass(points, self._points, min(max(effort, 2 * k), len(self._points)))[1]

    def _rest(self, rows: Tensor) -> Tensor:
        """(B, d) -> (B, d): what the projection leaves out."""
        centred = rows - self._middle
        return centred - centred @ self._axes @ self._axes.T

    def _project(self, rows: Tensor) -> Tensor:
        """(B, d) -> (B, p + 1): the projection and the length of the rest."""
        flat = rows @ torch.cat([self._axes, self._middle[:, None]], 1)
        inside = flat[:, :-1] - self._middle @ self._axes
        whole = torch.linalg.vector_norm(rows, dim=1).square() - 2 * flat[:, -1] + self._middle.square().sum()
        rest = (whole - inside.square().sum(1)).clamp_min(0).sqrt()
        return torch.cat([inside, rest[:, None]], 1)


class Inverted:
    """faiss's inverted lists: candidates clustered by k-means, the nearest lists searched. Deterministic.

    Args:
        candidates: (M, d), copied to memory.
        device: the CPU.
    """

    def __init__(self, candidates: Any, device: torch.device):
        import faiss

        rows = as_rows(candidates, 0, len(candidates), device)
        lists = max(1, min(int(4 * len(rows) ** 0.5), len(rows) // 39))  # faiss wants 39 points a list
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(rows.shape[1]), rows.shape[1], lists)
        self._index.cp.min_points_per_centroid = 1
        self._index.train(rows.numpy())
        self._index.add(rows.numpy())
        self.efforts: Sequence[int] = [*(e for e in (8, 16, 32, 64, 128, 256) if e < lists), lists]  # lists searched

    def shortlist(self, queries: Tensor, k: int, effort: int) -> Tensor:
        """See `Index.shortlist`."""
        self._index.nprobe = effort
        return torch.from_numpy(self._index.search(queries.contiguous().numpy(), 2 * k)[1])


class Graph:
    """faiss's hierarchical navigable small-world graph; building it is fastest for many queries, but not deterministic.

    Args:
        candidates: (M, d), copied to memory.
        device: the CPU.
    """

    efforts: Sequence[int] = (32, 64, 128, 256, 512)  # candidates kept while the graph is walked

    def __init__(self, candidates: Any, device: torch.device):
        import faiss

        rows = as_rows(candidates, 0, len(candidates), device)
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._index = faiss.IndexHNSWFlat(rows.shape[1], 32)
        self._index.add(rows.numpy())

    def shortlist(self, queries: Tensor, k: int, effort: int) -> Tensor:
        """See `Index.shortlist`."""
        self._index.hnsw.efSearch = max(effort, 2 * k)
        return torch.from_numpy(self._index.search(queries.contiguous().numpy(), 2 * k)[1])


def _principal_axes(centred: Tensor, dim: int) -> Tensor:
    """(n, d) rows -> (d, dim) orthonormal columns that span nearly all of their variance."""
    generator = torch.Generator().manual_seed(0)
    width = min(dim + 16, min(centred.shape))
    basis = torch.randn(centred.shape[1], width, generator=generator).to(centred)
    for _ in range(2):
        basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
    right = torch.linalg.svd(centred @ basis, full_matrices=False).Vh
    return (basis @ right.T)[:, :dim].contiguous()
