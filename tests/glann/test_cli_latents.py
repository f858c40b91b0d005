"""`glann reconstruct`, `glann interpolate` and `glann sample --truncation` as other programs see them."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from glann import GLANN
from glann.cli_latents import _legs
from tests.glann.test_pipeline import glann

QUICK = ("--steps", 5)


@pytest.fixture(scope="module")
def few(photos, tmp_path_factory):
    """Ten images in two folders, one damaged file, one that is no image."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(photos.rglob("*.png"))[:10]:
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    Image.new("RGBA", (40, 30), (0, 90, 200, 128)).save(folder / "other, size.png")
    (folder / "broken.png").write_bytes(b"hello")
    (folder / "notes.txt").write_text("hello")
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_reconstruct_writes_pictures_and_distances(finished, few, tmp_path):
    result = glann("reconstruct", finished, few, "--out", tmp_path / "out", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "out")
    assert "skipped broken.png: not a" in result.stderr
    names = {f"{k:06d}.png" for k in range(11)}
    assert set(contents(tmp_path / "out")) == {*names, "distances.csv", "reconstructions.png"}
    with (tmp_path / "out" / "distances.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows][-1] == "other, size.png"
    assert [row["reconstruction"] for row in rows] == sorted(names)
    assert all(0 < float(row["distance"]) < 1 for row in rows)
    assert Image.open(tmp_path / "out" / "reconstructions.png").size == (8 * 66 - 2, 4 * 66 - 2)

    # One file alone has the same reconstruction, and the same call overwrites itself with the same bytes.
    assert glann("reconstruct", finished, few / rows[4]["path"], "--out", tmp_path / "one", *QUICK).exit_code == 0
    before = contents(tmp_path / "out")
    assert contents(tmp_path / "one")["000000.png"] == before["000004.png"]
    assert glann("reconstruct", finished, few, "--out", tmp_path / "out", *QUICK).exit_code == 0
    assert contents(tmp_path / "out") == before
    assert glann("reconstruct", finished, few / rows[4]["path"], "--out", tmp_path / "out", *QUICK).exit_code == 3
    assert contents(tmp_path / "out") == before


def test_reconstruct_replaces_nothing_of_another_kind(finished, few, tmp_path):
    for name, data in (("distances.csv", "a,b\n1,2\n"), ("reconstructions.png", "hello"), ("notes.txt", "hello")):
        (tmp_path / name).write_text(data)
        result = glann("reconstruct", finished, few, "--out", tmp_path, *QUICK)
        assert result.exit_code == 3
        assert name in result.stderr
        assert contents(tmp_path) == {name: data.encode()}
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("samples", "more", "frames"), [([], [], 10), ([], ["--loop"], 10), ([], ["--frames", 5], 5), ([3, 0, 7], [], 10)]
)
def test_a_strip_between_samples(finished, tmp_path, samples, more, frames):
    named = [part for k in samples for part in ("--sample", k)]
    result = glann("interpolate", finished, "--seed", 2, "--out", tmp_path / "way.png", *named, *more)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "way.png")
    strip = np.asarray(Image.open(tmp_path / "way.png")).astype(int)
    assert strip.shape == (64, frames * 66 - 2, 3)
    model = GLANN.from_pretrained(finished)
    for k, column in ((samples or [0])[0], 0), ((samples or [1])[-1], frames - 1):
        if column == 0 or "--loop" not in more:  # an open way ends with its last sample
            image = model.sample(1, 2, start=k)[0].permute(1, 2, 0).repeat_interleave(4, 0).repeat_interleave(4, 1)
            assert np.abs(strip[:, column * 66 : column * 66 + 64] - image.numpy() * 255).max() <= 1


@pytest.mark.parametrize("suffix", ["gif", "webp"])
@pytest.mark.parametrize("loop", [False, True])
def test_an_animation_has_the_frames_asked_for(finished, tmp_path, suffix, loop):
    out = tmp_path / f"way.{suffix}"
    assert glann("interpolate", finished, "--out", out, "--frames", 12, *(["--loop"] if loop else [])).exit_code == 0
    with Image.open(out) as picture:
        assert picture.n_frames == 12
        assert picture.size == (128, 128)
        assert picture.info["loop"] == 0
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_a_strip_between_images_ends_at_their_reconstructions(finished, few, tmp_path):
    ends = sorted(few.rglob("[0-9]*.png"))[:2]
    for name, path in zip("ab", ends, strict=True):
        assert glann("reconstruct", finished, path, "--out", tmp_path / name, *QUICK).exit_code == 0
    options = ["--from", ends[0], "--to", ends[1], "--frames", 4, *QUICK]
    assert glann("interpolate", finished, "--out", tmp_path / "way.png", *options).exit_code == 0
    strip = np.asarray(Image.open(tmp_path / "way.png")).astype(int)
    for name, column in (("a", 0), ("b", 3)):
        end = np.asarray(Image.open(tmp_path / name / "000000.png")).astype(int).repeat(4, 0).repeat(4, 1)
        assert np.abs(strip[:, column * 66 : column * 66 + 64] - end).max() <= 1


