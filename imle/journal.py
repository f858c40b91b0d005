"""Per-epoch rows as JSON lines, consistent with the checkpoints whatever interrupted the run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imle.atomic import write_atomically


class Journal:
    """A ``metrics.jsonl`` with one row an epoch, in order, none twice.

    The training loop announces a row before the checkpoint that contains it, and `append` puts it on disk at once, so a
    committed epoch always has its row; rows of epochs that are trained again are dropped by `append` itself.

    Args:
        path: the file; its folder is made on the first row.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._last: int | None = None  # epoch of the last row on disk, unknown before the first look

    def rows(self) -> list[dict[str, Any]]:
        """What is on disk; a last line cut by a crash is left out."""
        rows: list[dict[str, Any]] = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not isinstance(row, dict) or "epoch" not in row:
                    break
                rows.append(row)
        return rows

    def rewind(self, to_epoch: int) -> None:
        """Drop every row after ``to_epoch`` (0: all), atomically."""
        kept = [row for row in self.rows() if row["epoch"] <= to_epoch]
        if self.path.exists():
            self._write(kept)
        self._last = kept[-1]["epoch"] if kept else 0

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row, flushed to disk, after dropping rows of the same or a later epoch.

        Args:
            row: JSON-able, with ``epoch`` from 1.
        """
        epoch = row["epoch"]
        if self._last is None or self._last >= epoch:
            self.rewind(epoch - 1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._last = epoch

    def extend(self, epoch: int, figures: Mapping[str, Any]) -> None:
        """Add figures to the row of an epoch, at once or not at all; nothing where the last row is of another one.

        Args:
            epoch: of the last row.
            figures: JSON-able.
        """
        rows = self.rows()
        if rows and rows[-1]["epoch"] == epoch:
            rows[-1] |= figures
            self._write(rows)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows).encode())
