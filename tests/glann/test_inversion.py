"""From images back to latents."""

import pytest
import safetensors.torch
import torch

from glann import GLANN, inversion, losses
from glann.inversion import Inverter
from imle.errors import DataError


@pytest.fixture(scope="module")
def model(finished):
    return GLANN.from_pretrained(finished)


@pytest.fixture(scope="module")
def inverter(model):
    return Inverter(model)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(5, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 16, 16).contiguous()


def test_an_image_has_the_same_latent_in_any_company(model, inverter, pictures):
    together = inverter(pictures, steps=20)
    assert together.latents.shape == (5, model.latent_dim)
    torch.testing.assert_close(together.latents.norm(dim=1), torch.ones(5))
    alone = inverter(pictures[3:4], steps=20)
    assert torch.equal(together.latents[3:4], alone.latents)
    assert torch.equal(together.distances[3:4], alone.distances)
    assert torch.equal(inverter(pictures.flip(0), steps=20).latents.flip(0), together.latents)
    assert torch.equal(model.embed(pictures, steps=20), together.latents)


def test_the_distance_is_that_of_the_latent_and_steps_make_it_smaller(model, inverter, pictures):
    found = [inverter(pictures, steps=steps) for steps in (0, 10, 80)]
    measured = inverter.loss(model.decode(found[2].latents), pictures)
    torch.testing.assert_close(found[2].distances, measured, rtol=1e-4, atol=1e-6)
    assert (found[1].distances <= found[0].distances).all()
    assert (found[2].distances < found[0].distances).all()


def test_what_the_model_draws_is_found_again(model, inverter, seeded):
    images = model.decode(seeded(4, model.latent_dim))
    start, end = (inverter(images, steps=steps).distances for steps in (0, 150))
    assert (end < 0.1 * start).all()


def test_a_run_gives_its_training_latents_and_an_exported_model_has_none(finished, inverter):
    exported = Inverter(GLANN.from_pretrained(finished / "model"))
    assert len(inverter.candidates) == len(exported.candidates) + 40
    assert inverter.loss_name == exported.loss_name == "laplacian"


def test_the_loss_of_the_model_is_taken_where_it_can_be_built(finished):
    model = GLANN.from_pretrained(finished / "model")
    for asked, taken in (("l1", "l1"), ("lpips-vgg", losses.OFFLINE), ("of another package", losses.OFFLINE)):
        model.config["loss"] = asked
        assert Inverter(model).loss_name == taken
    del model.config["loss"]
    assert Inverter(model).loss_name == losses.OFFLINE


def test_damaged_training_latents_are_named(copied):
    path = copied / "glo" / "latents.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["latents"][0] = torch.nan
    for broken in (b"hello", safetensors.torch.save(tensors)):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"latents\.safetensors cannot be loaded"):
            Inverter(GLANN.from_pretrained(copied))


def test_large_images_get_fewer_candidates(model, monkeypatch):
    monkeypatch.setattr(inversion, "_PIXELS", 100 * 256)
    assert len(Inverter(model).candidates) == 100 + 40


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (torch.zeros(2, 1, 16, 16), r"\(N, 3, 16, 16\).*\(2, 1, 16, 16\)"),
        (torch.zeros(2, 3, 16, 20), r"\(2, 3, 16, 20\)"),
        (torch.zeros(3, 16, 16), r"\(3, 16, 16\)"),
        (torch.zeros(0, 3, 16, 16), r"\(0, 3, 16, 16\)"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 16, 16), 1.5), "1.5"),
        (torch.full((1, 3, 16, 16), -0.5), "-0.5"),
        (torch.full((1, 3, 16, 16), float("nan")), "nan"),
    ],
)
def test_what_is_no_image_of_the_model_is_refused(model, images, named):
    with pytest.raises(ValueError, match=named):
        model.embed(images)


def test_negative_steps_are_refused(model, pictures):
    with pytest.raises(ValueError, match="-1"):
        model.embed(pictures, steps=-1)
