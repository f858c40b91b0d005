"""The trained artefact: noise in, vectors out, a folder with two files on disk."""

import json
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from imle.balance import Balance
from imle.checks import check_integer
from imle.conditions import ConditionCode
from imle.data import as_tensor
from imle.errors import DataError
from imle.hub import Pretrained
from imle.inversion import between, nearest_noise
from imle.networks import NETWORKS, build
from imle.noise import sample_noise

FORMAT = 1
VECTOR_BLOCK = 256  # samples a forward pass; part of the format, because the size decides the order of additions
OTHER_BLOCK = 16  # the same for images and other large outputs


class LatentSampler(Pretrained):
    """Maps noise to samples: T(e), on the data's sphere where it lives on one, calibrated where that was asked for.

    Made by `imle.IMLE.fit`, `from_pretrained` or `from_config`.

    Args:
        config: noise_dim; shape of one sample; network ({"name", "width", "depth"}; name ``custom`` or ``model`` for
            one of the caller's making); sphere, calibrated; bins of `imle.balance`, 0 for none; condition (None,
            {"labels": [...]} or {"dim": c}).
        network: the network; None builds the one that the config names.
        seed: initialises a network that is built here.

    Raises:
        DataError: for a config that this version does not understand, or a custom network that is missing.
    """

    mean: Tensor  # (d,)
    scale: Tensor  # ()
    radius: Tensor  # ()
    matrix: Tensor  # (d, d), where calibrated
    offset: Tensor  # (d,), where calibrated

    def __init__(self, config: dict[str, Any], network: nn.Module | None = None, seed: int = 0):
        super().__init__()
        self._config = _checked(config)
        self.shape: tuple[int, ...] = tuple(config["shape"])
        self.history: list[dict[str, Any]] = []  # one row an epoch of the fit that made it; not saved
        condition = config["condition"]
        if network is None:
            name = config["network"]["name"]
            if name not in NETWORKS:
                raise DataError(f"this sampler has a network of its own ({name}): expected network=, received None")
            network = build(
                name, seed, noise_dim=self.noise_dim, dim=self.dim, condition=condition,
                width=config["network"]["width"], depth=config["network"]["depth"],
            )  # fmt: skip
        self.network = network
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("radius", torch.ones(()))
        if config["calibrated"]:
            self.set_calibration(torch.eye(self.dim), torch.zeros(self.dim))
        self.balance: Balance | None = None
        if self._config["bins"]:
            self.set_balance(torch.zeros(self._config["bins"], self.dim), torch.ones(self._config["bins"]))
        # A caller's own model sees conditions as they are.
        self.code = None if condition is None else ConditionCode(condition, config["network"]["name"] == "model")
        self.eval()

    @property
    def noise_dim(self) -> int:
        """Dimension of the noise."""
        return int(self._config["noise_dim"])

    @property
    def dim(self) -> int:
        """How many numbers one sample has."""
        dim = 1
        for size in self.shape:
            dim *= size
        return dim

    @property
    def condition(self) -> dict[str, Any] | None:
        """What a sample is conditioned on: {"labels": [...]}, {"dim": c}, or None."""
        return self._config["condition"]

    def set_calibration(self, matrix: Tensor, offset: Tensor) -> None:
        """Apply y ↦ A y + b to every sample from now on (see `imle.calibration`)."""
        self.register_buffer("matrix", matrix.to(self.mean))
        self.register_buffer("offset", offset.to(self.mean))
        self._config["calibrated"] = True

    def set_balance(self, centres: Tensor, weights: Tensor) -> None:
        """Draw noise so that each bin is as frequent as its weight says from now on (see `imle.balance`)."""
        self.balance = Balance(centres.to(self.mean), weights.to(self.mean))
        self._config["bins"] = len(weights)

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map noise to samples.

        Args:
            noise: (B, noise_dim).
            condition: (B,) labels or (B, c) vectors, for a conditional sampler.

        Returns:
            (B, d), or (B, …) for a model of another shape.

        Raises:
            DataError: for a network whose output has another shape.
            ValueError: for a condition that is missing or not wanted.
        """
        if (condition is None) != (self.code is None):
            raise ValueError(f"expected a condition as {self.condition} says, received {type(condition).__name__}")
        return self.calibrated(self.uncalibrated(noise, condition))

    def uncalibrated(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """What `forward` gives, before the affine map of `imle.calibration`."""
        if self.code is None or condition is None:
            output = self.network(noise)
        else:
            output = self.network(noise, self.code(condition))
        if output.shape != (len(noise), *self.shape):  # otherwise it would be broadcast, and trained so
            raise DataError(
                f"model: expected output of shape {(len(noise), *self.shape)}, received {tuple(output.shape)}"
            )
        return self._to_sphere(self.mean + self.scale * output)

    def calibrated(self, output: Tensor) -> Tensor:
        """(B, d) of `uncalibrated` -> (B, d), by the affine map where there is one."""
        if not self._config["calibrated"]:
            return output
        return self._to_sphere(output @ self.matrix.T + self.offset)

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, condition: Any = None, batch_size: int | None = None, start: int = 0
    ) -> Tensor:
        """Draw samples ``start … start + n − 1`` of a seed.

        Sample k of a seed has the same bits whatever n, start and batch_size.

        Args:
            n: how many, ≥ 0.
            seed: which sequence, 0 … 2⁶⁴ − 1.
            condition: one label or one (c,) vector for all, or n labels or (n, c) vectors.
            batch_size: samples kept on the device before they are moved to memory; None: all.
            start: index of the first sample, ≥ 0.

        Returns:
            (n, d) float32 on the CPU, or (n, …) for a model of another shape.

        Raises:
            ValueError: for a negative n or start, or a condition that does not fit.
        """
        check_integer("n", n, 0)
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1)
        samples = torch.empty(n, *self.shape)
        written = held = 0
        done: list[Tensor] = []
        for _, part in self._blocks(n, seed, condition, start):
            done.append(part.float())
            held += len(part)
            if written + held == n or (batch_size is not None and held >= batch_size):
                samples[written : written + held] = torch.cat(done)
                written, held, done = written + held, 0, []
        return samples

    @torch.no_grad()
    def noise(self, n: int, seed: int = 0, condition: Any = None, start: int = 0) -> Tensor:
        """The noise of samples ``start … start + n − 1`` of a seed.

        Args:
            n: as of `sample`.
            seed: as of `sample`.
            condition: as of `sample`.
            start: as of `sample`.

        Returns:
            (n, noise_dim) float32 on the CPU.

        Raises:
            ValueError: as of `sample`.
        """
        parts = [noise.cpu() for noise, _ in self._blocks(n, seed, condition, start)]
        return torch.cat([torch.empty(0, self.noise_dim), *parts])

    def _blocks(self, n: int, seed: int, condition: Any, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Noise and samples, in parts. Rows outside the range are computed and dropped: a block has one shape."""
        for name, value in (("n", n), ("seed", seed), ("start", start)):
            check_integer(name, value, 0)
        conditions = self.conditions_for(condition, n)
        was_training = self.training
        self.eval()
        block = VECTOR_BLOCK if len(self.shape) == 1 else OTHER_BLOCK
        try:
            for first in range(start - start % block, start + n if n else 0, block):
                wanted = torch.arange(first, first + block).clamp(start, start + n - 1) - start
                own = None if conditions is None else conditions[wanted].to(self.mean.device)
                if self.balance is None:
                    noise = sample_noise(seed, first, block, self.noise_dim).to(self.mean.device)
                    samples = self(noise, own)
                else:
                    noise, samples = self.balance.draw(self, seed, first, block, own)
                inside = slice(max(start - first, 0), start + n - first)
                yield noise[inside], samples[inside]
        finally:
            self.train(was_training)

    def to_config(self) -> dict[str, Any]:
        """JSON-able facts from which `from_config` makes the same sampler, weights aside."""
        return json.loads(json.dumps({"library": "imle", "format": FORMAT, **self._config}))

    @classmethod
    def from_config(cls, config: dict[str, Any], network: nn.Module | None = None) -> Self:
        """A sampler with fresh weights; ``load_state_dict`` brings the trained ones."""
        return cls(config, network)

    def interpolate(self, start: Tensor, end: Tensor, steps: int, condition: Any = None) -> Tensor:
        """Samples on the way from one noise to another.

        Args:
            start: (noise_dim,), for instance from `noise` or `nearest_noise`.
            end: (noise_dim,).
            steps: how many samples, both ends included, ≥ 2.
            condition: see `sample`.

        Returns:
            (steps, d) float32 on the CPU.

        Raises:
            ValueError: for fewer than two steps, or noise of another shape.
        """
        check_integer("steps", steps, 2)
        start, end = as_tensor(start), as_tensor(end)
        for noise in (start, end):
            if tuple(noise.shape) != (self.noise_dim,):
                raise ValueError(f"expected noise of shape ({self.noise_dim},), received {tuple(noise.shape)}")
        conditions = self.conditions_for(condition, steps)
        with torch.no_grad():
            noise = between(start.float().cpu(), end.float().cpu(), steps).to(self.mean.device)
            samples: Tensor = self(noise, None if conditions is None else conditions.to(self.mean.device))
        return samples.float().cpu()

    def nearest_noise(self, z: Tensor, steps: int = 200, seed: int = 0, condition: Any = None) -> Tensor:
        """Noise that is mapped as near as can be found to each point.

        Args:
            z: (B, d) points, or (B, …) for a model of another shape.
            steps: steps of descent from the nearest of 4,096 samples, ≥ 0.
            seed: of those samples.
            condition: see `sample`.

        Returns:
            (B, noise_dim) float32 on the CPU; ``sampler(noise)`` are the points reached.

        Raises:
            ValueError: for points of another shape, or that are not finite.
        """
        check_integer("steps", steps, 0)
        z = as_tensor(z).detach().float()
        if z.ndim < 2 or tuple(z.shape[1:]) != self.shape or len(z) == 0 or not torch.isfinite(z).all():
            raise ValueError(
                f"expected finite points (B, {', '.join(map(str, self.shape))}), received {tuple(z.shape)}"
            )
        return nearest_noise(self, z, self.conditions_for(condition, len(z)), steps, seed)

    def _to_sphere(self, output: Tensor) -> Tensor:
        if not self._config["sphere"]:
            return output
        return self.radius * nn.functional.normalize(output, dim=-1)

    def conditions_for(self, condition: Any, n: int) -> Tensor | None:
        """One condition for each of n samples, checked.

        Args:
            condition: see `sample`.
            n: how many.

        Returns:
            (n,) int64 labels, (n, c) float32 vectors, or None for a sampler without.

        Raises:
            ValueError: for a condition that is missing, not wanted, of another shape or unknown.
        """
        if self.code is not None:
            return self.code.spread(condition, n)
        if condition is not None:
            raise ValueError("expected no condition: this sampler was fitted without, received one")
        return None


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    known = {"noise_dim", "shape", "network", "sphere", "calibrated", "bins", "condition"}
    facts = {"bins": 0, **{k: v for k, v in config.items() if k not in ("library", "format")}}
    if config.get("format", FORMAT) != FORMAT or set(facts) != known:
        raise DataError(
            f"expected a sampler config of format {FORMAT} with {sorted(known)}, received format "
            f"{config.get('format')} with {sorted(facts)}"
        )
    return facts
