"""The commands that go from images to latents, or from one latent to another."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glann.options import check_class, device_option, model_argument
from glann.outputs import PICTURE, TABLE, TABLE_HEAD, check_file, check_folder
from imle.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from glann.model import GLANN

_PORTION = 16  # images between two reports of progress
_SHOWN = 64  # images in reconstructions.png
_STRIP, _ANIMATION = 10, 60  # frames where --frames is not given
_LOOPED = 4  # samples that a loop passes where none are named

_steps_option = click.option(
    "--steps", type=click.IntRange(0, 100_000), default=200, show_default=True, help="Of the descent for an image."
)


@click.command()
@model_argument
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder: new, empty, or of a call with no more images.",
)
@_steps_option
@device_option
def reconstruct(model: Path, images: Path, out: Path, steps: int, device: str) -> None:
    """The nearest that a model can draw to each of IMAGES, a folder or one file that it need not have seen.

    Writes 000000.png upward in the order of the paths, distances.csv (path, distance, reconstruction), and
    reconstructions.png with the first 64 originals above their reconstructions.
    """
    import torch

    from glann import pictures
    from glann.inversion import Inverter
    from glann.model import GLANN
    from imle.atomic import write_atomically
    from imle.console import Display

    if images.is_dir() and out.resolve().is_relative_to(images.resolve()):
        raise click.UsageError(f"expected --out outside of {images}, received {out}")
    loaded = GLANN.from_pretrained(model, device)
    originals = _read(images, loaded)
    check_folder(out, len(originals), reconstructions=True)
    out.mkdir(parents=True, exist_ok=True)

    inverter = Inverter(loaded)
    click.echo(f"distance {inverter.loss_name}, {len(inverter.candidates):,} latents to start from", err=True)
    paths, table, shown = list(originals), io.StringIO(), list["Tensor"]()
    rows, total = csv.writer(table, lineterminator="\n"), 0.0
    rows.writerow(TABLE_HEAD.split(","))
    with Display("reconstruct", "images") as display:
        for start in range(0, len(paths), _PORTION):
            part = paths[start : start + _PORTION]
            found = inverter(torch.stack([originals[path] for path in part]).float() / 255, steps)
            copies = loaded.decode(found.latents, found.labels)
            for k, (path, distance) in enumerate(zip(part, found.distances.tolist(), strict=True)):
                name = f"{start + k:06d}.png"
                pictures.save(pictures.to_pil(copies[k]), out / name)
                rows.writerow([path, f"{distance:.6g}", name])
            shown += copies if len(shown) < _SHOWN else []
            total += float(found.distances.sum())
            done = start + len(part)
            display.step(1, 1, done, len(paths), total / done)
    above = torch.stack([originals[path] for path in paths[:_SHOWN]]).float() / 255
    pictures.save(pictures.pairs(above, torch.stack(shown[:_SHOWN])), out / PICTURE)
    # A name that is no UTF-8 keeps its bytes.
    write_atomically(out / TABLE, table.getvalue().encode(errors="surrogateescape"))
    click.echo(out)


@click.command()
@model_argument
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.png|FILE.gif|FILE.webp",
              help="A .png is a strip; the others are animations.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of the samples.")
@click.option("--sample", "samples", type=click.IntRange(0, 2**53), multiple=True, metavar="K",
              help="A sample to pass; twice or more.  [default: 0 and 1, with --loop 0 to 3]")  # fmt: skip
@click.option("--class", "label", metavar="NAME", help="Of all images on the way, for a model with classes.")
@click.option("--from", "first", type=click.Path(path_type=Path), help="An image to begin at, with --to.")
@click.option("--to", "last", type=click.Path(path_type=Path), help="An image to end at.")
@click.option("--loop", is_flag=True, help="Go back to the beginning.")
@click.option("--frames", type=click.IntRange(2, 10_000), help="How many.  [default: 10 in a strip, else 60]")
@_steps_option
@device_option
def interpolate(
    model: Path, out: Path, seed: int, samples: tuple[int, ...], label: str | None, first: Path | None,
    last: Path | None, loop: bool, frames: int | None, steps: int, device: str,
) -> None:  # fmt: skip
    """The way from one new image to another, or between two given ones.

    Between samples every frame is a sample itself; between the images --from and --to the frames lie on the shortest
    way on the sphere of latents, and both ends are what the model can draw of the images.
    """
    from glann import pictures
    from glann.model import GLANN

    check_file(out, (".png", ".gif", ".webp"))
    given = first is not None and last is not None
    if (first is None) != (last is None) or (given and samples):
        raise click.UsageError("expected both --from and --to, or --sample, or none of them")
    if len(samples) == 1:
        raise click.UsageError("expected --sample at least twice, received one")
    strip = out.suffix.lower() == ".png"
    frames = frames or (_STRIP if strip else _ANIMATION)
    stops = 2 if given else len(samples) or (_LOOPED if loop else 2)
    if frames < stops:
        raise click.UsageError(f"expected --frames of at least {stops}, one for each image passed, received {frames}")

    loaded = GLANN.from_pretrained(model, device)
    if label is not None or loaded.classes:
        check_class(label, loaded.classes)
    if first is not None and last is not None:
        latents = _between_images(loaded, first, last, label, frames, loop, steps)
    else:
        latents = _between_samples(loaded, seed, list(samples or range(stops)), label, frames, loop)
    images = loaded.decode(latents, label)
    if strip:
        pictures.save(pictures.grid(images, columns=len(images)), out)
    else:
        pictures.save_animation(images, out)
    click.echo(out)


def _between_samples(
    model: "GLANN", seed: int, samples: list[int], label: str | None, frames: int, loop: bool
) -> "Tensor":
    """(frames, d) latents on great circles of noise."""
    import torch

    condition = None if label is None else model.classes.index(label)
    noise = [model.sampler.noise(1, seed, condition, start=k)[0] for k in samples]
    legs = _legs(len(noise), frames, loop)
    parts = [model.sampler.interpolate(noise[a], noise[b], count + 1, condition)[:count] for a, b, count in legs]
    return torch.cat(parts if loop else [*parts, model.sampler.interpolate(noise[-2], noise[-1], 2, condition)[1:]])


def _between_images(
    model: "GLANN", first: Path, last: Path, label: str | None, frames: int, loop: bool, steps: int
) -> "Tensor":
    """(frames, d) latents on the shortest way on the sphere."""
    import torch

    from imle.inversion import between

    pixels = torch.cat([torch.stack(list(_read(path, model, single=True).values())) for path in (first, last)])
    ends = model.embed(pixels.float() / 255, steps, label=label)
    parts = [between(ends[a], ends[b], count + 1)[:count] for a, b, count in _legs(2, frames, loop)]
    return torch.cat(parts if loop else [*parts, ends[1:]])


def _legs(stops: int, frames: int, loop: bool) -> list[tuple[int, int, int]]:
    """(from, to, frames) of each leg, its end left to the next; the frames are spread as evenly as they can be."""
    legs = stops if loop else stops - 1
    spread = frames if loop else frames - 1  # an open way also shows its end
    return [(i, (i + 1) % stops, (i + 1) * spread // legs - i * spread // legs) for i in range(legs)]


def _read(source: Path, model: "GLANN", single: bool = False) -> dict[str, "Tensor"]:
    """Path -> (C, H, W) uint8 of one file or of all in a folder; those that cannot be read are named and left out."""
    import torch

    from glann.decode import decode, why
    from glann.scan import scan, show

    if source.is_dir() and not single:
        found = scan(source)
        folder, paths, bad = source, [file.path for file in found.files], dict(found.bad)
    else:
        folder, paths, bad = source.parent, [source.name], {}
    images = {}
    for path in paths:
        try:
            images[path] = torch.from_numpy(decode(folder / path, model.size, model.channels).pixels)
        except Exception as error:
            bad[path] = why(error)
    if not images:
        reasons = "; ".join(f"{show(path)}: {bad[path]}" for path in sorted(bad)[:3])
        raise DataError(f"expected {'an image' if single else 'images'}, received {source}: {reasons or 'none in it'}")
    for path in sorted(bad):
        click.echo(f"skipped {show(path)}: {bad[path]}", err=True)
    return images
