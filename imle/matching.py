"""Give examples new samples: draw a pool, leave out what is rejected, take the nearest, commit its noise."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from imle.assignment import Assignment
from imle.conditions import Conditions
from imle.data import Points, slab_rows
from imle.errors import DataError, SettingsError
from imle.exact import nearest_beyond
from imle.noise import stream
from imle.pool import Generator, Pool
from imle.search import nearest
from imle.settings import IMLE

PERTURB = 102  # what the random stream is for


@dataclass
class Match:
    """What a search found for some examples; distance is infinite where every candidate was rejected."""

    noise: Tensor  # (n, noise_dim)
    distance: Tensor  # (n,)
    candidate: Tensor  # (n,) int64, index in the pool


def pool_size(settings: IMLE, members: int, population: int) -> int:
    """Candidates for ``members`` of a population that the whole pool is for."""
    whole = settings.pool_size or settings.pool * population
    return max(1, math.ceil(whole * members / population - 1e-9))


def check_pool(settings: IMLE, n: int, *, private: bool) -> None:
    """Refuse a pool without a candidate, warn of one that leaves no choice.

    Args:
        settings: pool and pool_size are used.
        n: number of examples.
        private: whether every example has candidates of its own.

    Raises:
        SettingsError: for less than one candidate.
    """
    size = settings.pool_size or settings.pool * n
    if size < 1:
        raise SettingsError(f"pool: expected at least one candidate, received {settings.pool} x {n} examples")
    if private and size <= n:
        warnings.warn(
            f"pool: {math.ceil(size)} candidates for {n} examples with conditions of their own, one for each: "
            "there is nothing to choose",
            stacklevel=5,
        )
    elif size < n:
        warnings.warn(
            f"pool: {math.ceil(size)} candidates for {n} examples, so that examples must share samples", stacklevel=5
        )


class Matcher:
    """The matching step of the loop.

    Args:
        settings: pool, reject, direction, perturb, search and seed are used here.
        generate: maps noise with the network as it stands.
        points: the examples in search space.
        conditions: or None.
    """

    def __init__(self, settings: IMLE, generate: Generator, points: Points, conditions: Conditions | None):
        self.settings, self.generate, self.points, self.conditions = settings, generate, points, conditions

    def match(self, due: Tensor, population: Tensor, state: Assignment, *key: int) -> None:
        """Re-match some examples from a fresh pool.

        Args:
            due: (n,) int64, the examples that get a new sample.
            population: (p,) int64, the examples that the pool is for, ``due`` among them.
            state: is changed in place.
            *key: what tells this round's randomness from that of other rounds.

        Raises:
            DataError: where every candidate is rejected and ``Reject(all_rejected="error")`` was chosen.
        """
        round_ = Round(self, state)
        if self.conditions is not None and self.conditions.labels is None:
            round_.private(due, pool_size(self.settings, 1, len(population)), key)
        else:
            wanted = torch.zeros(self.points.n, dtype=torch.bool, device=due.device)
            wanted[due] = True
            for number, (label, members) in enumerate(self._groups(population)):
                size = pool_size(self.settings, len(members), len(population))
                pool = Pool(self.generate, size, label, self.points.dim, (*key, number))
                round_.shared(pool, members[wanted[members]], members)
        round_.close()
        if self.settings.perturb:
            fresh = due[state.age[due] == 0]  # the others have kept the match that they had
            shake = torch.randn(len(fresh), state.noise.shape[1], generator=stream(self.settings.seed, PERTURB, *key))
            state.noise[fresh] += self.settings.perturb * shake.to(state.noise.device)

    def current_distances(self, state: Assignment) -> Tensor:
        """(N,) from every example to its sample as the network maps it now."""
        parts = []
        for _, rows in _slabs(torch.arange(self.points.n, device=state.noise.device), self.points.dim):
            condition = None if self.conditions is None else self.conditions.values[rows]
            parts.append((self.generate(state.noise[rows], condition) - self.points.rows(rows)).norm(dim=1))
        return torch.cat(parts)

    def _groups(self, population: Tensor) -> Iterator[tuple[Tensor | None, Tensor]]:
        """The examples that share a pool: all of them, or those of each label."""
        if self.conditions is None:
            yield None, population
            return
        labels = self.conditions.values[population]
        for label in labels.unique():
            yield label, population[labels == label]


class Round:
    """One round of matching: commits to ``state`` as it goes through the pools."""

    def __init__(self, matcher: Matcher, state: Assignment):
        self.matcher, self.state = matcher, state
        self.reject = matcher.settings.reject
        self.swap = matcher.settings.direction < 1
        self._swapped: list[tuple[Tensor, Tensor]] = []

    def shared(self, pool: Pool, due: Tensor, members: Tensor) -> None:
        """One pool for all members; those that are due get a new sample."""
        keep, beyond = None, 0.0
        if self.swap or self.reject is not None:
            distance, example = self._nearest_examples(pool, members)
        if self.reject is not None:
            eps = self._eps(distance)
            keep, beyond = (None, eps) if self.reject.own else (distance >= eps, 0.0)
        if self.swap:
            noise = torch.cat([drawn for _, drawn, _ in pool.slabs()])[: len(members)]
            self._swapped.append((noise, example[: len(members)]))
        if len(due):
            found = self._closest(pool, due, keep, beyond)
            lost = found.distance.isinf().any()
            self._commit(due, found, self._closest(pool, due) if lost else found)
        self.state.drawn += pool.size

    def private(self, due: Tensor, size: int, key: tuple[int, ...]) -> None:
        """A pool of ``size`` candidates for every single example, under its own condition."""
        matcher, conditions = self.matcher, self.matcher.conditions
        assert conditions is not None
        numbers = size * max(matcher.points.dim, matcher.generate.sampler.dim)
        for number, (_, rows) in enumerate(_slabs(due, numbers)):
            noise = matcher.generate.draw(len(rows) * size, *key, number)
            samples = matcher.generate(noise, conditions.values[rows].repeat_interleave(size, 0))
            noise, samples = noise.view(len(rows), size, -1), samples.view(len(rows), size, -1)
            every = (matcher.points.rows(rows)[:, None] - samples).norm(dim=2)  # (n, m)
            allowed = every
            if self.reject is not None:
                allowed = every.masked_fill(every < self._eps(every.flatten()), torch.inf)

            self._commit(rows, _first(noise, allowed), _first(noise, every))
            if self.swap:
                self._swapped.append((noise[:, 0], rows))
            matcher.generate.clock.lap("search")
            self.state.drawn += len(rows) * size

    def close(self) -> None:
        """After all pools: put the swapped pairs in place."""
        if self._swapped:
            self.state.swapped_noise = torch.cat([noise for noise, _ in self._swapped])
            self.state.swapped_example = torch.cat([example for _, example in self._swapped])

    def _eps(self, distances: Tensor) -> float:
        """ε for a pool whose candidates have these distances to their nearest examples."""
        assert self.reject is not None
        eps = self.reject.threshold(distances, float(self.state.eps))
        self.state.eps.fill_(eps)
        return eps

    def _commit(self, due: Tensor, found: Match, unrejected: Match) -> None:
        """Write what was found to the state; examples without a candidate are served as `Reject.all_rejected` says."""
        state, lost = self.state, found.distance.isinf()
        if lost.any():
            choice = self.reject.all_rejected if self.reject is not None else "keep_pool"
            if choice == "error":
                raise DataError(
                    f"reject: every candidate of {int(lost.sum())} examples was rejected; expected a smaller ε"
                )
            found = Match(
                torch.where(lost[:, None], unrejected.noise, found.noise),
                torch.where(lost, unrejected.distance, found.distance),
                torch.where(lost, unrejected.candidate, found.candidate),
            )
            if choice == "keep_match":
                use = ~lost | (state.candidate[due] < 0)
                due, found = due[use], Match(found.noise[use], found.distance[use], found.candidate[use])
        state.noise[due], state.distance[due] = found.noise, found.distance
        state.candidate[due] = found.candidate + state.drawn.to(found.candidate.device)
        state.age[due] = 0

    def _closest(self, pool: Pool, due: Tensor, keep: Tensor | None = None, beyond: float = 0.0) -> Match:
        """The nearest candidate of every example that is due, among those kept, or not within ``beyond`` of it."""
        points, state = self.matcher.points, self.state
        best = Match(state.noise[due], torch.full_like(state.distance[due], torch.inf), torch.zeros_like(due))
        for start, noise, samples in pool.slabs():
            index = torch.arange(start, start + len(noise), device=due.device)
            if keep is not None:
                kept = keep[start : start + len(noise)]
                index, noise, samples = index[kept], noise[kept], samples[kept]
            for lo, rows in _slabs(due, points.dim):
                if len(samples):
                    queries = points.rows(rows)
                    where, distance = (
                        nearest_beyond(queries, samples, beyond) if beyond else self._nearest(queries, samples)
                    )
                    closer = distance < best.distance[lo : lo + len(rows)]
                    target = lo + closer.nonzero()[:, 0]
                    best.noise[target] = noise[where[closer]]
                    best.distance[target] = distance[closer]
                    best.candidate[target] = index[where[closer]]
        self.matcher.generate.clock.lap("search")
        return best

    def _nearest(self, queries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        search, seconds = self.matcher.settings.search, self.matcher.generate.clock.seconds
        found = search(queries, candidates, 1) if callable(search) else nearest(queries, candidates, 1, search)
        seconds["build"] += found.build_seconds
        seconds["search"] -= found.build_seconds  # which the next lap counts
        return found.indices[:, 0], found.distances[:, 0]

    def _nearest_examples(self, pool: Pool, members: Tensor) -> tuple[Tensor, Tensor]:
        """For every candidate: distance to the nearest member, and which."""
        points = self.matcher.points
        distances, examples = [], []
        for _, noise, samples in pool.slabs():
            best = torch.full((len(noise),), torch.inf, device=noise.device)
            which = torch.zeros(len(noise), dtype=torch.long, device=noise.device)
            for _, rows in _slabs(members, points.dim):
                where, distance = self._nearest(samples, points.rows(rows))
                closer = distance < best
                best[closer] = distance[closer]
                which[closer] = rows[where[closer]]
            distances.append(best)
            examples.append(which)
        self.matcher.generate.clock.lap("search")
        return torch.cat(distances), torch.cat(examples)


def _first(noise: Tensor, distances: Tensor) -> Match:
    """The nearest of each example's own m candidates: noise (n, m, noise_dim), distances (n, m)."""
    distance, index = distances.min(1)
    line = torch.arange(len(index), device=index.device)
    return Match(noise[line, index], distance, line * distances.shape[1] + index)


def _slabs(index: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
    """Parts of an index, as (position, part), whose rows of ``width`` numbers fit into one slab."""
    size = slab_rows(width)
    for start in range(0, len(index), size):
        yield start, index[start : start + size]
