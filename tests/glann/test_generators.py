import itertools

import pytest
import torch
import torch.nn.functional as F

from glann import generators
from glann.generators import build, grid_sizes, upsampled_conv


@pytest.mark.parametrize("name", sorted(generators.GENERATORS))
@pytest.mark.parametrize(
    ("size", "channels"), [((16, 16), 1), ((28, 28), 1), ((48, 64), 3), ((32, 32), 4), ((20, 100), 3)]
)
def test_any_size_divisible_by_four(name, size, channels):
    network = build(name, latent_dim=8, size=size, channels=channels).eval()
    images = network(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    assert images.shape == (3, channels, *size)
    assert images.min() >= 0
    assert images.max() <= 1
    images.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_residual_reaches_256_and_odd_sizes():
    assert build("residual", latent_dim=4, size=(256, 192), channels=3)(torch.randn(1, 4)).shape == (1, 3, 256, 192)
    assert build("residual", latent_dim=4, size=(37, 19), channels=1)(torch.randn(1, 4)).shape == (1, 1, 37, 19)


def test_an_image_does_not_depend_on_its_batch():
    network = build("residual", latent_dim=8, size=(32, 32), channels=3).train()
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(z)[:2], network(z[:2]), rtol=1e-4, atol=1e-5)


def test_upsampled_conv_is_repetition_then_convolution():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 5, 3, 4, generator=generator), torch.randn(7, 5, 3, 3, generator=generator)
    bias = torch.randn(7, generator=generator)
    plain = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    torch.testing.assert_close(upsampled_conv(x, weight, bias), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (37, 19), (48, 64), (1024, 256)])
def test_grids_double_up_to_the_image(size):
    sizes = grid_sizes(*size)
    assert sizes[-1] == size
    assert 4 <= min(sizes[0]) <= 7
    for small, large in itertools.pairwise(sizes):
        assert all(2 * s - 1 <= b <= 2 * s for s, b in zip(small, large, strict=True))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "nonesuch"}, "residual"),
        ({"size": (8, 32)}, "8x32"),
        ({"size": (32, 2048)}, "32x2048"),
        ({"channels": 2}, "channels"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"name": "reference", "size": (30, 32)}, "divisible by 4"),
    ],
)
def test_bad_arguments_are_named(change, named):
    arguments = {"name": "residual", "latent_dim": 8, "size": (32, 32), "channels": 3, **change}
    with pytest.raises(ValueError, match=named):
        build(arguments.pop("name"), **arguments)
