"""What the command line promises to other programs: exit codes, one line an error, bytes that do not change."""

import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from PIL import Image

from glann import losses
from glann.cli import main
from glann.losses.pixels import L1
from glann.runs import Run
from tests.glann.conftest import TINY
from tests.glann.test_pipeline import glann


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_samples_have_the_same_bytes_in_every_call(finished, tmp_path):
    for name, options in {"a": [], "b": [], "c": ["--batch-size", 5], "d": ["--batch-size", 1]}.items():
        assert glann("sample", finished, "-n", 16, "--seed", 7, "--out", tmp_path / name, *options).exit_code == 0
    first = contents(tmp_path / "a")
    assert sorted(first) == [f"{k:06d}.png" for k in range(16)]
    assert all(contents(tmp_path / name) == first for name in "bcd")
    assert glann("sample", finished, "-n", 9, "--seed", 7, "--out", tmp_path / "e").exit_code == 0
    assert contents(tmp_path / "e").items() <= first.items()
    assert glann("sample", finished, "-n", 16, "--seed", 8, "--out", tmp_path / "f").exit_code == 0
    assert not set(contents(tmp_path / "f").values()) & set(first.values())


def test_samples_as_arrays_and_pictures(finished, tmp_path):
    for name in ("s.npy", "s.safetensors", "s.png"):
        assert glann("sample", finished, "-n", 5, "--out", tmp_path / name).exit_code == 0
    array = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert array.dtype == np.float32
    assert array.shape == (5, 3, 16, 16)
    assert torch.equal(torch.from_numpy(array), safetensors.torch.load_file(tmp_path / "s.safetensors")["images"])
    assert Image.open(tmp_path / "s.png").size == (3 * 66 - 2, 2 * 66 - 2)
    assert glann("sample", finished, "-n", 1, "--out", tmp_path / "one.png").exit_code == 0
    assert Image.open(tmp_path / "one.png").size == (16, 16)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["sample", "RUN", "-n", "0", "--out", "x"], 2, "-n"),
        (["sample", "RUN", "-n", "2"], 2, "--out"),
        (["sample", "RUN", "--seed", "-1", "--out", "x"], 2, "--seed"),
        (["sample", "RUN", "--out", "x.npy", "--grid"], 2, "--grid"),
        (["sample", "nonesuch", "--out", "x"], 3, "nonesuch"),
        (["sample", "RUN", "--out", "x.jpg"], 2, "x.jpg"),
        (["sample", "RUN", "--out", "x", "--device", "cuda:99"], 2, "cuda:99"),
        (["sample", "RUN", "--out", "RUN"], 3, "name another --out"),
        (["sample", "RUN", "--out", "RUN/run.toml"], 3, "run.toml"),
        (["sample", "RUN", "--out", "no/such/folder/x.npy"], 3, "does not exist"),
        (["info", "nonesuch"], 3, "nonesuch"),
        (["fit", "nonesuch", "--out", "OUT"], 3, "nonesuch"),
        (["fit", "EMPTY", "--out", "OUT"], 3, "EMPTY"),
        (["fit", "RUN/run.toml", "--out", "OUT"], 3, "folder"),
        (["fit", "PHOTOS", "--out", "RUN/run.toml/x"], 3, "run.toml/x: Not a directory"),
        (["fit", "PHOTOS", "--out", "OUT", "--size", "30"], 2, "30x30"),
        (["fit", "PHOTOS", "--out", "OUT", "--size", "8"], 2, "16"),
        (["fit", "PHOTOS", "--out", "OUT", "--size", "big"], 2, "big"),
        (["fit", "PHOTOS", "--out", "OUT", "--channels", "2"], 2, "--channels"),
        (["fit", "PHOTOS", "--out", "OUT", "--seed", "-3"], 2, "--seed"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "glo.epochs=0"], 2, "glo.epochs"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "glo.generator=nonesuch"], 2, "residual"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "glo.loss=nonesuch"], 2, "laplacian"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "imle.refresh={Never={}}"], 2, "Adaptive"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "imle.refresh={}"], 2, "Adaptive"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "imle.refresh=every:1"], 2, "{Every={epochs=5}}"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "imle.reject={Every={}}"], 2, "{Reject={quantile=0.02}}"),
        (
            ["fit", "PHOTOS", "--out", "OUT", "--set", "imle.reject={Reject={quantil=1}}"],
            2,
            "eps and quantile and rate",
        ),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "glo.generator_options={widht=8}"], 2, "it takes width"),
        (
            ["fit", "PHOTOS", "--out", "OUT", "--set", "glo.generator_options={width=0}"],
            2,
            "width: expected an integer",
        ),
        (["fit", "nonesuch", "--out", "OUT", "--dry-run"], 3, "nonesuch"),
        (["fit", "EMPTY", "--out", "OUT", "--dry-run"], 3, "received 0"),
        (["sample", "nonesuch", "--out", "OUT"], 3, "does not exist"),
        (["evaluate", "RUN", "PHOTOS", "--seed", "4294967296"], 2, "--seed"),
        (["evaluate", "RUN", "PHOTOS", "--picture", "x.jpg"], 2, "--picture"),
        (["interpolate", "RUN", "--out", "OUT.png", "--sample", "9223372036854775807", "--sample", "1"], 2, "--sample"),
        (["weights", "fetch", "vgg", "--timeout", "inf"], 2, "--timeout"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "imle.refresh={Every={epoch=1}}"], 2, "epoch"),
        (["fit", "PHOTOS", "--out", "OUT", "--set", "imle.refresh={Every={epochs=0}}"], 2, "Every.epochs"),
        (["fit", "PHOTOS", "--out", "OUT", "--pipeline", "nonesuch"], 2, "quick"),
        (["fit", "PHOTOS", "--out", "OUT", "--fresh"], 3, "run.toml"),
        (["fit", "PHOTOS", "--out", "OUT", "--fresh", "--dry-run"], 3, "starts a run over"),
        (["weights", "fetch", "nonesuch"], 2, "lpips-vgg"),
        (["weights", "import", "nonesuch.pth"], 3, "nonesuch.pth"),
    ],
)
def test_bad_input_is_named_in_one_line(finished, photos, tmp_path, arguments, code, named):
    (tmp_path / "EMPTY").mkdir()
    places = {"RUN": finished, "PHOTOS": photos, "OUT": tmp_path / "OUT", "EMPTY": tmp_path / "EMPTY"}
    given = [a.replace(key, str(place)) for a in arguments for key, place in [next(
        ((k, p) for k, p in places.items() if a.split("/")[0] == k), ("\0", ""))]]  # fmt: skip
    result = glann(*given)
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert named in last
    assert "Traceback" not in result.output
    if code == 3:
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "OUT").exists()


