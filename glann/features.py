"""Which network judges the images, and the features that it makes of them.

Scores of different networks are different scores: a Fréchet distance is FID (Heusel et al. 2017) with ``inception``
only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glann import weights as files
from glann.statedict import read_state
from imle.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

AUTO = "auto"
NETWORKS = ("efficientnet-lite0", "inception", "small-vgg")
BATCH = 50  # images in one forward pass


@dataclass(frozen=True)
class Features:
    """A network that judges.

    Attributes:
        name: one of `NETWORKS`.
        about: for a person, what it is.
        resize: how images reach it.
        dims: numbers in a feature vector.
        network: (B, 3, H, W) uint8 -> ((B, dims),).
        device: where it runs.
    """

    name: str
    about: str
    resize: str
    dims: int
    network: "nn.Module"
    device: str

    def __call__(self, images: "Tensor") -> "Tensor":
        """Features of images.

        Args:
            images: (N, C, H, W) uint8, C one of 1, 3, 4. Grey is repeated to RGB, transparent images are laid over
                mid-grey and their alpha is not looked at beyond that.

        Returns:
            (N, dims) float32 on the CPU.

        Raises:
            ValueError: for images that are not uint8.
        """
        import torch

        if images.dtype != torch.uint8:
            raise ValueError(f"expected uint8 images from 0 to 255, received {images.dtype}")
        with torch.no_grad():
            parts = [self.network(rgb(part).to(self.device))[0].float().cpu() for part in images.split(BATCH)]
        return torch.cat(parts)


def rgb(images: "Tensor") -> "Tensor":
    """(N, C, H, W) uint8 of 1, 3 or 4 channels -> (N, 3, H, W) uint8; see `Features.__call__`."""
    import torch

    from glann.losses.distance import visible

    if images.shape[1] == 4:
        return (visible(images.float() / 255)[:, :3] * 255).round().to(torch.uint8)
    return images.expand(-1, 3, -1, -1).contiguous()


def networks_in(loss: str | None) -> set[str]:
    """The names of the distances that a loss ``2*lpips-vgg+l1@4`` is made of, and what stands between them."""
    return set(re.split(r"[+*@\s]+", loss or ""))


def choose(asked: str, loss: str | None) -> tuple[str, list[str]]:
    """Decide which network judges a model; one that the model was trained to please is not impartial.

    Args:
        asked: one of `NETWORKS`, or ``auto``: ``efficientnet-lite0``; where the loss has it, ``inception`` if its
            weights are in the torch cache, else ``small-vgg``.
        loss: the perceptual distance that the model was trained with, by name; None where that is not known.

    Returns:
        The name, and a warning for each thing that a reader of the scores should know.

    Raises:
        ValueError: for another name.
    """
    if asked not in (AUTO, *NETWORKS):
        raise ValueError(f"expected features {', '.join((AUTO, *NETWORKS))}, received {asked!r}")
    trained, warnings = networks_in(loss), list[str]()
    if asked != AUTO:
        name = asked
    else:
        usable = [n for n in NETWORKS if n != "inception" or n in trained or files.cached(n).is_file()]
        name = next((n for n in usable if n not in trained), NETWORKS[0])
        if name != NETWORKS[0]:
            warnings.append(
                f"the loss {loss} has {NETWORKS[0]} in it: {name} judges instead; its scores are not to be compared "
                f"with those of {NETWORKS[0]}"
            )
    if name in trained:
        warnings.append(f"the loss {loss} has {name} in it, the network that judges here: the scores flatter the model")
    if name == "small-vgg":
        warnings.append("small-vgg was trained on CIFAR-10 alone and sees little; its scores are a stopgap")
    return name, warnings


def build(name: str, size: tuple[int, int], weights: Path | None = None, device: str = "cpu") -> Features:
    """Load a network that judges.

    Args:
        name: one of `NETWORKS`.
        size: (height, width) of the images in pixels.
        weights: for ``inception``, a file with torch-fidelity's weights; else they are looked for in the torch cache.
        device: where it will run.

    Returns:
        The network, frozen.

    Raises:
        ValueError: for another name, or weights for a network that has its own.
        DataError: if weights or packages are missing or cannot be used.
    """
    from glann import extractors

    if name not in NETWORKS:
        raise ValueError(f"expected features {', '.join(NETWORKS)}, received {name!r}")
    if name == "inception":
        return _inception(files.locate(name, weights), device)
    if weights is not None:
        raise ValueError(f"expected no weights for the features {name}, which bring their own; received {weights}")
    make: Callable[..., nn.Module]
    if name == "small-vgg":
        make, about, side = extractors.SmallVGG, "trained on CIFAR-10, in this package", extractors.small.LEAST_SIDE
    else:
        make, about, side = extractors.EfficientNetLite0, "trained on ImageNet", extractors.side_for(size)
    dims = make.dims
    network = make(name, [str(dims)]).eval().to(device)
    return Features(name, about, f"{side}x{side}, bicubic with antialiasing", dims, network, device)


def _inception(path: Path, device: str) -> Features:
    from torch_fidelity import FeatureExtractorInceptionV3

    dims = 2048
    read_state(path)  # torch-fidelity would run what a pickle holds; here it is known to be names and tensors
    try:
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", [str(dims)], feature_extractor_weights_path=str(path)
        )
    except Exception as error:  # another network's entries, or a format that torch.load does not know
        raise DataError(f"expected the Inception weights of torch-fidelity in {path}: {error}") from error
    about = "Inception v3 of 2015, trained on ImageNet: the one of FID"
    resize = "299x299, bilinear without antialiasing, as TensorFlow did"
    return Features("inception", about, resize, dims, network.eval().to(device), device)
