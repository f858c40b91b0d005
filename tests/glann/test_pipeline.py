"""The whole way from a folder to a model, and every way to interrupt it."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner
from PIL import Image

from glann import losses
from glann.cli import main
from tests.glann.conftest import TINY


def glann(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def model_bytes(run):
    return (run / "model" / "model.safetensors").read_bytes()


def outcome(run):
    """The model, and what it looked like on the way."""
    looks = {str(path.relative_to(run)): path.read_bytes() for path in run.glob("*/snapshots/*")}
    return {"model": model_bytes(run), **looks}


def test_a_finished_run_has_all_its_parts(finished):
    names = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert {"run.toml", "samples.png", "reconstructions.png", "report.html", "model/config.json"} <= names
    assert {"images/manifest.csv", "images/skipped.csv", "glo/metrics.jsonl", "imle/metrics.jsonl"} <= names
    assert not any(name.endswith(".tmp") for name in names)
    record = tomllib.loads((finished / "run.toml").read_text())
    assert record["stages"][0]["loss"] == "laplacian"
    assert record["threads"] >= 1
    rows = [json.loads(line) for line in (finished / "imle" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert Image.open(finished / "samples.png").size == (8 * 66 - 2, 8 * 66 - 2)


def test_the_same_command_again_says_so_and_changes_nothing(copied, photos):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (copied / "model").iterdir()}
    result = glann("fit", photos, "--out", copied, *TINY)
    assert result.exit_code == 0
    assert "nothing to do" in result.stderr
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (copied / "model").iterdir()}
    assert "nothing to do" in glann("fit", photos, "--out", copied).stderr  # what is not given is as it was


def test_another_run_of_the_same_seed_has_the_same_bytes(finished, photos, tmp_path):
    assert glann("fit", photos, "--out", tmp_path / "again", *TINY).exit_code == 0
    assert model_bytes(tmp_path / "again") == model_bytes(finished)
    assert glann("fit", photos, "--out", tmp_path / "other", *TINY, "--seed", 1).exit_code == 0
    assert model_bytes(tmp_path / "other") != model_bytes(finished)


LONGER = [*TINY, "--set", "glo.epochs=12", "--set", "imle.epochs=24"]


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert glann("fit", photos, "--out", out, *LONGER).exit_code == 0
    kept = outcome(out)
    looks = [f"glo/snapshots/epoch-{epoch:06d}.png" for epoch in (1, 2, 4, 8, 12)]
    looks += [f"imle/snapshots/epoch-{epoch:06d}.png" for epoch in (1, 2, 4, 8, 16, 24)]
    assert sorted(kept) == [*looks, "model"]
    return kept


# Python reports renames and folders before they are made; a signal at the n-th is an interruption at an exact moment.
INTERRUPTED = """
import os, sys
signum, happening, n, path = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
seen = 0

def hook(event, args):
    global seen
    if event == happening and path in str(args[1 if event == "os.rename" else 0]):
        seen += 1
        if seen == n:
            os.kill(os.getpid(), signum)

