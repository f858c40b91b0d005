"""The ``imle`` command."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imle import folder
from imle.checks import check_device
from imle.console import Display, exit_codes
from imle.selection import Adaptive, EachBatch, Every, Reject
from imle.settings import IMLE, METHODS, NETWORKS

if TYPE_CHECKING:
    from imle.sampler import LatentSampler

SLAB = 65536  # samples that are drawn and written at once
DEFAULT = IMLE()


def device_option(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a device that is not there before anything is read."""
    if value != "cpu":  # spares the import of torch where a usage error follows
        try:
            check_device(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="glann")
def main() -> None:
    """Implicit Maximum Likelihood Estimation: learn to sample from a file of vectors."""


@main.command()
@click.argument("latents")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the sampler.")
@click.option("--condition", metavar="FILE", help="Integer labels (N,) or float vectors (N, c).")
@click.option("--weights", metavar="FILE", help="Factors >= 0 (N,) on the losses.")
@click.option("--epochs", type=int, default=DEFAULT.epochs, help="Passes over the examples.")
@click.option("--noise-dim", type=int, default=DEFAULT.noise_dim, help="Dimensions of the noise.")
@click.option("--network", type=click.Choice(NETWORKS), default=DEFAULT.network, help="Which network.")
@click.option("--width", type=int, default=DEFAULT.width, help="Hidden units.")
@click.option("--depth", type=int, default=DEFAULT.depth, help="Residual blocks or hidden layers.")
@click.option(
    "--batch-size", type=int, show_default="256, fewer where examples are few", help="Examples a gradient step."
)  # fmt: skip
@click.option("--lr", type=float, default=DEFAULT.lr, help="Learning rate at the start.")
@click.option("--pool", type=float, default=DEFAULT.pool, help="Candidates a round, times N.")
@click.option("--pool-size", type=int, help="Candidates a round; takes the place of --pool.")
@click.option(
    "--refresh", default="every:5", metavar="every:K|adaptive[:SHRINK[,MIN,MAX]]|batch",
    help="When to re-match; MIN and MAX are epochs.",
)  # fmt: skip
@click.option("--reject", metavar="eps:V|quantile:V|rate:V", help="Leave out samples within V of an example.")
@click.option("--reject-own", is_flag=True, help="Each example refuses only samples near itself.")
@click.option(
    "--all-rejected", type=click.Choice(["keep_pool", "keep_match", "error"]), default="keep_pool",
    help="When no candidate is left.",
)  # fmt: skip
@click.option("--direction", type=float, default=DEFAULT.direction, help="1: coverage, 0: precision.")
@click.option("--perturb", type=float, default=DEFAULT.perturb, help="Noise added once to each match.")
@click.option("--ema", type=float, default=DEFAULT.ema, help="Decay of the averaged weights.")
@click.option(
    "--calibrate/--no-calibrate", default=DEFAULT.calibrate, help="Match the data's frequencies, mean and covariance."
)
@click.option("--search", type=click.Choice(METHODS), default=DEFAULT.search, help="Neighbour search.")
@click.option("--seed", type=int, default=DEFAULT.seed, help="Fixes the fit.")
@click.option("--device", default="cpu", callback=device_option, help="cpu, cuda, mps.")
@click.option("--fresh", is_flag=True, help="Start over, and lose what the folder has.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the settings, train nothing.")
def fit(
    latents: str, out: Path, condition: str | None, weights: str | None, refresh: str, reject: str | None,
    reject_own: bool, all_rejected: str, device: str, fresh: bool, dry_run: bool, **options: Any,
) -> None:  # fmt: skip
    """Fit a sampler to LATENTS (N, d): .npy, .npz or .safetensors. The same command goes on where it stopped."""
    try:
        settings = IMLE(
            **options, refresh=parse_refresh(refresh), reject=parse_reject(reject, reject_own, all_rejected)
        )  # fmt: skip
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with exit_codes():
        from filelock import FileLock, Timeout

        from imle.checkpoint import Checkpoints, graceful_stop
        from imle.errors import BusyError
        from imle.files import read_array
        from imle.journal import Journal
        from imle.setup import start

        x = read_array(latents)
        labels, factors = (None if name is None else read_array(name) for name in (condition, weights))
        if strange := folder.foreign(out):
            raise click.UsageError(f"--out: expected a new folder or one of `imle fit`, received {out} with {strange}")
        click.echo(json.dumps({"examples": list(x.shape), **settings.to_dict()}), err=not dry_run)
        if dry_run:
            kept = None if fresh else Checkpoints(out / folder.CHECKPOINTS)
            start(settings, x, condition=labels, weights=factors, checkpoints=kept, device=device)
            return
        try:
            with (
                folder.made(out), FileLock(out / folder.LOCK, timeout=0), graceful_stop(),
                Display("imle", "examples") as display,
            ):  # fmt: skip
                if fresh:  # nothing is lost before the data are accepted
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        start(settings, x, condition=labels, weights=factors, device=device)
                    folder.clear(out)
                watcher = Recorder(display, Journal(out / "metrics.jsonl"))
                sampler = settings.fit(
                    x, condition=labels, weights=factors, device=device, watcher=watcher,
                    checkpoints=Checkpoints(out / folder.CHECKPOINTS),
                )  # fmt: skip
                sampler.save_pretrained(out)
        except Timeout as error:
            raise BusyError(f"another process writes to {out}") from error
        click.echo(json.dumps(sampler.history[-1]))


