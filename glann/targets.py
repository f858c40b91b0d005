"""What a perceptual distance compares the drawn images with: computed once and kept, or anew in every batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glann.memory import free_bytes

if TYPE_CHECKING:
    from glann.images import ImageSet
    from glann.losses.distance import PerceptualDistance

_SHARE = 0.5  # of the free memory that the cache may take; the training itself needs memory, too
_GIB = 2**30


class Targets:
    """The prepared targets of all images, see `PerceptualDistance.prepare`.

    A cache holds them as fp16 on the training device, feature maps with the channels last, and is filled as a whole
    before the first batch, in blocks of one size: every epoch, and every resumed run, compares with the same numbers.
    Whoever alters the images from epoch to epoch makes the targets in `__call__` and does not call `keep`.

    Attributes:
        kept: whether the cache is in use.

    Args:
        images: N images of one size.
        loss: the distance, on ``device``.
        device: where to train.
        bf16: run the distance's network in bfloat16.
    """

    def __init__(self, images: "ImageSet", loss: "PerceptualDistance", device: str, bf16: bool):
        self._images, self._loss, self._device, self._bf16 = images, loss, device, bf16
        self._cache: list[Tensor] = []  # each (N, …) fp16 contiguous; feature maps (N, H, W, C)
        self.kept = False

    def __call__(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The prepared targets of some images.

        Args:
            rows: (B,) row numbers, on the CPU.

        Returns:
            What `PerceptualDistance.compare` takes; from the cache as fp16.
        """
        if self.kept:
            rows = rows.to(self._device, non_blocking=True)
            return tuple(_channels_first(values.index_select(0, rows)) for values in self._cache)
        targets = self._images.batch(rows).to(self._device, non_blocking=True)
        with torch.autocast(torch.device(self._device).type, torch.bfloat16, enabled=self._bf16):
            return self._loss.prepare(targets)

    def keep(self, budget: int, block: int, say: Callable[[str], None]) -> None:
        """Fill the cache, unless it does not pay or does not fit.

        Args:
            budget: bytes that it may take at most.
            block: images prepared at once; a batch, so that filling needs no more memory than training does.
            say: is given one line with what was decided.
        """
        images, self.kept = self._images, False
        each = self._loss.feature_bytes((images.channels, images.height, images.width)) // 2  # fp16
        if each == 0:
            return  # nothing that would be worth a line
        need, free = each * len(images), free_bytes(self._device)
        most = budget if free is None else min(budget, int(_SHARE * free))
        told = f"target features of {len(images):,} images, {need / _GIB:.2f} GiB as fp16"
        if need > most:
            limit = "glo.cache_gib" if most == budget else "half of the free memory"
            say(f"{told}: computed anew in every batch, for {limit} is {most / _GIB:.2f} GiB")
            return
        cache: list[Tensor] = []
        for rows in torch.arange(len(images)).split(block):
            prepared = [_channels_last(part) for part in self(rows)]
            cache = cache or [part.new_empty(len(images), *part.shape[1:], dtype=torch.float16) for part in prepared]
            for values, part in zip(cache, prepared, strict=True):
                written = values[rows[0] : rows[-1] + 1].copy_(part)
                if not torch.isfinite(written).all():
                    say(f"{told}: computed anew in every batch, for some exceed the range of fp16")
                    return
        self._cache, self.kept = cache, True
        say(f"{told}: computed once and kept")


def _channels_last(part: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C) without a copy where it is in that order already; others as they are."""
    return part.movedim(1, -1).contiguous() if part.ndim == 4 else part


def _channels_first(part: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W), a view; others as they are."""
    return part.movedim(-1, 1) if part.ndim == 4 else part
