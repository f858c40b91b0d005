"""Conditions: labels or vectors that steer what is sampled."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imle.data import as_tensor, check_numeric, is_floating
from imle.errors import DataError

SHOWN = 12  # labels that a message lists


class Conditions:
    """What each example of a fit is conditioned on.

    Args:
        values: integer labels (N,) or float vectors (N, c).
        n: N.
        device: where they are kept.

    Raises:
        DataError: for another shape or type, another length than N, or NaN or Inf.
    """

    def __init__(self, values: Any, n: int, device: torch.device | str = "cpu"):
        source = values.detach() if isinstance(values, Tensor) else np.asarray(values)
        check_numeric(source, "condition")
        integer = not is_floating(source)
        if not (source.ndim == 1 and integer) and not (source.ndim == 2 and not integer and source.shape[1]):
            raise DataError(
                f"condition: expected (N,) integer labels or (N, c) float vectors, received shape "
                f"{tuple(source.shape)} of {source.dtype}"
            )
        if source.shape[0] != n:
            raise DataError(f"condition: expected one for each of the {n} examples, received {source.shape[0]}")
        self.values = as_tensor(source).to(device, torch.long if integer else torch.float32).clone()
        self.labels = self.values.unique() if integer else None
        if not integer and not torch.isfinite(self.values).all():
            raise DataError("condition: expected finite numbers, received NaN or Inf")
        self.fingerprint = hashlib.sha256(self.values.cpu().numpy().tobytes()).hexdigest()

    def spec(self) -> dict[str, Any]:
        """What a sampler must know: ``{"labels": [...]}`` or ``{"dim": c}``."""
        return {"dim": int(self.values.shape[1])} if self.labels is None else {"labels": self.labels.tolist()}


class ConditionCode(nn.Module):
    """Conditions as a network sees them: the index of a label, or a standardised vector.

    Args:
        spec: ``{"labels": [...]}``, sorted, or ``{"dim": c}``.
        as_given: hand conditions on as they are.
    """

    mean: Tensor
    scale: Tensor
    sorted_labels: Tensor

    def __init__(self, spec: dict[str, Any], as_given: bool):
        super().__init__()
        self.as_given = as_given
        self.labels: list[int] | None = spec.get("labels")
        self.dim: int | None = spec.get("dim")
        if self.labels is not None:
            self.register_buffer("sorted_labels", torch.tensor(self.labels, dtype=torch.long))
        else:
            self.register_buffer("mean", torch.zeros(spec["dim"]))
            self.register_buffer("scale", torch.ones(spec["dim"]))

    def standardise(self, vectors: Tensor) -> None:
        """Take mean and scale from the (N, c) vectors of a fit."""
        self.mean.copy_(vectors.mean(0))
        self.scale.copy_(vectors.std(0, unbiased=False).clamp_min(1e-6))

    def forward(self, values: Tensor) -> Tensor:
        """(B,) labels -> (B,) indices; (B, c) vectors -> (B, c)."""
        if self.as_given:
            return values
        if self.labels is not None:
            return torch.searchsorted(self.sorted_labels, values.contiguous())
        return (values - self.mean) / self.scale

    def spread(self, condition: Any, n: int) -> Tensor:
        """One condition for each of n samples, checked: see `LatentSampler.conditions_for`."""
        wanted = "a label or n labels" if self.labels is not None else f"a ({self.dim},) vector or n of them"
        if condition is None:
            raise ValueError(f"condition: expected {wanted}, received None")
        values = condition if isinstance(condition, Tensor) else as_tensor(np.asarray(condition))
        check_numeric(values, "condition")
        if self.labels is not None and is_floating(values):
            raise ValueError(f"condition: expected integer labels, received {values.dtype}")
        one = () if self.labels is not None else (self.dim,)
        if tuple(values.shape) not in (one, (n, *one)):
            raise ValueError(f"condition: expected {wanted} with n = {n}, received shape {tuple(values.shape)}")
        if self.labels is not None:
            unknown = sorted(set(values.flatten().tolist()) - set(self.labels))
            if unknown:
                raise ValueError(f"condition: expected one of the labels {_few(self.labels)}, received {_few(unknown)}")
        elif not torch.isfinite(values).all():
            raise ValueError("condition: expected finite numbers, received NaN or Inf")
        return values.to(torch.long if self.labels is not None else torch.float32).cpu().expand(n, *one)


def _few(values: list[int]) -> str:
    return ", ".join(map(str, values[:SHOWN])) + (" …" if len(values) > SHOWN else "")
