"""The trained artefact: a generator and the sampler of its latents, in one folder that is all that sampling needs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from glann import generators
from glann.classes import Label, check_labels, draw_labels, padded
from glann.labels import list_some
from glann.latents import on_sphere
from imle.atomic import write_atomically
from imle.checkpoint import read_weights, storable
from imle.errors import DataError
from imle.truncation import truncated

if TYPE_CHECKING:
    from imle import LatentSampler

FORMAT = 1  # of config.json; raised when an older reader could misunderstand a newer folder
_BLOCK_PIXELS = 2**16  # pixels in one forward pass; a function of the size alone, so that it never changes a sample


class GLANN(nn.Module):
    """A new image is G(T(e)): noise e, the sampler T of stage 2, the generator G of stage 1.

    Args:
        generator: maps (B, d), with classes also (B,) labels, to (B, C, H, W) in [0, 1].
        sampler: maps noise, with classes also labels, to latents (B, d).
        config: how the generator is built: ``generator`` (name), ``generator_options``, ``latent_dim``, ``height``,
            ``width``, ``channels``; with classes also ``classes`` (K names) and ``class_counts`` (training images of
            each); where it is known, ``loss``, the name of the distance that the generator was trained with.
    """

    def __init__(self, generator: nn.Module, sampler: "LatentSampler", config: dict[str, Any]):
        super().__init__()
        self.generator, self.sampler, self.config = generator.eval(), sampler.eval(), dict(config)
        self.run: Path | None = None  # the run folder it was loaded from, where it was
        self.requires_grad_(False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.config["height"], self.config["width"]

    @property
    def channels(self) -> int:
        """1 grey, 3 RGB, 4 RGBA."""
        channels: int = self.config["channels"]
        return channels

    @property
    def latent_dim(self) -> int:
        """Dimension d of the latents."""
        dim: int = self.config["latent_dim"]
        return dim

    @property
    def classes(self) -> list[str]:
        """The K names of the classes, in the order of their labels 0 … K − 1; empty for a model without."""
        return list(self.config.get("classes", ()))

    @property
    def block(self) -> int:
        """Images in one forward pass, by their size alone."""
        return max(1, min(64, _BLOCK_PIXELS // math.prod(self.size)))

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, label: Label | None = None, *, start: int = 0, truncation: float = 1.0
    ) -> Tensor:
        """New images. Sample k of a seed, with a class or without, has the same bits whatever ``n`` and ``start``.

        Args:
            n: number of images, ≥ 1.
            seed: which sequence of samples, 0 … 2⁶⁴ − 1.
            label: a class for all, or n of them, each a name or a number from 0 to K − 1. None, for a model with
                classes: drawn as often as they are among the training images, a function of seed and k.
            start: index of the first sample, ≥ 0; lets a caller go on with a sequence in portions.
            truncation: draw only from the densest share of what the sampler makes, in (0, 1]; 1 is all of it. See
                `imle.truncation`.

        Returns:
            (n, C, H, W) float32 in [0, 1], on the CPU.

        Raises:
            ValueError: for n < 1, a negative start, a seed or truncation out of range, or a label that is unknown or
                not wanted.
        """
        if n < 1 or start < 0:
            raise ValueError(f"expected n >= 1 and start >= 0, received {n} and {start}")
        # Whole blocks, aligned at multiples of the block: a sample then has the same neighbours in every call.
        first, last = start // self.block, -(-(start + n) // self.block)
        drawn, begin = (last - first) * self.block, first * self.block
        labels: Tensor | None
        if label is None and self.classes:
            labels = draw_labels(self.config["class_counts"], seed, begin, drawn)
        else:
            labels = padded(check_labels(self.classes, label, n), start - begin, drawn)
        if truncation == 1:
            latents = self.sampler.sample(drawn, seed=seed, start=begin, condition=labels)
        else:
            latents = truncated(self.sampler, drawn, truncation, seed=seed, start=begin, condition=labels)
        return self._blocks(latents, labels)[start - begin :][:n].clone()

    @torch.no_grad()
    def decode(self, z: Tensor, label: Label | None = None) -> Tensor:
        """The images of given latents.

        Args:
            z: (N, d) finite floats; scaled to unit norm.
            label: for a model with classes, one for all or N of them, each a name or a number from 0 to K − 1.

        Returns:
            (N, C, H, W) float32 in [0, 1], on the CPU.

        Raises:
            ValueError: for another shape, values that are not finite, or a label that is missing, unknown or not
                wanted.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim or not torch.isfinite(z).all():
            raise ValueError(f"expected finite latents (N, {self.latent_dim}), received {tuple(z.shape)}")
        whole = torch.cat([z.float(), z.new_ones(-len(z) % self.block, z.shape[1]).float()])
        labels = padded(check_labels(self.classes, label, len(z)), 0, len(whole))
        return self._blocks(on_sphere(whole), labels)[: len(z)]

    def embed(self, images: Tensor, steps: int = 200, *, label: Label | None = None) -> Tensor:
        """Latents of unseen images, by descent on the perceptual distance; `glann.inversion` has the distances too.

        An image has the same latent whatever other images come with it.

        Args:
            images: (N, C, H, W) floats in [0, 1], of this model's size and channels.
            steps: of the descent, ≥ 0.
            label: for a model with classes, that of all images or one for each; `glann.inversion` can find them.

        Returns:
            (N, d) float32, unit rows, on the CPU.

        Raises:
            ValueError: for images of another shape or type, out of range or not finite, steps < 0, or a label that is
                missing, unknown or not wanted.
        """
        from glann.inversion import Inverter, check

        check(self, images)  # before the candidates are drawn
        labels = check_labels(self.classes, label, len(images))
        return Inverter(self)(images, steps, labels).latents

    def _blocks(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        device = next(self.generator.parameters()).device
        told = () if labels is None else (labels.to(device),)
        parts = zip(*(part.split(self.block) for part in (latents.to(device), *told)), strict=True)
        return torch.cat([self.generator(*part).float().cpu() for part in parts]).contiguous()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, ``config.json`` and ``README.md``, each replaced whole or not at all.

        The tensor file carries the configuration too and is enough by itself, so that the two can never disagree for a
        reader of ours; ``config.json`` is for people and other programs.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config, tensors = self._serialized()
        write_atomically(folder / "config.json", config.encode())
        write_atomically(folder / "README.md", self._card().encode())
        write_atomically(folder / "model.safetensors", tensors)

    def is_saved_in(self, folder: str | Path) -> bool:
        """Whether the folder holds this very model, byte for byte."""
        path = Path(folder) / "model.safetensors"
        return path.is_file() and path.read_bytes() == self._serialized()[1]

    def _card(self) -> str:
        height, width = self.size
        kind = {1: "grey", 3: "RGB", 4: "RGBA"}[self.channels]
        classes = ""
        if self.classes:
            classes = f"""    images = model.sample(16, seed=0, label=0)  # of one class

Labels 0 to {len(self.classes) - 1} are the classes {list_some(self.classes)}.
"""
        return f"""# A GLANN model

Generates {kind} images, {height} pixels high and {width} wide. It holds a generator and a sampler of its latents, and
none of the latents of the training images.

    from glann import GLANN

    model = GLANN.from_pretrained("this folder")
    images = model.sample(16, seed=0)  # (16, {self.channels}, {height}, {width}) float32 in [0, 1]
{classes}"""

    def _serialized(self) -> tuple[str, bytes]:
        config = {"format": FORMAT, **self.config, "sampler": self.sampler.to_config()}
        text = json.dumps(config, indent=2, sort_keys=True)
        return text, safetensors.torch.save(storable(self.state_dict()), {"config": text})

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "cpu") -> Self:
        """Load a run folder or an exported model folder.

        Args:
            folder: holds ``model.safetensors``, or a ``model`` folder with it.
            device: where the networks will run.

        Returns:
            The model, in eval mode.

        Raises:
            DataError: where there is no model, or the files are damaged or of a newer format.
        """
        folder = Path(folder)
        home = folder / "model" if (folder / "model").is_dir() else folder
        path = home / "model.safetensors"
        if not path.is_file():
            unfinished = "; it has not finished (the same `glann fit` goes on), or its pipeline makes no model"
            hint = unfinished if (folder / "run.toml").exists() else ""
            what = f"{folder} holds no model.safetensors{hint}" if folder.exists() else f"{folder} does not exist"
            raise DataError(f"expected a run or model folder, {what}")
        try:
            with safe_open(path, framework="pt") as file:
                config = json.loads((file.metadata() or {})["config"])
            model = cls._from_config(config).to(device)
            model.load_state_dict(read_weights(path))
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise DataError(f"{path} cannot be loaded: {error}") from error
        model.run = folder if (folder / "run.toml").is_file() else None
        return model

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> Self:
        from imle import LatentSampler

        if config.pop("format") > FORMAT:
            raise ValueError("written by a newer version of glann")
        sampler = LatentSampler.from_config(config.pop("sampler"))
        generator = generators.build(
            config["generator"],
            latent_dim=config["latent_dim"],
            size=(config["height"], config["width"]),
            channels=config["channels"],
            classes=len(config.get("classes", ())) or None,
            **config["generator_options"],
        ).to(memory_format=torch.channels_last)
        return cls(generator, sampler, config)
