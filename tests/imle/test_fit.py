import dataclasses
import json

import numpy as np
import pytest
import torch

import imle
from imle.checkpoint import Checkpoints
from imle.errors import DataError, DivergedError, ResumeError

SMALL = imle.IMLE(epochs=4, noise_dim=4, width=16, depth=1, batch_size=32, seed=3)


class Stop(Exception):
    pass


class Rows:
    """A watcher that keeps the rows, and stops the fit after some minibatches as a crash would."""

    def __init__(self, stop_after: int | None = None):
        self.rows: list[dict] = []
        self.left = stop_after

    def step(self, epoch, epochs, done, total, loss):
        assert 1 <= epoch <= epochs
        assert 0 < done <= total
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Stop

    def epoch(self, row):
        self.rows.append(json.loads(json.dumps(row)))


def same(a: imle.LatentSampler, b: imle.LatentSampler) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def timeless(rows):
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]


VARIANTS = {
    "vanilla": {},
    "every3": {"refresh": imle.Every(3)},
    "adaptive": {"refresh": imle.Adaptive(shrink=0.05, max_age=3)},
    "batch": {"refresh": imle.EachBatch()},
    "reference": {"network": "reference"},
    "rejecting": {"reject": imle.Reject(rate=0.1), "perturb": 0.05},
    "both": {"direction": 0.5},
    "no_average": {"ema": 0.0, "calibrate": False},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("stop_after", [1, 6, 13])
def test_a_resumed_fit_ends_like_an_uninterrupted_one(name, stop_after, ring, tmp_path):
    settings = dataclasses.replace(SMALL, **VARIANTS[name])
    whole = settings.fit(ring)
    checkpoints = Checkpoints(tmp_path, every_seconds=0.0)
    first = Rows(stop_after)
    with pytest.raises(Stop):
        settings.fit(ring, checkpoints=checkpoints, watcher=first)
    second = Rows()
    resumed = settings.fit(ring, checkpoints=Checkpoints(tmp_path, every_seconds=1e9), watcher=second)
    assert same(whole, resumed)
    assert timeless(resumed.history) == timeless(whole.history)
    assert timeless(first.rows + second.rows) == timeless(whole.history)


def test_a_finished_fit_returns_at_once_and_more_epochs_go_on(ring, tmp_path):
    done = SMALL.fit(ring, checkpoints=Checkpoints(tmp_path))
    watcher = Rows()
    assert same(done, SMALL.fit(ring, checkpoints=Checkpoints(tmp_path), watcher=watcher))
    assert watcher.rows == []
    longer = dataclasses.replace(SMALL, epochs=6).fit(ring, checkpoints=Checkpoints(tmp_path), watcher=watcher)
    assert [row["epoch"] for row in watcher.rows] == [5, 6]
    assert longer.history[:4] == done.history
    with pytest.raises(ResumeError, match="epochs: expected at least the 6"):
        SMALL.fit(ring, checkpoints=Checkpoints(tmp_path))


@pytest.mark.parametrize("name", ["vanilla", "no_average"])
def test_a_preview_is_what_a_shorter_look_would_give_and_changes_nothing(name, ring):
    settings = dataclasses.replace(SMALL, **VARIANTS[name])
    seen = {}

    def preview(epoch, sampler):
        assert not sampler.training
        seen[epoch] = sampler.sample(5, seed=1)

    fitted = settings.fit(ring, preview=preview)
    assert same(fitted, settings.fit(ring))
    assert list(seen) == [1, 2, 3, 4]
    assert torch.equal(seen[4], fitted.sample(5, seed=1))
    assert not torch.equal(seen[2], seen[3])


def test_other_settings_or_data_do_not_resume(ring, tmp_path):
    SMALL.fit(ring, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(ResumeError, match=r"lr was 0.003, now 0.01"):
        dataclasses.replace(SMALL, lr=0.01).fit(ring, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(ResumeError, match="examples was"):
        SMALL.fit(ring + 1, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(ResumeError, match="weights was None"):
        SMALL.fit(ring, weights=torch.ones(len(ring)), checkpoints=Checkpoints(tmp_path))


def test_functions_are_told_apart_by_their_values(ring, tmp_path):
    checkpoints = Checkpoints(tmp_path)

    def go_on(scale, power, epochs=4):
        """A fit whose lambdas have the same names whatever they compute."""
        return dataclasses.replace(SMALL, epochs=epochs).fit(
            ring,
            features=lambda rows: rows * torch.tensor([1.0, 1.0, scale]),
            loss=lambda output, target: (output - target).abs().pow(power).sum(1),
            checkpoints=checkpoints,
        )

    half = go_on(0.5, 2, epochs=2)
    assert same(half, go_on(0.5, 2, epochs=2))
    with pytest.raises(ResumeError, match=r"otherwise: features: distances was \[.*\], now \[[^;]*\]$"):
        go_on(0.6, 2)
    with pytest.raises(ResumeError, match=r"otherwise: loss: values was \[.*\], now \[[^;]*\]$"):
        go_on(0.5, 1)
    assert len(go_on(0.5, 2.0001).history) == 4  # no further away than another machine's rounding


def test_a_loss_may_be_random(ring, tmp_path):
    def noisy(output, target):
        return (output - target + 0.1 * torch.randn_like(output)).square().sum(1)

    first = SMALL.fit(ring, loss=noisy, checkpoints=Checkpoints(tmp_path))
    assert same(first, SMALL.fit(ring, loss=noisy, checkpoints=Checkpoints(tmp_path)))


def test_a_checkpoint_of_something_else_is_not_resumed(ring, tmp_path):
    SMALL.fit(ring, checkpoints=Checkpoints(tmp_path))
    found = Checkpoints(tmp_path).latest()
    fewer = {k: v for k, v in found.tensors.items() if k != "assignment.noise"}
    Checkpoints(tmp_path).commit(10**6, fewer, found.facts)
    with pytest.raises(ResumeError, match=r"is no state of this fit.*assignment\.noise"):
        SMALL.fit(ring, checkpoints=Checkpoints(tmp_path))


def test_rows_have_what_a_reader_needs(ring):
    watcher = Rows()
    SMALL.fit(ring, watcher=watcher)
    assert set(watcher.rows[0]) == {
        "epoch", "batch_size", "loss", "lr", "mean_distance", "median_distance", "max_distance", "distinct_share",
        "seconds_generate", "seconds_build", "seconds_search", "seconds_train", "seconds",
    }  # fmt: skip
    assert [r["epoch"] for r in watcher.rows] == [1, 2, 3, 4]
    assert dataclasses.replace(SMALL, epochs=1, batch_size=None).fit(ring).history[0]["batch_size"] == 15  # an eighth
    for row in watcher.rows:
        assert row["batch_size"] == SMALL.batch_size
        assert 0 < row["median_distance"] <= row["max_distance"]
        assert 0 < row["distinct_share"] <= 1
        assert 0 < row["lr"] <= SMALL.lr


def test_the_first_row_measures_distances_to_the_untrained_pool(ring):
    """Row 1 is the distance to the nearest of 2N samples of the network as it was initialised, by brute force."""
    from imle.data import Examples
    from imle.noise import stream
    from imle.pool import POOL
    from imle.setup import make_sampler

    watcher = Rows()
    SMALL.fit(ring, watcher=watcher)
    sampler = make_sampler(SMALL, Examples(ring), None, None)
    noise = torch.randn(240, 4, generator=stream(SMALL.seed, POOL, 1, 0, 0))
    with torch.no_grad():
        distances, index = torch.cdist(ring, sampler(noise)).min(1)
    assert watcher.rows[0]["mean_distance"] == pytest.approx(float(distances.mean()), rel=1e-4)
    assert watcher.rows[0]["max_distance"] == pytest.approx(float(distances.max()), rel=1e-4)
    assert watcher.rows[0]["distinct_share"] == pytest.approx(len(index.unique()) / 120)


def test_fitting_brings_samples_to_every_example(ring):
    few = dataclasses.replace(SMALL, epochs=1, calibrate=False).fit(ring)
    many = dataclasses.replace(SMALL, epochs=60, calibrate=False).fit(ring)
    far, near = (torch.cdist(ring, s.sample(1000)).min(1).values.mean() for s in (few, many))
    assert near < 0.6 * far


def test_data_on_a_sphere_gives_samples_on_it(sphere):
    samples = SMALL.fit(sphere).sample(300, seed=4)
    assert torch.allclose(samples.norm(dim=1), torch.tensor(3.0), atol=1e-4)


def test_calibration_matches_mean_and_covariance(ring):
    plain = dataclasses.replace(SMALL, epochs=1, calibrate=False).fit(ring).sample(20_000, seed=9)
    matched = dataclasses.replace(SMALL, epochs=1).fit(ring).sample(20_000, seed=9)
    target = torch.cov(ring.T, correction=0)
    assert (torch.cov(matched.T) - target).norm() < 0.05 * target.norm() < (torch.cov(plain.T) - target).norm()
    assert (matched.mean(0) - ring.mean(0)).norm() < 0.03


def test_the_fit_is_a_function_of_its_seed_alone(ring):
    torch.manual_seed(5)
    one = SMALL.fit(ring)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    two = SMALL.fit(ring.numpy().astype(np.float64))
    assert same(one, two)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(one, dataclasses.replace(SMALL, seed=4).fit(ring))


def test_scale_and_place_of_the_data_do_not_matter(ring):
    """Data 1000 times larger and far from zero gives samples as good."""
    plain = dataclasses.replace(SMALL, epochs=20).fit(ring)
    moved = dataclasses.replace(SMALL, epochs=20).fit(ring * 1000 + 5000)
    distances = [
        torch.cdist(x, s.sample(500)).min(1).values.mean() for x, s in ((ring, plain), (ring * 1000 + 5000, moved))
    ]
    assert float(distances[1]) / 1000 == pytest.approx(float(distances[0]), rel=0.2)


def test_weights_pull_the_fit(ring):
    ring = ring - ring.mean(0)
    right = (ring[:, 0] > 0).float()
    sampler = dataclasses.replace(SMALL, epochs=30).fit(ring, weights=right)
    assert (sampler.sample(500)[:, 0] > -0.2).float().mean() > 0.8
    assert same(sampler, dataclasses.replace(SMALL, epochs=30).fit(ring, weights=7 * right))


def test_divergence_stops_before_anything_bad_is_committed(ring, tmp_path):
    good = Checkpoints(tmp_path, every_seconds=0.0)

    def loss(output, target):
        errors = (output - target).square().sum(1)
        loss.calls += 1
        return errors * (float("nan") if loss.calls == 11 else 1.0)

    loss.calls = -1  # the first call is on the examples alone
    with pytest.raises(DivergedError, match="epoch 3"):
        SMALL.fit(ring, loss=loss, checkpoints=good)
    kept = good.latest()
    assert kept is not None
    assert kept.facts["step"] == 10
    assert all(torch.isfinite(v).all() for k, v in kept.tensors.items() if k.startswith("network"))


def test_a_callable_network_and_a_model_of_images(ring):
    def small(noise_dim, dim, width, depth, condition):
        return torch.nn.Sequential(torch.nn.Linear(noise_dim, width), torch.nn.Tanh(), torch.nn.Linear(width, dim))

    sampler = dataclasses.replace(SMALL, network=small).fit(ring)
    assert sampler.sample(5).shape == (5, 3)

    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 4, 4)))
    before = model[0].weight.clone()
    sampler = SMALL.fit(
        images, model=model, features=lambda b: b.mean((1, 2)), loss=lambda a, b: (a - b).abs().mean((1, 2, 3))
    )
    assert sampler.sample(7).shape == (7, 1, 4, 4)
    assert not torch.equal(before, model[0].weight)
    assert sampler.network is model


class Wrong(torch.nn.Module):
    """Answers with another shape than the examples have."""

    def __init__(self, *shape):
        super().__init__()
        self.linear, self.shape = torch.nn.Linear(4, int(np.prod(shape))), shape

    def forward(self, noise):
        return self.linear(noise).view(-1, *self.shape)


def test_a_model_or_loss_of_another_shape_is_refused_and_not_broadcast(ring):
    with pytest.raises(DataError, match=r"model: expected output of shape \(120, 3\), received \(120, 1\)"):
        dataclasses.replace(SMALL, pool=1.0).fit(ring, model=Wrong(1))
    with pytest.raises(DataError, match=r"received \(20, 4, 4\)"):
        dataclasses.replace(SMALL, pool=1.0).fit(torch.rand(20, 1, 4, 4), model=Wrong(4, 4))
    for loss in (lambda a, b: (a - b).square().sum(1, keepdim=True), lambda a, b: (a - b).square().mean()):
        with pytest.raises(DataError, match="loss: expected one value an example"):
            SMALL.fit(ring, loss=loss)


class Tied(torch.nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, noise):
        return self.b(torch.tanh(self.a(noise)))


def test_tied_weights_are_saved_and_resumed(ring, tmp_path):
    settings = dataclasses.replace(SMALL, noise_dim=3)
    torch.manual_seed(0)
    whole = settings.fit(ring, model=Tied())
    torch.manual_seed(0)
    with pytest.raises(Stop):
        settings.fit(ring, model=Tied(), checkpoints=Checkpoints(tmp_path / "c", 0.0), watcher=Rows(6))
    again = settings.fit(ring, model=Tied(), checkpoints=Checkpoints(tmp_path / "c", 0.0))
    assert same(whole, again)
    assert again.network.a.weight is again.network.b.weight
    again.save_pretrained(tmp_path / "s")
    loaded = imle.LatentSampler.from_pretrained(tmp_path / "s", network=Tied())
    assert torch.equal(loaded.sample(5), again.sample(5))


@dataclasses.dataclass(frozen=True)
class Half:
    """A rule of one's own: the even examples in even epochs, the odd ones in odd epochs."""

    offset: int = 0

    def due(self, assignment, current):
        epoch = int(assignment.age.min()) if assignment.age.min() < 2**20 else -1  # none has been matched yet
        every = torch.arange(len(assignment.age))
        return every if epoch < 0 else every[(every + epoch + self.offset) % 2 == 0]


class Lazy:
    """A rule that forgets the first epoch."""

    def due(self, assignment, current):
        return torch.arange(3)


def test_a_rule_that_leaves_examples_without_a_sample_is_refused(ring):
    with pytest.raises(ValueError, match="all examples due in the first epoch, received 3"):
        dataclasses.replace(SMALL, refresh=Lazy()).fit(ring)


def test_rules_and_searches_of_ones_own(ring, tmp_path):
    asked = []

    def counted(queries, candidates, k):
        asked.append(len(queries))
        return imle.nearest(queries, candidates, k, "torch")

    settings = dataclasses.replace(SMALL, refresh=Half(), search=counted)
    whole = settings.fit(ring)
    assert asked == [120, 60, 60, 60]
    assert same(whole, dataclasses.replace(SMALL, refresh=Half(), search="torch").fit(ring))
    assert json.dumps(settings.to_dict())
    settings.fit(ring, checkpoints=Checkpoints(tmp_path / "c"))
    with pytest.raises(ResumeError, match="refresh was"):
        dataclasses.replace(settings, refresh=Half(1)).fit(ring, checkpoints=Checkpoints(tmp_path / "c"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected an integer >= 1, received 0"),
        ({"epochs": True}, "epochs"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 0.0}, "lr: expected a finite number > 0"),
        ({"pool": -1.0}, "pool"),
        ({"pool_size": 0}, "pool_size"),
        ({"direction": 1.5}, "direction: expected a finite number >= 0 and <= 1"),
        ({"ema": 1.0}, "ema"),
        ({"network": "gan"}, "network: expected one of residual, reference, received 'gan'"),
        ({"search": "hnsw"}, "search: expected one of"),
        ({"refresh": 3}, "refresh: expected imle.Every"),
        ({"refresh": imle.Every}, "refresh: expected imle.Every"),
        ({"reject": 0.1}, "reject: expected None or imle.Reject"),
        ({"seed": -1}, "seed"),
        ({"perturb": "x"}, "perturb"),
    ],
)  # fmt: skip
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        imle.IMLE(**changes)


