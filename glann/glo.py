"""Stage 1, GLO: a latent for every image and a generator that draws it (Bojanowski et al. 2017, arXiv 1707.05776).

Minimises Σᵢ ℓ(G(zᵢ), xᵢ) over the generator G and the latents zᵢ, ‖zᵢ‖ = 1, ℓ a perceptual distance: equation 2 of the
paper, with the unit sphere in place of the unit ball as in Hoshen et al. 2019 (arXiv 1812.08985, equation 3).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glann import generators
from glann.augment import augmented
from glann.latents import RowAdam, decayed, noise_latents, on_sphere, pca_latents
from glann.targets import Targets
from imle import checkpoint
from imle.average import averaged
from imle.checkpoint import Checkpoints
from imle.console import Watcher
from imle.errors import DivergedError, ResumeError
from imle.noise import stream

if TYPE_CHECKING:
    from glann.images import ImageSet
    from glann.losses.distance import PerceptualDistance
    from glann.settings import GLOSettings

_SHUFFLE, _WEIGHTS = 2, 3  # keys of this stage's random streams
# Where no batch size is given:
_LARGEST_BATCH, _SMALLEST_BATCH = 64, 4  # images
_LEAST_STEPS = 32  # an epoch


@dataclass(frozen=True)
class GLOResult:
    """What stage 1 leaves behind."""

    generator: nn.Module  # (B, d), with classes also (B,) -> (B, C, H, W) in [0, 1], on the CPU, eval mode
    latents: Tensor  # (N, d) float32 on the CPU, unit rows, in the order of the images
    losses: Tensor  # (N,) last seen distance between each image and its reconstruction
    images: "ImageSet"  # N, what the latents are of: the images that came in, augmented


def fit(
    images: "ImageSet",
    settings: "GLOSettings",
    make_loss: Callable[[], "PerceptualDistance"],
    *,
    seed: int = 0,
    device: str = "cpu",
    bf16: bool = False,
    checkpoints: Checkpoints | None = None,
    watcher: Watcher | None = None,
    preview: Callable[[int, nn.Module, Tensor], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> GLOResult:
    """Learn a generator and one latent for each image.

    Args:
        images: N images before augmentation, of one size; the generator is told their classes where they have some.
        settings: sizes, rates and schedule of this stage.
        make_loss: gives a perceptual distance, for instance from `glann.losses.build`; called only if there is
            something left to train.
        seed: fixes the whole stage, on the CPU bit for bit.
        device: where to train.
        bf16: run the networks in bfloat16, that of the distance too; weights, latents and losses stay float32.
        checkpoints: where to commit, and to go on from. Committed at least once a minute and at the end.
        watcher: is told of every step and epoch.
        preview: is given, after every epoch, its number, the generator in eval mode and the (N, d) latents, both on
            ``device``. It may draw, without gradient, and must not change or keep them.
        say: is given lines for a person.

    Returns:
        The trained generator and the latents.

    Raises:
        ResumeError: if the last checkpoint is of other images, or has trained for more epochs than are asked.
        DivergedError: if the loss is no longer finite; the last good checkpoint stays.
    """
    images = augmented(images, settings.augment)
    count = len(images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, _WEIGHTS).initial_seed())
        generator = generators.build(
            settings.generator,
            latent_dim=settings.latent_dim,
            size=(images.height, images.width),
            channels=images.channels,
            classes=len(images.classes) or None,
            **settings.generator_options,
        )
    generator = generator.to(device).to(memory_format=torch.channels_last).train()
    betas = (settings.beta1, settings.beta2)
    adam = torch.optim.Adam(generator.parameters(), lr=settings.lr, betas=betas, fused=True)
    labels = images.class_rows()
    labels = None if labels is None else labels.to(device)
    size, epochs, batches = batch_size(settings, count), epochs_for(settings, count), batches_for(settings, count)

    # Where to begin: from the images, or from the last checkpoint.
    facts: dict[str, Any] = {"epoch": 0, "batch": 0, "loss_sum": 0.0, "seconds": 0.0}
    saved = checkpoints.latest() if checkpoints else None
    if saved is not None:
        facts = saved.facts
        if facts["images"] != images.fingerprint:
            raise ResumeError(
                "the checkpoint was trained on other images or with another glo.augment; --fresh starts over"
            )
        if facts["epoch"] > epochs:
            raise ResumeError(f"asked for glo.epochs = {epochs}, but {facts['epoch']} are already trained")
        start = torch.empty(count, settings.latent_dim)
    elif settings.latent_init == "pca":
        parts = torch.arange(count).split(1024)
        start = pca_latents((images.batch(rows) for rows in parts), settings.latent_dim, seed)
    else:
        start = noise_latents(count, settings.latent_dim, seed)
    latents = RowAdam(start.to(device), betas)
    steps = facts["epoch"] * batches + facts["batch"]  # gradient steps so far
    average = averaged(generator, settings.ema, lambda: steps)
    losses = torch.zeros(count, device=device)
    loss_sum = torch.tensor(facts["loss_sum"], device=device)
    if saved is not None:
        checkpoint.load_module("generator", generator, saved.tensors)
        checkpoint.load_optimizer("adam", adam, saved.tensors)
        latents.load("latents", saved.tensors)
        if average is not None:
            checkpoint.load_module("average", average, saved.tensors)
        losses.copy_(saved.tensors["losses"])

    def commit(epoch: int, batch: int, seconds: float) -> None:
        """Put the state after ``batch`` batches of ``epoch`` (from 0) on disk, unless it is not worth keeping."""
        _require_finite(loss_sum, epoch)
        for value in (latents.rows, *generator.parameters()):
            _require_finite(value.detach().sum(), epoch)
        if checkpoints is not None:
            tensors = {
                **checkpoint.module_tensors("generator", generator),
                **checkpoint.optimizer_tensors("adam", adam),
                **latents.tensors("latents"),
                "losses": losses,
            }
            if average is not None:
                tensors |= checkpoint.module_tensors("average", average)
            now = {"epoch": epoch, "batch": batch, "loss_sum": float(loss_sum), "seconds": seconds}
            same = {"images": images.fingerprint, "kept": targets.kept}
            checkpoints.commit(epoch * batches + batch, tensors, {**now, **same})

    if saved is None and (settings.batch_size is None or settings.epochs is None):
        say(f"{count:,} images in stage 1: {epochs:,} epochs in batches of {count // batches:,}")

    # The targets' features are computed once where they fit into memory; a resumed run keeps to what it began with.
    if facts["epoch"] < epochs:
        loss = make_loss().to(device)
        targets = Targets(images, loss, device, bf16)
        if facts.get("kept", saved is None):
            targets.keep(int(settings.cache_gib * 2**30), size, say)
    for epoch in range(facts["epoch"], epochs):
        first = facts["batch"] if epoch == facts["epoch"] else 0
        earlier = facts["seconds"] if epoch == facts["epoch"] else 0.0
        started = time.monotonic()
        order = torch.randperm(count, generator=stream(seed, _SHUFFLE, epoch)).tensor_split(batches)
        done = sum(len(rows) for rows in order[:first])
        for batch, rows in enumerate(order[first:], start=first):
            # Both learning rates fall together over the training.
            progress = (epoch + batch / batches) / epochs
            factor = decayed(settings.decay, progress, epochs, settings.decay_epochs)
            for group in adam.param_groups:
                group["lr"] = settings.lr * factor

            # Draw the images of this batch from their latents, and compare.
            prepared = targets(rows)
            rows = rows.to(device, non_blocking=True)
            z = latents.rows[rows].requires_grad_()
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
                drawn = generator(z) if labels is None else generator(z, labels[rows])
                distances = loss.compare(drawn, prepared)
            distances.mean().backward()

            # One Adam step for the network, one for the latents of this batch only, back on the sphere. The mean
            # divides a latent's gradient by the batch size, which Adam does not notice.
            adam.step()
            adam.zero_grad(set_to_none=True)
            assert z.grad is not None
            latents.step(rows, z.grad, settings.latent_lr * factor)
            steps += 1
            if average is not None:
                average.update_parameters(generator)

            losses[rows] = distances.detach().float()
            loss_sum += distances.detach().float().sum()
            done += len(rows)
            if watcher is not None:
                watcher.step(epoch + 1, epochs, done, count, distances.detach().mean())
            if checkpoints is not None and batch + 1 < batches and checkpoints.due():
                commit(epoch, batch + 1, earlier + time.monotonic() - started)

        _require_finite(loss_sum, epoch)
        if watcher is not None:
            seconds = earlier + time.monotonic() - started
            row: dict[str, Any] = {"epoch": epoch + 1, "epochs": epochs, "batch_size": size}
            row |= {"loss": float(loss_sum) / count, "lr": settings.lr * factor}
            watcher.epoch({**row, "seconds": seconds, "images_per_second": count / max(seconds, 1e-9)})
        if preview is not None:
            with torch.no_grad():
                preview(epoch + 1, (generator if average is None else average.module).eval(), latents.rows)
            generator.train()
        loss_sum.zero_()
        if checkpoints is not None and (epoch + 1 == epochs or checkpoints.due()):
            commit(epoch + 1, 0, 0.0)

    if average is not None:
        generator = average.module
    return GLOResult(generator.cpu().eval(), on_sphere(latents.rows.cpu()), losses.cpu(), images)


def epochs_for(settings: "GLOSettings", count: int) -> int:
    """Passes over ``count`` images: as asked, else as few as `min_epochs` and `min_images_seen` allow."""
    return settings.epochs or max(settings.min_epochs, math.ceil(settings.min_images_seen / count))


def batch_size(settings: "GLOSettings", count: int) -> int:
    """Images in one step: as asked, else 64, and fewer of fewer than 2,048, so that few images are not few steps."""
    return settings.batch_size or min(_LARGEST_BATCH, max(_SMALLEST_BATCH, count // _LEAST_STEPS))


def batches_for(settings: "GLOSettings", count: int) -> int:
    """Equal parts of ``count`` images: none is larger than a batch, but that none is alone where a batch has two."""
    size = batch_size(settings, count)
    return min(math.ceil(count / size), max(1, count // min(size, 2)))


def _require_finite(total: Tensor, epoch: int) -> None:
    if not torch.isfinite(total):
        hint = "the last good checkpoint is kept; lower glo.lr or glo.latent_lr, or use --precision fp32"
        raise DivergedError(f"the loss of stage 1 is not finite in epoch {epoch + 1}; {hint}")
