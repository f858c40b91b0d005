"""The targets of stage 1: what is kept, what it costs, and that nobody can tell from the results."""

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from glann import glo, losses, targets
from glann.images import ImageSet
from glann.losses.pixels import L1
from glann.settings import GLOSettings
from glann.targets import Targets
from imle.checkpoint import Checkpoints

COUNT, BATCH = 20, 5
SETTINGS = GLOSettings(epochs=2, batch_size=BATCH, latent_dim=4, generator_options={"width": 4}, loss="vgg")


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 16, 16)).astype(np.uint8)
    return ImageSet(pixels, [str(i) for i in range(COUNT)], None, "f", 0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A randomly initialised VGG-16, as deep as 16 pixels need it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("trunk") / "vgg.safetensors"
    state = torchvision.models.vgg16(weights=None).features.state_dict()
    save_file({f"features.{key}": value for key, value in state.items()}, path)
    return path


@pytest.fixture
def loss(weights):
    return losses.build("vgg", size=(16, 16), channels=3, weights=weights)


@pytest.fixture
def passes(loss):
    """For every pass of the trunk, whether gradients were wanted."""
    seen = []
    loss.trunk.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    return seen


class Each(list):
    """A watcher that notes what `take` gives after every step."""

    def __init__(self, take):
        super().__init__()
        self.take = take

    def step(self, epoch, epochs, done, total, loss):
        self.append(self.take())

    def epoch(self, row):
        pass


def fit(images, loss, cache_gib=1.0, **options):
    settings = SETTINGS.model_copy(update={"cache_gib": cache_gib})
    return glo.fit(images, settings, lambda: loss, **options)


def same(a, b):
    states = zip(a.generator.state_dict().values(), b.generator.state_dict().values(), strict=True)
    return (
        torch.equal(a.latents, b.latents) and torch.equal(a.losses, b.losses) and all(torch.equal(*s) for s in states)
    )


def test_with_a_cache_the_trunk_runs_once_a_step_and_no_pixels_are_read(images, loss, passes, monkeypatch):
    reads = []
    batch = ImageSet.batch
    monkeypatch.setattr(ImageSet, "batch", lambda self, rows: reads.append(len(rows)) or batch(self, rows))
    told = Each(lambda: (len(passes), len(reads)))
    fit(images, loss, watcher=told)
    assert passes[1 : 1 + COUNT // BATCH] == [False] * (COUNT // BATCH)  # the first asks for the size of one
    steps = np.diff(told, axis=0)
    assert (steps == [1, 0]).all()  # trunk, batches of pixels that would travel to the device
    assert passes[-len(told) :] == [True] * len(told)


def test_without_a_cache_the_trunk_runs_twice_a_step_once_without_gradient(images, loss, passes):
    told = Each(lambda: len(passes))
    fit(images, loss, cache_gib=0.0, watcher=told)
    assert (np.diff(told) == 2).all()
    assert passes[-2 * len(told) :] == [False, True] * len(told)


def test_no_gradient_is_computed_for_the_trunk_and_none_flows_into_targets(images, loss):
    fit(images, loss)
    assert all(not p.requires_grad and p.grad is None for p in loss.parameters())


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_no_step_waits_for_the_device(images, loss, cache_gib):
    class Waits(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            Waits.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
            return function(*arguments, **(options or {}))

    told = Each(lambda: Waits.count)
    with Waits():
        fit(images, loss, cache_gib=cache_gib, watcher=told)
    within = np.diff(told)[np.arange(1, len(told)) % (COUNT // BATCH) != 0]  # an epoch ends with a look at its loss
    assert (within == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("cache_gib", "copies"), [(0.0, 2), (1.0, 1)])
def test_copies_between_host_and_gpu_in_a_step(images, loss, cache_gib, copies):
    from torch.profiler import ProfilerActivity, profile

    def counted(epochs):
        settings = SETTINGS.model_copy(update={"cache_gib": cache_gib, "epochs": epochs})
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            glo.fit(images, settings, lambda: loss, device="cuda")
        return sum(e.count for e in profiler.key_averages() if e.key.startswith("Memcpy") and "DtoD" not in e.key)

    counted(1)
    more = counted(4) - counted(2)
    assert more <= 2 * (copies * COUNT // BATCH + 2)  # rows, and pixels where nothing is kept; the loss at the end


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_a_resumed_run_compares_with_the_same_numbers(images, loss, tmp_path, cache_gib, bf16):
    class Stop(Exception):
        pass

    class After6(Each):
        def step(self, *progress):
            super().step(*progress)
            if len(self) > 6:
                raise Stop

    whole = fit(images, loss, cache_gib, bf16=bf16)
    with pytest.raises(Stop):
        fit(images, loss, cache_gib, bf16=bf16, checkpoints=Checkpoints(tmp_path, every_seconds=0), watcher=After6(int))
    assert Checkpoints(tmp_path).latest().facts["kept"] == (cache_gib > 0)
    assert same(whole, fit(images, loss, cache_gib, bf16=bf16, checkpoints=Checkpoints(tmp_path)))


def test_a_run_that_began_without_a_cache_goes_on_without(images, loss, tmp_path):
    one, two = (SETTINGS.model_copy(update={"epochs": n, "cache_gib": 0.0, "decay": "step"}) for n in (1, 2))
    whole = glo.fit(images, two, lambda: loss)
    glo.fit(images, one, lambda: loss, checkpoints=Checkpoints(tmp_path))
    more = two.model_copy(update={"cache_gib": 1.0})
    assert same(whole, glo.fit(images, more, lambda: loss, checkpoints=Checkpoints(tmp_path)))


def test_kept_targets_are_the_prepared_ones_in_half_precision(images, loss):
    lines = []
    kept, anew = (Targets(images, loss, "cpu", bf16=False) for _ in range(2))
    kept.keep(10**9, 7, lines.append)
    assert (kept.kept, anew.kept) == (True, False)
    rows = torch.tensor([13, 2, 7])
    for own, exact in zip(kept(rows), anew(rows), strict=True):
        assert own.dtype == torch.float16
        torch.testing.assert_close(own.float(), exact, rtol=1e-3, atol=1e-4)
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in kept(rows))
    assert lines == ["target features of 20 images, 0.00 GiB as fp16: computed once and kept"]


@pytest.mark.parametrize(
    ("budget", "free", "limit"),
    [(0, None, "glo.cache_gib is 0.00"), (10**9, 10**6, "half of the free memory is 0.00"), (10**9, None, None)],
)
def test_what_does_not_fit_is_not_kept(images, loss, monkeypatch, budget, free, limit):
    monkeypatch.setattr(targets, "free_bytes", lambda device: free)
    lines = []
    made = Targets(images, loss, "cpu", bf16=False)
    made.keep(budget, BATCH, lines.append)
    assert made.kept == (limit is None)
    assert (limit or "computed once and kept") in lines[0]


def test_cheap_distances_and_features_beyond_half_precision_are_not_kept(images):
    class Large(L1):
        cacheable = True

        def prepare_planes(self, planes):
            return (planes * 1e6,)

    for loss, expected in ((L1(), []), (Large(), ["range of fp16"])):
        lines = []
        made = Targets(images, loss, "cpu", bf16=False)
        made.keep(10**9, BATCH, lines.append)
        assert not made.kept
        assert len(lines) == len(expected)
        assert all(part in line for part, line in zip(expected, lines, strict=True))
        assert torch.equal(made(torch.arange(3))[0], loss.prepare(images.batch(range(3)))[0])
