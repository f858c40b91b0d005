"""Images that are held out: which, that no model sees them, and that a run keeps to them."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import Counter

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from glann import images
from glann.holdout import Holdout
from glann.images import load, prepare
from imle.errors import DataError
from tests.glann.conftest import TINY
from tests.glann.test_pipeline import INTERRUPTED, everything, glann, model_bytes

HELD = [*TINY, "--holdout", "0.4", "--set", "imle.epochs=24"]  # 16 of the 40 photos


@pytest.fixture(scope="module")
def held(photos, tmp_path_factory):
    """A finished run that held images out; look, don't touch."""
    out = tmp_path_factory.mktemp("held") / "run"
    result = glann("fit", photos, "--out", out, *HELD)
    assert result.exit_code == 0, result.stderr
    return out


def manifest(run):
    with (run / "images" / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def split(run, name):
    return [row["path"] for row in manifest(run) if row["split"] == name]


def rows(run, stage="imle"):
    """Those of metrics.jsonl, without what no two runs share."""
    found = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in found]


@pytest.mark.parametrize("share", [0.1, 0.29, 1 / 3, 0.5])
@pytest.mark.parametrize("seed", [0, 7])
def test_every_class_gives_its_share_and_keeps_some(share, seed):
    sizes = {"few": 2, "odd": 7, "one": 1, "many": 1000, "some": 90}
    classes = {f"{name}/{k}.png": name for name, count in sizes.items() for k in range(count)}
    chosen = Holdout(share, seed).choose(classes)
    assert abs(len(chosen) - share * 1099) <= 1  # the class of one image keeps it
    for name, given in Counter(classes[path] for path in chosen).items():
        assert abs(given - share * sizes[name]) <= 1 + 1e-9
        assert given < sizes[name]


def test_the_choice_is_that_of_the_seed_and_spread_over_all():
    classes = {f"{k:04d}.png": "" for k in range(1000)}
    chosen = Holdout(0.2, 3).choose(classes)
    assert chosen == Holdout(0.2, 3).choose(dict(reversed(classes.items())))
    other = Holdout(0.2, 4).choose(classes)
    assert 20 < len(chosen & other) < 60  # 40 by chance
    assert 400 < np.mean([int(path[:4]) for path in chosen]) < 600


@pytest.mark.parametrize(("share", "count"), [(0.16, 16), (0.29, 29), (0.495, 49), (0.5, 50)])
def test_shares_of_100(share, count):
    assert len(Holdout(share, 0).choose({str(k): "" for k in range(100)})) == count


@pytest.mark.parametrize("share", [0, -0.1, 0.51, 1, float("nan"), float("inf")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="expected a holdout above 0 and at most"):
        Holdout(share, 0)


def test_too_few_to_hold_out_are_refused():
    with pytest.raises(DataError, match=r"received 15: a holdout of 0\.1 of 150 usable images"):
        Holdout(0.1, 0).choose({str(k): "" for k in range(150)})


def test_the_cache_has_both_parts_in_order(photos, tmp_path):
    made = prepare(photos, tmp_path / "images", holdout=Holdout(0.4, 0))
    whole = prepare(photos, tmp_path / "whole")
    assert whole.held_out is None
    assert (len(made), len(made.held_out)) == (24, 16)
    assert made.paths == sorted(made.paths)
    assert made.held_out.paths == sorted(made.held_out.paths)
    assert sorted(made.paths + made.held_out.paths) == whole.paths
    for part in (made, made.held_out):
        np.testing.assert_array_equal(part.pixels, whole.pixels[[whole.paths.index(path) for path in part.paths]])
        assert not part.pixels.flags.writeable
    assert made.fingerprint != whole.fingerprint
    for again in (load(tmp_path / "images"), prepare(photos, tmp_path / "images")):  # found, not made again
        assert (again.paths, again.held_out.paths) == (made.paths, made.held_out.paths)


def test_a_cache_of_before_there_was_a_split_is_read(photos, tmp_path):
    made = prepare(photos, tmp_path / "images")
    path, facts = tmp_path / "images" / "manifest.csv", tmp_path / "images" / "images.json"
    path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()) + "\n")
    facts.write_text(json.dumps({k: v for k, v in json.loads(facts.read_text()).items() if k != "held_out"}))
    again = prepare(photos, tmp_path / "images")
    assert (again.fingerprint, again.paths, again.held_out) == (made.fingerprint, made.paths, None)


