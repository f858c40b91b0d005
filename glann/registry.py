"""Pieces by name: the built-in ones, and those that other packages bring through an entry-point group."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any


def names(kind: str, builtin: Mapping[str, Any]) -> list[str]:
    """What can be asked for: the built-in names, then those of other packages.

    Args:
        kind: ``stages``, ``generators`` or ``losses``; the entry-point group is ``glann.KIND``.
        builtin: the pieces that this package brings.

    Returns:
        Names, each once.
    """
    return [*builtin, *sorted(set(_registered(kind)) - set(builtin))]


def lookup(kind: str, builtin: Mapping[str, Any], name: str) -> Any:
    """The piece of that name.

    Args:
        kind: ``stages``, ``generators`` or ``losses``; the entry-point group is ``glann.KIND``.
        builtin: the pieces that this package brings; they win over an entry point of the same name.
        name: which one.

    Returns:
        What is registered under the name.

    Raises:
        ValueError: for a name that nobody registered, with all names, or one whose package cannot be loaded.
    """
    if name in builtin:
        return builtin[name]
    found = _registered(kind).get(name)
    if found is None:
        known = ", ".join(names(kind, builtin))
        raise ValueError(f"unknown name {name!r} among the {kind}; expected one of {known}")
    try:
        return found.load()
    except Exception as error:  # whatever another package does while it is imported
        raise ValueError(f"{name} of {found.value} cannot be loaded: {error}") from error


def _registered(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"glann.{kind}")}
