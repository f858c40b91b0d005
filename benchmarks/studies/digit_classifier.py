"""A small classifier of handwritten digits, whose features compare drawn digits with real ones.

    python benchmarks/studies/digit_classifier.py FOLDER OUT.safetensors

FOLDER holds one subfolder a class with grey PNGs of 28x28, such as MNIST's. A tenth is held out for the accuracy that
is printed.
"""

import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

CLASSES, FEATURES, SIZE = 10, 128, 28
EPOCHS, BATCH_SIZE, LR = 3, 256, 2e-3


class DigitClassifier(nn.Module):
    """Three convolutions and two linear layers; the features are the hidden layer between the latter."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 9, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] -> (B, 10) logits."""
        logits: Tensor = self.head(self.body(images))
        return logits

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) in [0, 1] -> (N, 128)."""
        return torch.cat([self.body(part) for part in images.split(1000)])


def read_digits(folder: Path, last: int = 0) -> tuple[Tensor, Tensor]:
    """(N, 1, 28, 28) in [0, 1] and (N,) labels; all of them, or the last of each class, so many in total."""
    classes = [sorted((folder / str(k)).glob("*.png"))[-last // CLASSES :] for k in range(CLASSES)]
    if not all(classes):
        raise SystemExit(f"expected PNGs in {folder}/0 to {folder}/9, received {[len(c) for c in classes]}")
    files = [(c[i], k) for i in range(max(map(len, classes))) for k, c in enumerate(classes) if i < len(c)]
    pixels = np.stack([np.asarray(Image.open(path).convert("L")) for path, _ in files])
    if pixels.shape[1:] != (SIZE, SIZE):
        raise SystemExit(f"expected images of {SIZE}x{SIZE}, received {pixels.shape[1:]}")
    return torch.from_numpy(pixels)[:, None].float() / 255, torch.tensor([label for _, label in files])


def train(images: Tensor, labels: Tensor, seed: int = 0, epochs: int = EPOCHS) -> tuple[DigitClassifier, float]:
    """A trained classifier and its accuracy on the last tenth of a random order."""
    torch.manual_seed(seed)
    order = torch.randperm(len(images))
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
    model = DigitClassifier()
    steps = epochs * -(-len(rest) // BATCH_SIZE)
    adam = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(epochs):
        for rows in rest[torch.randperm(len(rest))].split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in images[held_out].split(1000)]) == labels[held_out]
    return model, float(right.float().mean())


def load(path: Path) -> DigitClassifier:
    """The classifier that this script has saved."""
    model = DigitClassifier()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    classifier, accuracy = train(*read_digits(Path(sys.argv[1])))
    safetensors.torch.save_file(classifier.state_dict(), sys.argv[2])
    print(f"accuracy on held-out digits {accuracy:.4f}")
