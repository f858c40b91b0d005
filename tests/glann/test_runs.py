import subprocess
import sys

import pytest

from glann.runs import Run, differences, versions
from imle.errors import BusyError, DataError, ResumeError

RECORD = {
    "description": "d", "seed": 3, "device": "cpu", "precision": "fp32", "threads": 2, "command": "glann fit",
    "decode_seconds": 0.5, "stages": [{"use": "glo", "name": "first", "epochs": 2}],
}  # fmt: skip


def test_a_record_reads_back(tmp_path):
    run = Run(tmp_path / "a" / "run")
    assert run.record is None
    with run.locked():
        run.begin(RECORD)
    assert run.record == RECORD
    assert {"python", "torch"} <= set(versions())


def test_one_process_at_a_time(tmp_path):
    code = f"from glann.runs import Run\nwith Run({str(tmp_path)!r}).locked(): print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="in use"), Run(tmp_path).locked():
            pass
        other.communicate("\n")
    with Run(tmp_path).locked():
        pass


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = f"from glann.runs import Run\nwith Run({str(tmp_path)!r}).locked(): print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        other.kill()
    with Run(tmp_path).locked():
        pass


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"), Run(tmp_path).locked():
        pass
    with pytest.raises(DataError, match="is a file"), Run(tmp_path / "thesis.tex").locked():
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_clear_removes_what_a_run_left_and_nothing_else(tmp_path):
    run = Run(tmp_path)
    run.begin(RECORD)
    for name in ("first", "images", "samples"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    run.clear()
    assert {p.name for p in tmp_path.iterdir()} == {"notes.txt", "samples"}


def test_a_damaged_record_is_no_fresh_start(tmp_path):
    for text in ("seed = ", "", "seed = 1", b"\xff".decode("latin-1")):
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(ResumeError, match=r"run\.toml (cannot be read|is no record)"):
            _ = Run(tmp_path).record


def test_a_crash_while_the_record_is_written_blocks_nobody(tmp_path):
    (tmp_path / "run.toml.tmp").write_text("half")
    with Run(tmp_path).locked():
        pass


def test_differences_name_each_setting_and_allow_more_epochs():
    old = {"seed": 0, "glo": {"epochs": 5, "lr": 0.1}}
    assert differences(old, {"seed": 0, "glo": {"epochs": 9, "lr": 0.1}}) == []
    assert differences(old, {"seed": 1, "glo": {"epochs": 4, "lr": 0.1}}) == [
        "glo.epochs was 5, asked 4",
        "seed was 0, asked 1",
    ]
    assert differences({"seed": 0, "glo": {"lr": 0.1}}, old) == []  # begun without, that is with as many as were right
    every = [{"imle": {"refresh": {"Every": {"epochs": k}}}} for k in (1, 5)]  # not the epochs of a training
    assert differences(*every) == ["imle.refresh.Every.epochs was 1, asked 5"]
    assert differences(old, {"seed": 0}) == ["glo was {'epochs': 5, 'lr': 0.1}, asked not given"]
