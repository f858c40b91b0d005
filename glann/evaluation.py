"""What was measured of a model, and what a reader of the scores must know."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glann.scores import LEAST

if TYPE_CHECKING:
    from PIL.Image import Image

    from glann.class_scores import ClassScores
    from glann.features import Features
    from glann.scores import Scores

_FLAT = 0.7  # of the training images' contrast; below, flat images that nobody saw count as memorised (docs/metrics.md)

BY_DEFINITION = "by definition"  # where the share of new images that count as memorised was not measured


@dataclass(frozen=True)
class Evaluation:
    """All that was measured."""

    scores: "Scores"  # samples against real images
    floor: "Scores"  # real images against real images
    n: int  # samples, images in the reference, other real images
    seed: int
    n_images: int  # usable images in the folder, each once; the unseen ones where only these were asked for
    n_unseen: int  # of all in the folder, those that the model was not trained on; all, where that is not known
    n_training: int  # images that the samples could be held against
    n_trained_on: int | None  # of the reference, how many the model was trained on; None where that is not known
    loss: str | None  # the distance that the model was trained with; None where that is not known
    features: "Features"
    truncation: float
    memorised: dict[str, Any]
    reconstructions: dict[str, Any]
    classes: "ClassScores | None"
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
            "seed": self.seed,
            "loss": self.loss,
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

    def caveats(self) -> list[str]:
        """What the scores do not say by themselves, a line each."""
        lines, memorised = [], self.memorised
        if self.few:
            lines.append(
                f"{self.n:,} images a set are few for {self.features.dims:,} features: the Fréchet distance is far "
                "above 0 for equal sets, see its floor; the kernel distance has no such bias and leads"
            )
        if self.loss is None:
            lines.append(
                "which distance the model was trained with is not known: if it has "
                f"{self.features.name} in it, the scores flatter the model"
            )
        if self.n_trained_on is None:
            lines.append("which images the model was trained on is not known: the folder is taken for them")
        elif self.n_trained_on:
            lines.append(
                f"{self.n_trained_on:,} of the {self.n:,} real images are training images: a model that only repeats "
                "them scores well; images it never saw say more"
                + (" (--unseen takes only these)" if self.n_unseen >= 2 * LEAST else "")
            )
        if memorised["n_training"] < self.n_training:
            lines.append(
                f"samples were held against {memorised['n_training']:,} of {self.n_training:,} training images"
            )
        if memorised["contrast"] < _FLAT:
            lines.append(
                f"the samples have {memorised['contrast']:.0%} of the contrast of training images: images as flat as "
                "these are near to some training image, copies or not, so the memorised share says little"
            )
        if memorised["reconstructions_share"] < 0.5:
            lines.append(
                f"only {memorised['reconstructions_share']:.0%} of the reconstructions, which are copies by design, "
                "count as memorised: copies as blurred as these go unseen, whatever the share of the samples is"
            )
        return lines
