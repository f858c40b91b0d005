"""Perceptual distances, by name. Nothing heavy is imported before a distance is built.

A name is one of `LOSSES`, or an entry point of another package in the group ``glann.losses``, or a sum of such terms
joined by ``+``, each ``[WEIGHT*]NAME[@FACTOR]``; FACTOR shrinks the images before they are compared:
``lpips-vgg+0.5*l1``, ``lpips-vgg+lpips-vgg@4``.
"""

import functools
import importlib.util
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glann import registry
from glann import weights as trunks

if TYPE_CHECKING:
    from glann.losses.distance import PerceptualDistance

__all__ = ["AUTO", "LOSSES", "OFFLINE", "build", "names", "resolve"]

AUTO = "auto"
PREFERRED = "lpips-vgg"  # what `auto` takes where its trunk weights are at hand
OFFLINE = "small-vgg+laplacian"  # what `auto` takes elsewhere: docs/studies/perceptual.md
ONE_SCALE = 64  # pixels: images with a longer short side are compared at a quarter of their size too, as published

Builder = Callable[..., "PerceptualDistance"]  # (*, size: (H, W), channels: int, weights: Path | None)


def _lpips(net: str, *, size: tuple[int, int], channels: int, weights: Path) -> "PerceptualDistance":
    from glann.losses.lpips import LPIPS

    return LPIPS(net, weights)


