"""The field's scores of a model on a person's own folder, each beside what two sets of real images score.

Half of the folder is the reference, the other half is what the reference is compared with to find the floor: real
against real, as many images as samples are compared. No score of a finite number of images is 0 or 1 for a perfect
model; the floor says what it is.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glann import features as networks
from glann import imagecache, images, reconstruction
from glann.class_scores import score_classes
from glann.classes import draw_labels
from glann.evaluation import BY_DEFINITION, Evaluation
from glann.evaluation_images import COLUMNS, PORTION, Samples, features_of, picture
from glann.images import ImageSet
from glann.info import read_run
from glann.memorisation import QUANTILE, Nearest, TrainingImages
from glann.scan import readable
from glann.scores import LEAST, score
from imle.data import evenly
from imle.errors import DataError, ResumeError, SettingsError
from imle.noise import stream
from imle.truncation import check_share

if TYPE_CHECKING:
    from glann.model import GLANN

MOST = 2560  # samples, images in each half and new images held against the training images, where nothing is asked:
# enough for the Fréchet distance of 1,280 features
MOST_TRAINING = 20_000  # training images that samples are held against, evenly spread where there are more
_FEW_UNSEEN = 100  # unseen images from which the share that they would be memorised is worth more than its definition
_SPLIT = 31  # key of the random stream that halves the folder

Say = Callable[[str], None]


def evaluate(
    model: "GLANN",
    source: str | Path,
    *,
    n: int | None = None,
    seed: int = 0,
    features: str = networks.AUTO,
    weights: Path | None = None,
    truncation: float = 1.0,
    labels: bool | str | Path = False,
    unseen: bool = False,
    say: Say = lambda line: None,
) -> Evaluation:
    """Score a model on a folder of images.

    Args:
        model: a model of a run, which knows its training images and their latents, or an exported one.
        source: folder of images; brought to the size and channels of the model as `glann fit` would.
        n: samples, and real images in each half, 16 … half of the folder. None takes half of it, at most 2,560.
            Files with the same content count once.
        seed: of the samples, and of the halves, 0 … 2³² − 1.
        features: which network judges, see `glann.features.choose`.
        weights: file of its weights, for ``inception``.
        truncation: see `GLANN.sample`.
        labels: True: the first folder below the source is the class of an image; a file: see `glann.labels`. A model
            with classes takes the first folder where all of them are classes it knows.
        unseen: leave out the images of the folder that the run was trained on.
        say: is given lines for a person.

    Returns:
        Scores, the floor, and a picture.

    Raises:
        SettingsError: for n, seed or features out of range, or ``unseen`` for an exported model.
        DataError: for a folder that cannot be used, fewer than 32 images, or weights that are missing.
        ValueError: for a truncation out of range.
    """
    if not (isinstance(seed, Integral) and 0 <= seed < 2**32):
        raise SettingsError(f"expected a seed from 0 to 2^32 - 1, received {seed!r}")
    seed, truncation, source = int(seed), float(truncation), Path(source)
    check_share(truncation)
    samples = Samples(model, seed, truncation)
    if unseen and model.run is None:
        raise SettingsError("expected a run folder: an exported model does not know which images are unseen")
    stages = [] if model.run is None else read_run(model.run).stages
    loss = model.config.get("loss")
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

    training, hashes = _training(model, warn)
    if unseen and training is None:
        raise DataError(f"the images of {model.run} are not at hand: which of {source} are unseen is not known")
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "images"
        wanted: Any = str(model.channels)
        where = Path(labels) if isinstance(labels, str) else labels
        real = images.prepare(source, cache, size=model.size, channels=wanted, labels=where, report=say)
        named = _classes(model, real, bool(labels))
        if named is None and model.classes:
            warn("the model has classes, the folder has not: no scores of classes (see --labels, --labels-file)")
        # A copy of an image of the reference would be found among the others: each image counts once.
        content = [row.sha256 for row in imagecache.read(cache).rows]
        first_of: dict[str, int] = {}
        once = torch.tensor([first_of.setdefault(digest, k) == k for k, digest in enumerate(content)])
        trained_on = torch.tensor([digest in hashes for digest in content])
        if copies := int((~once).sum()):
            warn(f"{copies:,} files have the content of another one and are left out")
        usable = (once & ~trained_on if unseen else once).nonzero()[:, 0]
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
        generated = features_of(judge, samples.batches(n), n, "samples", say)
        scores, floor = score(reference, generated, seed), score(reference, other, seed)

        def nearest_to(batches: Iterable[Tensor]) -> Nearest:
            return Nearest.joined([held(batch) for batch in batches])

        nearest = nearest_to(samples.batches(n))
        pairs = reconstruction.reconstruct(model, stages, training, lambda k: real.batch(first[:k]))
        fresh = order[~trained_on[order]][:MOST] if training else order[:0]
        enough = len(fresh) >= _FEW_UNSEEN
        memorised = {
            "share": held.share(nearest),
            "floor": held.share(nearest_to(real.batch(part) for part in fresh.split(PORTION))) if enough else QUANTILE,
            "floor_of": f"{len(fresh)} unseen images" if enough else BY_DEFINITION,
            "reconstructions_share": held.share(nearest_to(pairs.copies.split(PORTION))),
            "contrast": float(nearest.contrast.mean()),
            "against": "training images" if training else "the folder, taken for the training images",
            "nearest": [
                {
                    "sample": k,
                    "training_image": readable(against.paths[rows[nearest.rows[k, 0]]]),
                    "closeness": float(nearest.closeness[k]),
                }
                for k in nearest.closest(COLUMNS).tolist()
            ],
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
            scores, floor, n, seed, len(usable), int((once & ~trained_on).sum()), len(against),
            int(trained_on[first].sum()) if training else None, loss, judge, truncation, memorised, reconstructions,
            classes, warnings, picture(samples, against, rows, nearest),
        )  # fmt: skip
        for line in found.caveats():
            warn(line)
    return found


def _check_count(n: int | None, found: int, kind: str, source: Path) -> int:
    if found < 2 * LEAST:
        raise DataError(f"expected at least {2 * LEAST} {kind} images in {source}, received {found}")
    if n is not None and not (isinstance(n, Integral) and LEAST <= n <= found // 2):
        raise SettingsError(
            f"expected n from {LEAST} to {found // 2}, half of the {found:,} {kind} images (the other half is the "
            f"floor), received {n}"
        )
    return min(found // 2, MOST) if n is None else int(n)


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
