"""Nearest neighbours: for every query the closest candidates, Euclidean, in bounded memory."""

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imle.approximate import Graph, Index, Inverted, Projected
from imle.checks import check_choice, check_integer
from imle.data import as_rows, check_numeric, slab_rows, take_rows
from imle.exact import FastPass, exact, faiss_pass, measure, torch_pass

METHODS = ("auto", "exact", "torch", "refine", "ivf", "hnsw")
REFINE_DIM = 256  # from here on `auto` looks for a subspace
REFINE_WORK = 2e11  # multiplications from which that pays
IVF_WORK = 1e13  # multiplications, about three minutes on two cores, from which `auto` takes inverted lists
PROBE = 64  # queries that recall is measured on
TARGET = 0.98  # recall on those at which an approximate search stops trying harder


@dataclass(frozen=True)
class Neighbours:
    """The k nearest candidates of each query, nearest first."""

    indices: Tensor  # (Q, k) int64
    distances: Tensor  # (Q, k) float32, Euclidean
    method: str = "exact"  # what was used
    recall: float = 1.0  # share of a sample of queries whose nearest candidate was found; 1 where exact
    build_seconds: float = 0.0  # what an index took to be built, and how hard to try to be found out; 0 where exact


def nearest(queries: Any, candidates: Any, k: int = 1, method: str = "auto") -> Neighbours:
    """Find the k nearest candidates of every query.

    Args:
        queries: (Q, d) tensor or array, may be a memory map.
        candidates: (M, d) tensor or array, may be a memory map; on the same device as the queries.
        k: how many, 1 ≤ k ≤ M.
        method: ``exact`` (faiss where installed, else as ``torch``); ``torch`` (exact too, on any device); ``refine``
            (for many dimensions: shortlist in a subspace, exact distances); ``ivf`` and ``hnsw`` (faiss, CPU); or
            ``auto``. Approximate methods try harder until they find the nearest candidate of 98 % of a sample of the
            queries. Same input, same answer, except with ``hnsw``.

    Returns:
        Indices and Euclidean distances on the device of the queries, what was used, and the recall measured. Exact
        methods equal brute force over the differences q − c in float32; ties go to the lowest index. Distances are
        exact with every method.

    Raises:
        ValueError: for shapes that do not fit, what is no float or integer, NaN or Inf, k out of range, an unknown
            method, or one that needs faiss without it.
    """
    check_choice("method", method, METHODS)
    queries, candidates = _matrix(queries, "queries"), _matrix(candidates, "candidates")
    for points, what in ((queries, "queries"), (candidates, "candidates")):
        _check_finite(points, what)
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"expected queries and candidates of one dimension, received {queries.shape[1]} and {candidates.shape[1]}"
        )
    check_integer("k", k, 1)
    if k > len(candidates):
        raise ValueError(f"k: expected at most the {len(candidates)} candidates, received {k}")
    device = queries.device if isinstance(queries, Tensor) else torch.device("cpu")
    has_faiss = device.type == "cpu" and find_spec("faiss") is not None
    fast_pass = faiss_pass if has_faiss and method != "torch" else torch_pass
    if method in ("ivf", "hnsw") and not has_faiss:
        raise ValueError(f"method: {method} needs faiss and tensors on the CPU, received {device}")

    chosen = (
        choose(len(queries), len(candidates), queries.shape[1], device.type, has_faiss) if method == "auto" else method
    )
    if chosen not in ("exact", "torch"):
        found = _approximate(queries, candidates, k, chosen, fast_pass, device)
        if method != "auto" or found.recall >= TARGET:
            return found
    indices, distances = exact(queries, candidates, k, fast_pass, device)
    return Neighbours(indices, distances, "exact" if fast_pass is faiss_pass else "torch")


def choose(queries: int, candidates: int, dim: int, device: str = "cpu", has_faiss: bool = True) -> str:
    """What ``auto`` takes: by sizes and device alone, so that a fit repeats; never an index that threads can change.

    ``auto`` falls back to exact search where what it takes does not reach the recall asked for.
    """
    work = queries * candidates * dim
    if dim >= REFINE_DIM and work >= REFINE_WORK:
        return "refine"
    if device == "cpu" and has_faiss:
        return "ivf" if work >= IVF_WORK else "exact"
    return "torch"


def _approximate(
    queries: Any, candidates: Any, k: int, method: str, fast_pass: FastPass, device: torch.device
) -> Neighbours:
    """Find how hard to try on a sample of the queries, then answer all of them."""
    started = time.perf_counter()
    sample = take_rows(queries, torch.arange(0, len(queries), max(1, len(queries) // PROBE)), device)
    nearest_of_sample, truth = exact(sample, candidates, 1, fast_pass, device)
    index: Index
    if method == "refine":
        index = Projected(candidates, device, fast_pass, sample, take_rows(candidates, nearest_of_sample[:, 0], device))
    elif method == "ivf":
        index = Inverted(candidates, device)
    else:
        index = Graph(candidates, device)

    recall = 0.0
    for effort in index.efforts:
        found = measure(sample, candidates, index.shortlist(sample, k, effort), 1)[1][:, 0]
        recall = float((found <= truth[:, 0] * (1 + 1e-6)).float().mean())
        if recall >= TARGET:
            break
    build_seconds = time.perf_counter() - started

    indices = torch.empty(len(queries), k, dtype=torch.long, device=device)
    distances = torch.empty(len(queries), k, device=device)
    size = slab_rows(queries.shape[1])
    for start in range(0, len(queries), size):
        rows = as_rows(queries, start, start + size, device)
        where, how_far = measure(rows, candidates, index.shortlist(rows, k, effort), k)
        short = how_far[:, -1].isinf()
        if short.any():  # the index has proposed fewer than k
            where[short], how_far[short] = exact(rows[short], candidates, k, fast_pass, device)
        indices[start : start + size], distances[start : start + size] = where, how_far
    return Neighbours(indices, distances, method, recall, build_seconds)


def _matrix(points: Any, what: str) -> Any:
    points = points.detach() if isinstance(points, Tensor) else np.asanyarray(points)
    check_numeric(points, what)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"{what}: expected (N, d) with N >= 1 and d >= 1, received shape {tuple(points.shape)}")
    return points


def _check_finite(points: Any, what: str) -> None:
    """One pass: a search would answer without a warning, and wrongly for all queries where the centre is not finite."""
    device = points.device if isinstance(points, Tensor) else torch.device("cpu")
    size = slab_rows(points.shape[1])
    for start in range(0, len(points), size):
        rows = as_rows(points, start, start + size, device)
        total = rows.sum()
        if not torch.isfinite(total):  # cheaper than to ask each number, which is done where it is not
            bad = (~torch.isfinite(rows).all(1)).nonzero()
            if len(bad):
                row = start + int(bad[0])
                raise ValueError(f"{what}: expected finite numbers within float32, received NaN or Inf in row {row}")
