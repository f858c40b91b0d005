"""Networks from noise to vectors, by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ConditionEncoder(nn.Module):
    """Labels (an embedding each) or vectors (a linear map) to ``width`` numbers that are added to the hidden units.

    Args:
        width: how many numbers.
        condition: ``{"labels": [...]}`` or ``{"dim": c}``.
    """

    def __init__(self, width: int, condition: dict[str, Any]):
        super().__init__()
        labels = condition.get("labels")
        self.map = nn.Embedding(len(labels), width) if labels is not None else nn.Linear(condition["dim"], width)

    def forward(self, condition: Tensor) -> Tensor:
        """(B,) label indices or (B, c) vectors -> (B, width)."""
        return self.map(condition)


class Block(nn.Module):
    """x + W₂ silu(W₁ LayerNorm(x)), W₂ zero at the start, so that a deep stack begins as the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        return x + self.down(nn.functional.silu(self.up(self.norm(x))))


class Residual(nn.Module):
    """Residual MLP with LayerNorm: no batch statistics, so a sample never depends on its neighbours.

    Args:
        noise_dim: dimension of the noise.
        dim: dimension of the output.
        width: hidden units.
        depth: residual blocks.
        condition: see `ConditionEncoder`, or None.
    """

    def __init__(self, noise_dim: int, dim: int, width: int, depth: int, condition: dict[str, Any] | None = None):
        super().__init__()
        self.enter = nn.Linear(noise_dim, width)
        self.encoder = None if condition is None else ConditionEncoder(width, condition)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, noise_dim) -> (B, dim)."""
        x = self.enter(noise)
        if self.encoder is not None and condition is not None:
            x = x + self.encoder(condition)
        output: Tensor = self.leave(self.blocks(x))
        return output


class Reference(nn.Module):
    """The published mapping network (Hoshen et al. 2019): ``depth`` layers of Linear, BatchNorm, ReLU, then Linear.

    Takes the same arguments as `Residual`; published: width 128, depth 2, noise_dim 32.
    """

    def __init__(self, noise_dim: int, dim: int, width: int, depth: int, condition: dict[str, Any] | None = None):
        super().__init__()
        self.enter = nn.Linear(noise_dim, width)
        self.encoder = None if condition is None else ConditionEncoder(width, condition)
        layers: list[nn.Module] = [nn.BatchNorm1d(width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, dim))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, noise_dim) -> (B, dim)."""
        x = self.enter(noise)
        if self.encoder is not None and condition is not None:
            x = x + self.encoder(condition)
        output: Tensor = self.layers(x)
        return output


NETWORKS: dict[str, Callable[..., nn.Module]] = {"residual": Residual, "reference": Reference}


def build(name: str | Callable[..., nn.Module], seed: int, **arguments: Any) -> nn.Module:
    """A network by name or from a callable, initialised from ``seed`` alone; torch's own generator stays as it was."""
    make = NETWORKS[name] if isinstance(name, str) else name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(**arguments)
