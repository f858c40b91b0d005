"""Rows that occur many times, so that a search measures each of them once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from imle.data import IN_MEMORY_BYTES, as_rows, slab_rows, take_rows

_SEED = 0  # of the factors of the hash; collisions are found out


def distinct(points: Any, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Group equal rows.

    Args:
        points: (M, d) tensor or array.
        device: where the answer is wanted.

    Returns:
        (G,) int64, the first row of each group, ascending; (M,) int64, the group of each row. None where all rows
        differ, and for an array that is too large to be gathered.
    """
    count, width = len(points), points.shape[1]
    ready = isinstance(points, Tensor) and points.dtype == torch.float32
    if not ready and 4 * count * width > IN_MEMORY_BYTES:
        return None
    factors = torch.randint(-(2**62), 2**62, (width,), generator=torch.Generator().manual_seed(_SEED)).to(device)
    size = slab_rows(4 * width)

    def slabs() -> Iterator[tuple[int, Tensor]]:
        for start in range(0, count, size):
            yield start, as_rows(points, start, start + size, device)

    # A linear hash of the bits, modulo 2⁶⁴; adding zero gives −0 those of 0.
    hashes = torch.cat([((rows + 0.0).view(torch.int32).long() * factors).sum(1) for _, rows in slabs()])
    kinds, group = torch.unique(hashes, return_inverse=True)
    if len(kinds) == count:
        return None
    rows = torch.arange(count, device=device)
    first = torch.full((len(kinds),), count, device=device).scatter_reduce(0, group, rows, "amin")
    order = first.argsort()
    first, group = first[order], order.argsort()[group]
    same = all(
        torch.equal(rows, take_rows(points, first[group[start : start + size]], device)) for start, rows in slabs()
    )
    return (first, group) if same else None


def members(first: Tensor, group: Tensor, wanted: Tensor, most: int) -> Tensor:
    """The rows of some groups.

    Args:
        first: (G,) of `distinct`.
        group: (M,) of `distinct`.
        wanted: (Q, g) groups.
        most: how many rows of each, the lowest.

    Returns:
        (Q, g · most) int64, −1 where a group has fewer.
    """
    order, counts = group.argsort(stable=True), group.bincount(minlength=len(first))
    starts = counts.cumsum(0) - counts
    nth = torch.arange(most, device=group.device)
    there = nth < counts[wanted][..., None]
    where = (starts[wanted][..., None] + nth).clamp_max(len(group) - 1)
    return torch.where(there, order[where], -1).flatten(1)
