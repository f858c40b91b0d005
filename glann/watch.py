"""What is told and kept of a stage while it trains: progress, rows of figures, snapshots, and what tracks them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from glann.snapshots import Snapshots, due
from glann.tracking import TensorBoard, Tracked
from imle.console import Display
from imle.journal import Journal

if TYPE_CHECKING:
    from torch import Tensor


class Watched:
    """Progress on standard error, a row an epoch in ``metrics.jsonl``, a few pictures, and TensorBoard where asked for.

    Args:
        folder: of the stage; made where it is missing.
        title: for progress, for instance ``stage 1/2 glo``.
        unit: what is counted, for instance ``images``.
        what: what the pictures show, for instance ``samples``.
        width: of an image in pixels.
        epochs: of the whole training.
        track: what else is told.
    """

    def __init__(self, folder: Path, title: str, unit: str, what: str, width: int, epochs: int, track: Tracked | None):
        folder.mkdir(parents=True, exist_ok=True)
        self._display, self._epochs = Display(title, unit), epochs
        self._journal, self._snapshots = Journal(folder / "metrics.jsonl"), Snapshots(folder, width)
        self._tracker = TensorBoard(folder, self._journal, self._snapshots, what) if track else None

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._display.__exit__(*failure)
        if self._tracker is not None:
            self._tracker.finish(whole=failure[0] is None)

    def step(self, epoch: int, epochs: int, done: int, total: int, loss: "float | Tensor") -> None:
        """See `imle.console.Watcher.step`."""
        self._display.step(epoch, epochs, done, total, loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """See `imle.console.Watcher.epoch`."""
        self._journal.append(row)
        if self._tracker is not None:
            self._tracker.row(row)

    def row(self, epoch: int) -> dict[str, Any]:
        """The figures of an epoch, if it is the last that has some."""
        rows = self._journal.rows()
        return rows[-1] if rows and rows[-1]["epoch"] == epoch else {}

    def extend(self, epoch: int, figures: dict[str, Any]) -> None:
        """Add figures to the row of an epoch, the last."""
        self._journal.extend(epoch, figures)
        if self._tracker is not None:
            self._tracker.row({"epoch": epoch, **figures})

    def due(self, epoch: int) -> bool:
        """Whether a snapshot is wanted after this epoch."""
        return due(epoch, self._epochs)

    def picture(self, epoch: int, images: "Tensor") -> None:
        """Keep a snapshot.

        Args:
            epoch: after which the images were drawn, after its row.
            images: (n, C, H, W) in [0, 1].
        """
        self._snapshots.add(epoch, images)
        if self._tracker is not None:
            self._tracker.picture(epoch, images)
