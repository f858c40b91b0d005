"""A training in TensorBoard: the rows of metrics.jsonl as curves, the snapshots as pictures."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from glann.info import number
from imle.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from glann.snapshots import Snapshots
    from imle.journal import Journal

Tracked = Literal["tensorboard"]
_EVENTS = "events.out.tfevents.*"  # TensorBoard's own name for its files
_COLUMNS = 4  # of images in a picture


def require(track: str | None) -> None:
    """Refuse a tracker whose packages are not installed.

    Args:
        track: ``tensorboard``, or None for none.

    Raises:
        SettingsError: naming what to install.
    """
    missing = [name for name in ("accelerate", "tensorboard") if track and find_spec(name) is None]
    if missing:
        raise SettingsError(f"--track {track} needs {' and '.join(missing)}: pip install 'glann[tensorboard]'")


class TensorBoard:
    """The events of one stage, in its folder, so that ``tensorboard --logdir RUN`` shows every stage.

    They are a copy of what is on disk anyway. Whenever training begins or goes on they are written anew up to there, so
    the curves are those of an undisturbed run, and a run may be begun without and looked at later.

    Args:
        folder: of the stage.
        journal: its rows.
        snapshots: its pictures.
        what: what the pictures show, for instance ``samples``.
    """

    def __init__(self, folder: "Path", journal: "Journal", snapshots: "Snapshots", what: str):
        self._folder, self._journal, self._snapshots, self._what = folder, journal, snapshots, what
        self._tracker: Any = None  # of accelerate, which writes in the first of many processes only

    def row(self, row: Mapping[str, Any]) -> None:
        """Draw one more point of each curve.

        Args:
            row: which the journal holds already; ``epoch`` and figures.
        """
        if self._tracker is None:
            self._begin(row["epoch"] - 1)
        self._scalars(row)

    def picture(self, epoch: int, images: "Tensor") -> None:
        """Show one more snapshot.

        Args:
            epoch: its number.
            images: (n, C, H, W) in [0, 1], which the snapshots hold already.
        """
        if self._tracker is None:
            self._begin(epoch)
        else:
            self._images(epoch, images)

    def finish(self, whole: bool) -> None:
        """Close the file.

        Args:
            whole: whether the training ended well; where nothing was left to train, the file is then written now.
        """
        if self._tracker is None and whole:
            rows = self._journal.rows()
            self._begin(rows[-1]["epoch"] if rows else 0)
        if self._tracker is not None:
            self._tracker.finish()

    def _begin(self, last: int) -> None:
        """A new file with everything up to epoch ``last``."""
        from accelerate.tracking import TensorBoardTracker

        # A TensorBoard that is open then forgets what it had read, but it would stay for ever at a file that is gone.
        for old in self._folder.glob(_EVENTS):
            if old.stat().st_size:
                os.truncate(old, 0)
            else:
                old.unlink()
        self._tracker = TensorBoardTracker(self._folder.name, self._folder.parent, purge_step=0)
        self._tracker.start()
        for row in self._journal.rows():
            if row["epoch"] <= last:
                self._scalars(row)
        for epoch in self._snapshots.epochs():
            images = self._snapshots.read(epoch) if epoch <= last else None
            if images is not None:
                self._images(epoch, images)

    def _scalars(self, row: Mapping[str, Any]) -> None:
        figures = {key: number(value) for key, value in row.items() if key != "epoch"}
        found = {f"{self._folder.name}/{key}": value for key, value in figures.items() if value is not None}
        self._tracker.log(found, step=row["epoch"])

    def _images(self, epoch: int, images: "Tensor") -> None:
        import numpy as np

        from glann import pictures

        sheet = np.asarray(pictures.grid(images, columns=_COLUMNS).convert("RGB"))[None]
        self._tracker.log_images({f"{self._folder.name}/{self._what}": sheet}, step=epoch, dataformats="NHWC")
