import hashlib

import pytest
import torch
from torch import nn

from glann import features, weights
from imle.errors import DataError


@pytest.fixture
def inception_file(tmp_path, monkeypatch):
    """Weights of the right names and shapes, but random; and the library's constructor, which wants a file first."""
    from torch_fidelity import FeatureExtractorInceptionV3

    torch.save({}, tmp_path / "empty.pth")
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(tmp_path / "empty.pth"))
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


@pytest.mark.parametrize(
    ("asked", "loss", "name", "words"),
    [
        ("auto", "small-vgg+laplacian", "efficientnet-lite0", []),
        ("auto", None, "efficientnet-lite0", []),
        ("auto", "0.5*efficientnet-lite0@2+l1", "small-vgg", ["judges instead", "stopgap"]),
        ("auto", "efficientnet-lite0+small-vgg", "efficientnet-lite0", ["flatter"]),
        ("efficientnet-lite0", "efficientnet-lite0", "efficientnet-lite0", ["flatter"]),
        ("inception", "lpips-vgg", "inception", []),
        ("small-vgg", "small-vgg+laplacian", "small-vgg", ["flatter", "stopgap"]),
    ],
)
def test_the_judge_is_not_the_network_of_the_loss(asked, loss, name, words):
    chosen, warnings = features.choose(asked, loss)
    assert chosen == name
    assert len(warnings) == len(words)
    assert all(word in line for word, line in zip(words, warnings, strict=True))


def test_inception_judges_where_the_loss_has_efficientnet_and_its_weights_are_there():
    path = weights.cached("inception")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    try:
        name, (warning,) = features.choose("auto", "efficientnet-lite0")
    finally:
        path.unlink()
    assert name == "inception"
    assert "not to be compared" in warning


@pytest.mark.parametrize("name", ["efficientnet-lite0", "small-vgg"])
def test_grey_rgb_and_transparent_images_of_any_shape_have_features(name):
    judge = features.build(name, (28, 20))
    grey = torch.randint(0, 256, (3, 1, 28, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    colour = grey.expand(-1, 3, -1, -1)
    found = judge(grey)
    assert found.shape == (3, judge.dims)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, judge(colour))
    opaque = torch.cat([colour, torch.full_like(grey, 255)], dim=1)
    torch.testing.assert_close(found, judge(opaque))
    invisible = torch.cat([colour, torch.zeros_like(grey)], dim=1)
    torch.testing.assert_close(judge(invisible)[0], judge(invisible)[1])
    torch.testing.assert_close(found[1:], judge(grey[1:]))


@pytest.mark.parametrize(("name", "dims"), [("small-vgg", "224"), ("efficientnet-lite0", "1280")])
def test_torch_fidelity_finds_the_same_networks(name, dims):
    from torch_fidelity.utils import create_feature_extractor

    import glann.extractors  # noqa: F401 - registers them

    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = create_feature_extractor(name, [dims], cuda=False, verbose=False)
    torch.testing.assert_close(network(images)[0], features.build(name, (32, 32))(images))


def test_inception_reads_a_given_file(inception_file):
    judge = features.build("inception", (32, 32), inception_file)
    assert (judge.name, judge.dims) == ("inception", 2048)
    assert "299x299" in judge.resize
    assert judge(torch.zeros(1, 1, 32, 32, dtype=torch.uint8)).shape == (1, 2048)


def test_inception_is_fetched_from_a_server_and_its_hash_checked(tmp_path, monkeypatch):
    data = b"what a server sends"
    file = f"inception-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / file).write_bytes(data)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setitem(weights.TRUNKS, "inception", weights.TrunkFile(file, 1, (tmp_path / "server").as_uri()))
    assert weights.fetch("inception").read_bytes() == data
    with pytest.raises(DataError, match="expected a state dict"):
        features.build("inception", (32, 32))


def test_what_cannot_be_used_is_named(tmp_path):
    with pytest.raises(DataError, match="`glann weights fetch inception`"):
        features.build("inception", (32, 32))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="expected the Inception weights of torch-fidelity"):
        features.build("inception", (32, 32), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no weights for the features small-vgg"):
        features.build("small-vgg", (32, 32), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"expected features auto, .*received 'vgg'"):
        features.choose("vgg", None)


def test_floats_are_refused_because_their_features_would_be_small_and_silent():
    with pytest.raises(ValueError, match=r"expected uint8 images from 0 to 255, received torch\.float32"):
        features.build("small-vgg", (32, 32))(torch.rand(2, 3, 32, 32))
