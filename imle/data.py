"""Examples, conditions and weights: checked once, then handed out as float32 batches."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imle.errors import DataError

SLAB_BYTES = 2**27  # of float32 rows that are handled at once
IN_MEMORY_BYTES = 2**30  # a memory map above this stays on disk
SPHERE_TOLERANCE = 1e-3  # relative spread of the norms up to which data lies on a sphere


def slab_rows(width: int) -> int:
    """How many float32 rows of ``width`` numbers make one slab."""
    return max(1, SLAB_BYTES // (4 * max(width, 1)))


def evenly(n: int, most: int) -> Tensor:
    """At most ``most`` of the rows 0 … n − 1, spread evenly from the first to the last, as int64."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


class Examples:
    """(N, …) finite examples, on the device where they fit and on disk where they are a large memory map.

    Args:
        x: floats or integers, at least two axes.
        device: where batches are wanted.

    Raises:
        DataError: for anything else, for N = 0, and for NaN or Inf, with the row.
    """

    def __init__(self, x: Any, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        source = x.detach() if isinstance(x, Tensor) else np.asanyarray(x)
        check_numeric(source, "examples")
        if source.ndim < 2 or 0 in source.shape:
            raise DataError(f"examples: expected (N, d) with N >= 1 and d >= 1, received shape {tuple(source.shape)}")
        self.n = int(source.shape[0])
        self.shape = tuple(int(s) for s in source.shape[1:])
        self.dim = int(np.prod(self.shape))
        self._source = source
        if not isinstance(source, np.memmap) or 4 * self.n * self.dim <= IN_MEMORY_BYTES:
            # A copy of its own: aligned as torch aligns, so that sums have the same order in a resumed process.
            self._source = torch.empty(self.n, *self.shape, device=self.device).copy_(as_tensor(source))
        self._describe()

    def _describe(self) -> None:
        """One pass over all rows: finite?, mean, total variance, norms, hash."""
        digest = hashlib.sha256(repr((self.n, *self.shape)).encode())
        shift = self.rows(torch.zeros(1, dtype=torch.long)).flatten().cpu().double()
        total, squares = torch.zeros_like(shift), 0.0
        low, high = np.inf, 0.0
        for start, rows in self.slabs():
            flat = rows.flatten(1).cpu()
            finite = torch.isfinite(flat).all(1)
            if not finite.all():
                row = start + int((~finite).nonzero()[0])
                raise DataError(f"examples: expected finite numbers within float32, received NaN or Inf in row {row}")
            digest.update(np.ascontiguousarray(flat.numpy()).data)
            norms = flat.norm(dim=1)
            low, high = min(low, float(norms.min())), max(high, float(norms.max()))
            centred = flat - shift.float()
            total += centred.sum(0, dtype=torch.float64)
            squares += float(centred.square().sum(dtype=torch.float64))
        mean = total / self.n
        self.mean = (shift + mean).float().reshape(self.shape)
        self.variance = max(squares / self.n - float(mean.square().sum()), 0.0)  # summed over the d axes
        on_sphere = len(self.shape) == 1 and self.dim >= 2 and low > 0 and high - low <= SPHERE_TOLERANCE * high
        self.radius = (low + high) / 2 if on_sphere else None
        self.fingerprint = digest.hexdigest()

    def rows(self, index: Tensor) -> Tensor:
        """(len(index), …) float32 on the device."""
        if isinstance(self._source, Tensor):
            return self._source[index.to(self.device)]
        return as_tensor(self._source[index.cpu().numpy()]).float().to(self.device)

    def slabs(self, size: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """All rows in order, as (first row, (≤ size, …) float32)."""
        size = size or slab_rows(self.dim)
        for start in range(0, self.n, size):
            part = self._source[start : start + size]
            yield start, (part if isinstance(part, Tensor) else as_tensor(part).float().to(self.device))


def check_weights(values: Any, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Weights as the loop needs them.

    Args:
        values: (N,) numbers ≥ 0, not all 0.
        n: N.
        device: where they are wanted.

    Returns:
        (N,) float32 with mean 1.

    Raises:
        DataError: for another shape, negative or non-finite weights, or when all are zero.
    """
    source = values.detach() if isinstance(values, Tensor) else np.asarray(values)
    check_numeric(source, "weights")
    if tuple(source.shape) != (n,):
        raise DataError(f"weights: expected shape ({n},), received {tuple(source.shape)}")
    weights = as_tensor(source).cpu().double()
    if not torch.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise DataError("weights: expected finite numbers >= 0, not all of them 0")
    return (weights / weights.mean()).float().to(device)


def flat_features(batch: Tensor) -> Tensor:
    """The default search space: every example as one vector."""
    return batch.flatten(1)


class Points:
    """The examples in search space: computed once where features are given, else the examples themselves.

    Args:
        examples: the examples.
        features: maps a batch to (B, k); None for flattened examples.

    Raises:
        DataError: if features does not give one finite vector an example.
    """

    def __init__(self, examples: Examples, features: Callable[[Tensor], Tensor] | None):
        self._examples = examples
        self.map = features or flat_features
        self._computed: Tensor | None = None
        if features is not None:
            with torch.no_grad():
                parts = [features(rows).float() for _, rows in examples.slabs(slab_rows(16 * examples.dim))]
            if any(p.ndim != 2 for p in parts) or sum(len(p) for p in parts) != examples.n:
                raise DataError(f"features: expected one vector (B, k) each, received shape {tuple(parts[0].shape)}")
            self._computed = torch.cat(parts)
            if not torch.isfinite(self._computed).all():
                raise DataError("features: expected finite numbers for the examples, received NaN or Inf")
        self.n = examples.n
        self.dim = examples.dim if self._computed is None else int(self._computed.shape[1])

    def rows(self, index: Tensor) -> Tensor:
        """(len(index), k) on the device."""
        return self._examples.rows(index).flatten(1) if self._computed is None else self._computed[index]


def as_tensor(array: Any) -> Tensor:
    """A tensor over an array of floats or integers, copied where torch could not read it in place."""
    if isinstance(array, Tensor):
        return array
    array = np.asarray(array, order="C")
    if (array.dtype.kind == "u" and array.dtype.itemsize > 1) or array.dtype.itemsize > 8:  # torch has no such type
        array = array.astype(np.float64)
    if array.dtype.byteorder not in "=|" or not array.flags.writeable:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array)


def as_pair(one: Any, two: Any, minimum: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets as (n, d) float64 on the CPU, n ≥ minimum, finite and of one dimension; ValueError otherwise."""
    sets = []
    for points in (one, two):
        points = as_tensor(points if isinstance(points, Tensor) else np.asarray(points)).detach().cpu().double()
        if not torch.isfinite(points).all():
            raise ValueError("expected finite points, received NaN or Inf")
        if points.ndim != 2 or len(points) < minimum or points.shape[1] == 0:
            raise ValueError(f"expected (N, d) points with N >= {minimum}, received shape {tuple(points.shape)}")
        sets.append(points)
    if sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(f"expected sets of one dimension, received {sets[0].shape[1]} and {sets[1].shape[1]}")
    return sets[0], sets[1]


def as_rows(points: Any, start: int, stop: int, device: torch.device) -> Tensor:
    """Rows start … stop − 1 of a tensor or array as contiguous float32 on the device."""
    return as_tensor(points[start:stop]).to(device, torch.float32).contiguous()


def take_rows(points: Any, index: Tensor, device: torch.device) -> Tensor:
    """The rows of an index of a tensor or array as float32 on the device."""
    if isinstance(points, Tensor):
        return points[index.to(points.device)].to(device, torch.float32)
    return as_tensor(points[index.cpu().numpy()]).to(device, torch.float32)


def is_floating(source: Any) -> bool:
    """Whether a tensor or array holds floats."""
    return source.dtype.is_floating_point if isinstance(source, Tensor) else source.dtype.kind == "f"


def check_numeric(source: Any, what: str) -> None:
    """Refuse a tensor or array of anything but floats or integers."""
    if isinstance(source, Tensor):
        good = not source.dtype.is_complex and source.dtype != torch.bool
    else:
        good = source.dtype.kind in "fiu"
    if not good:
        raise DataError(f"{what}: expected floats or integers, received {source.dtype}")
