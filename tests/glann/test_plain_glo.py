"""Stage 1 computes what the published step computes, faster: the losses of the two agree step by step."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from glann import generators, glo, losses
from glann.images import ImageSet
from glann.latents import noise_latents
from glann.settings import GLOSettings

COUNT, DIM, STEPS, SEED = 8, 8, 20, 3
BETAS = (0.9, 0.99)
LR, LATENT_LR = (
    2e-4,
    2e-3,
)  # smaller than published: at each |δ| that crosses zero, L1 lets digits in the last place grow


@pytest.fixture(scope="module")
def plain_glo():
    path = Path(__file__).parents[2] / "benchmarks" / "plain" / "glo.py"
    spec = importlib.util.spec_from_file_location("plain_glo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Noted(list):
    def step(self, epoch, epochs, done, total, loss):
        self.append(float(loss))

    def epoch(self, row):
        pass


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_losses_of_the_first_steps_are_those_of_the_plain_recipe(plain_glo, tmp_path, cache_gib):
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)
    images = ImageSet(pixels, [str(i) for i in range(COUNT)], None, "", 0)
    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features
    save_file({f"features.{k}": v for k, v in features.state_dict().items()}, tmp_path / "vgg.safetensors")
    distance = losses.build("vgg", size=(32, 32), channels=3, weights=tmp_path / "vgg.safetensors")

    # Every image in every batch, so that an Adam over all latents moves the same ones; step sizes stay as they are.
    settings = GLOSettings(
        epochs=STEPS, batch_size=COUNT, latent_dim=DIM, latent_init="noise", cache_gib=cache_gib,
        generator="residual", generator_options={"width": 4}, lr=LR, latent_lr=LATENT_LR,
        beta1=BETAS[0], beta2=BETAS[1],
        decay="step", decay_epochs=STEPS + 1,
    )  # fmt: skip
    own = Noted()
    result = glo.fit(images, settings, lambda: distance, seed=SEED, watcher=own)

    torch.manual_seed(glo.stream(SEED, glo._WEIGHTS).initial_seed())
    generator = generators.build("residual", latent_dim=DIM, size=(32, 32), channels=3, width=4)
    start, loss = noise_latents(COUNT, DIM, SEED), plain_glo.PlainLoss(features)
    plain = plain_glo.Plain(torch.from_numpy(pixels), generator, start, loss, LR, LATENT_LR, BETAS)
    batches = [torch.randperm(COUNT, generator=glo.stream(SEED, glo._SHUFFLE, epoch)) for epoch in range(STEPS)]
    expected = [plain.step(rows) for rows in batches]

    assert expected[-1] < 0.98 * expected[0]
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=0)
    assert (result.latents - start).norm(dim=1).min() > 0.01
