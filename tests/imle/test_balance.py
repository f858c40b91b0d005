"""Samples are as frequent as the data, in every region that is told apart."""

import math

import pytest
import torch
from torch import nn

import imle
from imle import balance
from imle.calibration import calibrate
from imle.conditions import Conditions
from imle.data import Examples


class Sign(nn.Module):
    """One number of noise -> −1 or 1, each half of the time."""

    def forward(self, noise):
        return noise.sign()


def two_sided(weights):
    facts = {"noise_dim": 1, "shape": [1], "calibrated": False, "bins": 0, "condition": None, "sphere": False}
    sampler = imle.LatentSampler({**facts, "network": {"name": "custom"}}, Sign())
    sampler.set_balance(torch.tensor([[-1.0], [1.0]]), torch.tensor(weights))
    return sampler


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.4, 1.6], [1.2, 0.3]])
def test_one_of_four_draws_is_taken_with_a_chance_proportional_to_its_weight(weights):
    samples = two_sided(weights).sample(20_000, seed=3)
    # k of the four draws are positive; one of these is taken with its part of the weights.
    n, (low, high) = balance.CANDIDATES, weights
    chance = sum(math.comb(n, k) / 2**n * k * high / (k * high + (n - k) * low) for k in range(n + 1))
    assert float((samples > 0).float().mean()) == pytest.approx(chance, abs=0.011)  # three standard errors


def test_the_noise_of_a_sample_is_what_the_map_makes_it_of():
    sampler = two_sided([0.4, 1.6])
    noise = sampler.noise(600, seed=2)
    assert torch.equal(noise.sign(), sampler.sample(600, seed=2))
    assert torch.equal(sampler.noise(30, seed=2, start=250), noise[250:280])
    assert sampler.noise(0).shape == (0, 1)


CENTRES = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


class Thirds(nn.Module):
    """Two numbers of noise -> a third of the samples near each centre, spread like the data."""

    def forward(self, noise):
        which = (torch.special.ndtr(noise[:, 0]) * 3).long().clamp_max(2)
        around = torch.stack([noise[:, 1], (noise[:, 0] * 1000).sin() * 2**0.5], 1)
        return CENTRES[which] + 0.3 * around


def shares(points):
    return torch.bincount(torch.cdist(points, CENTRES).argmin(1), minlength=3) / len(points)


@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 1.0]])
def test_groups_are_as_frequent_as_the_data_and_its_weights_say(weights):
    sizes = torch.tensor([500, 300, 200])
    generator = torch.Generator().manual_seed(0)
    x = CENTRES.repeat_interleave(sizes, 0) + 0.3 * torch.randn(1000, 2, generator=generator)
    factor = None if weights is None else torch.tensor(weights).repeat_interleave(sizes)
    facts = {"noise_dim": 2, "shape": [2], "calibrated": False, "bins": 0, "condition": None, "sphere": False}
    sampler = imle.LatentSampler({**facts, "network": {"name": "custom"}}, Thirds())
    calibrate(sampler, 0, Examples(x, "cpu"), None, factor)
    assert sampler.to_config()["bins"] == 20
    told = sizes * torch.tensor(weights or [1.0, 1.0, 1.0])
    corrected = (shares(sampler.sample(20_000)) - told / told.sum()).abs().max()
    sampler.balance = None
    assert corrected < 0.04 < 0.13 < (shares(sampler.sample(20_000)) - told / told.sum()).abs().max()


class ThirdsOfTwoLabels(Thirds):
    """The same for each of two labels, the second far to the right."""

    def forward(self, noise, condition):
        return super().forward(noise) + 20 * condition[:, None].float() * torch.tensor([1.0, 0.0])


def test_inside_each_label_groups_are_as_frequent_as_the_data_says():
    sizes = torch.tensor([600, 300, 100])
    generator = torch.Generator().manual_seed(0)
    one = CENTRES.repeat_interleave(sizes, 0)
    other = CENTRES.repeat_interleave(sizes.flip(0), 0) + torch.tensor([20.0, 0.0])
    x = torch.cat([one, other]) + 0.3 * torch.randn(2000, 2, generator=generator)
    conditions = Conditions(torch.arange(2).repeat_interleave(1000), 2000, "cpu")
    facts = {"noise_dim": 2, "shape": [2], "calibrated": False, "bins": 0, "sphere": False}
    facts |= {"condition": conditions.spec(), "network": {"name": "custom"}}
    sampler = imle.LatentSampler(facts, ThirdsOfTwoLabels())
    calibrate(sampler, 0, Examples(x, "cpu"), conditions, None)
    for label, told in ((0, sizes / 1000), (1, sizes.flip(0) / 1000)):
        samples = sampler.sample(20_000, condition=label) - torch.tensor([20.0 * label, 0.0])
        assert (shares(samples) - told).abs().max() < 0.04


def test_few_examples_and_uncalibrated_samplers_are_drawn_as_they_are(ring):
    assert imle.IMLE(epochs=1).fit(ring[:99]).to_config()["bins"] == 0
    assert imle.IMLE(epochs=1, calibrate=False).fit(ring).to_config()["bins"] == 0


def test_too_many_dimensions_are_told():
    with pytest.warns(UserWarning, match="calibrate: skipped, because 2049 dimensions are more than 2048"):
        imle.IMLE(epochs=1, width=4, depth=1, noise_dim=2).fit(torch.randn(8, 2049))
