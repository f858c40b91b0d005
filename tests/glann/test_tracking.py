"""What TensorBoard reads is what the run folder says, however the run came about."""

import json

import pytest
import torch
from click.testing import CliRunner

from glann.cli import main
from glann.snapshots import Snapshots
from glann.tracking import TensorBoard
from imle.journal import Journal
from tests.glann.conftest import TINY


def read(folder):
    """Tag -> {step: value or picture size} of every event file in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    images = {tag: [(e.step, e.width, e.height) for e in events.Images(tag)] for tag in events.Tags()["images"]}
    return scalars, images


def check(stage, what):
    """The events of a stage are its rows and its snapshots, none missing, none twice."""
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    scalars, images = read(stage)
    words = {"epoch", "held_out_features"}
    assert set(scalars) == {f"{stage.name}/{key}" for row in rows for key in row if key not in words}
    for tag, points in scalars.items():
        key = tag.partition("/")[2]
        assert points == [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in rows if key in row], tag
    epochs = Snapshots(stage, 16).epochs()
    assert epochs[-1] == rows[-1]["epoch"]
    assert images == {f"{stage.name}/{what}": [(epoch, 4 * 66 - 2, 2 * 66 - 2) for epoch in epochs]}


@pytest.mark.parametrize("begun", ["with", "without", "held out"])
def test_a_run_that_goes_on_continues_its_curves(photos, copied, tmp_path, begun):
    pytest.importorskip("tensorboard")
    pytest.importorskip("accelerate")
    out = copied if begun == "without" else tmp_path / "tracked"
    held_out = ["--holdout", "0.4"] if begun == "held out" else []
    for epochs in (3, 5):
        tracked = ["--track", "tensorboard", "--set", f"imle.epochs={epochs}"]
        result = CliRunner().invoke(main, ["fit", str(photos), "--out", str(out), *TINY, *tracked, *held_out])
        assert result.exit_code == 0, result.output
    check(out / "glo", "reconstructions")
    check(out / "imle", "samples")


def test_an_open_tensorboard_sees_no_point_twice(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("accelerate")
    stage = tmp_path / "glo"
    journal, looks = Journal(stage / "metrics.jsonl"), Snapshots(stage, 16)

    def train(first, last):
        board = TensorBoard(stage, journal, looks, "samples")
        for epoch in range(first, last + 1):
            row = {"epoch": epoch, "loss": epoch + first / 10}
            journal.append(row)
            board.row(row)
            looks.add(epoch, torch.zeros(1, 4, 16, 16))
            board.picture(epoch, torch.zeros(1, 4, 16, 16))
        board.finish(whole=True)

    train(1, 6)
    (old,) = stage.glob("events*")
    events = accumulator.EventAccumulator(str(stage)).Reload()
    train(4, 8)  # interrupted after epoch 6, whose last checkpoint was that of epoch 3
    assert old.stat().st_size == 0
    events.Reload()
    expected = [(1, 1.1), (2, 2.1), (3, 3.1), (4, 4.4), (5, 5.4), (6, 6.4), (7, 7.4), (8, 8.4)]
    assert [(e.step, pytest.approx(e.value, rel=1e-6)) for e in events.Scalars("glo/loss")] == expected


def test_what_is_not_installed_is_named_before_anything_begins(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("glann.tracking.find_spec", lambda name: None if name == "tensorboard" else object())
    command = ["fit", str(photos), "--out", str(tmp_path / "run"), "--track", "tensorboard"]
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(main, [*command, *more])
        assert result.exit_code == 2
        assert "pip install 'glann[tensorboard]'" in result.stderr
    assert not (tmp_path / "run").exists()
