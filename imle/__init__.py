"""Implicit Maximum Likelihood Estimation: learn to sample from a set of vectors, without dropping any of them.

    sampler = imle.IMLE(seed=0).fit(latents)      # (N, d) floats
    new = sampler.sample(1000, seed=1)            # (1000, d)

Li & Malik 2018, arXiv 1809.09087. The names below are imported when first used, because torch is slow to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imle.sampler import LatentSampler
    from imle.search import Neighbours, nearest
    from imle.selection import Adaptive, EachBatch, Every, Reject
    from imle.settings import IMLE

__all__ = ["IMLE", "Adaptive", "EachBatch", "Every", "LatentSampler", "Neighbours", "Reject", "nearest"]

_HOME = {
    "IMLE": "settings",
    "Every": "selection",
    "EachBatch": "selection",
    "Adaptive": "selection",
    "Reject": "selection",
    "LatentSampler": "sampler",
    "nearest": "search",
    "Neighbours": "search",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"imle.{_HOME[name]}"), name)
    raise AttributeError(f"module 'imle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