@main.command()
@click.argument("source")
@click.option("-n", "count", type=click.IntRange(0), required=True, help="How many samples.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, help="Which sequence of samples.")
@click.option("--start", type=click.IntRange(0), default=0, help="Index of the first sample.")
@click.option("--condition", help="A label, a vector (1.5,2,…), or a FILE with one for each sample.")
@click.option("--out", required=True, metavar="FILE.npy|FILE.safetensors", help="Where the samples go.")
@click.option("--batch-size", type=click.IntRange(1), help="Samples kept on the device at once; changes no sample.")
@click.option("--device", default="cpu", callback=device_option, help="cpu, cuda, mps.")
def sample(
    source: str, count: int, seed: int, start: int, condition: str | None, out: str, batch_size: int | None, device: str
) -> None:
    """Draw samples from SOURCE, a folder of `imle fit` or a Hugging Face Hub id."""
    with exit_codes():
        from imle.files import check_writable, write_array

        check_writable(out)
        sampler = load(source, device)
        wanted = conditions(sampler, condition, count)

        def parts() -> Iterator[Any]:
            for first in range(0, count, SLAB):
                some = min(SLAB, count - first)
                each = None if wanted is None else wanted[first : first + some]
                yield sampler.sample(some, seed, each, batch_size, start + first)

        write_array(out, (count, *sampler.shape), parts())
        click.echo(out)


@main.command()
@click.argument("source")
@click.argument("latents")
@click.option("-n", "count", type=click.IntRange(2), default=10_000, help="Rows and samples that are compared at most.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, help="Which sequence of samples.")
@click.option("--condition", metavar="FILE", help="The conditions of LATENTS, for a conditional sampler.")
@click.option("--k", type=click.IntRange(1), default=5, help="Neighbours that make a ball.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.option("--device", default="cpu", callback=device_option, help="cpu, cuda, mps.")
def evaluate(
    source: str, latents: str, count: int, seed: int, condition: str | None, k: int, as_json: bool, device: str
) -> None:
    """Compare samples of SOURCE with LATENTS, best ones that the fit has not seen."""
    with exit_codes():
        import torch

        from imle.data import Examples, evenly
        from imle.errors import DataError
        from imle.files import read_array
        from imle.metrics import evaluate as compare

        sampler = load(source, device)
        x = read_array(latents)
        if count <= k:
            raise click.UsageError(f"-n: expected more than the {k} neighbours of --k, received {count}")
        if x.ndim != 2 or x.shape[1:] != sampler.shape or len(x) <= k:
            raise DataError(f"{latents}: expected (N, {sampler.dim}) with N > {k}, received {tuple(x.shape)}")
        rows = evenly(len(x), count).numpy()
        like = conditions(sampler, condition, len(x))
        samples = sampler.sample(len(rows), seed, None if like is None else like[rows])
        figures = compare(torch.cat([slab for _, slab in Examples(x[rows]).slabs()]), samples, k)
        figures = {"rows": len(rows), **figures}
        if as_json:
            click.echo(json.dumps(figures))
        else:
            for name, value in figures.items():
                click.echo(f"{name:26} {value:.6g}")


def load(source: str, device: str) -> "LatentSampler":
    """The sampler of a folder or a Hub id."""
    from imle.sampler import LatentSampler

    if not Path(source).exists():
        click.echo(f"no folder {source}: asking the Hugging Face Hub", err=True)
    return LatentSampler.from_pretrained(source).to(device)


class Recorder:
    """Progress to a display, rows to a journal."""

    def __init__(self, display: Display, journal: Any):
        self.step = display.step
        self.epoch = journal.append


def parse_refresh(text: str) -> Every | Adaptive | EachBatch:
    """``every:K``, ``adaptive``, ``adaptive:SHRINK``, ``adaptive:SHRINK,MIN_AGE,MAX_AGE`` or ``batch``."""
    if text == "batch":
        return EachBatch()
    if found := re.fullmatch(r"every:(\d+)", text):
        return Every(int(found[1]))
    if found := re.fullmatch(r"adaptive(?::([\d.e-]+)(?:,(\d+),(\d+))?)?", text):
        usual = Adaptive()
        ages = (usual.min_age, usual.max_age) if found[2] is None else (int(found[2]), int(found[3]))
        try:
            return Adaptive(usual.shrink if found[1] is None else float(found[1]), *ages)
        except ValueError as error:
            raise ValueError(f"refresh: {error}") from error
    raise ValueError(f"refresh: expected every:K, adaptive[:SHRINK[,MIN,MAX]] or batch, received {text!r}")


def parse_reject(text: str | None, own: bool, all_rejected: str) -> Reject | None:
    """``eps:V``, ``quantile:V`` or ``rate:V``."""
    if text is None:
        if own:
            raise ValueError("reject-own: expected --reject with it, received none")
        return None
    kind, _, value = text.partition(":")
    if kind not in ("eps", "quantile", "rate"):
        raise ValueError(f"reject: expected eps:V, quantile:V or rate:V, received {text!r}")
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError(f"reject: expected a number after {kind}:, received {value!r}") from error
    return Reject(**{kind: number}, own=own, all_rejected=all_rejected)


def conditions(sampler: "LatentSampler", text: str | None, n: int) -> Any:
    """(n,) or (n, c) conditions from a label, a vector or a file."""
    from imle.errors import DataError
    from imle.files import READS, read_array

    value: Any = text
    try:
        if text is not None and any(suffix in text for suffix in READS):
            value = read_array(text)
        elif text is not None:
            value = numbers(text, labels="labels" in (sampler.condition or {}))
        return sampler.conditions_for(value, n)
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f"--condition: {error}") from error


def numbers(text: str, labels: bool) -> int | list[float]:
    """A label, or the numbers of a vector."""
    try:
        return int(text) if labels else [float(v) for v in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"expected {'a label' if labels else 'numbers such as 1.5,2'} or a file, received {text!r}"
        ) from error
