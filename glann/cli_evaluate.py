"""The command that scores a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glann.features import AUTO, NETWORKS
from glann.options import device_option, model_argument, truncation_option
from glann.outputs import check_file
from glann.runs import EVALUATION
from imle.errors import DataError

if TYPE_CHECKING:
    from glann.evaluation import Evaluation

_FRECHET = ("Fréchet distance", "frechet_distance", "{:.2f}", "lower; far above 0 with few images")
_KERNEL = ("kernel distance × 1000", "kernel_distance", "{:.3f}", "lower; 0 for equal sets, may be negative")
_ROWS = (
    ("precision", "precision", "{:.3f}", "share of samples that look real"),
    ("recall", "recall", "{:.3f}", "share of real images that samples come near"),
    ("density", "density", "{:.3f}", "as precision, counted; about 1 for equal sets"),
    ("coverage", "coverage", "{:.3f}", "as recall, less swayed by stray samples"),
    ("diversity", "diversity", "{:.3f}", "spread of the samples; 1 as wide as real"),
    ("memorised share", "memorised_share", "{:.3f}", "samples nearer to a training image than 99 % of real ones"),
)


@click.command()
@model_argument
@click.argument("images", type=click.Path(path_type=Path))
@click.option("-n", "count", type=click.IntRange(1), metavar="N",
              help="Samples, and real images in each half.  [default: half of IMAGES, at most 2560]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of samples and halves.")
@click.option("--features", type=click.Choice((AUTO, *NETWORKS)), default=AUTO, show_default=True,
              help="Which network judges; inception is that of FID, see `glann weights fetch inception`.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights of inception.")
@truncation_option
@click.option("--labels", is_flag=True, help="The first folder below IMAGES is the class of an image.")
@click.option("--labels-file", type=click.Path(path_type=Path), metavar="FILE.csv|FILE.json",
              help="The class of each image, as for `glann fit`.")  # fmt: skip
@click.option("--unseen", is_flag=True, help="Leave out the images that RUN was trained on.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.png",
              help="Samples above their nearest training images.  [default: RUN/evaluation.png]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the table.")
@device_option
def evaluate(
    model: Path, images: Path, count: int | None, labels: bool, labels_file: Path | None, picture: Path | None,
    as_json: bool, device: str, **options: Any,
) -> None:  # fmt: skip
    """The field's scores of a model on a folder of IMAGES, each beside what real images score against real ones."""
    from glann import pictures
    from glann.evaluate import evaluate as measure
    from glann.memory import keep_freed_buffers
    from glann.model import GLANN

    if labels and labels_file is not None:
        raise click.UsageError("give --labels (subfolders are the classes) or --labels-file, not both")
    if picture is not None:
        check_file(picture, (".png",), "--picture")
    keep_freed_buffers()
    loaded = GLANN.from_pretrained(model, device)
    if picture is None and loaded.run is not None:
        picture = loaded.run / EVALUATION
        if picture.exists() and not pictures.is_ours(picture):
            raise DataError(f"{picture} is not of glann; name another --picture")

    def say(line: str) -> None:
        click.echo(line, err=True)

    found = measure(loaded, images, n=count, labels=labels_file or labels, say=say, **options)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(table(found)))
    if picture is not None:  # last: where it cannot be written, nothing else is lost
        pictures.save(found.picture, picture)
        if not as_json:
            click.echo(f"\npicture    {picture}")


def table(found: "Evaluation") -> list[str]:
    """Lines for a person.

    Args:
        found: what was measured.

    Returns:
        The sizes and the network first, then a line a score.
    """
    from glann.evaluation import BY_DEFINITION

    facts, judge = found.to_json(), found.features
    floor, memorised = facts["real_floor"], found.memorised
    trained = "" if found.n_trained_on is None else f", {found.n_trained_on:,} of them trained on"
    lines = [
        f"real       {found.n:,} of {found.n_images:,} images{trained}; floor: {found.n:,} others of the folder",
        f"generated  {found.n:,} samples" + (f", truncation {found.truncation:g}" if found.truncation != 1 else ""),
        f"features   {judge.name}: {judge.about}, {judge.dims:,} numbers; images {judge.resize}",
        "",
        f"{'':<24}{'samples':>10}{'real':>10}",
    ]
    first = (_KERNEL, _FRECHET) if found.few else (_FRECHET, _KERNEL)
    for title, key, form, meaning in (*first, *_ROWS):
        scale = 1000 if key == "kernel_distance" else 1
        cells = [form.format(scale * values[key]) for values in (facts, floor)]
        if key == "memorised_share" and memorised["floor_of"] == BY_DEFINITION:
            cells[1] = f"({cells[1]})"
        lines.append(f"{title:<24}" + "".join(f"{cell:>10}" for cell in cells) + f"  {meaning}")
    lines.append(
        f"{'  of reconstructions':<24}{memorised['reconstructions_share']:>10.3f}{'':>10}  copies by design: 1 where "
        "copies are seen"
    )
    lines.append("")
    shown = "not measured" if facts["lpips_reconstruction"] is None else f"{facts['lpips_reconstruction']:.4f}"
    network = f" ({facts['lpips_network']})" if facts["lpips_network"] else ""
    psnr, of = facts["psnr_reconstruction"], facts["reconstructions_of"]
    lines.append(f"{'PSNR, reconstructions':<24}{psnr:>10.2f} dB  {facts['n_reconstructions']} {of}")
    lines.append(f"{'LPIPS, reconstructions':<24}{shown:>10}{network}")
    if found.classes is not None:
        lines += _class_lines(facts["classes"])
    return lines


def _class_lines(classes: dict[str, Any]) -> list[str]:
    """A line a class: how often samples of it are seen as it, and how often samples are seen as it at all."""
    accuracy = classes["accuracy"]
    lines = ["", f"{'class':<24}{'seen as it':>22}{'share of all':>22}", f"{'':<24}{'samples       real':>22}"]
    lines[-1] += f"{'samples       real':>22}"
    for name, share in classes["histogram"].items():
        own = None if accuracy is None else accuracy[name]
        cells = (own, classes["accuracy_real"][name], share, classes["histogram_real_seen"][name])
        lines.append(f"{name:<24}" + "".join(f"{'–' if c is None else format(c, '.3f'):>11}" for c in cells))
    means = (classes["class_accuracy"], classes["class_accuracy_real"])
    return [*lines, f"{'mean':<24}" + "".join(f"{'–' if c is None else format(c, '.3f'):>11}" for c in means)]