def test_copies_are_trained_on(photos, tmp_path):
    source = shutil.copytree(photos, tmp_path / "photos")
    first, second = (sorted((source / name).glob("*.png")) for name in ("class 0", "class 1"))
    for k, path in enumerate(first[:2] + second[:2]):
        shutil.copy(path, source / "class 1" / f"copy{k}.png")
    (source / "class 2").mkdir()
    for path in first[:3]:  # a class of nothing but copies
        shutil.copy(path, source / "class 2")
    made = prepare(source, tmp_path / "images", labels=True, holdout=Holdout(0.5, 1))
    parts = [{(source / path).read_bytes() for path in part.paths} for part in (made, made.held_out)]
    assert not parts[0] & parts[1]
    assert len(made) + len(made.held_out) == 47
    assert len(made.held_out) == 17  # half of those 35 that have no copy
    assert set(made.labels) == {"class 0", "class 1", "class 2"}
    assert prepare(source, tmp_path / "images", labels=True).held_out.paths == made.held_out.paths


def test_too_few_without_a_copy_are_refused(photos, tmp_path):
    source = shutil.copytree(photos, tmp_path / "photos")
    for path in sorted(source.rglob("*.png"))[:20]:
        shutil.copy(path, source / f"{path.parent.name} {path.name}")
    with pytest.raises(
        DataError, match=r"received 10: a holdout of 0\.5 of 60 usable images, of which those with a copy"
    ):
        prepare(source, tmp_path / "images", holdout=Holdout(0.5, 0))


