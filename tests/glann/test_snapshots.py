"""Looks at a training: when, what is kept, and what an interruption leaves."""

import pytest
import torch

import imle
from glann.snapshots import COUNT, Snapshots, due, of_the_same_noise
from imle.data import evenly
from imle.noise import sample_noise


def test_moments_are_powers_of_two_and_the_end():
    assert [epoch for epoch in range(1, 101) if due(epoch, 100)] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert [epoch for epoch in range(1, 2) if due(epoch, 1)] == [1]


@pytest.mark.parametrize(("count", "rows"), [(4, [0, 1, 2, 3]), (8, list(range(8))), (15, [0, 2, 4, 6, 8, 10, 12, 14])])
def test_images_are_spread_evenly(count, rows):
    assert evenly(count, COUNT).tolist() == rows


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_kept_comes_back(tmp_path, seeded, channels):
    images = (seeded(5, channels, 12, 20).sigmoid() * 255).round() / 255
    looks = Snapshots(tmp_path, 20)
    looks.add(8, images)
    assert torch.equal(looks.read(8), images)
    assert Snapshots(tmp_path, 13).read(8) is None
    assert looks.read(9) is None
    looks.path(8).write_bytes(b"no picture")
    assert looks.read(8) is None


def test_a_training_that_goes_back_takes_its_later_looks_with_it(tmp_path):
    looks, image = Snapshots(tmp_path, 16), torch.zeros(1, 3, 16, 16)
    assert looks.epochs() == []
    for epoch in (1, 2, 4, 2_000_000):
        looks.add(epoch, image)
    assert looks.epochs() == [1, 2, 4, 2_000_000]
    looks.add(2, image + 1)
    assert looks.epochs() == [1, 2]
    assert looks.read(2).min() == 1


def test_looks_are_of_one_noise_although_samples_are_not():
    vectors = torch.nn.functional.normalize(torch.randn(200, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    sampler = imle.IMLE(epochs=2, noise_dim=4, width=16, depth=1).fit(vectors)
    noise = sample_noise(0, 0, COUNT, 4)
    sampler.set_balance(sampler.sample(3, seed=5), torch.tensor([1.0, 0.0, 0.0]))
    with torch.no_grad():
        assert torch.equal(of_the_same_noise(sampler, None), sampler(noise))
    assert not torch.equal(of_the_same_noise(sampler, None), sampler.sample(COUNT, seed=0))
