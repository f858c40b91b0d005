"""What several commands take. Light to import: no torch."""

from collections.abc import Sequence
from pathlib import Path

import click


def _device(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from imle.checks import check_device

    try:
        check_device(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _truncation(ctx: click.Context, param: click.Parameter, value: float) -> float:
    from imle.truncation import check_share

    try:
        check_share(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def check_class(name: str | None, classes: Sequence[str]) -> None:
    """Refuse a ``--class`` that a model does not know, or that is missing where it needs one."""
    from glann.labels import list_some
    from glann.scan import show

    if name is None or name not in classes:
        known = f"one of {list_some(classes)}" if classes else "none: this model has no classes"
        received = "no --class" if name is None else show(name)
        raise click.UsageError(f"--class: expected {known}, received {received}")


model_argument = click.argument("model", metavar="RUN|MODEL", type=click.Path(path_type=Path))
device_option = click.option(
    "--device", default="cpu", show_default=True, callback=_device, help="Where the networks run."
)
class_option = click.option(
    "--class", "label", metavar="NAME", help="Images of this class only.  [default: as often as in training]"
)
truncation_option = click.option(
    "--truncation",
    type=float,
    default=1.0,
    show_default=True,
    callback=_truncation,
    metavar="T",
    help="Sample only the densest share T of what the model makes: fewer stray images, less variety.",
)
