"""New images against training images, with a generator and a sampler whose answers are known."""

from types import SimpleNamespace

import pytest
import torch

from glann import coverage, likeness
from glann.latents import on_sphere

COUNT, SIDE = 40, 16


class Known(torch.nn.Module):
    """A sampler that answers with given latents, and a model that draws a latent by painting it."""

    classes, size, run, config = (), (SIDE, SIDE), None, {"loss": "laplacian"}

    def __init__(self, answers):
        super().__init__()
        self.answers, self.sampler, self.channels = answers, self, 3

    def sample(self, n, seed=0, condition=None):
        return self.answers[torch.arange(n) % len(self.answers)]

    def decode(self, z, labels=None):
        return paint(z)


def paint(z):
    return (0.5 + 0.5 * z.view(-1, 3, 4, 4)).clamp(0, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)


@pytest.fixture
def latents(seeded):
    return on_sphere(seeded(COUNT, 48))


def images(latents, noise=0.0):
    pixels = (
        paint(latents) + noise * torch.randn(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    ).clamp(0, 1)

    class Images(SimpleNamespace):
        def __len__(self):
            return COUNT

        def batch(self, rows):
            return pixels[rows]

    return Images()


def test_copies_are_found_and_counted(latents):
    model = Known(torch.cat([latents[:10], on_sphere(torch.randn(22, 48, generator=torch.Generator().manual_seed(3)))]))
    stages = [SimpleNamespace(name="glo", settings={"loss": "laplacian"})]
    found = likeness.measure(model, stages, images(latents, noise=0.02), latents, None)
    assert found.loss_name == "laplacian"
    assert sorted(found.rows[:10, 0].tolist()) == list(range(10))
    assert found.telling
    # By definition: those that are as near as the median reconstruction, which has noise of its own.
    assert 3 <= found.copies <= 10
    assert found.to_copy < 0.5 * found.distances[10, 0] < found.to_other
    assert torch.equal(found.distances[:, 0], found.distances[:, 0].sort().values)
    assert all(len(set(row)) == 3 for row in found.rows.tolist())


def test_an_image_is_not_its_own_neighbour(latents):
    found = likeness.measure(Known(latents), [], images(latents), latents, None)
    assert found.to_copy < 1e-6 < found.to_other
    assert found.copies == len(found.images) == 32


def test_reach_is_the_distance_to_the_nearest_sample(latents):
    drawn = on_sphere(torch.randn(COUNT, 48, generator=torch.Generator().manual_seed(5)))
    found = coverage.measure(Known(drawn), latents, None)
    apart = torch.cdist(latents, drawn)
    torch.testing.assert_close(found.to_sample, apart.min(1).values)
    torch.testing.assert_close(found.nearest, drawn[apart.argmin(1)])
    others = torch.cdist(latents, latents).fill_diagonal_(torch.inf)
    torch.testing.assert_close(found.to_other, others.min(1).values)
    assert found.samples == len(found.rows) == COUNT


def test_only_the_same_class_is_within_reach(latents):
    drawn = latents.roll(1, 0)  # the sample of row k is latent k - 1, of the other class
    labels = torch.arange(COUNT) % 2
    found = coverage.measure(Known(drawn), latents, labels)
    apart = torch.cdist(latents, drawn)
    apart[labels[:, None] != labels] = torch.inf
    torch.testing.assert_close(found.to_sample, apart.min(1).values)
    alone = coverage.measure(Known(drawn), latents, torch.arange(COUNT))
    assert torch.isinf(alone.to_other).all()
