"""For labelled images: is a sample of the class that was asked for, and is each class as frequent as it should be?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_RIDGE = 0.1  # penalty, in units of the features' mean variance: few images a class, many features


@dataclass(frozen=True)
class ClassScores:
    """What a linear classifier of the features says; it was fitted to the real images that samples are compared with.

    Its own mistakes are in every figure: compare with what it says of other real images.
    """

    classes: list[str]  # K names
    histogram: list[float]  # share of samples that are seen as each class
    accuracy: list[float | None] | None  # share of the samples of each class that are seen as it; None without samples
    real_histogram: list[float]  # true shares among the other real images
    real_seen: list[float]  # shares that the classifier sees among them
    real_accuracy: list[float | None]  # of the other real images

    def to_json(self) -> dict[str, Any]:
        """JSON-able; a list becomes class -> number, and means over classes are added."""

        def named(values: Sequence[float | None]) -> dict[str, float | None]:
            return dict(zip(self.classes, values, strict=True))

        return {
            "class_accuracy": None if self.accuracy is None else mean(self.accuracy),
            "class_accuracy_real": mean(self.real_accuracy),
            "accuracy": None if self.accuracy is None else named(self.accuracy),
            "accuracy_real": named(self.real_accuracy),
            "histogram": named(self.histogram),
            "histogram_real_seen": named(self.real_seen),
            "histogram_real": named(self.real_histogram),
        }


def score_classes(
    classes: Sequence[str],
    real: tuple[Tensor, Tensor],
    other_real: tuple[Tensor, Tensor],
    generated: Tensor,
    asked: Tensor | None,
) -> ClassScores:
    """Fit a classifier to real images and ask it about samples, and about other real images.

    It is ridge regression on one-hot classes (Hoerl & Kennard 1970): one linear system, no setting to tune.

    Args:
        classes: K names.
        real: (N, d) features and (N,) classes 0 … K − 1, to fit.
        other_real: (M, d) and (M,), to say how far the classifier can be trusted.
        generated: (G, d) features of samples.
        asked: (G,) the class that each sample was asked to be of; None where the model knows no classes.

    Returns:
        Accuracies and shares.
    """
    count = len(classes)
    features, labels = real[0].double(), F.one_hot(real[1], count).double()
    centre, share = features.mean(0), labels.mean(0)
    x = features - centre
    penalty = _RIDGE * x.square().mean() * len(x)
    # The smaller of two equal systems: features × features, or images × images.
    if x.shape[1] <= len(x):
        weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (labels - share))
    else:
        weights = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype), labels - share)

    def seen(points: Tensor) -> Tensor:
        return ((points.double() - centre) @ weights + share).argmax(1)

    other_seen, samples_seen = seen(other_real[0]), seen(generated)
    return ClassScores(
        list(classes),
        shares(samples_seen, count),
        None if asked is None else agreement(samples_seen, asked, count),
        shares(other_real[1], count),
        shares(other_seen, count),
        agreement(other_seen, other_real[1], count),
    )


def shares(labels: Tensor, count: int) -> list[float]:
    """(N,) classes -> the share of each of ``count`` classes."""
    return (labels.bincount(minlength=count).double() / len(labels)).tolist()


def agreement(seen: Tensor, true: Tensor, count: int) -> list[float | None]:
    """For each class, the share of its members that are seen as it; None for a class without any."""
    rows = [(seen[true == k] == k).double() for k in range(count)]
    return [float(row.mean()) if len(row) else None for row in rows]


def mean(values: Sequence[float | None]) -> float | None:
    """Over the classes that have a value."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
