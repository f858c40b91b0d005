"""Exact nearest neighbours: a fast pass over all pairs, then every answer measured."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from imle.data import as_rows, slab_rows, take_rows
from imle.duplicates import distinct, members

CACHE_NUMBERS = 2**18  # of a shortlist's candidates, 1 MB
FEW = 8  # queries below which measuring every pair is faster than grouping the candidates
SPARE = 3  # neighbours beyond k in a shortlist, so that rounding in the fast pass cannot hide a true one
FastPass = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]  # (Q, d), (M, d), k -> (Q, k) squared, (Q, k) indices


def nearest_beyond(queries: Tensor, candidates: Tensor, beyond: float) -> tuple[Tensor, Tensor]:
    """The nearest candidate at least ``beyond`` away from each query; distance infinite where there is none.

    Args:
        queries: (Q, d).
        candidates: (M, d), M ≥ 1, on the same device.
        beyond: Euclidean distance, ≥ 0.

    Returns:
        Indices and distances, both (Q,).
    """
    centre = _centre(candidates, queries.device)
    candidates = candidates if centre is None else candidates - centre
    norms = candidates.square().sum(1)
    indices, distances = [], []
    for rows in (queries if centre is None else queries - centre).split(slab_rows(len(candidates))):
        squared = torch.addmm(norms, rows, candidates.T, alpha=-2) + rows.square().sum(1, keepdim=True)
        value, index = squared.masked_fill_(squared < beyond**2, torch.inf).min(1)
        indices.append(index)
        distances.append(value.clamp_min(0).sqrt())
    return torch.cat(indices), torch.cat(distances)


def exact(queries: Any, candidates: Any, k: int, fast_pass: FastPass, device: torch.device) -> tuple[Tensor, Tensor]:
    """All pairs, in slabs: a fast pass ranks by ‖q‖² + ‖c‖² − 2q·c, then the shortlist is measured by ‖q − c‖.

    The fast pass rounds; a query whose shortlist the rounding could have spoilt is measured against every candidate.
    """
    width = queries.shape[1]
    size = slab_rows(width)
    indices = torch.empty(len(queries), k, dtype=torch.long, device=device)
    distances = torch.empty(len(queries), k, device=device)
    for start in range(0, len(queries), size):
        part = as_rows(queries, start, start + size, device)
        indices[start : start + size], distances[start : start + size] = _exact_slab(part, candidates, k, fast_pass)
    return indices, distances


def _exact_slab(queries: Tensor, candidates: Any, k: int, fast_pass: FastPass) -> tuple[Tensor, Tensor]:
    device, width = queries.device, queries.shape[1]
    size = slab_rows(width)
    wide = min(k + SPARE, len(candidates))
    centre = _centre(candidates, device)
    shifted = queries if centre is None else queries - centre
    best = torch.full((len(queries), wide), torch.inf, device=device)
    found = torch.zeros(len(queries), wide, dtype=torch.long, device=device)
    for start in range(0, len(candidates), size):
        part = as_rows(candidates, start, start + size, device)
        part = part if centre is None else part - centre
        squared, index = fast_pass(shifted, part, min(wide, len(part)))
        # Earlier candidates come first, so that a stable sort leaves ties to the lowest index.
        both, where = torch.cat([best, squared], 1).sort(dim=1, stable=True)
        best = both[:, :wide]
        found = torch.cat([found, index + start], 1).gather(1, where[:, :wide])
    indices, distances = measure(queries, candidates, found, k)
    if wide < len(candidates):
        # How far a squared distance of the fast pass may be off: rounding grows like √d times the squared norms that it
        # adds, and a candidate no farther than the shortlist's last has at most the query's norm plus that distance.
        norms = torch.linalg.vector_norm(shifted, dim=1)
        reach = norms + best[:, -1].clamp_min(0).sqrt()
        slack = 2 * torch.finfo(torch.float32).eps * (width**0.5 + 4) * (norms.square() + reach.square())
        doubtful = (best[:, -1] - slack <= distances[:, -1].square() + slack).nonzero()[:, 0]
        if len(doubtful):
            indices[doubtful], distances[doubtful] = _among_ties(queries[doubtful], candidates, k, fast_pass)
    return indices, distances


def _among_ties(queries: Tensor, candidates: Any, k: int, fast_pass: FastPass) -> tuple[Tensor, Tensor]:
    """For queries with so many near ties that no shortlist is safe: equal candidates are looked at once, as one."""
    groups = distinct(candidates, queries.device) if len(queries) >= FEW else None
    most = 0 if groups is None else min(k, int(groups[1].bincount().max()))  # rows that a group can add to an answer
    if groups is None or k * most > len(candidates):
        return _every_difference(queries, candidates, k)
    first, group = groups
    some = take_rows(candidates, first, queries.device)
    # The k nearest rows are in the k nearest groups, those with the lowest rows among equally near ones.
    near, distances = _exact_slab(queries, some, min(k, len(some)), fast_pass)
    if k == 1:
        return first[near], distances
    size, parts = slab_rows(k * most), []
    for part, which in zip(queries.split(size), near.split(size), strict=True):
        parts.append(measure(part, candidates, members(first, group, which, most), k))
    return torch.cat([where for where, _ in parts]), torch.cat([how_far for _, how_far in parts])


def measure(queries: Tensor, candidates: Any, shortlist: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Rank a shortlist (Q, s) of candidate indices by ‖q − c‖ and keep the first k; −1 is none, infinitely far."""
    shortlist = shortlist.sort(dim=1).values
    real = shortlist.clamp_min(0)
    distances = torch.empty(shortlist.shape, device=queries.device)
    # In parts that stay in a processor's cache while they are gathered, subtracted and measured.
    step = max(1, (CACHE_NUMBERS if queries.device.type == "cpu" else 2**25) // (queries.shape[1] * shortlist.shape[1]))
    for start in range(0, len(queries), step):
        picked = take_rows(candidates, real[start : start + step].flatten(), queries.device)
        difference = queries[start : start + step, None] - picked.view(-1, shortlist.shape[1], queries.shape[1])
        distances[start : start + step] = torch.linalg.vector_norm(difference, dim=2)
    distances, order = distances.masked_fill_(shortlist < 0, torch.inf).sort(dim=1, stable=True)
    return shortlist.gather(1, order)[:, :k], distances[:, :k]


def _every_difference(queries: Tensor, candidates: Any, k: int) -> tuple[Tensor, Tensor]:
    """Brute force over q − c, for queries with so many near ties that no shortlist is safe."""
    device = queries.device
    distances = torch.full((len(queries), k), torch.inf, device=device)
    indices = torch.zeros(len(queries), k, dtype=torch.long, device=device)
    size = slab_rows(4 * queries.shape[1])
    for start in range(0, len(candidates), size):
        part = as_rows(candidates, start, start + size, device)
        rows = slab_rows(part.numel())
        for q in range(0, len(queries), rows):
            every = (queries[q : q + rows, None] - part).norm(dim=2)
            positions = torch.arange(start, start + len(part), device=device).expand(every.shape)
            both, order = torch.cat([distances[q : q + rows], every], 1).sort(dim=1, stable=True)
            distances[q : q + rows] = both[:, :k]
            indices[q : q + rows] = torch.cat([indices[q : q + rows], positions], 1).gather(1, order[:, :k])
    return indices, distances


def faiss_pass(queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A `FastPass` on the CPU."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())  # faiss brings an OpenMP runtime of its own
    squared, index = faiss.knn(queries.numpy(), candidates.numpy(), k)
    return torch.from_numpy(squared), torch.from_numpy(index)


def torch_pass(queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A `FastPass` on any device."""
    norms = candidates.square().sum(1)
    on_cpu = queries.device.type == "cpu"
    tall, wide = (512, 4096) if on_cpu else (4096, slab_rows(4096))  # cached on a CPU, large on a GPU
    squared, index = [], []
    for rows in queries.split(tall):
        best = torch.empty(len(rows), 0, device=rows.device)
        found = torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
        for start in range(0, len(candidates), wide):
            part = candidates[start : start + wide]
            values, where = torch.addmm(norms[start : start + wide], rows, part.T, alpha=-2).topk(
                min(k, len(part)), dim=1, largest=False
            )
            both, order = torch.cat([best, values], 1).sort(dim=1, stable=True)
            best = both[:, :k]
            found = torch.cat([found, where + start], 1).gather(1, order[:, :k])
        squared.append(best + rows.square().sum(1, keepdim=True))
        index.append(found)
    return torch.cat(squared), torch.cat(index)


def _centre(candidates: Any, device: torch.device) -> Tensor | None:
    """A point near the middle of the candidates, or None where zero will do.

    It is a whole multiple of a power of two, so that shifting by it changes no number that is one as well.
    """
    step = max(1, len(candidates) // 1024)
    some = take_rows(candidates, torch.arange(0, len(candidates), step), device)
    mean = some.mean(0)
    variance = (some - mean).square().sum(1).mean()
    if mean.square().sum() <= 8 * variance:
        return None
    spread = torch.maximum((variance / len(mean)).sqrt(), mean.abs().max() * 2**-12).clamp_min(1e-30)
    unit = torch.exp2(torch.log2(spread).ceil())
    return (mean / unit).round() * unit
