import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import imle
from imle import folder
from imle.cli import main
from imle.files import read_array

SMALL = ["--epochs", "3", "--noise-dim", "3", "--width", "16", "--depth", "1", "--batch-size", "32"]


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture
def latents(ring, tmp_path):
    np.save(tmp_path / "x.npy", ring.numpy())
    return tmp_path / "x.npy"


def test_fit_sample_evaluate(latents, tmp_path, ring):
    out = tmp_path / "out"
    row = json.loads(run("fit", latents, "--out", out, *SMALL).stdout)
    assert row["epoch"] == 3
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    sampler = imle.IMLE(epochs=3, noise_dim=3, width=16, depth=1, batch_size=32).fit(ring)
    expected = sampler.sample(70_000, seed=5)
    run("sample", out, "-n", 70_000, "--seed", 5, "--out", tmp_path / "s.npy")
    assert np.array_equal(np.load(tmp_path / "s.npy"), expected.numpy())
    run("sample", out, "-n", 10, "--start", 300, "--seed", 5, "--out", tmp_path / "new" / "s.safetensors")
    assert torch.equal(load_file(tmp_path / "new" / "s.safetensors")["samples"], expected[300:310])
    run("sample", out, "-n", 0, "--out", tmp_path / "none.npy")
    assert np.load(tmp_path / "none.npy").shape == (0, 3)
    figures = json.loads(run("evaluate", out, latents, "--json").stdout)
    assert figures["rows"] == 120
    assert 0 < figures["coverage"] <= 1
    assert "energy_distance " in run("evaluate", out, latents).stdout


def test_the_same_command_goes_on_and_other_settings_do_not(latents, tmp_path):
    out = tmp_path / "out"
    run("fit", latents, "--out", out, *SMALL)
    saved = (out / "model.safetensors").read_bytes()
    run("fit", latents, "--out", out, *SMALL)
    assert (out / "model.safetensors").read_bytes() == saved
    assert "lr was" in run("fit", latents, "--out", out, *SMALL, "--lr", 0.01, code=4).stderr
    run("fit", latents, "--out", out, *SMALL, "--lr", 0.01, "--fresh")
    assert (out / "model.safetensors").read_bytes() != saved
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def test_fresh_leaves_other_files_alone(latents, tmp_path):
    out = tmp_path / "out"
    run("fit", latents, "--out", out, *SMALL)
    (out / "notes.txt").write_text("mine")
    run("fit", latents, "--out", out, *SMALL, "--fresh")
    assert (out / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    run("fit", latents, "--out", other, *SMALL, "--fresh", code=2)
    assert (other / "config.json").read_text() == "{}"


def test_labels_and_weights_and_every_option(ring, tmp_path):
    labels = (ring[:, 0] > 0).long()
    save_file({"x": ring, "labels": labels}, tmp_path / "all.safetensors")
    np.savez(tmp_path / "w.npz", np.ones(120))
    everything = [
        "--condition", tmp_path / "all.safetensors:labels", "--weights", tmp_path / "w.npz", "--direction", 0.8,
        "--refresh", "adaptive:0.2", "--reject", "quantile:0.05", "--reject-own", "--all-rejected", "keep_match",
        "--perturb", 0.01, "--ema", 0.9, "--no-calibrate", "--search", "torch", "--seed", 3, "--pool", 3, "--lr", 0.002,
        "--network", "reference",
    ]  # fmt: skip
    out = tmp_path / "out"
    run("fit", tmp_path / "all.safetensors:x", "--out", out, *SMALL, *everything)
    run("sample", out, "-n", 5, "--condition", 1, "--out", tmp_path / "s.npy")
    np.save(tmp_path / "c.npy", np.array([0, 1, 1]))
    run("sample", out, "-n", 3, "--condition", tmp_path / "c.npy", "--out", tmp_path / "s.npy")
    assert (
        "labels 0, 1, received 2"
        in run("sample", out, "-n", 5, "--condition", 2, "--out", tmp_path / "t.npy", code=3).stderr
    )
    assert "received None" in run("sample", out, "-n", 5, "--out", tmp_path / "t.npy", code=3).stderr
    run("sample", out, "-n", 5, "--condition", "x", "--out", tmp_path / "t.npy", code=3)
    assert not (tmp_path / "t.npy").exists()
    figures = run(
        "evaluate", out, tmp_path / "all.safetensors:x", "--condition", tmp_path / "all.safetensors:labels", "--json"
    )
    assert json.loads(figures.stdout)["rows"] == 120


def test_vector_conditions(ring, tmp_path):
    np.save(tmp_path / "x.npy", ring)
    np.save(tmp_path / "c.npy", ring[:, :2])
    out = tmp_path / "out"
    run("fit", tmp_path / "x.npy", "--condition", tmp_path / "c.npy", "--out", out, *SMALL, "--refresh", "batch")
    run("sample", out, "-n", 4, "--condition", "0.5,-1", "--out", tmp_path / "s.npy")
    assert np.load(tmp_path / "s.npy").shape == (4, 3)


def test_the_defaults_are_those_of_the_library(latents, tmp_path):
    settings = json.loads(run("fit", latents, "--out", tmp_path / "out", "--dry-run").stdout)
    assert settings == json.loads(json.dumps({"examples": [120, 3], **imle.IMLE().to_dict()}))


def test_dry_run_trains_nothing(latents, tmp_path):
    settings = json.loads(run("fit", latents, "--out", tmp_path / "out", *SMALL, "--dry-run").stdout)
    assert settings["examples"] == [120, 3]
    assert settings["epochs"] == 3
    assert not (tmp_path / "out").exists()


def test_dry_run_checks_what_a_fit_would(latents, tmp_path):
    out = tmp_path / "out"
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.nan]]))
    np.save(tmp_path / "negative.npy", -np.ones(120))
    np.save(tmp_path / "labels.npy", np.zeros(59, int))
    for options, code in (
        ([tmp_path / "nan.npy"], 3), ([latents, "--weights", tmp_path / "negative.npy"], 3),
        ([latents, "--condition", tmp_path / "labels.npy"], 3), ([latents, "--pool", "0.0001"], 2),
    ):  # fmt: skip
        run("fit", *options, "--out", out, *SMALL, "--dry-run", code=code)
        assert not out.exists()
    run("fit", latents, "--out", out, *SMALL)
    before = sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*"))
    run("fit", latents, "--out", out, *SMALL, "--dry-run")
    assert "lr was" in run("fit", latents, "--out", out, *SMALL, "--lr", 0.01, "--dry-run", code=4).stderr
    run("fit", latents, "--out", out, *SMALL, "--lr", 0.01, "--dry-run", "--fresh")
    assert sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*")) == before


