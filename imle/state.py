"""Everything that a fit must remember to end as if it had never been interrupted."""

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from imle.assignment import Assignment
from imle.average import averaged
from imle.checkpoint import (
    Checkpoints,
    load_module,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
)
from imle.errors import DivergedError, ResumeError
from imle.settings import IMLE

if TYPE_CHECKING:
    from imle.sampler import LatentSampler


class TrainingState:
    """Network, averaged weights, optimiser, assignment, and how far the fit has come.

    Args:
        settings: lr, ema, epochs and noise_dim are used here.
        network: what is trained.
        n: number of examples.
        device: where the network is.
        identity: JSON-able facts that a checkpoint must agree with.
    """

    def __init__(self, settings: IMLE, network: nn.Module, n: int, device: torch.device, identity: dict[str, Any]):
        self.settings, self.network, self.identity = settings, network, identity
        self.optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
        self.average = averaged(network, settings.ema, lambda: self.step)
        self.assignment = Assignment.empty(n, settings.noise_dim, device)
        self.epoch = 1  # the one that is under way
        self.batch = 0  # minibatches of it that are done
        self.step = 0  # gradient steps so far
        precise = torch.float32 if device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=precise, device=device)  # of this epoch, over examples
        self.seconds: dict[str, float] = {}  # of this epoch, per phase
        self.history: list[dict[str, Any]] = []

    def update(self, step: int, total: int) -> None:
        """One optimiser step on the gradients at hand, at the cosine's learning rate, and one of the average."""
        for group in self.optimizer.param_groups:
            group["lr"] = cosine(self.settings.lr, step, total)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.network)

    @contextlib.contextmanager
    def averaged(self, sampler: "LatentSampler") -> Iterator[None]:
        """Lend the sampler the averaged weights, in eval mode."""
        if self.average is not None:
            sampler.network = self.average.module
        try:
            sampler.eval()
            yield
        finally:
            sampler.network = self.network

    def finish(self) -> None:
        """Give the network its averaged weights."""
        if self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())

    def check_finite(self) -> None:
        """Refuse to go on with a loss or weights that are not finite.

        Raises:
            DivergedError: naming the epoch.
        """
        finite = [torch.isfinite(t.detach()).all() for t in (self.loss_sum, *self.network.parameters())]
        if not torch.stack(finite).all():
            raise DivergedError(
                f"the loss is no longer finite in epoch {self.epoch}, step {self.step}; "
                f"the last good checkpoint is kept, a smaller lr than {self.settings.lr:g} may help"
            )

    def commit(self, checkpoints: Checkpoints) -> None:
        """Put all of it on disk.

        Args:
            checkpoints: where.

        Raises:
            DivergedError: instead of committing what is not finite.
            Interrupted: after the commit, where a stop was asked for.
        """
        self.check_finite()
        tensors = {
            **module_tensors("network", self.network),
            **optimizer_tensors("optimizer", self.optimizer),
            **self.assignment.tensors(),
            "loss_sum": self.loss_sum,
        }
        if self.average is not None:
            tensors |= module_tensors("average", self.average)
        facts = {
            "identity": self.identity, "epochs": self.settings.epochs, "epoch": self.epoch, "batch": self.batch,
            "step": self.step, "seconds": self.seconds, "history": self.history,
        }  # fmt: skip
        checkpoints.commit(self.step, tensors, facts)

    def restore(self, checkpoints: Checkpoints) -> None:
        """Go on from the latest checkpoint, where there is one.

        Args:
            checkpoints: where to look.

        Raises:
            ResumeError: if it belongs to other settings or data, to more epochs than asked for, or is damaged.
        """
        found = checkpoints.latest()
        if found is None:
            return
        facts, tensors = found.facts, found.tensors
        was = facts.get("identity", {})
        changed = [
            f"{key} was {_short(was.get(key))}, now {_short(self.identity.get(key))}"
            for key in sorted({*was, *self.identity})
            if not _same(was.get(key), self.identity.get(key))
        ]
        if changed:
            raise ResumeError(f"the run in {checkpoints.folder} was started otherwise: {'; '.join(changed)}")
        begun = len(facts["history"]) + (facts["batch"] > 0)
        if self.settings.epochs < begun:
            raise ResumeError(
                f"epochs: expected at least the {begun} that the run in {checkpoints.folder} has begun, "
                f"received {self.settings.epochs}"
            )
        try:
            load_module("network", self.network, tensors)
            load_optimizer("optimizer", self.optimizer, tensors)
            if self.average is not None:
                load_module("average", self.average, tensors)
            self.assignment.load(tensors)
            self.loss_sum.copy_(tensors["loss_sum"])
            self.epoch, self.batch, self.step = facts["epoch"], facts["batch"], facts["step"]
            self.seconds, self.history = facts["seconds"], facts["history"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise ResumeError(f"{found.path} is no state of this fit: {error}") from error


def cosine(lr: float, step: int, total: int) -> float:
    """The learning rate of step 0 … total − 1, from lr down to nearly zero."""
    return lr * 0.5 * (1 + math.cos(math.pi * step / total))


def _same(was: Any, now: Any) -> bool:
    """Equal; numbers that were computed may differ as they do from one machine to another."""
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and np.allclose(was, now, rtol=1e-3, atol=1e-6, equal_nan=True)
    return bool(was == now)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:12] + "…"
