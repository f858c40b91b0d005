"""Stage 1 of Hoshen, Li, Malik 2019 as one would write it from the paper: the yardstick of `benchmarks/glo_speed.py`.

The L1 distance of VGG-16 features and of pixels, the network left as torchvision gives it (trainable, gradients through
the features of the target, too), tensors contiguous, one Adam for the generator and one for all latents, which moves
every latent in every step.
"""

import torch
from torch import Tensor, nn

BATCH_SIZE, LR, LATENT_LR, BETAS = 128, 1e-3, 1e-2, (0.5, 0.999)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
LEVELS = (3, 8, 15)  # relu1_2, relu2_2, relu3_3: those that the loss `vgg` takes at 32 pixels
PIXEL_WEIGHT = 2.0


class PlainLoss(nn.Module):
    """(B, 3, H, W) images and targets in [0, 1] -> (B,).

    Args:
        features: ``torchvision.models.vgg16(weights=…).features``.
    """

    def __init__(self, features: nn.Sequential):
        super().__init__()
        self.features = features[: LEVELS[-1] + 1]

    def levels(self, images: Tensor) -> list[Tensor]:
        """The feature maps, contiguous."""
        x = (images - MEAN[:, None, None]) / STD[:, None, None]
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in LEVELS:
                maps.append(x)
        return maps

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        total = PIXEL_WEIGHT * (images - targets).abs().mean((1, 2, 3))
        for own, wanted in zip(self.levels(images), self.levels(targets), strict=True):
            total = total + (own - wanted).abs().mean((1, 2, 3))
        return total


class Plain:
    """The published training, one step at a time.

    Args:
        pixels: (N, 3, H, W) uint8.
        generator: (B, d) -> (B, 3, H, W) in [0, 1].
        latents: (N, d), where they start.
        loss: `PlainLoss`.
        lr: Adam's step size for the generator.
        latent_lr: Adam's step size for the latents.
        betas: of both.
    """

    def __init__(
        self, pixels: Tensor, generator: nn.Module, latents: Tensor, loss: nn.Module,
        lr: float = LR, latent_lr: float = LATENT_LR, betas: tuple[float, float] = BETAS,
    ):  # fmt: skip
        self.pixels, self.generator, self.loss = pixels, generator.train(), loss
        self.latents = nn.Parameter(latents.clone())
        self.adam = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
        self.latent_adam = torch.optim.Adam([self.latents], lr=latent_lr, betas=betas)

    def step(self, rows: Tensor) -> float:
        """One step on (B,) rows; returns the mean distance before it."""
        targets = self.pixels[rows].float() / 255
        loss = self.loss(self.generator(self.latents[rows]), targets).mean()
        self.adam.zero_grad()
        self.latent_adam.zero_grad()
        self.loss.zero_grad()
        loss.backward()
        self.adam.step()
        self.latent_adam.step()
        with torch.no_grad():
            self.latents.copy_(nn.functional.normalize(self.latents, dim=1))
        return float(loss.detach())


def fit(plain: Plain, epochs: int, seed: int = 0) -> None:
    """Train for some epochs."""
    torch.manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(plain.pixels)).split(BATCH_SIZE):
            plain.step(rows)
