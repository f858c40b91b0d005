"""Which class a sample is of: what a caller asks for, or what its seed and number say."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from glann.labels import list_some
from glann.scan import show
from imle.noise import stream

Label: TypeAlias = int | str | Sequence[int | str] | Tensor  # one or several classes, by number or by name

_DRAW = 5  # key of the random stream
_BLOCK = 64  # samples that share one stream; part of the format: another value gives other classes


def check_labels(classes: Sequence[str], label: Label | None, n: int) -> Tensor | None:
    """One class number for each of n samples.

    Args:
        classes: the K names that a model knows; empty for a model without classes.
        label: one for all or n of them, each a name or a number from 0 to K − 1.
        n: how many samples.

    Returns:
        (n,) int64, or None for a model without classes.

    Raises:
        ValueError: for a label that is missing, unknown or not wanted, or another number of them than n.
    """
    if not classes:
        if label is not None:
            raise ValueError("expected no label: this model was fitted without classes, received one")
        return None
    if label is None:
        raise ValueError(f"expected a label, one of {list_some(classes)}, received none")
    if hasattr(label, "tolist"):  # a tensor, or a number or array of NumPy
        label = label.tolist()
    if isinstance(label, str) or not isinstance(label, Sequence):
        return torch.full((n,), _number(classes, label))
    if len(label) != n:
        raise ValueError(f"expected one label or {n} of them, received {len(label)}")
    return torch.tensor([_number(classes, one) for one in label], dtype=torch.long)


def _number(classes: Sequence[str], label: object) -> int:
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return label
    received = show(label) if isinstance(label, str) else label
    raise ValueError(
        f"expected a label from 0 to {len(classes) - 1} or one of the names {list_some(classes)}, received {received}"
    )


def draw_labels(counts: Sequence[int], seed: int, start: int, n: int) -> Tensor:
    """Classes of samples ``start … start + n − 1`` of a seed, each as often as in training; see `imle.noise`.

    Args:
        counts: training images of each of the K classes, not all 0.
        seed: which sequence, ≥ 0.
        start: index of the first sample, ≥ 0.
        n: how many samples, ≥ 1.

    Returns:
        (n,) int64 from 0 to K − 1.
    """
    first, last = start // _BLOCK, -(-(start + n) // _BLOCK)
    uniform = torch.cat([torch.rand(_BLOCK, generator=stream(seed, _DRAW, b)) for b in range(first, last)])
    shares = torch.tensor(counts, dtype=torch.float64).cumsum(0)
    below = uniform[start - first * _BLOCK :][:n].double() * shares[-1]
    return torch.searchsorted(shares, below, right=True)


def padded(labels: Tensor | None, before: int, count: int) -> Tensor | None:
    """Labels for whole blocks: the first and last are repeated for the samples around, which are computed and dropped.

    Args:
        labels: (n,) or None.
        before: samples before the first of them.
        count: samples in all, ≥ before + n.

    Returns:
        (count,) or None.
    """
    if labels is None:
        return None
    return labels[(torch.arange(count) - before).clamp(0, len(labels) - 1)]
