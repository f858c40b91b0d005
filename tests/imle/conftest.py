import pytest
import torch


@pytest.fixture
def ring() -> torch.Tensor:
    """120 points near the unit circle, not on it, in 3 dimensions."""
    g = torch.Generator().manual_seed(0)
    angle = torch.rand(120, generator=g) * 6.2832
    points = torch.stack([angle.cos(), angle.sin(), 0.2 * torch.randn(120, generator=g)], 1)
    return points + 0.05 * torch.randn(120, 3, generator=g)


@pytest.fixture
def sphere() -> torch.Tensor:
    """150 points on a sphere of radius 3 in 6 dimensions."""
    g = torch.Generator().manual_seed(1)
    return 3 * torch.nn.functional.normalize(torch.randn(150, 6, generator=g) + 0.5, dim=1)
