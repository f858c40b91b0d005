import dataclasses

import pytest
import torch

import imle
import imle.data
from imle.assignment import Assignment
from imle.conditions import Conditions
from imle.data import Examples, Points
from imle.errors import DataError
from imle.matching import Matcher, pool_size
from imle.pool import Generator, Pool, Stopwatch
from imle.setup import make_sampler

SETTINGS = imle.IMLE(noise_dim=4, width=16, depth=1, pool=3.0, seed=2)
CPU = torch.device("cpu")


class Bench:
    """A matcher over an untrained network, and what it has done."""

    def __init__(self, x, condition=None, **changes):
        self.settings = dataclasses.replace(SETTINGS, **changes)
        self.x = x
        examples = Examples(x)
        self.conditions = None if condition is None else Conditions(condition, len(x))
        self.sampler = make_sampler(self.settings, examples, self.conditions, None)
        self.generate = Generator(self.sampler, lambda b: b, CPU, self.settings.seed, Stopwatch(CPU))
        self.matcher = Matcher(self.settings, self.generate, Points(examples, None), self.conditions)
        self.state = Assignment.empty(len(x), 4, CPU)
        self.everyone = torch.arange(len(x))

    def match(self, epoch=1, due=None):
        self.matcher.match(self.everyone if due is None else due, self.everyone, self.state, epoch)
        return self.state

    def pool(self, epoch=1, number=0, size=360, label=None):
        """All candidates of a round and their noise."""
        slabs = list(Pool(self.generate, size, label, self.x.shape[1], (epoch, number)).slabs())
        return torch.cat([s for _, _, s in slabs]), torch.cat([n for _, n, _ in slabs])

    def samples(self):
        """The samples that the examples have committed to."""
        condition = None if self.conditions is None else self.conditions.values
        return self.generate(self.state.noise, condition)


def pairs(one, two):
    return (one[:, None].double() - two[None].double()).norm(dim=2).float()


@pytest.fixture(params=[2**27, 2**11], ids=["one_slab", "many_slabs"])
def _slabs(request, monkeypatch):
    monkeypatch.setattr(imle.data, "SLAB_BYTES", request.param)


@pytest.mark.usefixtures("_slabs")
def test_every_example_gets_the_nearest_candidate(ring):
    bench = Bench(ring)
    state = bench.match()
    candidates, noise = bench.pool()
    distance, index = pairs(ring, candidates).min(1)
    assert torch.allclose(state.distance, distance)
    assert torch.equal(state.noise, noise[index])
    assert torch.equal(state.candidate, index)
    assert torch.allclose((bench.samples() - ring).norm(dim=1), distance, atol=1e-5)
    assert int(state.drawn) == 360


def test_only_those_that_are_due_change(ring):
    bench = Bench(ring)
    before = bench.match().noise.clone()
    due = torch.tensor([3, 50, 119])
    state = bench.match(2, due)
    candidates, noise = bench.pool(2)
    assert torch.equal(state.noise[due], noise[pairs(ring[due], candidates).argmin(1)])
    others = torch.ones(120, dtype=torch.bool)
    others[due] = False
    assert torch.equal(state.noise[others], before[others])
    assert (state.candidate[due] >= 360).all()  # draws of two rounds are told apart


@pytest.mark.usefixtures("_slabs")
def test_rejected_samples_are_near_no_example(ring):
    bench = Bench(ring, reject=imle.Reject(eps=0.7))
    state = bench.match()
    candidates, noise = bench.pool()
    every = pairs(ring, candidates)
    kept = every.min(0).values >= 0.7
    assert 0 < kept.sum() < 360
    distance, index = every.masked_fill(~kept, torch.inf).min(1)
    assert torch.allclose(state.distance, distance)
    assert torch.equal(state.noise, noise[index])
    assert pairs(ring, bench.samples()).min() >= 0.7 - 1e-5


@pytest.mark.usefixtures("_slabs")
def test_own_rejection_looks_at_the_example_alone(ring):
    bench = Bench(ring, reject=imle.Reject(eps=0.5, own=True))
    state = bench.match()
    every = pairs(ring, bench.pool()[0])
    assert torch.allclose(state.distance, every.masked_fill(every < 0.5, torch.inf).min(1).values, atol=1e-4)
    assert pairs(ring, bench.samples()).min() < 0.5  # near another example is allowed


@pytest.mark.parametrize("quantile", [0.02, 0.5])
def test_a_quantile_rejects_that_share_of_the_pool(quantile, ring):
    bench = Bench(ring, reject=imle.Reject(quantile=quantile))
    bench.match()
    toward = pairs(ring, bench.pool()[0]).min(0).values
    eps = toward.sort().values[round(quantile * 360) - 1]
    assert pairs(ring, bench.samples()).min() >= eps


def test_a_rate_steers_eps_until_that_share_is_rejected(ring):
    bench = Bench(ring, reject=imle.Reject(rate=0.2))
    bench.match()
    first = float(bench.state.eps)
    bench.state.eps.mul_(8)  # as if the network had come closer since
    for epoch in range(2, 30):
        bench.match(epoch)
    toward = pairs(ring, bench.pool(99)[0]).min(0).values
    assert float((toward < bench.state.eps).float().mean()) == pytest.approx(0.2, abs=0.08)
    assert float(bench.state.eps) == pytest.approx(first, rel=0.4)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("condition", [None, "labels", "vectors"])
