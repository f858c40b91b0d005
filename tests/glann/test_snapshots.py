"""Looks at a training: when, what is kept, and what an interruption leaves."""

import pytest
import torch

from glann.snapshots import COUNT, Snapshots, due
from imle.data import evenly


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