def test_ages_of_the_adaptive_rule(latents, tmp_path):
    for text, rule in (
        ("adaptive", imle.Adaptive()),
        ("adaptive:0.2", imle.Adaptive(0.2)),
        ("adaptive:0.2,3,7", imle.Adaptive(0.2, 3, 7)),
    ):
        shown = json.loads(run("fit", latents, "--out", tmp_path / "out", "--refresh", text, "--dry-run").stdout)
        assert shown["refresh"] == {"Adaptive": dataclasses.asdict(rule)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs: expected an integer >= 1"),
        (["--network", "gan"], "residual"),
        (["--refresh", "never"], "refresh: expected every:K"),
        (["--refresh", "every:0"], "Every.epochs"),
        (["--refresh", "every:x"], "refresh: expected every:K"),
        (["--refresh", "adaptive:x"], "refresh"),
        (["--refresh", "adaptive:0.1,5,2"], "Adaptive.max_age: expected an integer >= 5"),
        (["--reject", "0.1"], "reject: expected eps:V"),
        (["--reject", "eps:"], "expected a number"),
        (["--reject", "rate:2"], "Reject.rate"),
        (["--reject-own"], "--reject"),
        (["--device", "abacus"], "device: expected cpu"),
    ],
)
def test_usage_errors(options, message, latents, tmp_path):
    assert message in run("fit", latents, "--out", tmp_path / "out", *options, code=2).stderr


