"""The IMLE loop."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from imle.calibration import calibrate
from imle.checkpoint import Checkpoints
from imle.console import Watcher
from imle.data import Conditions, Examples, Points, check_weights
from imle.matching import Matcher, check_pool
from imle.noise import stream
from imle.pool import Generator, Stopwatch
from imle.sampler import LatentSampler
from imle.selection import Adaptive, EachBatch
from imle.settings import IMLE
from imle.setup import Loss, describe, make_sampler, relative_squared_error
from imle.state import TrainingState, cosine

SHUFFLE, SWAP = 1, 2  # what a random stream is for


def fit(
    settings: IMLE,
    x: Any,
    *,
    condition: Any = None,
    weights: Any = None,
    model: nn.Module | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    loss: Loss | None = None,
    checkpoints: Checkpoints | None = None,
    watcher: Watcher | None = None,
    device: str = "cpu",
) -> LatentSampler:
    """See `imle.IMLE.fit`."""
    examples = Examples(x, device)
    conditions = None if condition is None else Conditions(condition, examples.n, device)
    weight = None if weights is None else check_weights(weights, examples.n, device)
    sampler = make_sampler(settings, examples, conditions, model).to(device)
    points = Points(examples, features)
    check_pool(settings, examples.n)
    loss = loss or relative_squared_error(examples)
    identity = describe(settings, examples, conditions, weights=weight, model=model, features=features, loss=loss)
    state = TrainingState(settings, sampler.network, examples.n, examples.device, identity)
    if checkpoints is not None:
        state.restore(checkpoints)

    everyone = torch.arange(examples.n, device=examples.device)
    steps = math.ceil(examples.n / settings.batch_size)  # minibatches an epoch
    clock = Stopwatch(examples.device)
    matcher = Matcher(
        settings, Generator(sampler, points.map, examples.device, settings.seed, clock), points, conditions
    )
    assignment = state.assignment

    while state.epoch <= settings.epochs:
        clock.seconds = {phase: state.seconds.get(phase, 0.0) for phase in clock.seconds}
        clock.lap(None)

        # Once an epoch, before its first step: examples that are due get the nearest of fresh samples.
        if state.batch == 0 and not isinstance(settings.refresh, EachBatch):
            sampler.eval()
            due = examples_due(settings, matcher, state)
            if len(due):
                matcher.match(due, everyone, assignment, state.epoch)
                assignment.age[due] = 0
                if isinstance(settings.refresh, Adaptive):
                    assignment.threshold[due] = (1 - settings.refresh.shrink) * assignment.distance[due]
            assignment.age += 1
        clock.lap("search")

        # Equal minibatches in an order that belongs to the epoch: none is tiny, none is dropped.
        order = torch.randperm(examples.n, generator=stream(settings.seed, SHUFFLE, state.epoch)).to(examples.device)
        batches = order.tensor_split(steps)
        swapped = torch.randperm(
            len(assignment.swapped_example), generator=stream(settings.seed, SWAP, state.epoch)
        ).tensor_split(steps)  # fmt: skip
        done = sum(len(b) for b in batches[: state.batch])

        for number in range(state.batch, steps):
            rows = batches[number]
            if isinstance(settings.refresh, EachBatch):
                clock.lap("train")
                sampler.eval()
                matcher.match(rows, rows, assignment, state.epoch, number)
                clock.lap("search")

            # The committed noise goes through the network again, now with gradient.
            sampler.train()
            output = sampler(assignment.noise[rows], None if conditions is None else conditions.values[rows])
            errors = loss(output, examples.rows(rows))
            value = (errors if weight is None else errors * weight[rows]).mean()
            if settings.direction < 1:
                pair = swapped[number].to(rows.device)
                targets = assignment.swapped_example[pair]
                output = sampler(
                    assignment.swapped_noise[pair], None if conditions is None else conditions.values[targets]
                )
                errors = loss(output, examples.rows(targets))
                back = (
                    (errors if weight is None else errors * weight[targets]).mean()
                    if len(pair)
                    else value.new_zeros(())
                )
                value = settings.direction * value + (1 - settings.direction) * back
            value.backward()
            state.update((state.epoch - 1) * steps + number, settings.epochs * steps)
            state.loss_sum += value.detach() * len(rows)
            state.batch = number + 1
            done += len(rows)
            if watcher is not None:
                watcher.step(state.epoch, settings.epochs, done, examples.n, value.detach())
            if checkpoints is not None and state.batch < steps and checkpoints.due():
                clock.lap("train")
                state.seconds = clock.seconds
                state.commit(checkpoints)

        clock.lap("train")
        state.check_finite()
        row = report(state, clock, steps, settings)
        state.history.append(row)
        state.epoch, state.batch, state.seconds = state.epoch + 1, 0, {}
        state.loss_sum.zero_()
        if watcher is not None:
            watcher.epoch(row)
        if checkpoints is not None and (checkpoints.due() or state.epoch > settings.epochs):
            state.commit(checkpoints)

    state.finish()
    sampler.eval()
    if settings.calibrate and model is None:
        calibrate(sampler, settings.seed, examples, conditions, weight)
    sampler.history = state.history
    return sampler.cpu()


def examples_due(settings: IMLE, matcher: Matcher, state: TrainingState) -> Tensor:
    """(n,) int64, the examples that get a new sample in this epoch."""
    assignment, refresh = state.assignment, settings.refresh
    if isinstance(refresh, EachBatch):
        raise ValueError("expected a refresh that works by epochs, received EachBatch()")
    if not isinstance(refresh, Adaptive):
        return (assignment.age >= refresh.epochs).nonzero()[:, 0]
    if state.epoch > 1:
        assignment.distance = matcher.current_distances(assignment)
    return refresh.due(assignment.distance, assignment.threshold, assignment.age).nonzero()[:, 0]


def report(state: TrainingState, clock: Stopwatch, steps: int, settings: IMLE) -> dict[str, Any]:
    """The row of an epoch that is done."""
    distance = state.assignment.distance
    return {
        "epoch": state.epoch,
        "loss": float(state.loss_sum) / len(distance),
        "lr": cosine(settings.lr, state.epoch * steps - 1, settings.epochs * steps),
        "mean_distance": float(distance.mean()),
        "median_distance": float(distance.median()),
        "max_distance": float(distance.max()),
        "distinct_share": state.assignment.distinct_share(),
        **{f"seconds_{phase}": seconds for phase, seconds in clock.seconds.items()},
        "seconds": sum(clock.seconds.values()),
    }
