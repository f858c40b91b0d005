"""What several commands take. Light to import: no torch."""

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


model_argument = click.argument("model", metavar="RUN|MODEL", type=click.Path(path_type=Path))
device_option = click.option(
    "--device", default="cpu", show_default=True, callback=_device, help="Where the networks run."
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