def bad_files(folder):
    np.save(folder / "nan.npy", np.array([[1.0, np.nan]]))
    np.save(folder / "flat.npy", np.ones(5))
    np.save(folder / "none.npy", np.ones((0, 5)))
    np.save(folder / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    (folder / "pickled.npy").write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    (folder / "empty.npy").write_bytes(b"")
    (folder / "text.npz").write_text("not an archive")
    (folder / "text.safetensors").write_text("not tensors")
    (folder / "x.csv").write_text("1,2")
    np.savez(folder / "two.npz", a=np.ones((3, 2)), b=np.ones((3, 2)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan.npy", "row 0"),
        ("flat.npy", "received shape (5,)"),
        ("none.npy", "received shape (0, 5)"),
        ("objects.npy", "cannot read"),
        ("pickled.npy", "cannot read"),
        ("empty.npy", "cannot read"),
        ("text.npz", "cannot read"),
        ("text.safetensors", "cannot read"),
        ("x.csv", "ends in .npy, .npz, .safetensors"),
        ("missing.npy", "found none"),
        ("two.npz", "found a, b"),
        ("two.npz:c", "an array 'c'"),
    ],
)
def test_data_errors(name, message, tmp_path):
    bad_files(tmp_path)
    assert message in run("fit", tmp_path / name, "--out", tmp_path / "out", *SMALL, code=3).stderr


def test_a_memory_map_of_40_gigabytes_is_looked_at_in_slabs(tmp_path):
    """A sparse file, with a bad row near its start: the error comes at once, nothing is loaded whole."""
    array = np.lib.format.open_memmap(tmp_path / "huge.npy", "w+", np.float32, (10_000_000, 1024))
    array[5, 7] = np.nan
    array.flush()
    del array
    started = time.monotonic()
    assert "row 5" in run("fit", tmp_path / "huge.npy", "--out", tmp_path / "out", *SMALL, code=3).stderr
    assert time.monotonic() - started < 20


def test_a_memory_map_beyond_the_limit_stays_on_disk_and_gives_the_same(latents, ring, monkeypatch):
    small = imle.IMLE(epochs=2, noise_dim=3, width=16, depth=1, batch_size=32)
    expected = small.fit(ring).state_dict()
    monkeypatch.setattr("imle.data.IN_MEMORY_BYTES", 100)
    got = small.fit(np.load(latents, mmap_mode="r")).state_dict()
    assert all(torch.equal(expected[k], got[k]) for k in expected)


def test_safetensors_are_mapped_too(ring, tmp_path):
    whole = {"z": ring, "half": ring.half(), "brain": ring.bfloat16(), "labels": torch.arange(120) % 3}
    save_file(whole, tmp_path / "x.safetensors")
    for name, tensor in whole.items():
        got = read_array(f"{tmp_path / 'x.safetensors'}:{name}")
        assert isinstance(got, np.memmap) == (name != "brain")
        assert torch.equal(torch.as_tensor(np.array(got)) if name != "brain" else got, tensor)
    run("fit", f"{tmp_path / 'x.safetensors'}:z", "--condition", f"{tmp_path / 'x.safetensors'}:labels",
        "--out", tmp_path / "out", *SMALL)  # fmt: skip
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_other_data_errors(latents, tmp_path):
    run("fit", latents, "--out", tmp_path / "out", *SMALL)
    assert "expected a folder or a Hub id" in run("sample", "no such: id", "-n", 1, "--out", "x.npy", code=3).stderr
    assert "ends in .npy or .safetensors" in run("sample", tmp_path / "out", "-n", 1, "--out", "x.csv", code=3).stderr
    np.save(tmp_path / "wide.npy", np.ones((50, 4)))
    assert "expected (N, 3)" in run("evaluate", tmp_path / "out", tmp_path / "wide.npy", code=3).stderr
    run("fit", latents, "--weights", tmp_path / "wide.npy", "--out", tmp_path / "new", *SMALL, code=3)
    assert "-n: expected more than" in run("evaluate", tmp_path / "out", latents, "-n", 3, code=2).stderr


@pytest.mark.parametrize(
    "theirs",
    [
        {"config.json": "{}"},
        {"config.json": "{}", "model.safetensors": "", "checkpoints/epoch100.pt": ""},
        {"config.json": '{"noise_dim": 3, "shape": [3]}', "model.safetensors": ""},
        {"checkpoints/epoch100.pt": ""},
        {"model.safetensors": "x"},
        {"metrics.jsonl": "1\n"},
        {"metrics.jsonl": "what is this\n"},
        {"metrics.jsonl": '{"mine": 1}'},
        {"metrics.jsonl": "epoch,loss"},
    ],
)
def test_what_others_made_is_not_touched(theirs, latents, tmp_path):
    for name, text in theirs.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text)
    for option in ([], ["--fresh"], ["--dry-run"]):
        errors = run("fit", latents, "--out", tmp_path / "out", *SMALL, *option, code=2).stderr
        assert "expected a new folder or one of `imle fit`" in errors
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()} == set(theirs)
    assert all((tmp_path / "out" / name).read_text() == text for name, text in theirs.items())