sys.addaudithook(hook)
import imle.checkpoint
imle.checkpoint.Checkpoints.__init__.__defaults__ = (0.0,)  # commit after every epoch
from glann.cli import main
main(sys.argv[5:])
"""


def interrupted(photos, out, signum, happening, n, path):
    command = [sys.executable, "-c", INTERRUPTED, str(int(signum)), happening, str(n), path]
    command += ["fit", str(photos), "--out", str(out), *LONGER]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "moment",
    [
        ("os.rename", 1, "images"),  # decoded, not yet in place
        ("os.mkdir", 3, "glo/checkpoints/"),  # two checkpoints, the third begun
        ("os.rename", 3, "glo/checkpoints/"),  # the third written, not yet in place
        ("os.rename", 4, "glo/snapshots/"),  # a look that is not yet in place, of an epoch that is not committed
        ("os.rename", 1, "glo/latents"),  # stage 1 is done, its latents are not yet told
        ("os.rename", 11, "imle/checkpoints/"),
    ],
)
def test_kill_9_then_the_same_command_ends_with_the_same_bytes(photos, tmp_path, undisturbed, moment):
    assert interrupted(photos, tmp_path / "run", signal.SIGKILL, *moment).returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model").exists()
    again = glann("fit", photos, "--out", tmp_path / "run")
    assert again.exit_code == 0, again.stderr
    assert outcome(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_commits_and_says_that_it_can_go_on(photos, tmp_path, undisturbed, signum):
    stopped = interrupted(photos, tmp_path / "run", signum, "os.rename", 2, "glo/checkpoints/")
    assert stopped.returncode == 75, stopped.stderr
    assert "goes on from here" in stopped.stderr
    assert glann("fit", photos, "--out", tmp_path / "run").exit_code == 0
    assert outcome(tmp_path / "run") == undisturbed


def test_more_epochs_go_on_and_fewer_are_refused(copied, photos):
    before = model_bytes(copied)
    result = glann("fit", photos, "--out", copied, *TINY, "--set", "imle.epochs=4")
    assert result.exit_code == 0, result.stderr
    assert model_bytes(copied) != before
    rows = (copied / "imle" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4]
    result = glann("fit", photos, "--out", copied, *TINY)
    assert result.exit_code == 4
    assert "imle.epochs was 4, asked 3" in result.stderr


def test_more_epochs_of_stage_1_train_stage_2_anew_and_say_so(copied, photos):
    result = glann("fit", photos, "--out", copied, *TINY, "--set", "glo.epochs=3")
    assert result.exit_code == 0, result.stderr
    assert "trained anew" in result.stderr
    rows = (copied / "imle" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--seed", "5"], "seed was 0, asked 5"),
        (["--set", "glo.lr=0.5"], "glo.lr was 0.001, asked 0.5"),
        (["--precision", "bf16"], "precision was 'fp32', asked 'bf16'"),
        (["--size", "20"], "size was 16x16, asked 20x20"),
        (["--channels", "1"], "channels were 3, asked 1"),
        (["--set", "glo.loss=l2"], "glo.loss was 'laplacian', asked 'l2'"),
    ],
)
def test_changed_settings_are_exit_4_with_the_difference(copied, photos, changed, named):
    result = glann("fit", photos, "--out", copied, *TINY, *changed)
    assert result.exit_code == 4
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def test_changed_images_are_exit_4_with_the_difference(copied, photos, tmp_path):
    other = shutil.copytree(photos, tmp_path / "photos")
    (other / "class 0" / "00.png").unlink()
    shutil.copy(other / "class 1" / "01.png", other / "new one.png")
    result = glann("fit", other, "--out", copied, *TINY)
    assert result.exit_code == 4
    assert "00.png" in result.stderr
    assert "new one.png" in result.stderr
    shutil.rmtree(copied / "images")  # nor does it help to remove the cache
    assert glann("fit", other, "--out", copied, *TINY).exit_code == 4


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (["PHOTOS", "--fresh", "--set", "glo.epoch=3"], 2),
        (["nonesuch", "--fresh"], 3),
        (["PHOTOS", "--fresh", "--device", "mps"], 2),
        (["PHOTOS", "--fresh", "--set", "glo.loss=lpips-alex"], 3),
        (["OTHER", "--set", "imle.epochs=9"], 4),
        (["PHOTOS", "--set", "glo.lr=0.5"], 4),
    ],
)
def test_a_refused_call_leaves_the_run_as_it_was(copied, photos, tmp_path, monkeypatch, asked, code):
    monkeypatch.setenv("GLANN_WEIGHTS_URL", "http://127.0.0.1:9")  # nobody listens there
    other = shutil.copytree(photos, tmp_path / "photos")
    (other / "class 0" / "00.png").unlink()
    before = everything(copied)
    asked = [{"PHOTOS": photos, "OTHER": other}.get(a, a) for a in asked]
    assert glann("fit", *asked, "--out", copied).exit_code == code
    assert everything(copied) == before


def test_a_run_that_could_not_begin_can_begin_otherwise(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("GLANN_WEIGHTS_URL", "http://127.0.0.1:9")
    for wrong in ("glo.loss=lpips-vgg", "glo.generator_options={foo=1}", "glo.generator_options={width=-3}"):
        assert glann("fit", photos, "--out", tmp_path / "run", *TINY, "--set", wrong).exit_code in (2, 3)
        assert not (tmp_path / "run").exists()
    assert glann("fit", photos, "--out", tmp_path / "run", *TINY).exit_code == 0


def test_the_record_has_the_last_command_that_was_taken(copied, photos, monkeypatch):
    asked = ["fit", str(photos), "--out", str(copied), *map(str, TINY), "--set", "imle.epochs=4"]
    monkeypatch.setattr("sys.argv", ["glann", *asked, "--fresh"])
    assert glann(*asked).exit_code == 0
    command = tomllib.loads((copied / "run.toml").read_text())["command"]
    assert command == shlex.join(["glann", *asked])  # which goes on with the run, and is what the report shows
    assert glann(*asked, "--set", "imle.epochs=3").exit_code == 4
    monkeypatch.setattr("sys.argv", ["glann", *asked[:4]])
    assert "nothing to do" in glann(*asked[:4]).stderr
    assert tomllib.loads((copied / "run.toml").read_text())["command"] == command


def test_a_pipeline_without_a_sampler_says_so(photos, tmp_path):
    (tmp_path / "only.toml").write_text(
        '[[stages]]\nuse = "glo"\nepochs = 1\nloss = "l1"\nlatent_dim = 4\ngenerator_options = { width = 4 }\n'
    )
    done = glann("fit", photos, "--out", tmp_path / "run", "--pipeline", tmp_path / "only.toml")
    assert done.exit_code == 0
    assert "makes no sampler" in done.stderr
    assert "its pipeline makes no model" in glann("sample", tmp_path / "run", "--out", tmp_path / "x.png").stderr
    assert "if the pipeline makes one" in glann("info", tmp_path / "run").stdout


def test_a_lost_report_is_made_again(copied, photos):
    (copied / "report.html").unlink()
    assert "nothing to do" not in glann("fit", photos, "--out", copied).stderr
    assert (copied / "report.html").exists()


def test_fresh_starts_over_and_only_a_run_can_be_emptied(copied, photos, tmp_path, finished):
    result = glann("fit", photos, "--out", copied, *TINY, "--fresh", "--seed", 0)
    assert result.exit_code == 0
    assert model_bytes(copied) == model_bytes(finished)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    assert glann("fit", photos, "--out", tmp_path / "thesis", "--fresh").exit_code == 3
    assert "--fresh" not in tomllib.loads((copied / "run.toml").read_text())["command"]
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_dry_run_prints_the_settings_and_writes_nothing(photos, tmp_path):
    result = glann(
        "fit", photos, "--out", tmp_path / "run", "--dry-run", "--pipeline", "reference-mnist", "--set", "glo.loss=l1"
    )
    assert result.exit_code == 0
    record = tomllib.loads(result.stdout)
    assert [(s["use"], s["epochs"]) for s in record["stages"]] == [("glo", 200), ("imle", 50)]
    assert not (tmp_path / "run").exists()


def test_auto_never_downloads_and_says_what_it_took(photos, tmp_path):
    result = glann("fit", photos, "--out", tmp_path / "run", "--dry-run")
    lines = [line for line in result.stderr.splitlines() if "loss" in line]
    assert len(lines) == 1
    assert losses.OFFLINE in lines[0]
    assert tomllib.loads(result.stdout)["stages"][0]["loss"] == losses.OFFLINE


def test_a_loss_whose_weights_cannot_be_had_is_exit_3_with_the_command(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("GLANN_WEIGHTS_URL", "http://127.0.0.1:9")  # nobody listens there
    result = glann("fit", photos, "--out", tmp_path / "run", "--set", "glo.loss=lpips-alex")
    assert result.exit_code == 3
    assert "glann weights fetch lpips-alex" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
