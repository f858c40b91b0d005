import subprocess
import sys

import pytest

from glann.runs import Run, differences
from imle.errors import BusyError, DataError, ResumeError


def test_a_record_reads_back(tmp_path):
    run = Run(tmp_path / "a" / "run")
    assert run.record is None
    with run.locked():
        run.begin({"seed": 3, "stages": [{"use": "glo", "epochs": 2}]})
    assert run.record["seed"] == 3
    assert run.record["stages"] == [{"use": "glo", "epochs": 2}]
    assert {"python", "torch"} <= set(run.record["versions"])


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
    with pytest.raises(DataError, match=r"holds no run\.toml"):
        Run(tmp_path).clear()
    with pytest.raises(DataError, match="is a file"), Run(tmp_path / "thesis.tex").locked():
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_clear_empties_a_run(tmp_path):
    run = Run(tmp_path)
    run.begin({"seed": 0})
    (tmp_path / "glo").mkdir()
    (tmp_path / "glo" / "x").write_text("")
    run.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_no_fresh_start(tmp_path):
    (tmp_path / "run.toml").write_text("seed = ")
    with pytest.raises(ResumeError, match=r"run\.toml cannot be read"):
        _ = Run(tmp_path).record


def test_differences_name_each_setting_and_allow_more_epochs():
    old = {"seed": 0, "glo": {"epochs": 5, "lr": 0.1}}
    assert differences(old, {"seed": 0, "glo": {"epochs": 9, "lr": 0.1}}) == []
    assert differences(old, {"seed": 1, "glo": {"epochs": 4, "lr": 0.1}}) == [
        "glo.epochs was 5, asked 4",
        "seed was 0, asked 1",
    ]
    assert differences(old, {"seed": 0}) == ["glo was {'epochs': 5, 'lr': 0.1}, asked None"]