def _vgg(*, size: tuple[int, int], channels: int, weights: Path) -> "PerceptualDistance":
    from glann.losses.combined import Shrunken, WeightedSum
    from glann.losses.vgg import VGG

    if min(size) <= ONE_SCALE:
        return VGG(size, weights)
    quarter = Shrunken(VGG((size[0] // 4, size[1] // 4), weights), 4)
    return WeightedSum([VGG(size, weights), quarter], [1.0, 1.0], (channels, *size))


def _small_vgg(*, size: tuple[int, int], channels: int, weights: Path | None) -> "PerceptualDistance":
    from glann.losses import small

    return small.distance((channels, *size))


def _efficientnet(*, size: tuple[int, int], channels: int, weights: Path | None) -> "PerceptualDistance":
    from glann.losses.efficientnet import TAPS, EfficientNetTrunk
    from glann.losses.features import uniform

    return uniform(EfficientNetTrunk(), len(TAPS))


def _laplacian(*, size: tuple[int, int], channels: int, weights: Path | None) -> "PerceptualDistance":
    from glann.losses.pixels import Laplacian

    return Laplacian(size)


def _l1(*, size: tuple[int, int], channels: int, weights: Path | None) -> "PerceptualDistance":
    from glann.losses.pixels import L1

    return L1()


def _l2(*, size: tuple[int, int], channels: int, weights: Path | None) -> "PerceptualDistance":
    from glann.losses.pixels import L2

    return L2()


LOSSES: dict[str, Builder] = {
    "lpips-vgg": functools.partial(_lpips, "vgg"),
    "lpips-alex": functools.partial(_lpips, "alex"),
    "lpips-squeeze": functools.partial(_lpips, "squeeze"),
    "vgg": _vgg,
    "efficientnet-lite0": _efficientnet,
    "small-vgg": _small_vgg,
    "laplacian": _laplacian,
    "l1": _l1,
    "l2": _l2,
}


def build(
    name: str,
    *,
    size: tuple[int, int],
    channels: int,
    weights: str | Path | None = None,
    download: trunks.Report | None = None,
) -> "PerceptualDistance":
    """Make a perceptual distance.

    Args:
        name: as in the module's docstring; ``auto`` goes through `resolve` first.
        size: (height, width) of the images in pixels.
        channels: 1, 3 or 4.
        weights: file with the state dict of the trunk; else it is looked for in the torch cache.
        download: told about a download of the trunk that is neither given nor cached; None forbids it.

    Returns:
        A frozen module on the CPU: (B, C, H, W) images and targets in [0, 1] -> (B,).

    Raises:
        ValueError: for an unknown name, an impossible size or number of channels.
        DataError: if the trunk's weights or package lpips are missing or cannot be used.
    """
    from glann.losses.combined import Shrunken, WeightedSum
    from glann.losses.distance import CHANNELS, PerceptualDistance

    terms = _parse(name)
    coarsest = max(term.factor for term in terms)
    if len(size) != 2 or min(size) < coarsest:
        raise ValueError(f"expected a size (height, width) of at least {coarsest} pixels for {name}, received {size}")
    if channels not in CHANNELS:
        raise ValueError(f"expected channels in {CHANNELS}, received {channels}")

    parts = []
    for term in terms:
        file = Path(weights) if weights is not None else None
        if term.name in trunks.TRUNKS:
            file = trunks.locate(term.name, file, download)
        part_size = (size[0] // term.factor, size[1] // term.factor)
        part = registry.lookup("losses", LOSSES, term.name)(size=part_size, channels=channels, weights=file)
        if not isinstance(part, PerceptualDistance):
            raise ValueError(f"expected the loss {term.name} to be a PerceptualDistance, received {type(part)}")
        parts.append(part if term.factor == 1 else Shrunken(part, term.factor))
    if len(terms) == 1 and terms[0].weight == 1.0:
        return parts[0]
    return WeightedSum(parts, [term.weight for term in terms], (channels, *size))


def resolve(name: str, weights: str | Path | None = None) -> tuple[str, str]:
    """Decide which loss a name stands for, without downloading or building anything.

    ``auto`` stands for ``lpips-vgg`` where the trunk is given or in the torch cache and package lpips is installed, and
    for ``small-vgg+laplacian``, whose weights this package brings, elsewhere.

    Args:
        name: ``auto``, or a name as in the module's docstring.
        weights: file with the state dict of the trunk, where one is given.

    Returns:
        The name to hand to `build`, and one line that says why.

    Raises:
        ValueError: for an unknown name, or weights given to a loss that has no use for them.
    """
    if name != AUTO:
        terms = _parse(name)
        if weights is not None and all(t.name in LOSSES and t.name not in trunks.TRUNKS for t in terms):
            raise ValueError(f"expected no weights for the loss {name}, which takes none; received {weights}")
        return name, f"loss {name}, as asked"
    trunk = trunks.TRUNKS[PREFERRED]
    if importlib.util.find_spec("lpips") is None:
        return OFFLINE, f"loss {OFFLINE}: auto would take {PREFERRED}, but package lpips is not installed"
    if weights is not None:
        return PREFERRED, f"loss {PREFERRED}: its trunk weights are given ({weights})"
    if trunks.cached(PREFERRED).is_file():
        return PREFERRED, f"loss {PREFERRED}: its trunk weights are in the torch cache ({trunks.cached(PREFERRED)})"
    return OFFLINE, (
        f"loss {OFFLINE}: auto downloads nothing; `glann weights fetch {PREFERRED}` "
        f"({trunk.megabytes} MB) brings what {PREFERRED} needs"
    )


def names() -> list[str]:
    """The losses that can be asked for: the built-in ones, then those of other packages."""
    return registry.names("losses", LOSSES)


@dataclass(frozen=True)
class _Term:
    """``weight`` times the loss ``name``, of images shrunken by ``factor``."""

    name: str
    weight: float
    factor: int


_TERM = re.compile(r"(?:(?P<weight>[0-9.]+)\*)?(?P<name>[^*@+\s]+)(?:@(?P<factor>[0-9]+))?")


def _parse(name: str) -> Sequence[_Term]:
    terms = []
    for text in name.split("+"):
        match = _TERM.fullmatch(text.strip())
        try:
            weight = float(match["weight"] or 1) if match else math.nan
        except ValueError:
            weight = math.nan
        factor = int(match["factor"] or 1) if match else 0
        if match is None or not 0 < weight < math.inf or factor < 1:
            raise ValueError(f"expected a loss [WEIGHT*]NAME[@FACTOR] or a sum of them, received {name!r}")
        if match["name"] not in names():
            raise ValueError(f"expected a loss of {', '.join([AUTO, *names()])}, or a sum of them, received {name!r}")
        terms.append(_Term(match["name"], weight, factor))
    return terms
