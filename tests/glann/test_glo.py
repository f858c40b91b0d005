import numpy as np
import pytest
import torch

from glann import glo, losses
from glann.images import ImageSet
from glann.losses.pixels import L1
from glann.settings import GLOSettings
from imle.checkpoint import Checkpoints
from imle.errors import DivergedError, ResumeError

SETTINGS = GLOSettings(epochs=3, batch_size=20, latent_dim=8, generator_options={"width": 4}, loss="l1", lr=3e-3)


@pytest.fixture(scope="module")
def images():
    y, x = np.mgrid[:16, :16]
    stripes = [128 + 120 * np.sin(0.1 * i * x + 0.07 * (40 - i) * y) for i in range(40)]
    pixels = np.stack(stripes)[:, None].astype(np.uint8)
    return ImageSet(pixels, [str(i) for i in range(40)], None, "f", 0)


def fit(images, settings=SETTINGS, **options):
    loss = losses.build(settings.loss, size=(16, 16), channels=1)
    return glo.fit(images, settings, lambda: loss, **options)


class Stop(Exception):
    pass


class StopAfter:
    """A watcher that ends the training as a crash would, after some minibatches."""

    def __init__(self, steps):
        self.left = steps

    def step(self, epoch, epochs, done, total, loss):
        self.left -= 1
        if self.left < 0:
            raise Stop

    def epoch(self, row):
        pass


def test_the_distance_falls_and_the_latents_stay_on_the_sphere(images):
    rows = []
    watcher = StopAfter(10**6)
    watcher.epoch = rows.append
    result = fit(images, SETTINGS.model_copy(update={"epochs": 30}), watcher=watcher)
    assert [row["epoch"] for row in rows] == list(range(1, 31))
    assert {(row["epochs"], row["batch_size"]) for row in rows} == {(30, SETTINGS.batch_size)}
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    torch.testing.assert_close(result.latents.norm(dim=1), torch.ones(40))
    with torch.no_grad():
        drawn = result.generator(result.latents)
    assert (drawn - images.batch(range(40))).abs().mean() == pytest.approx(float(result.losses.mean()), rel=0.5)


def test_batches_are_equal_parts_and_none_is_larger_than_asked(images):
    seen = []
    watcher = StopAfter(10**6)
    watcher.step = lambda epoch, epochs, done, total, loss: seen.append(done)
    fit(images, SETTINGS.model_copy(update={"epochs": 1, "batch_size": 16}), watcher=watcher)
    assert seen == [14, 27, 40]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])  # 2 batches an epoch
@pytest.mark.parametrize(
    ("generator", "more"),
    [
        ("residual", {}),
        ("reference", {}),
        ("reference", {"ema": 0.9}),  # with buffers
        ("residual", {"augment": "flip", "batch_size": 40, "ema": 0.9}),
    ],
)
def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(images, tmp_path, steps, generator, more):
    options = {"width": 4} if generator == "residual" else {}
    settings = SETTINGS.model_copy(update={"generator": generator, "generator_options": options, **more})
    whole = fit(images, settings)
    with pytest.raises(Stop):
        fit(images, settings, checkpoints=Checkpoints(tmp_path, every_seconds=0), watcher=StopAfter(steps))
    assert Checkpoints(tmp_path).latest().facts["batch"] == steps % 2
    again = fit(images, settings, checkpoints=Checkpoints(tmp_path))
    assert torch.equal(whole.latents, again.latents)
    assert torch.equal(whole.losses, again.losses)
    for name, value in whole.generator.state_dict().items():
        assert torch.equal(value, again.generator.state_dict()[name]), name


def test_a_finished_run_only_loads_and_more_epochs_go_on(images, tmp_path):
    first = fit(images, checkpoints=Checkpoints(tmp_path))
    watcher = StopAfter(0)
    assert torch.equal(first.latents, fit(images, checkpoints=Checkpoints(tmp_path), watcher=watcher).latents)
    longer = SETTINGS.model_copy(update={"epochs": 4})
    with pytest.raises(Stop):
        fit(images, longer, checkpoints=Checkpoints(tmp_path), watcher=watcher)
    assert not torch.equal(first.latents, fit(images, longer, checkpoints=Checkpoints(tmp_path)).latents)
    with pytest.raises(ResumeError, match=r"glo.epochs = 2.*4 are already"):
        fit(images, SETTINGS.model_copy(update={"epochs": 2}), checkpoints=Checkpoints(tmp_path))


def test_the_average_is_that_of_the_weights_after_each_step(images):
    weights = []

    class Look(StopAfter):
        def step(self, *progress):
            weights.append({k: v.clone() for k, v in generator[0].named_parameters()})

    generator = []
    build = glo.generators.build

    def caught(*arguments, **options):
        generator.append(build(*arguments, **options))
        return generator[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glo.generators, "build", caught)
        averaged = fit(images, SETTINGS.model_copy(update={"ema": 0.5}), watcher=Look(99))
    assert len(weights) == 6
    for name, value in averaged.generator.named_parameters():
        expected = weights[0][name]
        for t, now in enumerate(weights[1:], start=2):
            expected = expected.lerp(now[name], 1 - min(0.5, (1 + t) / (10 + t)))
        torch.testing.assert_close(value.detach(), expected)
        assert not torch.equal(value, weights[-1][name])
    last = fit(images)
    assert torch.equal(averaged.latents, last.latents)  # the average teaches nobody
    assert torch.equal(last.generator.out.weight, weights[-1]["out.weight"])


@pytest.mark.parametrize(
    ("count", "size", "epochs"), [(4, 4, 500), (100, 4, 20), (1000, 31, 5), (2048, 64, 5), (50_000, 64, 5)]
)
def test_few_images_have_smaller_batches_and_more_passes_unless_asked(count, size, epochs):
    few = GLOSettings(min_epochs=5, min_images_seen=2000)
    assert (glo.batch_size(few, count), glo.epochs_for(few, count)) == (size, epochs)
    asked = GLOSettings(epochs=3, batch_size=48)
    assert (glo.batch_size(asked, count), glo.epochs_for(asked, count)) == (48, 3)


def test_seeds_differ_and_repeat(images):
    assert torch.equal(fit(images, seed=1).latents, fit(images, seed=1).latents)
    assert not torch.equal(fit(images, seed=1).latents, fit(images, seed=2).latents)


def test_the_callers_random_state_is_left_alone(images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(images, SETTINGS.model_copy(update={"epochs": 1}))
    assert torch.equal(torch.rand(3), expected)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(images, tmp_path):
    class Broken(L1):
        def size_of(self, delta):
            broken.calls += 1
            return super().size_of(delta) * (float("nan") if broken.calls > 3 else 1.0)

    broken = Broken()
    broken.calls = 0
    with pytest.raises(DivergedError, match="epoch 2"):
        glo.fit(images, SETTINGS, lambda: broken, checkpoints=Checkpoints(tmp_path, every_seconds=0))
    kept = Checkpoints(tmp_path).latest()
    assert (kept.facts["epoch"], kept.facts["batch"]) == (1, 1)
    assert all(torch.isfinite(t).all() for t in kept.tensors.values())
