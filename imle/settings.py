"""The settings of an IMLE fit, checked where they are made."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Self

from imle.checks import check_choice, check_integer, check_number, keep
from imle.selection import EachBatch, Every, Refresh, Reject

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from imle.checkpoint import Checkpoints
    from imle.console import Watcher
    from imle.sampler import LatentSampler
    from imle.search import Neighbours

    Array = Tensor | np.ndarray

NETWORKS = ("residual", "reference")
METHODS = ("auto", "exact", "torch", "refine", "ivf")  # no hnsw: its index depends on the timing of threads
# Where no batch size is given:
LARGEST_BATCH, SMALLEST_BATCH = 256, 4  # examples
LEAST_STEPS = 8  # an epoch


@dataclass(frozen=True)
class IMLE:
    """Implicit Maximum Likelihood Estimation: fit a map T from noise to data.

    minimise Σᵢ wᵢ · ‖xᵢ − T(e_σ(i))‖²  with  σ(i) = argminⱼ ‖xᵢ − T(eⱼ)‖,  eⱼ ~ N(0, I), j = 1 … m

    (Li & Malik 2018, arXiv 1809.09087, algorithm 1.) σ is chosen anew from fresh noise every few epochs, and minibatch
    gradient steps are taken in between.

    Args:
        epochs: passes over the examples, ≥ 1.
        noise_dim: dimension of e, ≥ 1. Fewer dimensions gain precision and lose recall.
        network: ``residual`` (MLP with LayerNorm), ``reference`` (MLP with batch norm of Hoshen et al. 2019; see
            `IMLE.reference`), or a callable ``(noise_dim, dim, width, depth, condition) -> nn.Module``.
        width: hidden units, ≥ 1.
        depth: residual blocks or hidden layers, ≥ 1.
        batch_size: examples a gradient step, ≥ 1. None takes 256, and fewer where there are fewer than 2,048 examples:
            an eighth of them, but at least 4, so that few examples are not few steps.
        lr: Adam's learning rate at the start, > 0; a cosine takes it to zero over all epochs.
        pool: candidates a round as a multiple of the number of examples, > 0.
        pool_size: candidates a round, ≥ 1; takes the place of ``pool``.
        refresh: when examples are re-matched: `Every`, all in every fifth epoch by default, `Adaptive`, `EachBatch`, or
            a rule of one's own, an object with the method of `imle.selection.Refresh`.
        reject: which candidates are not used, or None.
        direction: 1 pulls to every example its nearest sample (maximum likelihood, coverage); 0 pulls every sample to
            its nearest example (the swapped divergence, precision, drops modes); in between both are weighted.
        perturb: standard deviation of the normal noise added once to each committed noise, ≥ 0.
        ema: decay per step of the averaged weights that the sampler has, 0 ≤ ema < 1; 0 takes the last weights.
        calibrate: match the frequency of regions, mean and covariance of the samples to those of the data after
            training (see `imle.calibration`).
        search: ``auto``, a method of `imle.nearest`, or a function (queries (Q, k), candidates (M, k), how many) ->
            `imle.Neighbours` in its place.
        seed: fixes the fit bit for bit on one machine's CPU, ≥ 0.

    Raises:
        ValueError: for a value out of range, with the setting's name and what is allowed.
    """

    epochs: int = 100
    noise_dim: int = 16
    network: "str | Callable[..., nn.Module]" = "residual"
    width: int = 256
    depth: int = 4
    batch_size: int | None = None
    lr: float = 3e-3
    pool: float = 2.0
    pool_size: int | None = None
    refresh: Refresh = Every(5)  # noqa: RUF009 - frozen, so it may be shared
    reject: Reject | None = None
    direction: float = 1.0
    perturb: float = 0.0
    ema: float = 0.999
    calibrate: bool = True
    search: "str | Callable[[Tensor, Tensor, int], Neighbours]" = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "noise_dim", "width", "depth"):
            keep(self, **{name: check_integer(name, getattr(self, name), 1)})
        for name in ("batch_size", "pool_size"):
            if getattr(self, name) is not None:
                keep(self, **{name: check_integer(name, getattr(self, name), 1)})
        keep(
            self,
            seed=check_integer("seed", self.seed, 0),
            lr=check_number("lr", self.lr, 0, open_low=True),
            pool=check_number("pool", self.pool, 0, open_low=True),
            direction=check_number("direction", self.direction, 0, 1),
            perturb=check_number("perturb", self.perturb, 0),
            ema=check_number("ema", self.ema, 0, 0.999999),
        )
        if not callable(self.search):
            check_choice("search", self.search, METHODS)
        if not callable(self.network):
            check_choice("network", self.network, NETWORKS)
        if not isinstance(self.calibrate, bool):
            raise ValueError(f"calibrate: expected True or False, received {self.calibrate!r}")
        if isinstance(self.refresh, type) or not callable(getattr(self.refresh, "due", None)):
            raise ValueError(
                "refresh: expected imle.Every, imle.Adaptive, imle.EachBatch or an object with a method due(), "
                f"received {self.refresh!r}"
            )
        if self.reject is not None and not isinstance(self.reject, Reject):
            raise ValueError(f"reject: expected None or imle.Reject, received {self.reject!r}")
        if isinstance(self.refresh, EachBatch) and self.direction < 1:
            raise ValueError(f"direction: expected 1 with refresh=EachBatch(), received {self.direction!r}")

    @classmethod
    def reference(cls, **changes: Any) -> Self:
        """The published stage 2 (Hoshen et al. 2019): MLP 128-128 with batch norm, noise 32, 50 epochs, pools of 2N.

        Args:
            **changes: settings that shall differ.

        Returns:
            The settings.
        """
        published: dict[str, Any] = {
            "epochs": 50, "network": "reference", "width": 128, "depth": 2, "noise_dim": 32, "batch_size": 128,
            "lr": 1e-3, "pool": 2.0, "refresh": Every(1), "ema": 0.0, "calibrate": False,
        }  # fmt: skip
        return cls(**{**published, **changes})

    def fit(
        self,
        x: "Array",
        *,
        condition: "Array | None" = None,
        weights: "Array | None" = None,
        model: "nn.Module | None" = None,
        features: "Callable[[Tensor], Tensor] | None" = None,
        loss: "Callable[[Tensor, Tensor], Tensor] | None" = None,
        checkpoints: "Checkpoints | None" = None,
        watcher: "Watcher | None" = None,
        preview: "Callable[[int, LatentSampler], None] | None" = None,
        device: str = "cpu",
    ) -> "LatentSampler":
        """Fit a sampler to examples; with ``checkpoints``, go on from the latest one and end as if never interrupted.

        Args:
            x: (N, d) examples, or (N, …) with ``model``; floats or integers, used as float32; may be a memory map.
            condition: (N,) integer labels or (N, c) float vectors. Examples are matched to samples of their own
                condition: a label has one pool for all its examples, with a vector every example has its own.
            weights: (N,) factors ≥ 0 on the examples' losses; their scale does not matter.
            model: any implicit model, ``model(noise)`` or ``model(noise, condition)`` -> like x; takes the place of
                ``network``, is trained in place, and ends with the averaged weights.
            features: maps a batch of examples or samples to (B, k); distances are taken there. Default: flattened.
            loss: (output, target) -> (B,) losses. Default: squared Euclidean distance over the data's total variance,
                so that always answering the mean would score 1.
            checkpoints: where training states are kept.
            watcher: is told of every minibatch and every epoch.
            preview: is given, after every epoch, its number and the sampler as it would be if the fit ended there, but
                for the calibration, which only the last one has. It may draw samples, and must not change or keep it.
            device: where the network trains, for instance ``cpu`` or ``cuda``.

        Returns:
            The trained sampler in eval mode on the CPU, with the per-epoch rows as ``sampler.history``.

        Raises:
            DataError: if x, condition or weights cannot be used, or model or loss gives another shape.
            ResumeError: if the checkpoints belong to other settings or other data, or features or loss are functions of
                another name or with other values on four of the examples.
            DivergedError: if the loss is not finite.
            Interrupted: if a stop was asked for; a checkpoint is committed.
        """
        from imle.fit import fit

        return fit(
            self, x, condition=condition, weights=weights, model=model, features=features, loss=loss,
            checkpoints=checkpoints, watcher=watcher, preview=preview, device=device,
        )  # fmt: skip

    def batch_for(self, n: int) -> int:
        """How many of ``n`` examples a gradient step takes."""
        return self.batch_size or min(LARGEST_BATCH, max(SMALLEST_BATCH, n // LEAST_STEPS))

    def steps_for(self, n: int) -> int:
        """How many gradient steps an epoch of ``n`` examples has."""
        return math.ceil(n / self.batch_for(n))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values; functions and rules that are no dataclass appear by their names."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: asdict(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
