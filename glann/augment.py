"""More to learn from few images: each as it is, and again mirrored or moved by a few pixels.

GLO has a latent for everything that it draws, so an augmented image is not noise on a training image: it is an image
of its own, with a latent of its own. An augmentation is therefore a fixed list of changes, and the rows that stage 1
learns are all pairs of an image and a change. Row a·N + i is image i under change a, change 0 is none: the first N
rows are those of ``images/manifest.csv``. Nothing is drawn at random, and no pixel is stored twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glann.images import ImageSet

if TYPE_CHECKING:
    from torch import Tensor

    from glann.settings import Augment

_STEP = 16  # a shift moves by a 16th of the short side, 2 pixels of 32


@dataclass(frozen=True)
class Change:
    """What is done to an image."""

    flip: bool = False  # left and right exchanged, before the shift
    down: int = 0  # pixels that the content moves down
    right: int = 0  # pixels that it moves to the right

    def __call__(self, images: "Tensor") -> "Tensor":
        """(B, C, H, W) -> (B, C, H, W); what a shift uncovers is filled by reflection at the border."""
        import torch.nn.functional as F

        images = images.flip(3) if self.flip else images
        if not (self.down or self.right):
            return images
        h, w = images.shape[2:]
        margin = max(abs(self.down), abs(self.right))
        top, left = margin - self.down, margin - self.right
        return F.pad(images, (margin,) * 4, mode="reflect")[:, :, top : top + h, left : left + w]


def changes(kind: "Augment", size: tuple[int, int]) -> list[Change]:
    """The changes of an augmentation, none at all first.

    Args:
        kind: ``none`` (1 change), ``flip`` (2), ``shift`` (5: none, up, down, left, right), ``flip+shift`` (10).
        size: (height, width) of the images in pixels.

    Returns:
        The changes, all different.
    """
    step = max(1, min(size) // _STEP)
    moves = [(0, 0), (-step, 0), (step, 0), (0, -step), (0, step)] if "shift" in kind else [(0, 0)]
    return [Change(flip, *move) for flip in ([False, True] if "flip" in kind else [False]) for move in moves]


@dataclass(frozen=True, eq=False)
class Augmented(ImageSet):
    """Images under every change of an augmentation: A·N rows, row a·N + i is image i under change a.

    ``pixels``, ``paths`` and ``labels`` are those of the N images.
    """

    changes: tuple[Change, ...]

    def __len__(self) -> int:
        return len(self.changes) * len(self.paths)

    def class_rows(self) -> "Tensor | None":
        """(A·N,) int64, see `ImageSet.class_rows`; None without labels."""
        rows = super().class_rows()
        return None if rows is None else rows.repeat(len(self.changes))

    def batch(self, rows: "Sequence[int] | npt.NDArray[np.int64] | Tensor") -> "Tensor":
        """Some of the rows, see `ImageSet.batch`.

        Args:
            rows: (B,) integers from 0 to A·N − 1, on the CPU.

        Returns:
            (B, C, H, W) float32 tensor in [0, 1] on the CPU.
        """
        import torch

        which, image = np.divmod(np.asarray(rows, dtype=np.int64), len(self.paths))
        originals = super().batch(image)
        images = torch.empty_like(originals)
        for number in np.unique(which):
            own = torch.from_numpy(which == number)
            images[own] = self.changes[number](originals[own])
        return images

    def tensors(self) -> "dict[str, Tensor]":
        """What each row is.

        Returns:
            ``image`` (A·N,) int64, row of the manifest; ``flip`` (A·N,) uint8, 1 where mirrored; ``shift`` (A·N, 2)
            int64, pixels down and to the right.
        """
        import torch

        count = len(self.paths)
        flips = torch.tensor([change.flip for change in self.changes], dtype=torch.uint8)
        shifts = torch.tensor([(change.down, change.right) for change in self.changes])
        return {
            "image": torch.arange(count).repeat(len(self.changes)),
            "flip": flips.repeat_interleave(count),
            "shift": shifts.repeat_interleave(count, 0),
        }


def augmented(images: ImageSet, kind: "Augment") -> ImageSet:
    """The rows that stage 1 learns.

    Args:
        images: N images.
        kind: of augmentation, see `changes`.

    Returns:
        The images themselves where there is nothing to change, else an `Augmented` with another fingerprint.
    """
    if kind == "none":
        return images
    return Augmented(
        images.pixels,
        images.paths,
        images.labels,
        f"{images.fingerprint}+{kind}",
        images.skipped,
        tuple(changes(kind, (images.height, images.width))),
    )