def test_a_run_in_use_is_exit_5(copied, photos):
    with Run(copied).locked():
        done = subprocess.run(
            [sys.executable, "-m", "glann", "fit", photos, "--out", copied], capture_output=True, text=True
        )
    assert done.returncode == 5
    assert "in use" in done.stderr


def test_divergence_is_exit_6_and_keeps_the_run(photos, tmp_path, monkeypatch):
    class Overflow(L1):
        def size_of(self, delta):
            return super().size_of(delta) * float("inf")

    monkeypatch.setattr(losses, "build", lambda *a, **k: Overflow())
    result = glann("fit", photos, "--out", tmp_path / "run", *TINY)
    assert result.exit_code == 6
    assert "not finite" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_is_exit_7_and_the_same_command_goes_on(photos, tmp_path):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1)); from glann.cli import main; main()"
    command = [sys.executable, "-c", limit, "fit", str(photos), "--out", str(tmp_path / "run"), *TINY]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: cannot")
    assert glann("fit", photos, "--out", tmp_path / "run", *TINY).exit_code == 0


def test_samples_replace_samples_and_never_other_pictures(finished, tmp_path):
    assert glann("sample", finished, "-n", 2, "--out", tmp_path).exit_code == 0
    assert glann("sample", finished, "-n", 2, "--seed", 5, "--out", tmp_path).exit_code == 0
    Image.new("RGB", (16, 16)).save(tmp_path / "000001.png")
    before = (tmp_path / "000001.png").read_bytes()
    assert glann("sample", finished, "-n", 2, "--out", tmp_path).exit_code == 3
    assert (tmp_path / "000001.png").read_bytes() == before


def test_batch_norm_never_meets_a_single_image(photos, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((photos / "class 0").iterdir())[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    options = [
        "--pipeline",
        "reference-mnist",
        "--set",
        "glo.loss=l1",
        "--set",
        "glo.epochs=1",
        "--set",
        "imle.epochs=1",
    ]
    options += ["--set", "glo.batch_size=2"]
    result = glann("fit", few, "--out", tmp_path / "run", *options)
    assert result.exit_code == 0, result.stderr


def test_from_an_unrelated_directory(photos, tmp_path):
    command = [sys.executable, "-m", "glann", "fit", photos, *TINY]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / photos.name / "samples.png").is_file()
    assert done.stdout == ""


def test_info_and_weights_answer(finished):
    assert "40" in glann("info", finished).stdout
    assert "16" in glann("info", finished / "model").stdout
    listed = glann("weights", "list").stdout
    assert all(name in listed for name in ("lpips-vgg", "lpips-alex", "lpips-squeeze"))
    assert "missing" in listed


def test_help_names_every_command():
    result = CliRunner().invoke(main, ["--help"])
    assert all(name in result.output for name in ("fit", "sample", "info", "data", "weights"))
