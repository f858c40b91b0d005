"""Pieces by name: the built-in ones, and those that other packages bring through an entry-point group."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any


def lookup(kind: str, builtin: Mapping[str, Any], name: str) -> Any:
    """The piece of that name.

    Args:
        kind: ``stages``, ``generators`` or ``losses``; the entry-point group is ``glann.KIND``.
        builtin: the pieces that this package brings; they win over an entry point of the same name.
        name: which one.

    Returns:
        What is registered under the name.

    Raises:
        ValueError: for a name that nobody registered; the message lists all names.
    """
    if name in builtin:
        return builtin[name]
    others = {point.name: point for point in entry_points(group=f"glann.{kind}")}
    if name in others:
        return others[name].load()
    known = ", ".join(sorted({*builtin, *others}))
    raise ValueError(f"unknown name {name!r} among the {kind}; expected one of {known}")
