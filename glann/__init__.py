"""GLANN: learn to generate images from a folder of them, without adversarial training."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glann.model import GLANN

__all__ = ["GLANN"]


def __getattr__(name: str) -> Any:
    """Import torch when the model is asked for, not when the command line starts."""
    if name == "GLANN":
        from glann.model import GLANN

        return GLANN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
