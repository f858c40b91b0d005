import pytest
import torch

from glann.latents import RowAdam, decayed, noise_latents, on_sphere, pca_latents


def seeded(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dim", [1, 8, 300])
def test_pca_latents_are_on_the_sphere_and_finite(dim):
    z = pca_latents(seeded(40, 3, 32, 32).sigmoid().split(16), dim, seed=0)
    assert z.shape == (40, dim)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(40))


def test_pca_latents_do_not_depend_on_batches_and_find_neighbours():
    images = seeded(30, 1, 16, 16).sigmoid()
    images[1] = images[0] + 0.001
    whole = pca_latents([images], 16, seed=0)
    torch.testing.assert_close(whole, pca_latents(images.split(7), 16, seed=0))
    distances = torch.cdist(whole[:1], whole)[0]
    assert distances[1] < 0.1 < distances[2:].min()


def test_pca_latents_of_images_that_are_all_alike():
    z = pca_latents([torch.full((5, 3, 16, 16), 0.3)], 8, seed=0)
    assert torch.isfinite(z).all()
    assert torch.pdist(z).min() > 0


def test_noise_latents_depend_on_the_seed_alone():
    assert torch.equal(noise_latents(9, 4, 3), noise_latents(9, 4, 3))
    assert not torch.equal(noise_latents(9, 4, 3), noise_latents(9, 4, 4))


def test_row_adam_is_torch_adam_for_rows_that_are_always_in_the_batch():
    start, betas = on_sphere(seeded(6, 5)), (0.5, 0.99)
    ours = RowAdam(start.clone(), betas)
    theirs = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([theirs], lr=0.02, betas=betas)
    for step in range(5):
        gradient = seeded(6, 5) * (step + 1)
        ours.step(torch.arange(6), gradient, 0.02)
        theirs.grad = gradient.clone()
        adam.step()
        theirs.data = on_sphere(theirs.data)
    torch.testing.assert_close(ours.rows, theirs.data)


def test_row_adam_moves_only_the_rows_of_the_batch():
    start = on_sphere(seeded(6, 5))
    adam = RowAdam(start.clone())
    adam.step(torch.tensor([4, 1]), seeded(2, 5), 0.1)
    moved = (adam.rows != start).any(1)
    assert moved.tolist() == [False, True, False, False, True, False]
    assert adam.count.tolist() == [0, 1, 0, 0, 1, 0]
    torch.testing.assert_close(adam.rows.norm(dim=1), torch.ones(6))


def test_decay():
    assert decayed("cosine", 0.0, 10, 5) == 1
    assert decayed("cosine", 0.5, 10, 5) == pytest.approx(0.5)
    assert [decayed("step", e / 10, 10, 3) for e in (0, 2, 3, 5, 6, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
