"""Truncated samples: dense ones, the same in every call, of any sampler."""

import pytest
import torch

import imle
from imle.metrics import balls
from imle.search import nearest
from imle.truncation import NEIGHBOUR, REFERENCE, Truncation


@pytest.fixture(scope="module")
def ring():
    """A sampler of a ring with a sparse bridge across."""
    generator = torch.Generator().manual_seed(0)
    angle = 6.2832 * torch.rand(280, generator=generator)
    bridge = torch.stack([2 * torch.rand(20, generator=generator) - 1, torch.zeros(20)], 1)
    ring = torch.stack([angle.cos(), angle.sin()], 1) + 0.03 * torch.randn(280, 2, generator=generator)
    points = torch.cat([ring, bridge])
    settings = imle.IMLE(
        epochs=60, batch_size=50, noise_dim=4, width=64, depth=2, refresh=imle.Every(1), seed=0, calibrate=False
    )
    return settings.fit(points), points


def test_a_sample_is_the_same_in_every_call(ring):
    truncation = Truncation(ring[0])
    whole = truncation.sample(600, 0.4, seed=3)
    assert torch.equal(whole[250:263], truncation.sample(13, 0.4, seed=3, start=250))
    assert torch.equal(whole, Truncation(ring[0]).sample(600, 0.4, seed=3))
    assert not torch.equal(whole, truncation.sample(600, 0.4, seed=4))
    assert truncation.sample(0, 0.4).shape == (0, 2)


def test_a_share_of_one_is_no_truncation(ring):
    assert torch.equal(Truncation(ring[0]).sample(300, 1.0, seed=2), ring[0].sample(300, seed=2))


def test_dense_samples_stay_and_the_others_are_drawn_again(ring):
    truncation, plain = Truncation(ring[0]), ring[0].sample(1000, seed=2)
    radii = nearest(plain, truncation.reference, k=NEIGHBOUR).distances[:, -1]
    for share in (0.8, 0.4):
        limit = truncation.radii[round(share * REFERENCE) - 1]
        chosen = truncation.sample(1000, share, seed=2)
        kept = (chosen == plain).all(1)
        assert torch.equal(kept, radii <= limit)
        assert abs(float(kept.float().mean()) - share) < 0.06  # the share means what it says
        assert (nearest(chosen, truncation.reference, k=NEIGHBOUR).distances[:, -1] <= limit).float().mean() > 0.999


def test_a_lower_share_is_more_precise_and_less_varied(ring):
    truncation, points = Truncation(ring[0]), ring[1]
    scores = [balls(points, truncation.sample(300, share, seed=1)) for share in (1.0, 0.6, 0.2)]
    assert scores[0].precision < scores[1].precision < scores[2].precision
    assert scores[0].recall > scores[1].recall > scores[2].recall


def test_under_a_condition():
    points = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(80) % 2
    sampler = imle.IMLE(epochs=2, noise_dim=4, width=16, depth=1).fit(points, condition=labels)
    chosen = Truncation(sampler, condition=1).sample(9, 0.5, seed=1)
    assert chosen.shape == (9, 3)
    assert not torch.equal(chosen, Truncation(sampler, condition=0).sample(9, 0.5, seed=1))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, float("nan")])
def test_shares_out_of_range_are_refused(ring, share):
    with pytest.raises(ValueError, match="truncation"):
        Truncation(ring[0]).sample(3, share)
