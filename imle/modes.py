"""Which modes of a known distribution generated points reach."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imle.checks import check_integer, check_number
from imle.data import as_pair
from imle.search import nearest


@dataclass(frozen=True)
class Modes:
    """Which modes generated points reach."""

    found: int  # modes with at least one point
    share: float  # points that belong to a mode
    reverse_kl: float  # KL(points' distribution over modes ‖ expected), nats


def nearest_mode(generated: Any, centres: Any, radius: float) -> Tensor:
    """The mode that each point belongs to: the nearest centre, or −1 where that is farther than ``radius``.

    Args:
        generated: (M, d).
        centres: (K, d).
        radius: Euclidean, > 0; three standard deviations of a mode are usual.

    Returns:
        (M,) int64.

    Raises:
        ValueError: if the dimensions differ or the radius is not positive.
    """
    check_number("radius", radius, 0, open_low=True)
    generated, centres = as_pair(generated, centres, 1)
    found = nearest(generated.float(), centres.float())
    return torch.where(found.distances[:, 0] <= radius, found.indices[:, 0], -1)


def modes(labels: Any, count: int, expected: Any = None) -> Modes:
    """Modes found and reverse KL from the mode of each generated point (Srivastava et al. 2017).

    Args:
        labels: (M,) integers 0 … count − 1, or −1 for no mode: from `nearest_mode`, or a classifier's answers.
        count: how many modes there are.
        expected: (count,) the modes' true shares, all > 0; equal by default.

    Returns:
        Three numbers; reverse_kl is infinite where no point belongs to a mode.

    Raises:
        ValueError: for labels or shares out of range.
    """
    check_integer("count", count, 1)
    labels = torch.as_tensor(labels)
    if (
        labels.ndim != 1
        or labels.is_floating_point()
        or len(labels) == 0
        or not -1 <= labels.min() <= labels.max() < count
    ):
        raise ValueError(f"labels: expected (M,) integers from -1 to {count - 1}, received {tuple(labels.shape)}")
    target = torch.full((count,), 1 / count, dtype=torch.float64)
    if expected is not None:
        target = torch.as_tensor(expected, dtype=torch.float64)
        if target.shape != (count,) or not bool((target > 0).all()):
            raise ValueError(f"expected: expected {count} shares > 0, received shape {tuple(target.shape)}")
        target = target / target.sum()
    counts = torch.bincount(labels[labels >= 0].long(), minlength=count).double()
    observed = counts / counts.sum()
    divergence = float(torch.special.xlogy(observed, observed / target).sum()) if counts.sum() else math.inf
    return Modes(int((counts > 0).sum()), float(counts.sum()) / len(labels), divergence)
