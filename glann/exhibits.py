"""The pictures of a report: what a run drew while it learnt, and what its finished model draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from glann import coverage, gallery, images, likeness, pictures, snapshots
from glann.charts import Chart, figure, histogram
from glann.embedded import Picture, embed, read
from glann.info import RunFiles
from glann.inversion import training_latents
from glann.model import GLANN
from glann.scan import show
from imle.data import evenly
from imle.errors import DataError, Failure

if TYPE_CHECKING:
    from torch import Tensor

    from glann.images import ImageSet

_WORST = 12  # images with the largest distance to their reconstruction
_FARTHEST = 12  # images that are farthest from any sample
_COPIES = 6  # new images beside the training images that they are most like
_FRAMES, _WAYS = 8, 6  # of the picture of interpolations


@dataclass(frozen=True)
class Exhibit:
    """A picture with its caption."""

    picture: Picture
    figure: str  # the number that it is shown for
    text: str  # what it shows, for instance a path


@dataclass(frozen=True)
class Progress:
    """How one stage looked at some moments."""

    title: str
    use: str  # which stage it is
    rows: list[tuple[str, Picture]]  # (moment, images), in order


@dataclass(frozen=True)
class Trained:
    """A run's finished model, its images, and what stage 1 left of each; rows belong together."""

    run: RunFiles
    model: GLANN
    images: "ImageSet | None"  # None where they or the latents are missing or damaged
    latents: "Tensor"  # (N, d) unit rows; empty without images
    losses: "Tensor"  # (N,) distance of each image to its reconstruction; may be empty

    @property
    def labels(self) -> "Tensor | None":
        """(N,) classes of the images."""
        return None if self.images is None else self.images.class_rows()


def trained(run: RunFiles) -> Trained | None:
    """Open what the pictures are made from; None for a run without a model."""
    try:
        model = GLANN.from_pretrained(run.folder)
    except DataError:  # not exported yet, or damaged
        return None
    try:
        learnt, known = training_latents(run.folder, run.stages), images.load(run.folder / "images")
    except Failure:  # an unfinished run, or a damaged one
        learnt = None
    if learnt is not None:
        latents, losses = learnt.latents[: len(known)], learnt.losses[: len(known)]  # the rest is augmented
        fits = latents.shape == (len(known), model.latent_dim) and (known.height, known.width) == model.size
        if fits and torch.isfinite(latents).all():
            return Trained(run, model, known, latents, losses if len(losses) == len(known) else torch.empty(0))
    return Trained(run, model, None, torch.empty(0, model.latent_dim), torch.empty(0))


def progress(run: RunFiles) -> list[Progress]:
    """The snapshots of each stage that has some; those of stage 1 end with the images themselves."""
    found = []
    try:
        known = images.load(run.folder / "images")
    except Failure:
        return []
    for position, stage in enumerate(run.stages, 1):
        looks = snapshots.Snapshots(run.folder / stage.name, known.width)
        rows = [(f"{epoch:,}", seen) for epoch in looks.epochs() if (seen := looks.read(epoch)) is not None]
        if not rows:
            continue
        if stage.use == "glo":
            rows.append(("original", known.batch(evenly(len(known), snapshots.COUNT))))
        size = (known.height, known.width)
        sheets = [(moment, embed(pictures.grid(seen, columns=len(seen)), size)) for moment, seen in rows]
        found.append(Progress(f"Stage {position}, {stage.name}", stage.use, sheets))
    return found


def class_rows(of: Trained) -> list[tuple[str, Picture]]:
    """(name, a row of new images) of each class, of a model that has some."""
    return [(show(name), embed(row, of.model.size)) for name, row in gallery.class_rows(of.model)]


def ways(of: Trained) -> Picture:
    """Six ways from one new image to another: samples 0 to 1, 2 to 3 and so on of seed 0, or one of each class."""
    labels = evenly(len(of.model.classes), _WAYS).tolist() or [None] * _WAYS
    parts = [gallery.way(of.model, 2 * k, 2 * k + 1, _FRAMES, label) for k, label in enumerate(labels)]
    return embed(pictures.grid(torch.cat(parts), columns=_FRAMES), of.model.size)


def worst(of: Trained) -> list[Exhibit]:
    """The images that stage 1 brings back worst, above their copies: often a sign of odd files, or of few epochs."""
    if of.images is None or not len(of.losses):
        return []
    rows = of.losses.nan_to_num(nan=float("-inf")).topk(min(_WORST, len(of.losses))).indices
    copies = of.model.decode(of.latents[rows], None if of.labels is None else of.labels[rows])
    return [
        _stack(of, torch.stack([original, copy]), float(of.losses[row]), show(of.images.paths[row]))
        for original, copy, row in zip(of.images.batch(rows), copies, rows.tolist(), strict=True)
    ]


def alike(of: Trained) -> tuple[likeness.Likeness, list[Exhibit]] | None:
    """New images above the training images that they are most like, the most alike of all first."""
    if of.images is None:
        return None
    found = likeness.measure(of.model, of.run.stages, of.images, of.latents, of.labels)
    exhibits = [
        _stack(of, torch.cat([drawn[None], of.images.batch(rows)]), float(distances[0]), show(of.images.paths[rows[0]]))
        for drawn, rows, distances in zip(found.images, found.rows, found.distances, strict=True)
    ]
    return found, exhibits[:_COPIES]


def reach(of: Trained) -> tuple[coverage.Coverage, Chart | None, list[Exhibit]] | None:
    """How far training images are from samples, and those that are farthest, above the sample nearest to them."""
    if of.images is None:
        return None
    found = coverage.measure(of.model.sampler, of.latents, of.labels)
    groups = {"a new sample": found.to_sample, "another training image": found.to_other}
    drawn = histogram(
        "From each training image to the nearest …",
        f"Euclidean distance between latents, for {len(found.rows):,} training images",
        "distance",
        {label: [value for value in values.tolist() if math.isfinite(value)] for label, values in groups.items()},
    )
    far = found.to_sample.topk(min(_FARTHEST, len(found.rows))).indices
    rows = found.rows[far]
    nearest = of.model.decode(found.nearest[far], None if of.labels is None else of.labels[rows])
    exhibits = [
        _stack(of, torch.stack([image, sample]), float(found.to_sample[k]), show(of.images.paths[row]))
        for image, sample, k, row in zip(of.images.batch(rows), nearest, far, rows.tolist(), strict=True)
    ]
    return found, drawn, exhibits


def sheet(path: Path, size: Sequence[int]) -> Picture | None:
    """A grid that `glann fit` wrote; None where it is missing or damaged, or nobody knows the size of its images."""
    return read(path, (size[0], size[1])) if len(size) == 2 else None


def _stack(of: Trained, column: "Tensor", value: float, text: str) -> Exhibit:
    return Exhibit(embed(pictures.grid(column, columns=1), of.model.size), figure(value), text)