def test_every_stop_has_its_frames():
    assert _legs(2, 10, loop=False) == [(0, 1, 9)]
    assert _legs(2, 10, loop=True) == [(0, 1, 5), (1, 0, 5)]
    assert _legs(4, 9, loop=True) == [(0, 1, 2), (1, 2, 2), (2, 3, 2), (3, 0, 3)]
    assert all(count >= 1 for stops in (2, 3, 4) for loop in (True, False) for _, _, count in _legs(stops, stops, loop))


def test_truncated_samples_have_the_same_bytes_in_every_call(finished, tmp_path):
    for name, options in {"a": [], "b": ["--batch-size", 5], "c": ["-n", 9]}.items():
        options = ["-n", 16, "--seed", 7, "--truncation", 0.3, *options]
        assert glann("sample", finished, "--out", tmp_path / name, *options).exit_code == 0
    first = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == first
    assert contents(tmp_path / "c").items() <= first.items()
    assert glann("sample", finished / "model", "-n", 16, "--seed", 7, "--out", tmp_path / "all").exit_code == 0
    kept = contents(tmp_path / "all").items() & first.items()
    assert 0 < len(kept) < 16
    model = GLANN.from_pretrained(finished / "model")
    assert torch.equal(model.sample(4, 7, truncation=0.3, start=3), model.sample(9, 7, truncation=0.3)[3:7])
    assert torch.equal(model.sample(4, 7, truncation=1.0), model.sample(4, 7))


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["sample", "RUN", "--truncation", "0", "--out", "x"], 2, "--truncation"),
        (["sample", "RUN", "--truncation", "1.5", "--out", "x"], 2, "--truncation"),
        (["sample", "RUN", "--truncation", "nan", "--out", "x"], 2, "nan"),
        (["reconstruct", "RUN", "FEW"], 2, "--out"),
        (["reconstruct", "RUN", "FEW", "--out", "x.png"], 2, "x.png"),
        (["reconstruct", "RUN", "FEW", "--out", "FEW/out"], 2, "outside"),
        (["reconstruct", "RUN", "FEW", "--out", "OUT", "--steps", "-1"], 2, "--steps"),
        (["reconstruct", "RUN", "FEW", "--out", "OUT", "--device", "cuda:99"], 2, "cuda:99"),
        (["reconstruct", "RUN", "FEW", "--out", "RUN"], 3, "name another --out"),
        (["reconstruct", "RUN", "FEW", "--out", "RUN/run.toml"], 3, "run.toml"),
        (["reconstruct", "RUN", "nonesuch", "--out", "OUT"], 3, "nonesuch"),
        (["reconstruct", "RUN", "FEW/broken.png", "--out", "OUT"], 3, "broken.png"),
        (["reconstruct", "RUN", "EMPTY", "--out", "OUT"], 3, "none in it"),
        (["reconstruct", "nonesuch", "FEW", "--out", "OUT"], 3, "nonesuch"),
        (["interpolate", "RUN"], 2, "--out"),
        (["interpolate", "RUN", "--out", "x.jpg"], 2, "x.jpg"),
        (["interpolate", "RUN", "--out", "x.png", "--frames", "1"], 2, "--frames"),
        (["interpolate", "RUN", "--out", "x.png", "--loop", "--frames", "3"], 2, "at least 4"),
        (["interpolate", "RUN", "--out", "x.png", "--sample", "3"], 2, "twice"),
        (["interpolate", "RUN", "--out", "x.png", "--from", "FEW/broken.png"], 2, "--to"),
        (["interpolate", "RUN", "--out", "x.png", "--from", "FEW", "--to", "FEW/broken.png"], 3, "expected an image"),
        (["interpolate", "RUN", "--out", "no/such/folder/x.gif"], 3, "does not exist"),
        (["interpolate", "EMPTY", "--out", "x.gif"], 3, "model.safetensors"),
    ],
)
def test_bad_input_is_named_in_one_line(finished, few, tmp_path, monkeypatch, arguments, code, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    places = {"RUN": finished, "FEW": few, "OUT": tmp_path / "OUT", "EMPTY": tmp_path / "EMPTY"}
    first = [a.split("/")[0] for a in arguments]
    given = [a.replace(f, str(places.get(f, f)), 1) for a, f in zip(arguments, first, strict=True)]
    result = glann(*given)
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert named in last
    assert [p.name for p in tmp_path.iterdir()] == ["EMPTY"]
