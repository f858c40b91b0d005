"""The ``glann`` command. Heavy packages are imported by the commands that need them, so that --help is instant."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glann.cli_evaluate import evaluate
from glann.cli_latents import interpolate, reconstruct
from glann.options import check_class, class_option, device_option, model_argument, truncation_option
from glann.outputs import FILE_SUFFIXES, check_file, check_folder, write_images
from imle.console import exit_codes
from imle.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = ("lpips-vgg", "lpips-alex", "lpips-squeeze", "vgg", "inception")


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the failures that callers tell apart become one line and their exit code."""
        with exit_codes():
            return super().invoke(ctx)


def say(line: str) -> None:
    """A line for a person, on standard error."""
    click.echo(line, err=True)


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    from glann.images import check_size, parse_size

    try:
        size = parse_size(value)
        check_size(size)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return size


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="glann")
def main() -> None:
    """Learn to generate images from a folder of them, without adversarial training."""


@main.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NAME_OF_IMAGES]")
@click.option(
    "--pipeline",
    metavar="NAME|FILE.toml",
    help="Stages and their settings.  [default: those of the run, glann for a new one]",
)
@click.option("--set", "overrides", multiple=True, metavar="STAGE.KEY=VALUE", help="Override a setting; repeatable.")
@click.option(
    "--size", callback=_size, metavar="N|HxW", help="Pixels, each side divisible by 4.  [default: by the images]"
)
@click.option("--channels", type=click.Choice(["auto", "1", "3", "4"]), default="auto", show_default=True,
              help="Grey, RGB or RGBA.")  # fmt: skip
@click.option("--labels", is_flag=True, help="The first folder below IMAGES is the class of an image.")
@click.option("--labels-file", type=click.Path(path_type=Path), metavar="FILE.csv|FILE.json",
              help="The class of each image: lines of path,class or {path: class}, relative to IMAGES.")  # fmt: skip
@click.option("--holdout", type=float, metavar="SHARE",
              help="Share of IMAGES that is not trained on, up to 0.5; stage 2 is scored against it.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Fixes the whole run.  [default: 0]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--on-bad-image", type=click.Choice(["skip", "error"]), default="skip", show_default=True,
              help="Leave a damaged file out, or stop.")  # fmt: skip
@click.option(
    "--track", type=click.Choice(["tensorboard"]), help="Also write what TensorBoard shows; see docs/report.md."
)
@click.option("--fresh", is_flag=True, help="Empty the run folder first.")
@click.option("--dry-run", is_flag=True, help="Check the settings, print them, write nothing.")
def fit(images: Path, out: Path | None, dry_run: bool, labels: bool, labels_file: Path | None, **options: Any) -> None:
    """Learn from a folder of IMAGES; the same command goes on where it was stopped.

    JPEG, PNG, WebP, BMP, GIF (first frame) and TIFF files are found in all folders below.
    """
    from glann import pipeline

    if labels and labels_file is not None:
        raise click.UsageError("give --labels (subfolders are the classes) or --labels-file, not both")
    options["labels"] = labels_file or labels
    if out is None:
        out = Path("runs") / (images.resolve().name or "images")
    command = shlex.join(["glann", *(word for word in sys.argv[1:] if word != "--fresh")])  # so that it goes on
    request = pipeline.Request(source=images, out=out, command=command, **options)
    if dry_run:
        import tomli_w

        from glann.imagebuild import MIN_IMAGES
        from glann.scan import scan

        found = len(scan(images).files)
        if found < MIN_IMAGES:
            raise DataError(f"expected at least {MIN_IMAGES} images in {images}, received {found}")
        record, lines = pipeline.plan(request, pipeline.begun_before(request))[1:]
        for line in (f"{found:,} files look like images; none was opened", *lines):
            say(line)
        click.echo(tomli_w.dumps(record), nl=False)
    else:
        pipeline.fit(request, say)


@main.command()
@model_argument
@click.option("-n", "count", type=click.IntRange(1, 1_000_000), default=16, show_default=True, help="How many.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Which sequence of samples."
)
@class_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.png|FILE.npy|FILE.safetensors",
    help="A folder gets one PNG a sample; a .png one picture; the others float32 (n, C, H, W) in [0, 1].",
)
@truncation_option
@click.option("--grid", is_flag=True, help="With FILE.png: all samples in one grid. Implied by n > 1.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Samples held at a time.")
@device_option
def sample(
    model: Path, count: int, seed: int, label: str | None, out: Path, truncation: float, grid: bool, batch_size: int,
    device: str,
) -> None:  # fmt: skip
    """Draw new images. Sample k of a seed has the same bytes whatever -n and --batch-size."""
    from glann import pictures
    from glann.model import GLANN

    folder = out.suffix.lower() not in FILE_SUFFIXES
    if grid and out.suffix.lower() != ".png":
        raise click.UsageError("--grid makes one picture; name a FILE.png as --out")
    if folder:
        check_folder(out, count)
    else:
        check_file(out, FILE_SUFFIXES)
    loaded = GLANN.from_pretrained(model, device)
    if label is not None:
        check_class(label, loaded.classes)

    def draw(start: int) -> "Tensor":
        return loaded.sample(min(batch_size, count - start), seed, label, start=start, truncation=truncation)

    starts = range(0, count, batch_size)
    if folder:
        out.mkdir(parents=True, exist_ok=True)
        for start in starts:
            for k, image in enumerate(draw(start), start=start):
                pictures.save(pictures.to_pil(image), out / f"{k:06d}.png")
    else:
        import torch

        write_images(torch.cat([draw(start) for start in starts]), out, grid or count > 1)
    click.echo(out)


@main.command()
@model_argument
def info(model: Path) -> None:
    """What a run or model is: image size, networks, parameters, training so far."""
    from glann.info import describe

    for key, value in describe(model).items():
        click.echo(f"{key:<14} {value}")


main.add_command(reconstruct)
main.add_command(interpolate)
main.add_command(evaluate)


@main.group()
def data() -> None:
    """Folders of images to try things on."""


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
def digits(folder: Path) -> None:
    """Write the 1,797 handwritten digits of scikit-learn as PNGs, one subfolder a class."""
    from glann.digits import write_digits

    click.echo(f"{write_digits(folder)} images in {folder}")


@main.group()
def weights() -> None:
    """The pretrained networks of the perceptual distances, and of FID."""


@weights.command("list")
def list_weights() -> None:
    """What is in the torch cache, and what each perceptual distance and FID would need."""
    from glann.weights import available

    for row in available():
        click.echo(f"{row.name:<14} {row.state:<8} {row.megabytes:>4} MB  {row.path}")


@weights.command("fetch")
@click.argument("name", type=click.Choice(_WEIGHTS))
@click.option(
    "--timeout", type=click.FloatRange(1, 3600), default=30.0, show_default=True, help="Seconds without a byte."
)
def fetch_weights(name: str, timeout: float) -> None:
    """Download the network of a perceptual distance, or of FID, into the torch cache."""
    from glann.download import progress
    from glann.weights import fetch

    click.echo(fetch(name, progress(say), timeout))


@weights.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", type=click.Choice(_WEIGHTS), help="For which of them, where the file name does not tell.")
def import_weights(file: Path, name: str | None) -> None:
    """Copy a weights FILE from elsewhere into the torch cache, its hash checked."""
    from glann.weights import import_file

    click.echo(import_file(file, name))