def test_numbers_of_numpy_are_numbers():
    refresh, reject = imle.Every(np.int32(2)), imle.Reject(eps=np.float64(1))
    settings = imle.IMLE(epochs=np.int64(3), lr=np.float32(0.5), pool=2, refresh=refresh, reject=reject)
    assert settings == imle.IMLE(epochs=3, lr=0.5, refresh=imle.Every(2), reject=imle.Reject(eps=1.0))
    assert json.dumps(settings.to_dict())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 3), r"received shape \(0, 3\)"),
        (torch.zeros(5), r"received shape \(5,\)"),
        (torch.zeros(5, 0), "received shape"),
        (torch.zeros(5, 2, 2), "model="),
        (torch.zeros(5, 2, dtype=torch.complex64), "received torch.complex64"),
        (np.array([["a", "b"]]), "received <U1"),
        (np.array([[object()]]), "received object"),
        (np.ones((3, 2), bool), "received bool"),
        (np.array([[1.0, 2.0], [np.nan, 0.0]]), "row 1"),
        (np.array([[1.0, 2.0], [1e300, 0.0]]), "row 1"),
    ],
)
def test_bad_examples_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        SMALL.fit(x)


@pytest.mark.parametrize("weights", [torch.ones(3), -torch.ones(120), torch.zeros(120), torch.full((120,), torch.nan)])
def test_bad_weights_are_refused(weights, ring):
    with pytest.raises(DataError, match="weights"):
        SMALL.fit(ring, weights=weights)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, np.int8, np.uint16, np.int64, ">f4"])
