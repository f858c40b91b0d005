# %% [markdown]
# A tour of `imle`: fit, sample, conditions, a network of your own on 8×8 digits, stop and go on, save and load.
#
#     python docs/examples/imle_tour.py          about half a minute on two cores; writes tour/ into the current folder
#
# It needs scikit-learn for the digits, and opens as a notebook wherever `# %%` cells are understood.
"""A tour of imle in six steps."""

# %%
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import imle
from imle.checkpoint import Checkpoints
from imle.metrics import evaluate

OUT = Path("tour")  # what is written goes here


# %%
def digits() -> tuple[Tensor, Tensor]:
    """1,797 handwritten digits: (N, 1, 8, 8) in [0, 1], and (N,) labels 0 … 9."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16, torch.tensor(bunch.target)


class DigitGenerator(nn.Module):
    """Noise (B, 16) -> images (B, 1, 8, 8): any module of this kind is an implicit model."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(16, 64 * 4 * 4)
        self.layers = nn.Sequential(
            nn.GroupNorm(8, 64), nn.SiLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(64, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU(),
            nn.Conv2d(32, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, noise: Tensor) -> Tensor:
        """(B, 16) -> (B, 1, 8, 8)."""
        return self.layers(self.start(noise).view(-1, 64, 4, 4))


def pyramid(images: Tensor) -> Tensor:
    """(B, 1, 8, 8) -> (B, 80): the pixels, and twice the averages of 2×2 blocks. Strokes a pixel apart stay alike."""
    return torch.cat([images.flatten(1), 2 * nn.functional.avg_pool2d(images, 2).flatten(1)], 1)


images, labels = digits()

# %% Vectors: here the pixels, brought to 16 numbers by a principal component analysis.
pixels = images.flatten(1)
axes = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False).Vh[:16]
z = (pixels - pixels.mean(0)) @ axes.T
order = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))
train, held_out = z[order[:1000]], z[order[1000:]]

# %% 1. Fit and sample. Sample k of a seed is the same in every call.
sampler = imle.IMLE(epochs=40, seed=0).fit(train)
new = sampler.sample(500, seed=1)
assert torch.equal(new[:5], sampler.sample(5, seed=1))
print("after the last epoch:", {k: round(v, 3) for k, v in sampler.history[-1].items()})

# %% 2. Judge by points that the fit has not seen, beside a normal distribution with their moments.
spread = torch.linalg.cholesky(train.T.cov() + 1e-6 * torch.eye(16))
noise = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
for name, points in {"imle": new, "normal": train.mean(0) + noise @ spread.T, "real": train[:500]}.items():
    print(f"{name:7}", {k: round(v, 3) for k, v in evaluate(held_out, points).items() if "frechet" not in k})

# %% 3. Conditions: one label a sample. Which digit is the nearest real one of each?
by_label = imle.IMLE(epochs=30).fit(z, condition=labels)
wanted = torch.arange(10).repeat_interleave(20)
drawn = by_label.sample(200, seed=1, condition=wanted)
agree = labels[imle.nearest(drawn, z).indices[:, 0]] == wanted
print(f"conditions: {agree.float().mean():.0%} of the samples lie nearest to a digit of the label asked for")


# %% 4. A network of your own, matched by features of your own.
def loss(output: Tensor, target: Tensor) -> Tensor:
    """Two batches of images -> (B,)."""
    return (pyramid(output) - pyramid(target)).square().sum(1)


settings = imle.IMLE(epochs=20, refresh=imle.Every(1), noise_dim=16, batch_size=128, lr=2e-3)
torch.manual_seed(0)  # the module is ours, and so is its initialisation
drawer = settings.fit(images, model=DigitGenerator(), features=pyramid, loss=loss)
for row in drawer.sample(4, seed=1)[:, 0].permute(1, 0, 2).reshape(8, 32):
    print("".join(" .:-=+*#%@"[min(math.floor(10 * value), 9)] for value in row.tolist()))


# %% 5. Stop and go on: the second call finds a checkpoint, and both ways end with the same numbers.
class Stop(Exception):
    """Stands for whatever may end a process."""


class StopAfter:
    """A watcher: told of every minibatch and every epoch."""

    def step(self, epoch: int, epochs: int, done: int, total: int, loss: Any) -> None:
        """Give up in epoch 6."""
        if epoch == 6:
            raise Stop

    def epoch(self, row: dict[str, Any]) -> None:
        """Print one line."""
        print(f"epoch {row['epoch']}  loss {row['loss']:.3f}")


short = imle.IMLE(epochs=10, seed=2)
folder = OUT / "checkpoints"
Checkpoints(folder).clear()
try:
    short.fit(train, checkpoints=Checkpoints(folder, every_seconds=0), watcher=StopAfter())
except Stop:
    print("stopped; going on")
resumed = short.fit(train, checkpoints=Checkpoints(folder))
assert torch.equal(resumed.sample(9), short.fit(train).sample(9))

# %% 6. Save and load: config.json and model.safetensors. Your own module has to be built by you.
sampler.save_pretrained(OUT / "sampler")
again = imle.LatentSampler.from_pretrained(OUT / "sampler")
assert torch.equal(again.sample(9, seed=3), sampler.sample(9, seed=3))
drawer.save_pretrained(OUT / "drawer")
imle.LatentSampler.from_pretrained(OUT / "drawer", network=DigitGenerator())
print("written:", *sorted(str(path) for path in OUT.glob("*/*.safetensors")))
