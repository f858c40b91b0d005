import numpy as np
import pytest
import torch

from imle.noise import sample_noise, stream


def test_noise_of_a_sample_does_not_depend_on_the_range_it_is_asked_in():
    whole = sample_noise(7, 0, 300, 5)
    for start, count in [(0, 1), (63, 2), (64, 64), (100, 200), (299, 1), (5, 0)]:
        assert torch.equal(sample_noise(7, start, count, 5), whole[start : start + count])


def test_noise_is_normal_and_differs_between_seeds_and_samples():
    noise = sample_noise(1, 0, 20_000, 4)
    assert noise.dtype == torch.float32
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert torch.cov(noise.T).sub(torch.eye(4)).abs().max() < 0.05
    assert len(noise[:, 0].unique()) > 19_900
    assert not torch.equal(noise, sample_noise(2, 0, 20_000, 4))


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_large_seeds(seed):
    assert sample_noise(seed, 10**9, 3, 2).shape == (3, 2)


@pytest.mark.parametrize("arguments", [(0, -1, 1, 1), (0, 0, -1, 1), (0, 0, 1, 0), (-1, 0, 1, 1), (2**64, 0, 1, 1)])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="expected"):
        sample_noise(*arguments)


def test_streams_are_functions_of_their_keys():
    def draw(*keys):
        return torch.randn(50, generator=stream(*keys))

    assert torch.equal(draw(3, 1, 2), draw(3, 1, 2))
    keys = [(3, 1, 2), (3, 2, 1), (3, 1), (4, 1, 2), (3, 1, 2, 0), (3, 1, 3), (3, 1, 0), (3,)]
    correlations = np.corrcoef(np.stack([draw(*k) for k in keys])) - np.eye(len(keys))
    assert np.abs(correlations).max() < 0.6