def test_when_all_are_rejected_there_is_a_choice(own, condition, ring):
    values = {None: None, "labels": torch.arange(120) % 2, "vectors": ring[:, :1]}[condition]
    impossible = imle.Reject(eps=1e6, own=own)
    bench = Bench(ring, values, reject=impossible)
    plain = Bench(ring, values)
    assert torch.equal(bench.match().noise, plain.match().noise)

    keep = Bench(ring, values, reject=dataclasses.replace(impossible, all_rejected="keep_match"))
    first = keep.match(1).noise.clone()
    assert torch.equal(first, plain.match(1).noise)  # none to keep yet
    assert torch.equal(keep.match(2).noise, first)

    with pytest.raises(DataError, match="every candidate of"):
        Bench(ring, values, reject=dataclasses.replace(impossible, all_rejected="error")).match()


@pytest.mark.usefixtures("_slabs")
def test_labels_have_pools_of_their_own(ring):
    labels = torch.where(torch.arange(120) < 30, 5, -1)
    bench = Bench(ring, labels)
    state = bench.match()
    for number, (label, members) in enumerate([(-1, slice(30, 120)), (5, slice(0, 30))]):
        size = pool_size(bench.settings, 90 if label == -1 else 30, 120)
        candidates, noise = bench.pool(1, number, size, torch.tensor(label))
        distance, index = pairs(ring[members], candidates).min(1)
        assert size == (270 if label == -1 else 90)
        assert torch.allclose(state.distance[members], distance)
        assert torch.equal(state.noise[members], noise[index])
    assert len(state.candidate[:30].unique()) + len(state.candidate[30:].unique()) == len(state.candidate.unique())


@pytest.mark.usefixtures("_slabs")
def test_vectors_have_candidates_under_their_own_vector(ring):
    bench = Bench(ring, ring[:, :2], pool=5.0)
    state = bench.match()
    assert torch.allclose((bench.samples() - ring).norm(dim=1), state.distance, atol=1e-5)
    assert int(state.drawn) == 600
    one = Bench(ring, ring[:, :2], pool=1.0).match().distance
    assert (state.distance <= one).float().mean() > 0.7  # more candidates, nearer samples
    assert len(state.candidate.unique()) == 120


@pytest.mark.parametrize("condition", [None, "labels", "vectors"])
def test_swapped_pairs_point_from_samples_to_their_nearest_example(condition, ring):
    labels = torch.arange(120) % 3
    values = {None: None, "labels": labels, "vectors": ring[:, :1]}[condition]
    bench = Bench(ring, values, direction=0.5)
    state = bench.match()
    assert len(state.swapped_noise) == len(state.swapped_example) == 120
    chosen = None if bench.conditions is None else bench.conditions.values[state.swapped_example]
    every = pairs(bench.generate(state.swapped_noise, chosen), ring)
    if condition == "labels":
        every = every.masked_fill(labels[state.swapped_example][:, None] != labels, torch.inf)
    if condition == "vectors":
        assert torch.equal(state.swapped_example, torch.arange(120))
    else:
        assert torch.equal(every.argmin(1), state.swapped_example)


def test_perturbed_noise_is_near_the_chosen_noise(ring):
    plain, shaken = Bench(ring).match(), Bench(ring, perturb=0.1).match()
    difference = shaken.noise - plain.noise
    assert float(difference.std()) == pytest.approx(0.1, rel=0.15)
    assert torch.equal(shaken.distance, plain.distance)


def test_adaptive_waits_for_the_distance_or_the_age(ring):
    """Due is who has come (1 - shrink) as near as after its last matching and is old enough, or is too old."""
    bench = Bench(ring[:5])
    assert imle.Adaptive().due(bench.state, pytest.fail).tolist() == [0, 1, 2, 3, 4]  # nobody has a sample yet
    state = bench.match()
    refresh = imle.Adaptive(shrink=0.1, min_age=2, max_age=5)
    state.age[:] = torch.tensor([1, 2, 2, 4, 5])
    shares = torch.tensor([0.5, 0.899, 0.901, 0.95, 0.95])
    assert refresh.due(state, lambda: shares * state.distance).tolist() == [1, 4]


def test_current_distances_follow_the_network(ring):
    for condition in (None, torch.arange(120) % 3, ring[:, :1]):
        bench = Bench(ring, condition)
        state = bench.match()
        assert torch.allclose(bench.matcher.current_distances(state), state.distance, atol=1e-5)
        bench.sampler.mean.add_(1.0)
        assert torch.allclose(bench.matcher.current_distances(state), (bench.samples() - ring).norm(dim=1))


def test_every_counts_epochs(ring):
    bench = Bench(ring)
    state = bench.match()
    state.age[:] = torch.arange(120) % 4
    assert torch.equal(imle.Every(3).due(state, pytest.fail), torch.arange(3, 120, 4))
    assert len(imle.EachBatch().due(state, pytest.fail)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: imle.Every(0), "Every.epochs: expected an integer >= 1"),
        (lambda: imle.Adaptive(shrink=0.0), "Adaptive.shrink"),
        (lambda: imle.Adaptive(min_age=5, max_age=4), "Adaptive.max_age: expected an integer >= 5"),
        (lambda: imle.Reject(), "expected exactly one of eps, quantile and rate, received none"),
        (lambda: imle.Reject(eps=1.0, rate=0.1), "exactly one"),
        (lambda: imle.Reject(eps=0.0), "Reject.eps"),
        (lambda: imle.Reject(quantile=1.0), "Reject.quantile"),
        (lambda: imle.Reject(eps=1.0, all_rejected="cry"), "Reject.all_rejected: expected one of keep_pool"),
    ],
)
def test_bad_choices(make, message):
    with pytest.raises(ValueError, match=message):
        make()
