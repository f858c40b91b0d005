"""The stages that a pipeline file can name. Each reads what earlier ones produced and adds its own."""

import inspect
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from glann.settings import GLOSettings, IMLESettings
from imle.atomic import write_atomically
from imle.checkpoint import Checkpoints
from imle.errors import DataError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from glann.images import ImageSet
    from glann.losses.distance import PerceptualDistance
    from glann.tracking import Tracked
    from glann.watch import Watched
    from imle import LatentSampler


@dataclass(frozen=True)
class Produced:
    """What the stages have made so far; None until one made it."""

    generator: "nn.Module | None" = None  # (B, d), with classes also (B,) -> (B, C, H, W)
    generator_config: dict[str, Any] = field(default_factory=dict)
    latents: "Tensor | None" = None  # (N, d), in the order of the images; then the augmented ones
    losses: "Tensor | None" = None  # (N,) distance between image and reconstruction
    loss: str | None = None  # the perceptual distance that the generator was trained with, by name
    labels: "Tensor | None" = None  # (N,) int64 class of each latent, among the sorted classes of the images
    sampler: "LatentSampler | None" = None  # noise -> latents


@dataclass(frozen=True)
class Context:
    """Where a stage works."""

    folder: Path  # of this stage inside the run folder
    title: str  # for progress, for instance "stage 1/2 glo"
    images: "ImageSet"
    seed: int
    device: str
    bf16: bool
    say: Callable[[str], None]
    track: "Tracked | None" = None  # what else is told how the training goes on

    def watched(self, unit: str, what: str, epochs: int) -> "Watched":
        """Who is told how this stage goes on, and keeps it; see `glann.watch.Watched`."""
        from glann.watch import Watched

        return Watched(self.folder, self.title, unit, what, self.images.width, epochs, self.track)


class Stage(Protocol):
    """What another package registers under the entry-point group ``glann.stages``."""

    Settings: type[BaseModel]

    def resolve(self, settings: Any) -> tuple[BaseModel, list[str]]:
        """Settings with every ``auto`` decided, and a line for each decision, before anything is trained."""

    def ready(self, settings: Any, images: "ImageSet", say: Callable[[str], None]) -> None:
        """Fail now, before a new run is begun, where this stage could not start; may fetch what it needs."""

    def run(self, settings: Any, context: Context, produced: Produced) -> Produced:
        """Train, or go on from the last checkpoint in the stage's folder, or load what is finished."""


class GLOStage:
    """Stage 1: images -> generator and latents."""

    Settings = GLOSettings

    def resolve(self, settings: GLOSettings) -> tuple[GLOSettings, list[str]]:
        """Name the perceptual distance that is taken, and check that the generator can be built."""
        from glann import generators, losses
        from glann.registry import lookup

        lookup("generators", generators.GENERATORS, settings.generator)
        if "classes" in settings.generator_options:
            raise ValueError("glo.generator_options: the classes are those of the images (--labels), received classes")
        if settings.generator in generators.GENERATORS:
            self._try_generator(settings, (32, 32), 3)
        weights = Path(settings.loss_weights) if settings.loss_weights else None
        name, why = losses.resolve(settings.loss, weights)
        return settings.model_copy(update={"loss": name}), [why] if name != settings.loss else []

    def ready(self, settings: GLOSettings, images: "ImageSet", say: Callable[[str], None]) -> None:
        """Build the networks once, so that what is missing is fetched or named before anything is begun."""
        if images.labels:
            self._try_generator(settings, (images.height, images.width), images.channels, len(images.classes))
        self._loss(settings, images, say)

    def _try_generator(
        self, settings: GLOSettings, size: tuple[int, int], channels: int, classes: int | None = None
    ) -> None:
        import torch

        from glann import generators

        try:
            with torch.device("meta"):
                generators.build(
                    settings.generator,
                    latent_dim=settings.latent_dim,
                    size=size,
                    channels=channels,
                    classes=classes,
                    **settings.generator_options,
                )
        except (TypeError, ValueError, RuntimeError) as error:
            hint = ""
            if network := generators.GENERATORS.get(settings.generator):
                known = set(inspect.signature(network).parameters) - {"latent_dim", "size", "channels", "classes"}
                hint = f" (it takes {', '.join(sorted(known)) or 'none'})"
            received = settings.generator_options
            raise SettingsError(f"glo.generator_options: {error}{hint}, received {received}") from error

    def _loss(self, settings: GLOSettings, images: "ImageSet", say: Callable[[str], None]) -> "PerceptualDistance":
        from glann import losses
        from glann.download import progress

        return losses.build(
            settings.loss,
            size=(images.height, images.width),
            channels=images.channels,
            weights=settings.loss_weights,
            download=progress(say),
        )

    def run(self, settings: GLOSettings, context: Context, produced: Produced) -> Produced:
        """See `Stage.run`."""
        import safetensors.torch

        from glann import glo, snapshots
        from glann.augment import Augmented, augmented
        from imle.data import evenly

        images, rows = context.images, evenly(len(context.images), snapshots.COUNT)
        labels = images.class_rows()

        def preview(epoch: int, generator: "nn.Module", latents: "Tensor") -> None:
            """The same few training images, as they are drawn now."""
            if watcher.due(epoch):
                some = latents[rows.to(latents.device)]
                told = () if labels is None else (labels[rows].to(latents.device),)
                watcher.picture(epoch, generator(some, *told))

        epochs = glo.epochs_for(settings, len(augmented(images, settings.augment)))
        with context.watched("images", "reconstructions", epochs) as watcher:
            result = glo.fit(
                images,
                settings,
                lambda: self._loss(settings, images, context.say),
                seed=context.seed,
                device=context.device,
                bf16=context.bf16,
                checkpoints=Checkpoints(context.folder / "checkpoints"),
                watcher=watcher,
                preview=preview,
                say=context.say,
            )
        config = {
            "generator": settings.generator,
            "generator_options": settings.generator_options,
            "latent_dim": settings.latent_dim,
            "height": images.height,
            "width": images.width,
            "channels": images.channels,
            "loss": settings.loss,
        }
        if images.labels:
            counts = Counter(images.labels)
            config |= {"classes": images.classes, "class_counts": [counts[name] for name in images.classes]}
        # For `imle fit`, and for whoever wants to look up an image's latent: row k is row k of images/manifest.csv,
        # and what augmentation adds comes after them.
        vectors = {"latents": result.latents, "losses": result.losses}
        labels = result.images.class_rows()
        if labels is not None:
            vectors["labels"] = labels
        if isinstance(result.images, Augmented):
            vectors |= result.images.tensors()
        write_atomically(context.folder / "latents.safetensors", safetensors.torch.save(vectors))
        return replace(
            produced, generator=result.generator, generator_config=config, latents=result.latents,
            losses=result.losses, loss=settings.loss, labels=labels,
        )  # fmt: skip


