"""Where the images of an evaluation come from, a portion at a time, the features of them, and a picture."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glann import pictures
from glann.imagebuild import every_few_seconds
from glann.memorisation import NEIGHBOURS, Nearest

if TYPE_CHECKING:
    from PIL.Image import Image

    from glann.features import Features
    from glann.images import ImageSet
    from glann.model import GLANN

PORTION = 250  # images held at a time
COLUMNS = 16  # samples in a row of the picture


@dataclass(frozen=True)
class Samples:
    """The samples of one seed, made again wherever they are needed rather than held."""

    model: "GLANN"
    seed: int
    truncation: float

    def one(self, k: int) -> Tensor:
        """(1, C, H, W): sample k."""
        return self.model.sample(1, self.seed, start=k, truncation=self.truncation)

    def batches(self, n: int) -> Iterator[Tensor]:
        """Samples 0 … n − 1."""
        for start in range(0, n, PORTION):
            yield self.model.sample(min(PORTION, n - start), self.seed, start=start, truncation=self.truncation)


def to_bytes(batch: Tensor) -> Tensor:
    """(N, C, H, W) in [0, 1] -> uint8, as the PNG of a sample would be."""
    return torch.from_numpy(pictures.to_bytes(batch)).permute(0, 3, 1, 2)


def features_of(
    judge: "Features", batches: Iterable[Tensor], count: int, what: str, say: Callable[[str], None]
) -> Tensor:
    """Features of images that come in batches.

    Args:
        judge: the network.
        batches: each (B, C, H, W) in [0, 1].
        count: images in all, N.
        what: they are, for a person.
        say: is given a line every few seconds.

    Returns:
        (N, d) float32.
    """
    tell, parts, done = every_few_seconds(f"{what}:", count, say), [], 0
    for batch in batches:
        parts.append(judge(to_bytes(batch)))
        done += len(batch)
        tell(done)
    return torch.cat(parts)


def picture(samples: Samples, training: "ImageSet", rows: Tensor, nearest: Nearest) -> "Image":
    """The first samples above the three training images nearest to each, then those that are nearest to one.

    Args:
        samples: of the model.
        training: images.
        rows: (M,) of the training images that samples were held against.
        nearest: for each of N samples, which of them are nearest.

    Returns:
        Up to 16 columns of eight images, a white row in the middle.
    """
    count = min(COLUMNS, len(nearest.rows))
    sheet: list[Tensor] = []
    for chosen in (torch.arange(count), nearest.closest(count)):
        sheet.append(torch.cat([samples.one(k) for k in chosen.tolist()]))
        sheet += [training.batch(rows[nearest.rows[chosen, rank]]) for rank in range(NEIGHBOURS)]
        sheet.append(torch.ones_like(sheet[0]))  # a white row between the two
    return pictures.grid(torch.cat(sheet[:-1]), columns=count)
