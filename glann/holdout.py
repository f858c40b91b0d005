"""Which images of a folder are held out: never trained on, so that new images can be compared with them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from imle.atomic import sha256
from imle.errors import DataError

TRAINING, HELD_OUT = "training", "held out"  # in the manifest
LEAST = 16  # images that are held out
_MOST = 0.5


@dataclass(frozen=True)
class Holdout:
    """A share of the images, chosen by a seed.

    Args:
        share: above 0, at most 0.5.
        seed: another one chooses other images.

    Raises:
        ValueError: for another share.
    """

    share: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.share <= _MOST:  # nor NaN
            raise ValueError(f"expected a holdout above 0 and at most {_MOST}, a share of all, received {self.share}")

    def choose(self, classes: Mapping[str, str], copied: Set[str] = frozenset()) -> set[str]:
        """The images to hold out, the same share of every class up to one image; never all images of a class.

        Args:
            classes: path -> class of each image; the same for all where they have none.
            copied: paths of images that are there more than once. They are trained on: held out, a copy would tell
                nothing about new images.

        Returns:
            Paths, a function of the seed and of the arguments alone.

        Raises:
            DataError: for fewer than 16.
        """

        def lot(path: str) -> bytes:
            return hashlib.sha256(f"{self.seed}/{path}".encode("utf-8", "surrogateescape")).digest()

        # Class after class, each in an order of chance, in equal steps of two images at least.
        single = [path for path in classes if path not in copied]
        sizes = Counter(classes[path] for path in single)
        usable = [path for path in single if sizes[classes[path]] > 1]
        order = sorted(usable, key=lambda path: (classes[path], lot(path)))
        steps = ((k + 0.5) / self.share for k in range(len(order)))
        chosen = {order[int(step)] for step in steps if step < len(order)}
        self.check(len(chosen), len(classes))
        return chosen

    def check(self, count: int, usable: int) -> None:
        """Refuse to hold out fewer images than can be told from chance.

        Args:
            count: images that are held out.
            usable: images in all.

        Raises:
            DataError: for fewer than 16.
        """
        if count < LEAST:
            raise DataError(
                f"expected at least {LEAST} images to hold out, received {count}: a holdout of {self.share:g} of "
                f"{usable:,} usable images, of which those with a copy are trained on"
            )


def find_copies(source: Path, sizes: Mapping[str, int]) -> set[str]:
    """The files that are not the only ones of their content, byte for byte.

    Args:
        source: the folder.
        sizes: path in it -> bytes; what no other file has as many of is not read.

    Returns:
        Paths.
    """

    def content(path: str) -> str:
        try:
            return sha256(source / path)
        except OSError:  # decoding will say why; like no other file until then
            return path

    common = Counter(sizes.values())
    contents = {path: content(path) for path, size in sizes.items() if common[size] > 1}
    times = Counter(contents.values())
    return {path for path, found in contents.items() if times[found] > 1}