def test_other_number_types_are_used_as_float32(dtype, ring):
    array = (ring.numpy() * 50).round().astype(dtype)
    assert same(SMALL.fit(array), SMALL.fit(array.astype(np.float32)))


@pytest.mark.parametrize(
    "x",
    [torch.ones(1, 3), torch.ones(50, 3) * 2, torch.arange(6.0).view(2, 3).repeat(20, 1)],
    ids=["one", "constant", "two"],
)
def test_degenerate_examples_give_samples_near_them(x):
    samples = dataclasses.replace(SMALL, epochs=30, pool=20.0).fit(x).sample(200)
    assert torch.isfinite(samples).all()
    assert torch.cdist(x, samples).min(1).values.max() < 0.5


def test_pools_too_small(ring):
    with pytest.raises(ValueError, match="at least one candidate"):
        dataclasses.replace(SMALL, pool=0.001).fit(ring)
    with pytest.warns(UserWarning, match="60 candidates for 120 examples, so that"):
        dataclasses.replace(SMALL, pool=0.5).fit(ring)
    with pytest.warns(UserWarning, match="one for each: there is nothing to choose"):
        dataclasses.replace(SMALL, pool_size=100).fit(ring, condition=ring[:, :1])


def test_the_sampler_refuses_reference_with_one_example():
    with pytest.raises(DataError, match="batch norm"):
        imle.IMLE.reference(epochs=1).fit(torch.ones(1, 3))
    with pytest.raises(DataError, match="received 61 in 31 batches"):
        imle.IMLE.reference(epochs=1, batch_size=2).fit(torch.randn(61, 3))
    with pytest.raises(DataError, match="received 5 in 3 batches"):
        imle.IMLE.reference(epochs=1, batch_size=20, pool_size=5, direction=0.5).fit(torch.randn(60, 3))


@pytest.mark.parametrize(("n", "size"), [(4, 4), (100, 12), (1000, 125), (2048, 256), (50_000, 256)])
def test_few_examples_have_smaller_batches_unless_asked(n, size):
    assert imle.IMLE().batch_for(n) == size
    assert imle.IMLE(batch_size=300).batch_for(n) == 300
    with pytest.raises(ValueError, match="batch_size"):
        imle.IMLE(batch_size=0)