class IMLEStage:
    """Stage 2: latents -> sampler."""

    Settings = IMLESettings

    def resolve(self, settings: IMLESettings) -> tuple[IMLESettings, list[str]]:
        """Check the settings once more where `imle` defines them; nothing is left to decide."""
        estimator(settings, seed=0)
        return settings, []

    def ready(self, settings: IMLESettings, images: "ImageSet", say: Callable[[str], None]) -> None:
        """See `Stage.ready`; this stage needs nothing from outside."""

    def run(self, settings: IMLESettings, context: Context, produced: Produced) -> Produced:
        """See `Stage.run`. A stage that was trained on other latents starts over, and says so."""
        import torch

        from glann import snapshots
        from glann.held_out_score import HeldOutScore

        if produced.latents is None:
            raise DataError("stage imle needs latents; put a stage that makes them, for instance glo, before it")
        checkpoints = Checkpoints(context.folder / "checkpoints")
        print_now = _fingerprint(produced.latents)
        trained_on = context.folder / "latents.json"
        if trained_on.exists() and json.loads(trained_on.read_text()) != print_now:
            context.say("the latents of stage 1 have changed: stage imle is trained anew")
            checkpoints.clear()
        context.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(trained_on, json.dumps(print_now).encode())

        classes = len(context.images.classes)
        spread = torch.linspace(0, classes - 1, snapshots.COUNT).round().long() if classes else None
        generator, score = produced.generator, None
        if generator is not None and context.images.held_out is not None:
            score = HeldOutScore(context.images, generator, produced.loss, settings.epochs, context.device, context.say)

        def preview(epoch: int, sampler: "LatentSampler") -> None:
            """Samples of the same noise, as they are drawn now; with classes, of classes spread over all."""
            if watcher.due(epoch) and generator is not None:
                latents = snapshots.of_the_same_noise(sampler, spread)
                watcher.picture(epoch, snapshots.draw(generator, latents, spread))
            if score is not None and score.due(epoch) and "held_out_images" not in watcher.row(epoch):
                watcher.extend(epoch, score(epoch, sampler))

        with context.watched("latents", "samples", settings.epochs) as watcher:
            sampler = estimator(settings, context.seed).fit(
                produced.latents,
                condition=context.images.class_rows() if produced.labels is None else produced.labels,
                checkpoints=checkpoints,
                watcher=watcher,
                preview=preview,
                device=context.device,
            )
        return replace(produced, sampler=sampler)


STAGES: dict[str, type] = {"glo": GLOStage, "imle": IMLEStage}


def estimator(settings: IMLESettings, seed: int) -> Any:
    """`imle.IMLE` with the settings of a stage; a ValueError for what it does not accept."""
    from dataclasses import fields

    import imle
    from imle import selection

    def piece(table: dict[str, dict[str, Any]] | None) -> Any:
        """``{"Adaptive": {"max_age": 5}}`` -> imle.Adaptive(max_age=5)."""
        if table is None:
            return None
        ((name, arguments),) = table.items()
        rule = getattr(selection, name)
        known = [field.name for field in fields(rule)]
        if unknown := sorted(set(arguments) - set(known)):
            raise ValueError(f"imle: {name} has {' and '.join(known) or 'no arguments'}, received {unknown[0]}")
        return rule(**arguments)

    values = settings.model_dump(exclude={"refresh", "reject"})
    return imle.IMLE(**values, refresh=piece(settings.refresh), reject=piece(settings.reject), seed=seed)


def _fingerprint(latents: "Tensor") -> dict[str, Any]:
    import hashlib

    return {"shape": list(latents.shape), "sha256": hashlib.sha256(latents.numpy().tobytes()).hexdigest()}