def test_a_fit_that_cannot_begin_leaves_things_as_they_were(latents, tmp_path):
    np.save(tmp_path / "nan.npy", np.full((30, 3), np.nan))
    run("fit", tmp_path / "nan.npy", "--out", tmp_path / "new", *SMALL, code=3)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    run("fit", tmp_path / "nan.npy", "--out", tmp_path / "mine", *SMALL, code=3)
    assert (tmp_path / "mine").is_dir()
    run("fit", latents, "--out", tmp_path / "out", *SMALL)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    run("fit", tmp_path / "nan.npy", "--out", tmp_path / "out", *SMALL, "--fresh", code=3)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("after", range(5))
def test_a_folder_that_is_half_cleared_is_still_ours(after, latents, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run("fit", latents, "--out", out, *SMALL)
    (out / "checkpoints" / ".DS_Store").write_text("")
    removed = []

    def dying(remove):
        def once(*arguments, **options):
            if len(removed) == after:
                raise KeyboardInterrupt
            removed.append(arguments)
            return remove(*arguments, **options)

        return once

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("pathlib.Path.unlink", dying(pathlib.Path.unlink))
        patch.setattr("imle.checkpoint.shutil.rmtree", dying(shutil.rmtree))
        folder.clear(out)
    assert len(removed) == min(after, 4)  # three files, one checkpoint
    assert folder.foreign(out) == ""
    run("fit", latents, "--out", out, *SMALL, "--fresh")


def test_a_line_that_a_crash_cut_short_is_ours(latents, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.jsonl").write_text('{"epoch": 1, "batch_si')
    run("fit", latents, "--out", tmp_path / "out", *SMALL)


def test_a_sampler_that_is_not_there(latents, tmp_path):
    assert "received the file" in run("sample", latents, "-n", 1, "--out", tmp_path / "s.npy", code=3).stderr
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    assert "has not finished" in run("sample", tmp_path / "begun", "-n", 1, "--out", tmp_path / "s.npy", code=3).stderr
    assert "asking the Hugging Face Hub" in run("sample", "no such: id", "-n", 1, "--out", "x.npy", code=3).stderr


def test_version():
    assert "version" in run("--version").stdout


def test_a_folder_in_use_is_refused(latents, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert "another process" in run("fit", latents, "--out", tmp_path / "out", *SMALL, code=5).stderr


def test_a_place_that_cannot_be_written_to_has_its_exit_code(latents, tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in run("fit", latents, "--out", tmp_path / "file" / "out", *SMALL, code=3).stderr
    run("fit", latents, "--out", tmp_path / "out", *SMALL)
    target = tmp_path / "file" / "s.npy"
    run("sample", tmp_path / "out", "-n", 2, "--out", target, code=3)


def test_divergence_has_its_exit_code(latents, tmp_path):
    run("fit", latents, "--out", tmp_path / "out", *SMALL, "--lr", "1e30", code=6)


def test_a_signal_commits_and_the_same_command_goes_on(latents, tmp_path, ring):
    """A real process, so that a real signal can stop it."""
    out = tmp_path / "out"
    options = ["--noise-dim", "3", "--width", "16", "--depth", "1", "--batch-size", "32", "--epochs", "300"]
    command = [sys.executable, "-m", "imle", "fit", str(latents), "--out", str(out), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "goes on from here" in errors
    begun = len((out / "metrics.jsonl").read_text().splitlines())
    assert 0 < begun < 300
    run("fit", latents, "--out", out, *options)
    rows = [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, 301))
    whole = imle.IMLE(epochs=300, noise_dim=3, width=16, depth=1, batch_size=32).fit(ring).state_dict()
    resumed = imle.LatentSampler.from_pretrained(out).state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_help_is_quick_and_imports_no_torch():
    code = "import sys, imle.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0
