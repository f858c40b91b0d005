"""Which examples get a new sample, and which samples nobody may have."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imle.checks import check_choice, check_integer, check_number, keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from imle.assignment import Assignment


class Refresh(Protocol):
    """When examples are re-matched; best a frozen dataclass: of others a resumed fit compares the name alone."""

    def due(self, assignment: "Assignment", current: "Callable[[], Tensor]") -> "Tensor":
        """Which examples are re-matched before an epoch.

        Args:
            assignment: distances at the last matching and epochs since then.
            current: gives (N,) distances from examples to their samples as the network maps them now.

        Returns:
            (n,) int64 indices, ascending; all of them in the first epoch.
        """


@dataclass(frozen=True)
class Every:
    """Re-match all examples every ``epochs`` epochs: vanilla IMLE (Li & Malik 2018, algorithm 1).

    Args:
        epochs: epochs that one assignment lasts, ≥ 1.

    Raises:
        ValueError: for a number of epochs below 1.
    """

    epochs: int = 1

    def __post_init__(self) -> None:
        keep(self, epochs=check_integer("Every.epochs", self.epochs, 1))

    def due(self, assignment: "Assignment", current: "Callable[[], Tensor]") -> "Tensor":
        """See `Refresh.due`."""
        return (assignment.age >= self.epochs).nonzero()[:, 0]


@dataclass(frozen=True)
class EachBatch:
    """Match every minibatch anew, against a pool of its own drawn right before its gradient step.

    This is how conditional policies are trained (Rana et al., IMLE Policy, RSS 2025). The pool of a batch of B examples
    has ``pool`` · B samples.
    """

    def due(self, assignment: "Assignment", current: "Callable[[], Tensor]") -> "Tensor":
        """See `Refresh.due`: none before an epoch."""
        return assignment.age.new_zeros(0)


@dataclass(frozen=True)
class Adaptive:
    """Re-match an example when its own sample has come close enough (Aghabozorgi, Peng, Li, ICML 2023).

    Example i is due once ‖xᵢ − T(eᵢ)‖ ≤ τᵢ, and gets τᵢ ← (1 − shrink) · ‖xᵢ − T(eᵢ)‖. Here the distance in that update
    is the one *after* re-selection, to the newly chosen sample. The authors' released program takes the distance
    *before* re-selection, so that an example is due again at once where its new sample already lies below τᵢ.

    Args:
        shrink: how much closer a sample must come before its example is due again, 0 < shrink < 1.
        min_age: epochs that an assignment lasts at least, ≥ 1.
        max_age: epochs after which an example is due whatever its distance, ≥ min_age.

    Raises:
        ValueError: for a value out of range.
    """

    shrink: float = 0.1
    min_age: int = 1
    max_age: int = 10

    def __post_init__(self) -> None:
        keep(
            self,
            shrink=check_number("Adaptive.shrink", self.shrink, 0, 0.999, open_low=True),
            min_age=check_integer("Adaptive.min_age", self.min_age, 1),
            max_age=check_integer("Adaptive.max_age", self.max_age, self.min_age),
        )

    def due(self, assignment: "Assignment", current: "Callable[[], Tensor]") -> "Tensor":
        """See `Refresh.due`."""
        old = assignment.age >= self.max_age
        if old.all():
            return old.nonzero()[:, 0]
        reached = current() <= (1 - self.shrink) * assignment.distance
        return (old | (reached & (assignment.age >= self.min_age))).nonzero()[:, 0]


@dataclass(frozen=True)
class Reject:
    """Leave samples out of the pool that lie within ε of an example (RS-IMLE: Vashist, Peng, Li, ECCV 2024).

    Exactly one of ``eps``, ``quantile`` and ``rate`` says what ε is.

    Args:
        eps: ε itself, a Euclidean distance in search space, > 0.
        quantile: ε is this quantile of the distances sample → nearest example in every pool, 0 < quantile < 1, so that
            this share of each pool is rejected.
        rate: ε is carried from pool to pool and steered towards the rejection of this share, 0 < rate < 1, half of the
            way (of its logarithm) at each pool; a quantile follows every pool at once.
        own: an example refuses only samples near itself, not those near others (Rana et al., IMLE Policy, RSS 2025).
        all_rejected: when nothing is left: ``keep_pool`` uses the whole pool this once, ``keep_match`` leaves examples
            with the samples that they have (with the whole pool where they have none yet), ``error`` stops.

    Raises:
        ValueError: for a value out of range, or none or several of eps, quantile and rate.
    """

    eps: float | None = None
    quantile: float | None = None
    rate: float | None = None
    own: bool = False
    all_rejected: str = "keep_pool"

    def __post_init__(self) -> None:
        given = [name for name in ("eps", "quantile", "rate") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"Reject: expected exactly one of eps, quantile and rate, received {given or 'none'}")
        for name, high in (("eps", math.inf), ("quantile", 0.999), ("rate", 0.999)):
            if getattr(self, name) is not None:
                keep(self, **{name: check_number(f"Reject.{name}", getattr(self, name), 0, high, open_low=True)})
        check_choice("Reject.all_rejected", self.all_rejected, ("keep_pool", "keep_match", "error"))

    def threshold(self, distances: "Tensor", carried: float) -> float:
        """ε for one pool.

        Args:
            distances: (m,) from each candidate to its nearest example.
            carried: ε of the pool before, 0 before the first.

        Returns:
            The distance below which a candidate is rejected.
        """
        if self.eps is not None:
            return self.eps
        share = self.rate if self.quantile is None else self.quantile
        assert share is not None
        # Just above the last candidate that is rejected, which has the rank share · m.
        rank = max(round(share * len(distances)), 1)
        wanted = float(distances.kthvalue(rank).values) * (1 + 1e-6)
        return math.sqrt(carried * wanted) if self.rate is not None and carried > 0 else wanted
