"""What a fit starts from: an untrained sampler, its loss, and the facts that a checkpoint must agree with."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imle.checkpoint import Checkpoints
from imle.checks import check_device
from imle.conditions import Conditions
from imle.data import Examples, Points, check_weights, evenly
from imle.errors import DataError
from imle.matching import check_pool, pool_size
from imle.networks import NETWORKS, build
from imle.noise import stream
from imle.sampler import LatentSampler
from imle.settings import IMLE
from imle.state import TrainingState

INIT = 3  # what the random stream is for
_PROBED = 4  # examples on which a caller's functions are tried

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Start:
    """What a fit has before its first round, all of it checked."""

    examples: Examples
    conditions: Conditions | None
    weight: Tensor | None  # (N,), mean 1
    sampler: LatentSampler
    points: Points  # the examples in search space
    loss: Loss
    state: TrainingState  # restored where there is a checkpoint


def start(
    settings: IMLE,
    x: Any,
    *,
    condition: Any = None,
    weights: Any = None,
    model: nn.Module | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    loss: Loss | None = None,
    checkpoints: Checkpoints | None = None,
    device: str = "cpu",
) -> Start:
    """Check all that a fit is given; arguments and errors are those of `imle.IMLE.fit`."""
    check_device(device)
    examples = Examples(x, device)
    conditions = None if condition is None else Conditions(condition, examples.n, device)
    weight = None if weights is None else check_weights(weights, examples.n, device)
    sampler = make_sampler(settings, examples, conditions, model).to(device)
    points = Points(examples, features)
    check_pool(settings, examples.n, private=conditions is not None and conditions.labels is None)
    probed = {} if checkpoints is None else probe(examples, features, loss)  # compared when a fit goes on
    loss = loss or relative_squared_error(examples)
    identity = describe(settings, examples, conditions, weights=weight, model=model, features=features, loss=loss)
    state = TrainingState(settings, sampler.network, examples.n, examples.device, identity | probed)
    if checkpoints is not None:
        state.restore(checkpoints)
    return Start(examples, conditions, weight, sampler, points, loss, state)


def make_sampler(
    settings: IMLE, examples: Examples, conditions: Conditions | None, model: nn.Module | None
) -> LatentSampler:
    """An untrained sampler that starts at the data's mean and scale, or one around a caller's model.

    Args:
        settings: network, width, depth, noise_dim and seed are used.
        examples: the data.
        conditions: or None.
        model: or None.

    Returns:
        The sampler, on the CPU.

    Raises:
        DataError: for examples that are no vectors where no model is given.
    """
    condition = None if conditions is None else conditions.spec()
    facts: dict[str, Any] = {
        "noise_dim": settings.noise_dim, "shape": list(examples.shape), "calibrated": False, "bins": 0,
        "condition": condition, "sphere": False, "network": {"name": "model"},
    }  # fmt: skip
    if model is not None:
        return LatentSampler(facts, model)
    if len(examples.shape) != 1:
        raise DataError(f"examples: expected (N, d), or a model= of their own, received (N, {examples.shape})")
    steps = settings.steps_for(examples.n)
    pulled = examples.n if settings.direction == 1 else min(examples.n, pool_size(settings, examples.n, examples.n))
    if settings.network == "reference" and pulled // steps < 2:
        raise DataError(
            f"network reference: expected at least 2 examples and samples a batch, because batch norm needs them, "
            f"received {pulled} in {steps} batches"
        )
    name = settings.network if isinstance(settings.network, str) else "custom"
    facts["network"] = {"name": name, "width": settings.width, "depth": settings.depth}
    facts["sphere"] = examples.radius is not None
    network = build(
        NETWORKS[settings.network] if isinstance(settings.network, str) else settings.network,
        int(torch.randint(2**62, (), generator=stream(settings.seed, INIT))),
        noise_dim=settings.noise_dim, dim=examples.dim, width=settings.width, depth=settings.depth, condition=condition,
    )  # fmt: skip
    sampler = LatentSampler(facts, network)
    sampler.mean.copy_(examples.mean)
    sampler.scale.fill_(math.sqrt(examples.variance / examples.dim))
    sampler.radius.fill_(examples.radius or 1.0)
    if sampler.code is not None and conditions is not None and conditions.labels is None:
        sampler.code.standardise(conditions.values)
    return sampler


def relative_squared_error(examples: Examples) -> Loss:
    """‖output − target‖² over the data's total variance, one value an example."""
    scale = examples.variance or 1.0

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().flatten(1).sum(1) / scale

    return loss


def describe(
    settings: IMLE, examples: Examples, conditions: Conditions | None, *, weights: Tensor | None, **callables: Any
) -> dict[str, Any]:
    """What must be the same when a fit goes on: all settings but epochs, and the data by their hashes."""
    facts = settings.to_dict()
    del facts["epochs"]
    facts["examples"] = f"{[examples.n, *examples.shape]} {examples.fingerprint}"
    facts["condition"] = None if conditions is None else conditions.fingerprint
    facts["weights"] = None if weights is None else hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()
    for name, value in callables.items():
        facts[name] = None if value is None else getattr(value, "__qualname__", type(value).__qualname__)
    return facts


def probe(examples: Examples, features: Callable[[Tensor], Tensor] | None, loss: Loss | None) -> dict[str, list[float]]:
    """What a caller's functions say of a few examples: their names don't tell one lambda from another.

    Args:
        examples: the data.
        features: or None.
        loss: or None.

    Returns:
        For each function that is given, distances or losses between neighbours of at most four examples, evenly spread.
    """
    rows = examples.rows(evenly(examples.n, _PROBED))
    made: dict[str, Tensor] = {}
    devices = [rows.device] if rows.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)  # a loss of random crops says the same each time
        if features is not None:
            with torch.no_grad():
                points = features(rows).float()
            made["features: distances"] = (points - points.roll(1, 0)).norm(dim=1)
        if loss is not None:
            made["loss: values"] = loss(rows, rows.roll(1, 0)).detach()
    return {name: [float(f"{value:.6g}") for value in values.flatten().tolist()] for name, values in made.items()}
