"""The IMLE loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imle.calibration import calibrate
from imle.checkpoint import Checkpoints
from imle.console import Watcher
from imle.errors import DataError, SettingsError
from imle.matching import Matcher
from imle.noise import stream
from imle.pool import Generator, Stopwatch
from imle.sampler import LatentSampler
from imle.selection import EachBatch
from imle.settings import IMLE
from imle.setup import Loss, start
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
    preview: Callable[[int, LatentSampler], None] | None = None,
    device: str = "cpu",
) -> LatentSampler:
    """See `imle.IMLE.fit`."""
    begun = start(
        settings, x, condition=condition, weights=weights, model=model, features=features, loss=loss,
        checkpoints=checkpoints, device=device,
    )  # fmt: skip
    examples, conditions, sampler, points, state = (
        begun.examples, begun.conditions, begun.sampler, begun.points, begun.state,
    )  # fmt: skip
    everyone = torch.arange(examples.n, device=examples.device)
    steps = settings.steps_for(examples.n)  # minibatches an epoch
    clock = Stopwatch(examples.device)
    matcher = Matcher(
        settings, Generator(sampler, points.map, examples.device, settings.seed, clock), points, conditions
    )
    assignment = state.assignment

    def pull(noise: Tensor, rows: Tensor) -> Tensor:
        """Mean weighted loss between the samples of some noise and the examples that they are pulled to."""
        output = sampler(noise, None if conditions is None else conditions.values[rows])
        errors = begun.loss(output, examples.rows(rows))
        if errors.shape != rows.shape:
            raise DataError(f"loss: expected one value an example, ({len(rows)},), received {tuple(errors.shape)}")
        return (errors if begun.weight is None else errors * begun.weight[rows]).mean()

    while state.epoch <= settings.epochs:
        clock.seconds = {phase: state.seconds.get(phase, 0.0) for phase in clock.seconds}
        clock.lap(None)

        # Once an epoch, before its first step: examples that are due get the nearest of fresh samples.
        if state.batch == 0:
            sampler.eval()
            due = settings.refresh.due(assignment, partial(matcher.current_distances, assignment))
            if state.epoch == 1 and len(due) < examples.n and not isinstance(settings.refresh, EachBatch):
                raise SettingsError(f"refresh: expected all examples due in the first epoch, received {len(due)}")
            if len(due):
                matcher.match(due, everyone, assignment, state.epoch)
            assignment.age += 1
        clock.lap("search")

        # Equal minibatches in an order that belongs to the epoch: none is tiny, none is dropped.
        batches = shuffled(examples.n, steps, settings.seed, SHUFFLE, state.epoch)
        swapped = shuffled(len(assignment.swapped_example), steps, settings.seed, SWAP, state.epoch)
        done = sum(len(b) for b in batches[: state.batch])

        for number in range(state.batch, steps):
            rows = batches[number].to(examples.device)
            if isinstance(settings.refresh, EachBatch):
                clock.lap("train")
                sampler.eval()
                matcher.match(rows, rows, assignment, state.epoch, number)
                clock.lap("search")

            # The committed noise goes through the network again, now with gradient.
            sampler.train()
            value = pull(assignment.noise[rows], rows)
            if len(swapped[number]):
                pairs = swapped[number].to(examples.device)
                back = pull(assignment.swapped_noise[pairs], assignment.swapped_example[pairs])
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
        if preview is not None and state.epoch <= settings.epochs:
            with state.averaged(sampler):
                preview(state.epoch - 1, sampler)
        if checkpoints is not None and (checkpoints.due() or state.epoch > settings.epochs):
            state.commit(checkpoints)

    state.finish()
    sampler.eval()
    if settings.calibrate and model is None:
        calibrate(sampler, settings.seed, examples, conditions, begun.weight)
    if preview is not None:
        preview(settings.epochs, sampler)
    sampler.history = state.history
    return sampler.cpu()


def shuffled(n: int, parts: int, *key: int) -> tuple[Tensor, ...]:
    """0 … n − 1 in an order that belongs to the key, in equal parts."""
    return torch.randperm(n, generator=stream(*key)).tensor_split(parts)


def report(state: TrainingState, clock: Stopwatch, steps: int, settings: IMLE) -> dict[str, Any]:
    """The row of an epoch that is done."""
    distance = state.assignment.distance
    return {
        "epoch": state.epoch,
        "batch_size": settings.batch_for(len(distance)),
        "loss": float(state.loss_sum) / len(distance),
        "lr": cosine(settings.lr, state.epoch * steps - 1, settings.epochs * steps),
        "mean_distance": float(distance.mean()),
        "median_distance": float(distance.median()),
        "max_distance": float(distance.max()),
        "distinct_share": state.assignment.distinct_share(),
        **{f"seconds_{phase}": seconds for phase, seconds in clock.seconds.items()},
        "seconds": sum(clock.seconds.values()),
    }
