"""One learnable latent for each training image, on the unit sphere: where they start, and how they move."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from imle.noise import stream

_INIT = 1  # key of the random stream that fills directions which PCA cannot give
_SMALL_SIDE = 16  # pixels; images are shrunk to at most this where composition counts, not grain


def on_sphere(z: Tensor) -> Tensor:
    """Each row scaled to unit norm; (…, d) -> (…, d)."""
    return F.normalize(z, dim=-1, eps=1e-12)


def noise_latents(count: int, dim: int, seed: int) -> Tensor:
    """Latents uniform on the sphere, as published; (count, dim)."""
    return on_sphere(torch.randn(count, dim, generator=stream(seed, _INIT)))


def shrunken(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, h, w) with h, w ≤ 16: their composition."""
    h, w = images.shape[-2:]
    shrink = max(1.0, max(h, w) / _SMALL_SIDE)
    return F.interpolate(images, size=(max(1, round(h / shrink)), max(1, round(w / shrink))), mode="area")


def pca_latents(batches: Iterable[Tensor], dim: int, seed: int) -> Tensor:
    """Latents from a principal component analysis of the shrunken images: similar images start as neighbours.

    Coordinate j is the j-th principal component divided by the square root of its standard deviation, half way between
    plain PCA (a few components decide everything) and whitening (grain weighs as much as composition). Where fewer than
    ``dim`` components exist, small noise fills the rest. Memory is bounded by the covariance of at most 16×16 pixels.

    Args:
        batches: the training images in order, each (B, C, H, W) in [0, 1].
        dim: dimension of the latents.
        seed: of the run, for the fill.

    Returns:
        (N, dim) float32, unit rows.
    """
    rows = []
    for batch in batches:
        rows.append(shrunken(batch).flatten(1))
    x = torch.cat(rows)
    x -= x.mean(0)
    count = min(dim, *x.shape)
    covariance = (x.T @ x).double() / len(x)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    values, vectors = values.flip(0)[:count].clamp(min=1e-10), vectors.flip(1)[:, :count]
    # A sign for each direction that does not depend on the linear algebra library's taste.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    z = torch.empty(len(x), dim)
    z[:, :count] = x @ (vectors / values**0.25).float()
    scale = z[:, :count].std().clamp(min=1e-3)
    z[:, count:] = 0.1 * scale * torch.randn(len(x), dim - count, generator=stream(seed, _INIT))
    # Images that are all alike have no direction of their own: a little noise gives them one.
    z += 1e-3 * scale * torch.randn(z.shape, generator=stream(seed, _INIT, 1))
    return on_sphere(z)


class RowAdam:
    """Adam (Kingma & Ba 2015) for the rows of one matrix, where a step touches only the rows of its batch.

    Every row has its own moments and its own step count, so that a row which was not in the batch does not drift on old
    momentum. After the step the row returns to the unit sphere.

    Args:
        rows: (N, d), changed in place.
        betas: decay of the first and second moment.
        eps: added to the root of the second moment.
    """

    def __init__(self, rows: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        self.rows, self.betas, self.eps = rows, betas, eps
        self.first, self.second = torch.zeros_like(rows), torch.zeros_like(rows)
        self.count = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)

    @torch.no_grad()
    def step(self, index: Tensor, gradient: Tensor, lr: float) -> None:
        """Move some rows.

        Args:
            index: (B,) distinct row numbers.
            gradient: (B, d) of the loss by those rows.
            lr: step size.
        """
        beta1, beta2 = self.betas
        count = self.count[index] + 1
        first = self.first[index].lerp(gradient, 1 - beta1)
        second = self.second[index].lerp(gradient.square(), 1 - beta2)
        self.count[index], self.first[index], self.second[index] = count, first, second
        age = count.unsqueeze(1).float()
        first_hat, second_hat = first / (1 - beta1**age), second / (1 - beta2**age)
        self.rows[index] = on_sphere(self.rows[index] - lr * first_hat / (second_hat.sqrt() + self.eps))

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The rows and their optimiser state under ``prefix.``, ready for a commit."""
        parts = {"rows": self.rows, "first": self.first, "second": self.second, "count": self.count}
        return {f"{prefix}.{k}": v for k, v in parts.items()}

    def load(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for name, target in self.tensors(prefix).items():
            target.copy_(tensors[name])


def decayed(decay: str, progress: float, epochs: int, decay_epochs: int) -> float:
    """The factor on every learning rate at one moment of the training.

    Args:
        decay: ``cosine`` (1 to 0 over the training) or ``step`` (halved every ``decay_epochs``, as published).
        progress: share of the training that is done, 0 … 1.
        epochs: of the whole training.
        decay_epochs: between two halvings, for ``step``.

    Returns:
        A factor in 0 … 1.
    """
    if decay == "step":
        return float(0.5 ** (int(progress * epochs + 1e-9) // decay_epochs))
    return 0.5 * (1 + math.cos(math.pi * progress))