def test_files_that_cannot_be_decoded_do_not_count(photos, tmp_path):
    source = shutil.copytree(photos, tmp_path / "photos")
    chosen = sorted(prepare(source, tmp_path / "first", holdout=Holdout(0.4, 0)).held_out.paths)
    data = (source / chosen[0]).read_bytes()
    (source / chosen[0]).write_bytes(data[: len(data) * 2 // 3])  # its header is fine
    with pytest.raises(DataError, match="at least 16 images to hold out, received 15"):
        prepare(source, tmp_path / "second", holdout=Holdout(0.4, 0))
    assert not (tmp_path / "second").exists()


def test_what_the_run_says_of_it(held, photos):
    assert tomllib.loads((held / "run.toml").read_text())["holdout"] == 0.4
    assert (len(split(held, "training")), len(split(held, "held out"))) == (24, 16)
    assert len(safetensors.torch.load_file(held / "glo" / "latents.safetensors")["latents"]) == 24
    assert "40, 16×16 RGB, 16 held out" in glann("info", held).stdout
    page = (held / "report.html").read_text(encoding="utf-8")
    assert "learnt from 24 images" in page
    assert "<dt>held out</dt><dd>16</dd>" in page
    assert "Stage 2, imle: distance to held-out images" in page
    assert "held-out scores" in page


def test_no_model_sees_a_held_out_image(held, photos, tmp_path):
    source = shutil.copytree(photos, tmp_path / "photos")
    for k, path in enumerate(split(held, "held out")):
        noise = np.random.default_rng(k).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(source / path)
    assert glann("fit", source, "--out", tmp_path / "run", *HELD).exit_code == 0
    assert split(tmp_path / "run", "held out") == split(held, "held out")
    assert model_bytes(tmp_path / "run") == model_bytes(held)
    assert rows(tmp_path / "run", "glo")[-1]["loss"] == rows(held, "glo")[-1]["loss"]
    assert [row for row in rows(tmp_path / "run") if "held_out_images" in row] != [
        row for row in rows(held) if "held_out_images" in row
    ]


def test_the_training_images_alone_give_the_same_model(held, photos, tmp_path):
    for path in split(held, "training"):
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / path, tmp_path / "photos" / path)
    alone = [one for one in HELD if one not in ("--holdout", "0.4")]
    assert glann("fit", tmp_path / "photos", "--out", tmp_path / "run", *alone).exit_code == 0
    assert model_bytes(tmp_path / "run") == model_bytes(held)
    assert not any("held_out_images" in row for row in rows(tmp_path / "run"))


@pytest.mark.parametrize("moment", [("imle/checkpoints/", 2), ("imle/checkpoints/", 13), ("imle/metrics", 1)])
def test_kill_9_then_the_same_command_ends_with_the_same_scores(held, photos, tmp_path, moment):
    path, n = moment
    command = [sys.executable, "-c", INTERRUPTED, str(int(signal.SIGKILL)), "os.rename", str(n), path]
    command += ["fit", str(photos), "--out", str(tmp_path / "run"), *HELD]
    assert subprocess.run(command, capture_output=True, timeout=240).returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model").exists()
    assert glann("fit", photos, "--out", tmp_path / "run").exit_code == 0
    assert model_bytes(tmp_path / "run") == model_bytes(held)
    assert rows(tmp_path / "run") == rows(held)


def test_the_same_command_again_scores_nothing_and_another_share_is_exit_4(held, photos, finished):
    before = everything(held)
    for again in (HELD, []):
        result = glann("fit", photos, "--out", held, *again)
        assert result.exit_code == 0
        assert "nothing to do" in result.stderr
        assert "kernel distance" not in result.stderr
    for run, was, asked in ((held, "0.4", "0.5"), (finished, "0", "0.4")):
        result = glann("fit", photos, "--out", run, "--holdout", asked)
        assert result.exit_code == 4
        assert f"holdout was {was}, asked {asked}" in result.stderr
    assert {path: data for path, data in everything(held).items() if path.name != "report.html"} == {
        path: data for path, data in before.items() if path.name != "report.html"
    }


def test_a_lost_cache_is_made_again_with_the_same_images(held, photos, tmp_path):
    run = shutil.copytree(held, tmp_path / "run")
    shutil.rmtree(run / "images")
    assert "nothing to do" in glann("fit", photos, "--out", run).stderr
    assert manifest(run) == manifest(held)


@pytest.mark.parametrize(
    ("share", "code", "message"),
    [
        *((bad, 2, "expected a holdout above 0 and at most 0.5") for bad in ("0", "1", "-0.1", "0.51", "nan", "inf")),
        ("many", 2, "'many' is not a valid float"),
        ("0.38", 3, "expected at least 16 images to hold out, received 15: a holdout of 0.38 of 40 usable images"),
    ],
)
def test_bad_shares_are_refused_before_anything_is_begun(share, code, message, photos, tmp_path):
    result = glann("fit", photos, "--out", tmp_path / "run", *TINY, "--holdout", share)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_fresh_may_hold_out_others(held, photos, tmp_path):
    run = shutil.copytree(held, tmp_path / "run")
    assert glann("fit", photos, "--out", run, *TINY, "--fresh", "--holdout", 0.5, "--seed", 1).exit_code == 0
    assert len(split(run, "held out")) == 20
    assert set(split(run, "held out")) - set(split(held, "held out"))


def test_with_labels_each_class_gives_the_same_share(photos, tmp_path):
    result = glann("fit", photos, "--out", tmp_path / "run", *HELD, "--labels", "--set", "imle.epochs=2")
    assert result.exit_code == 0, result.stderr
    assert Counter(path.split("/")[0] for path in split(tmp_path / "run", "held out")) == {"class 0": 8, "class 1": 8}
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["class_counts"] == [12, 12]
    assert all(row["held_out_images"] == 16 for row in rows(tmp_path / "run"))


def test_evaluate_can_leave_out_what_was_trained_on(photos, tmp_path, monkeypatch, held):
    monkeypatch.setattr("glann.evaluate.LEAST", 8)  # 16 held-out images are two sets of 8
    monkeypatch.setattr("glann.scores.LEAST", 8)
    asked = ("--json", "--features", "small-vgg", "--unseen", "--picture", tmp_path / "p.png")
    result = glann("evaluate", held, photos, *asked)
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert (facts["n_real"], facts["n_images"], facts["n_real_trained_on"]) == (8, 16, 0)
    assert facts["memorisation"]["n_training"] == 24
    assert "training images: a model" not in result.stderr
    refused = glann("evaluate", held, photos, *asked, "-n", 9)
    assert refused.exit_code == 2
    assert "expected n from 8 to 8, half of the 16 unseen images" in refused.stderr


def test_evaluate_of_unseen_images_needs_a_run_and_its_images(held, finished, photos, tmp_path):
    result = glann("evaluate", held / "model", photos, "--unseen")
    assert result.exit_code == 2
    assert "expected a run folder" in result.stderr
    result = glann("evaluate", finished, photos, "--unseen", "--features", "small-vgg")
    assert result.exit_code == 3
    assert "expected at least 32 unseen images" in result.stderr
    run = shutil.copytree(held, tmp_path / "run")
    shutil.rmtree(run / "images")
    result = glann("evaluate", run, photos, "--unseen", "--features", "small-vgg")
    assert result.exit_code == 3
    assert "are not at hand" in result.stderr
    with pytest.raises(images.ResumeError):
        load(run / "images")
