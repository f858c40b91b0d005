"""Augmented rows: what each is, that the record says so, and that a run with them is right from end to end."""

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from glann.augment import Augmented, Change, augmented, changes
from glann.cli import main
from glann.images import ImageSet, load
from glann.model import GLANN
from tests.glann.conftest import TINY


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 48)).astype(np.uint8)
    return ImageSet(pixels, [f"{i}.png" for i in range(5)], ["b", "a", "b", "b", "a"], "f", 0)


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("flip", 2), ("shift", 5), ("flip+shift", 10)])
def test_changes_are_all_different_and_begin_with_none(kind, count):
    made = changes(kind, (32, 48))
    assert made[0] == Change()
    assert len(set(made)) == len(made) == count
    assert {abs(change.down) + abs(change.right) for change in made} <= {0, 2}


def test_every_row_is_what_the_record_says(images):
    more = augmented(images, "flip+shift")
    assert isinstance(more, Augmented)
    assert len(more) == 50
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    batch, record = more.batch(rows), more.tensors()
    for row, found in zip(rows.tolist(), batch, strict=True):
        image, (down, right) = int(record["image"][row]), record["shift"][row].tolist()
        expected = images.pixels[image][:, :, :: -1 if record["flip"][row] else 1] / np.float32(255)
        expected = np.roll(expected, (down, right), (1, 2))
        np.testing.assert_array_equal(found[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2])  # the rest is filled
        assert more.class_rows()[row] == images.class_rows()[image]
    assert torch.equal(more.batch(range(5)), images.batch(range(5)))


def test_nothing_is_added_without_augmentation_and_the_fingerprint_tells(images):
    assert augmented(images, "none") is images
    assert len({augmented(images, kind).fingerprint for kind in ("none", "flip", "shift", "flip+shift")}) == 4


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("augmented") / "run"
    options = ["--set", "glo.augment=flip", "--labels"]
    result = CliRunner().invoke(main, ["fit", str(photos), "--out", str(out), *TINY, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


def test_a_run_keeps_its_images_once_and_tells_each_latent_its_image(run):
    learnt = safetensors.torch.load_file(run / "glo" / "latents.safetensors")
    assert len(load(run / "images")) == 40
    assert {key: len(value) for key, value in learnt.items()} == dict.fromkeys(
        ["latents", "losses", "labels", "image", "flip", "shift"], 80
    )
    assert learnt["image"].tolist() == [*range(40), *range(40)]
    assert torch.equal(learnt["labels"][:40], learnt["labels"][40:])
    assert GLANN.from_pretrained(run).config["class_counts"] == [20, 20]


def test_what_follows_knows_the_images_from_their_augmentations(run, photos, tmp_path):
    losses = safetensors.torch.load_file(run / "glo" / "latents.safetensors")["losses"][:40]
    assert load(run / "images").paths[int(losses.argmax())] in (run / "report.html").read_text()  # among the worst
    results = [
        CliRunner().invoke(main, [str(part) for part in command])
        for command in (
            ["reconstruct", run, photos, "--out", tmp_path / "copies", "--steps", 2],
            ["info", run],
            ["fit", photos, "--out", run],
            ["fit", photos, "--out", run, "--set", "glo.augment=none"],
        )
    ]
    assert [result.exit_code for result in results] == [0, 0, 0, 4]
    assert "augmented by flip" in results[1].output
    assert "nothing to do" in results[2].output
    assert "glo.augment was 'flip', asked 'none'" in results[3].output
