"""The field's scores of a model on a person's own folder, each beside what two sets of real images score.

Half of the folder is the reference, the other half is what the reference is compared with to find the floor: real
against real, as many images as samples are compared. No score of a finite number of images is 0 or 1 for a perfect
model; the floor says what it is.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glann import features as networks
from glann import imagecache, images, reconstruction
from glann.class_scores import ClassScores, score_classes
from glann.classes import draw_labels
from glann.evaluation_images import PORTION, Samples, features_of, picture
from glann.images import ImageSet
from glann.info import read_run
from glann.memorisation import QUANTILE, Nearest, TrainingImages
from glann.scores import LEAST, Scores, score
from imle.data import evenly
from imle.errors import DataError, ResumeError, SettingsError
from imle.noise import stream

if TYPE_CHECKING:
    from PIL.Image import Image

    from glann.features import Features
    from glann.model import GLANN

MOST = 2500  # samples, and images in each half, where nothing is asked: a few minutes on two cores
MOST_TRAINING = 20_000  # training images that samples are held against, evenly spread where there are more
_FLAT = 0.7  # of the training images' contrast; below, flat images that nobody saw count as memorised (docs/metrics.md)
_FEW_UNSEEN = 100  # unseen images from which the share that they would be memorised is worth more than its definition
_SPLIT = 31  # key of the random stream that halves the folder

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """All that was measured."""

    scores: Scores  # samples against real images
    floor: Scores  # real images against real images
    n: int  # samples, images in the reference, other real images
    n_images: int  # usable images in the folder, the unseen ones where only these were asked for
    n_trained_on: int | None  # of the reference, how many the model was trained on; None where that is not known
    features: "Features"
    truncation: float
    memorised: dict[str, Any]
    reconstructions: dict[str, Any]
    classes: ClassScores | None
    warnings: list[str]
    picture: "Image"  # see `glann.evaluation_images.picture`

    @property
    def few(self) -> bool:
        """Whether there are too few images for the Fréchet distance, so that the kernel distance leads."""
        return self.n < 2 * self.features.dims

    def to_json(self) -> dict[str, Any]:
        """JSON-able, flat where a program looks first; docs/metrics.md has a line for each key."""
        return {
            **self.scores.to_json(),
            "memorised_share": self.memorised["share"],
            **self.reconstructions,
            "n_real": self.n,
            "n_generated": self.n,
            "n_images": self.n_images,
            "n_real_trained_on": self.n_trained_on,
            "features": self.features.name,
            "features_about": self.features.about,
            "features_dims": self.features.dims,
            "resize": self.features.resize,
            "leading": "kernel_distance" if self.few else "frechet_distance",
            "truncation": self.truncation,
            "real_floor": {**self.floor.to_json(), "memorised_share": self.memorised["floor"]},
            "memorisation": self.memorised,
            "classes": None if self.classes is None else self.classes.to_json(),
            "warnings": self.warnings,
        }


def evaluate(
    model: "GLANN",
    source: Path,
    *,
    n: int | None = None,
    seed: int = 0,
    features: str = networks.AUTO,
    weights: Path | None = None,
    truncation: float = 1.0,
    labels: bool | Path = False,
    unseen: bool = False,
    say: Say = lambda line: None,
) -> Evaluation:
    """Score a model on a folder of images.

    Args:
        model: a model of a run, which knows its loss, its training images and their latents, or an exported one.
        source: folder of images; brought to the size and channels of the model as `glann fit` would.
        n: samples, and real images in each half, 16 … half of the folder. None takes half of it, at most 2,500.
        seed: of the samples, and of the halves.
        features: which network judges, see `glann.features.choose`.
        weights: file of its weights, for ``inception``.
        truncation: see `GLANN.sample`.
        labels: where the class of an image is from, as in `glann.images.prepare`; a model with classes takes the first
            folder where all of them are classes it knows.
        unseen: leave out the images of the folder that the run was trained on.
        say: is given lines for a person.

    Returns:
        Scores, the floor, and a picture.

    Raises:
        SettingsError: for n or features out of range, or ``unseen`` for an exported model.
        DataError: for a folder that cannot be used, fewer than 32 images, or weights that are missing.
    """
    if unseen and model.run is None:
        raise SettingsError("expected a run folder: an exported model does not know which images are unseen")
    stages = [] if model.run is None else read_run(model.run).stages
    loss = next((str(s.settings["loss"]) for s in reversed(stages) if "loss" in s.settings), None)
    device = str(next(model.generator.parameters()).device)
    try:
        name, warnings = networks.choose(features, loss)
        judge = networks.build(name, model.size, weights, device)
    except DataError:
        raise
    except ValueError as error:
        raise SettingsError(str(error)) from error
    for line in warnings:
        say(f"warning: {line}")

    def warn(line: str) -> None:
        warnings.append(line)
        say(f"warning: {line}")

    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "images"
        wanted: Any = str(model.channels)
        real = images.prepare(source, cache, size=model.size, channels=wanted, labels=labels, report=say)
        named = _classes(model, real, bool(labels))
        if named is None and model.classes:
            warn("the model has classes, the folder has not: no scores of classes (see --labels, --labels-file)")
        training, hashes = _training(model, warn)
        if unseen and training is None:
            raise DataError(f"the images of {model.run} are not at hand: which of {source} are unseen is not known")
        trained_on = torch.tensor([row.sha256 in hashes for row in imagecache.read(cache).rows])
        usable = torch.arange(len(real))[~trained_on] if unseen else torch.arange(len(real))
        n = _check_count(n, len(usable), "unseen" if unseen else "usable", source)
        order = usable[torch.randperm(len(usable), generator=stream(seed, _SPLIT))]
        first, second = order[:n], order[n : 2 * n]

        # Copies: of the training images, where they are known, else of the folder's.
        against = training or real
        rows = evenly(len(against), MOST_TRAINING)
        held = TrainingImages(against.batch(part) for part in rows.split(PORTION))

        reference, other = (
            features_of(judge, (real.batch(part) for part in rows.split(PORTION)), n, what, say)
            for rows, what in ((first, "real images"), (second, "other real images"))
        )
        samples = Samples(model, seed, truncation)
        generated = features_of(judge, samples.batches(n), n, "samples", say)
        scores, floor = score(reference, generated, seed), score(reference, other, seed)

        nearest = Nearest.joined([held(batch) for batch in samples.batches(n)])
        pairs = reconstruction.reconstruct(model, stages, training, lambda k: real.batch(first[:k]))
        fresh = order[: 2 * n][~trained_on[order[: 2 * n]]] if training else order[:0]
        enough = len(fresh) >= _FEW_UNSEEN
        memorised = {
            "share": held.share(nearest),
            "floor": held.share(held(real.batch(fresh))) if enough else QUANTILE,
            "floor_of": f"{len(fresh)} unseen images" if enough else "by definition",
            "reconstructions_share": held.share(held(pairs.copies)),
            "contrast": float(nearest.contrast.mean()),
            "against": "training images" if training else "the folder, taken for the training images",
            "n_training": len(rows),
            "threshold": held.threshold,
            "twins_share": held.twins,
        }
        lpips, lpips_network, note = reconstruction.lpips(pairs.originals, pairs.copies, loss)
        if note:
            warn(note)
        reconstructions = {
            "psnr_reconstruction": reconstruction.psnr(pairs.originals, pairs.copies),
            "lpips_reconstruction": lpips,
            "lpips_network": lpips_network,
            "n_reconstructions": len(pairs.originals),
            "reconstructions_of": pairs.how,
        }

        classes = None
        if named is not None:
            names, numbers = named
            asked = draw_labels(model.config["class_counts"], seed, 0, n) if model.classes else None
            classes = score_classes(names, (reference, numbers[first]), (other, numbers[second]), generated, asked)

        found = Evaluation(
            scores, floor, n, len(usable), int(trained_on[first].sum()) if training else None, judge, truncation,
            memorised, reconstructions, classes, warnings, picture(samples, against, rows, nearest),
        )  # fmt: skip
        for line in _caveats(found, len(against), int((~trained_on).sum())):
            warn(line)
    return found


def _check_count(n: int | None, found: int, kind: str, source: Path) -> int:
    if found < 2 * LEAST:
        raise DataError(f"expected at least {2 * LEAST} {kind} images in {source}, received {found}")
    if n is not None and not LEAST <= n <= found // 2:
        raise SettingsError(
            f"expected n from {LEAST} to {found // 2}, half of the {found:,} {kind} images (the other half is the "
            f"floor), received {n}"
        )
    return n or min(found // 2, MOST)


def _training(model: "GLANN", warn: Say) -> tuple[ImageSet | None, set[str]]:
    """The decoded training images of a run and the hashes of their files; None and nothing where they are not there."""
    if model.run is None:
        return None, set()
    try:
        found = images.load(model.run / "images")
        hashes = imagecache.read(model.run / "images").trained_on
    except ResumeError as error:
        warn(f"the training images are not at hand: {error}")
        return None, set()
    return found, hashes


def _classes(model: "GLANN", real: ImageSet, asked: bool) -> tuple[Sequence[str], Tensor] | None:
    """The names of the classes and the class of each image; None where they have none that belong together."""
    found = real.labels if asked else [path.split("/")[0] if "/" in path else "" for path in real.paths]
    assert found is not None
    names = model.classes or (real.classes if asked else [])
    unknown = sorted(set(found) - set(names))
    if unknown:
        if asked:
            raise DataError(f"expected classes that the model knows, received {unknown[0]!r}")
        return None
    place = {name: k for k, name in enumerate(names)}
    return names, torch.tensor([place[name] for name in found])


def _caveats(found: Evaluation, n_training: int, n_unseen: int) -> list[str]:
    """What a reader of these scores must know."""
    lines = []
    if found.few:
        lines.append(
            f"{found.n:,} images a set are few for {found.features.dims:,} features: the Fréchet distance is far above "
            "0 for equal sets, see its floor; the kernel distance has no such bias and leads"
        )
    if found.n_trained_on is None:
        lines.append("which images the model was trained on is not known: the folder is taken for them")
    elif found.n_trained_on:
        lines.append(
            f"{found.n_trained_on:,} of the {found.n:,} real images are training images: a model that only repeats "
            "them scores well; images it never saw say more"
            + (" (--unseen takes only these)" if n_unseen >= 2 * LEAST else "")
        )
    if found.memorised["n_training"] < n_training:
        lines.append(f"samples were held against {found.memorised['n_training']:,} of {n_training:,} training images")
    if found.memorised["contrast"] < _FLAT:
        lines.append(
            f"the samples have {found.memorised['contrast']:.0%} of the contrast of training images: images as flat as "
            "these are near to some training image, copies or not, so the memorised share says little"
        )
    if found.memorised["reconstructions_share"] < 0.5:
        lines.append(
            f"only {found.memorised['reconstructions_share']:.0%} of the reconstructions, which are copies by design, "
            "count as memorised: copies as blurred as these go unseen, whatever the share of the samples is"
        )
    return lines
