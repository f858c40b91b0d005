import pytest
import torch
import torch.nn.functional as F

from glann.memorisation import QUANTILE, TrainingImages
from imle.errors import DataError


def pictures(n, seed, channels=3, size=(24, 32)):
    """Smooth images, no two alike."""
    coarse = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=size, mode="bilinear")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_copies_are_told_from_new_images(channels):
    training = pictures(400, 0, channels)
    held = TrainingImages(training.split(150))
    rows = torch.arange(0, 400, 8)
    noise = 0.05 * torch.randn(50, channels, 24, 32, generator=torch.Generator().manual_seed(2))
    blurred = F.avg_pool2d(F.pad(training[rows], (2, 2, 2, 2), mode="replicate"), 5, 1)
    for copies in (training[rows], (training[rows] + noise).clamp(0, 1), blurred):
        found = held(copies)
        assert torch.equal(found.rows[:, 0], rows)
        assert held.share(found) == 1
    assert held.share(held(pictures(400, 1, channels))) <= 4 * QUANTILE


def test_contrast_tells_flat_images():
    training = pictures(400, 0)
    held = TrainingImages(training.split(150))
    assert held(training).contrast.mean() == pytest.approx(1, abs=1e-4)
    assert held(training * 0.5 + 0.25).contrast.mean() == pytest.approx(0.5, abs=1e-3)
    joined = type(held(training)).joined([held(training[:10]), held(training[10:30])])
    assert torch.allclose(joined.contrast, held(training[:30]).contrast)


def test_the_threshold_is_that_of_training_images_left_out_one_by_one():
    training = pictures(60, 0)
    held = TrainingImages([training])
    closeness = [
        float(TrainingImages([torch.cat([training[:k], training[k + 1 :]])])(training[k : k + 1]).closeness)
        for k in range(60)
    ]
    assert held.threshold == pytest.approx(float(torch.tensor(closeness).quantile(QUANTILE)), rel=1e-4)


def test_images_that_are_there_twice_count_once_and_their_copies_are_found():
    training = pictures(40, 0)
    held = TrainingImages([torch.cat([training, training[:10], training[:1]])])
    assert held.twins == pytest.approx(11 / 51)
    assert held.threshold == TrainingImages([training]).threshold
    found = held(training[:10])
    assert torch.equal(found.rows[:, 0], torch.arange(10))
    assert held.share(found) == 1


def test_too_few_different_images_are_refused():
    with pytest.raises(DataError, match="at least 4 different training images, received 1"):
        TrainingImages([pictures(1, 0).expand(5, -1, -1, -1)])
    with pytest.raises(DataError, match="at least 4 training images, received 3"):
        TrainingImages([pictures(3, 0)])
