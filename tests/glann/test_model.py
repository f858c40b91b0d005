import json

import pytest
import safetensors.torch
import torch

from glann import GLANN
from imle.errors import DataError


@pytest.fixture(scope="module")
def model(finished):
    return GLANN.from_pretrained(finished)


def test_sample_k_of_a_seed_is_the_same_in_every_call(model):
    whole = model.sample(150, seed=3)
    assert whole.shape == (150, 3, 16, 16)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert torch.equal(whole[:5], model.sample(5, seed=3))
    assert torch.equal(whole[70:131], model.sample(61, seed=3, start=70))
    assert not torch.equal(whole[:5], model.sample(5, seed=4))
    assert len(whole.flatten(1).unique(dim=0)) == 150


def test_a_saved_model_is_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path / "a" / "b")
    assert {p.name for p in (tmp_path / "a" / "b").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    again = GLANN.from_pretrained(tmp_path / "a" / "b")
    assert torch.equal(again.sample(9, seed=1), model.sample(9, seed=1))
    assert again.is_saved_in(tmp_path / "a" / "b")
    again.generator.out.bias += 1
    assert not again.is_saved_in(tmp_path / "a" / "b")
    config = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert (config["height"], config["width"], config["channels"]) == (16, 16, 3)


def test_the_model_holds_no_training_latents(finished):
    tensors = safetensors.torch.load_file(finished / "model" / "model.safetensors")
    assert all(name.split(".")[0] in ("generator", "sampler") for name in tensors)
    assert 40 not in {size for tensor in tensors.values() for size in tensor.shape[:1]}


def test_decode_draws_the_training_images_from_their_latents(model, finished):
    latents = safetensors.torch.load_file(finished / "glo" / "latents.safetensors")["latents"]
    images = model.decode(latents)
    assert images.shape == (40, 3, 16, 16)
    assert torch.equal(images[:3], model.decode(latents[:3]))
    torch.testing.assert_close(images[:3], model.decode(latents[:3] * 5))  # only the direction counts


@pytest.mark.parametrize("z", [torch.zeros(3, 9), torch.zeros(8), torch.full((2, 8), float("nan"))])
def test_decode_refuses_what_is_no_latent(model, z):
    with pytest.raises(ValueError, match=r"\(N, 8\)"):
        model.decode(z)


@pytest.mark.parametrize(("n", "options"), [(0, {}), (3, {"start": -1}), (3, {"seed": -1}), (3, {"seed": 2**64})])
def test_sample_refuses_what_is_out_of_range(model, n, options):
    with pytest.raises(ValueError, match="expected"):
        model.sample(n, **options)


def test_damaged_and_missing_models_are_named(finished, tmp_path):
    with pytest.raises(DataError, match="holds no model"):
        GLANN.from_pretrained(tmp_path)
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(DataError, match="not finished"):
        GLANN.from_pretrained(tmp_path)
    data = (finished / "model" / "model.safetensors").read_bytes()
    for broken in (b"", b"hello", data[:1000], data[:-10], safetensors.torch.save({"a": torch.ones(1)})):
        (tmp_path / "model.safetensors").write_bytes(broken)
        with pytest.raises(DataError, match="cannot be loaded"):
            GLANN.from_pretrained(tmp_path)
    model = GLANN.from_pretrained(finished)
    next(model.generator.parameters()).data[0] = torch.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="expected numbers, generator"):
        GLANN.from_pretrained(tmp_path)
