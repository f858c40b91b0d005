"""What both command lines share: exit codes, and progress on standard error."""

import contextlib
import errno
import math
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from imle.errors import EXIT_DISK, EXIT_INTERRUPTED, DataError, Failure

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch import Tensor

PLAIN_SECONDS = 5.0  # between two lines where standard error is not a terminal


class Watcher(Protocol):
    """Who is told how a training loop goes on."""

    def step(self, epoch: int, epochs: int, done: int, total: int, loss: "float | Tensor") -> None:
        """After a minibatch: ``epoch`` of ``epochs`` (from 1), ``done`` of ``total`` examples of this epoch."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After an epoch: one row of figures, ``row["epoch"]`` from 1, everything JSON-able."""


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the failures that callers tell apart into one line on standard error and their exit code."""
    try:
        yield
    except Failure as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Error: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):  # a library's own, or nobody reads any more
            raise
        path = error.filename if error.filename2 is None else error.filename2  # a rename has two
        what = f"{path}: {error.strerror}" if path is not None else error.strerror or error
        if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError | IsADirectoryError) or (
            error.errno == errno.ENAMETOOLONG
        ):
            print(f"Error: {what}", file=sys.stderr)
            sys.exit(DataError.exit_code)
        print(f"Error: cannot read or write: {what}", file=sys.stderr)
        sys.exit(EXIT_DISK)


class Display:
    """Progress of one stage on standard error: a live bar on a terminal, else one plain line every few seconds.

    Args:
        title: what runs, for instance ``stage 1/2 glo``.
        unit: what is counted, for instance ``images``.
    """

    def __init__(self, title: str, unit: str):
        self.title = title
        self.unit = unit
        self._started = time.monotonic()
        self._last_line = self._started
        self._seen = 0  # examples since the start of this process
        self._previous: tuple[int, int] | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=None, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, epochs: int, done: int, total: int, loss: "float | Tensor") -> None:
        """See `Watcher.step`."""
        before_epoch, before_done = self._previous or (epoch, 0)
        self._seen += done - (before_done if epoch == before_epoch else 0)
        self._previous = (epoch, done)
        now = time.monotonic()
        finished = epoch == epochs and done == total
        if self._bar is None and now - self._last_line < PLAIN_SECONDS and not finished:
            return
        if self._bar is not None and now - self._last_line < 0.1 and not finished:
            return
        self._last_line = now
        rate = self._seen / max(now - self._started, 1e-9)
        left = ((epochs - epoch) * total + total - done) / rate if rate else math.inf
        text = f"epoch {epoch}/{epochs}  {rate:,.0f} {self.unit}/s  loss {float(loss):.4f}  {_duration(left)} left"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=epochs * total, completed=(epoch - 1) * total + done, text=text)
        else:
            print(f"{self.title}  {text}", file=sys.stderr, flush=True)

    def epoch(self, row: dict[str, Any]) -> None:
        """See `Watcher.epoch`; the bar shows nothing more for a row."""


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
