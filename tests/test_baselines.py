"""The models that the results compare with: they keep to a budget, and their formulas are those of the papers."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glann.images import ImageSet

BUDGET = 1.0  # processor seconds


@pytest.fixture(scope="module", autouse=True)
def benchmarks_folder():
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the script does: threads that wait for each other cost processor time
    yield
    torch.set_num_threads(threads)
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (128, 1, 16, 16)).astype(np.uint8)
    return ImageSet(pixels, [str(i) for i in range(len(pixels))], None, "", 0)


@pytest.mark.parametrize("name", ["vae", "gan", "glo", "imle", "glann", "reference"])
def test_a_model_keeps_to_its_budget_and_draws_images(name, images):
    import results

    trained = results.trainer(name, "mnist")(images, BUDGET, 0)
    assert 0.2 * BUDGET < trained.processor_seconds < 8 * BUDGET  # of this size, what cannot be cut counts
    drawn = trained.draw(5, 7)
    assert drawn.shape == (5, 1, 16, 16)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(drawn, trained.draw(5, 7))
    assert not torch.equal(drawn, trained.draw(5, 8))


def test_the_gaussian_has_the_mean_and_the_covariance_of_the_latents():
    from baselines.glo_gaussian import gaussian, sample

    noise = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    latents = noise @ torch.tensor([[1.0, 0.8, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.1]]) + 2
    drawn = sample(*gaussian(latents), 100_000, 0)
    torch.testing.assert_close(drawn.mean(0), latents.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(latents.T), atol=0.02, rtol=0)
    assert torch.cov(latents.T)[0, 1] > 0.5  # what a Gaussian with a diagonal covariance would miss


def test_real_images_are_each_drawn_once(images):
    import results

    drawn = results.real_images(images, 0, 0).draw(len(images), 0)
    order = drawn.flatten(1).sum(1).argsort()
    expected = images.batch(range(len(images)))
    assert torch.equal(drawn[order], expected[expected.flatten(1).sum(1).argsort()])
    with pytest.raises(SystemExit, match="at most 128 real images"):
        results.real_images(images, 0, 0).draw(len(images) + 1, 0)


def test_the_judge_of_modes_counts_what_the_classifier_names():
    import results

    def classifier(digits):  # an image that is full of its own class
        return torch.nn.functional.one_hot(digits[:, 0, 0, 0].long(), 10).float()

    images = torch.tensor([[1.0, 2, 3], [1, 2, 3], [0, 0, 0], [9, 9, 9]])[:, :, None, None].expand(-1, -1, 28, 28)
    judged = results.judge_modes(images, classifier)
    assert judged["modes"] == 3
    assert judged["reverse_kl"] == pytest.approx(np.log(1000) - (0.5 * np.log(2) + 0.5 * np.log(4)))


def test_the_divergence_of_the_autoencoder():
    from baselines.vae import divergence_from_normal

    mean, log_variance = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence_from_normal(mean, log_variance), expected)


def test_stacked_digits_and_their_modes():
    from stacked_mnist import mode, stacked

    digits = torch.arange(10)[:, None, None, None].expand(10, 1, 28, 28)  # an image full of its own class
    images = stacked(digits, 5000, seed=0)
    assert images.shape == (5000, 3, 28, 28)
    modes = mode(images[:, :, 0, 0])
    assert len(modes.unique()) > 980  # 1,000 (1 - e^-5) = 993 are expected
    assert modes.max() < 1000
    assert mode(torch.tensor([[1, 2, 3]])).item() == 123


def test_the_table_has_a_line_for_every_model_with_its_spread(tmp_path, capsys):
    import results

    for seed, frechet in enumerate((10.0, 12.0)):
        row = {
            "data": "mnist", "model": "gan", "seed": seed, "budget": 300, "frechet": frechet, "precision": 0.5,
            "recall": 0.5, "coverage": 0.5, "memorised": 0.01, "seconds": 300.0, "parameters": 1000,
            "images_per_second": 2000.0,
        }  # fmt: skip
        (tmp_path / f"{seed}.json").write_text(json.dumps(row))
    results.table(SimpleNamespace(out=tmp_path))
    assert "| GAN | 2 | 11.0 ± 1.4 | 0.500 | 0.500 | 0.500 | 0.010 | 300 | 1,000 | 2,000 |" in capsys.readouterr().out
