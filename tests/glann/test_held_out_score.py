"""The score of stage 2 against held-out images: when, and of what."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from glann import GLANN, features
from glann.evaluation_images import to_bytes
from glann.held_out_score import HeldOutScore
from glann.images import ImageSet, load
from glann.scores import kernel_chance, kernel_distance
from tests.glann.conftest import TINY
from tests.glann.test_pipeline import glann


def scorer(trained_on, held_out, epochs):
    def images(count, **parts):
        return ImageSet(np.zeros((count, 1, 1, 1), np.uint8), [""] * count, None, "", 0, **parts)

    return HeldOutScore(images(trained_on, held_out=images(held_out)), nn.Identity(), None, epochs, "cpu", print)


@pytest.mark.parametrize(
    ("epochs", "due"),
    [
        (1, [1]),
        (7, [1, 2, 3, 4, 5, 6, 7]),
        (25, [3, 6, 9, 12, 15, 18, 21, 24, 25]),
        (400, list(range(40, 401, 40))),
    ],
)
def test_moments_are_tenths_of_the_training_and_its_end(epochs, due):
    score = scorer(40, 20, epochs)
    assert [epoch for epoch in range(1, epochs + 1) if score.due(epoch)] == due


@pytest.mark.parametrize(
    ("trained_on", "held_out", "count"),
    [
        (40, 20, 20),
        (18, 20, 18),
        (900, 100, 100),
        (1600, 400, 100),
        (4500, 500, 225),
        (4500, 200, 200),
        (50_000, 10_000, 500),
    ],
)
def test_sets_are_a_twentieth_of_the_training_images_between_100_and_500(trained_on, held_out, count):
    assert scorer(trained_on, held_out, 10).count == count


@pytest.mark.parametrize("labels", [[], ["--labels"]])
@pytest.mark.parametrize("calibrate", ["true", "false"])
def test_the_last_score_is_that_of_the_finished_model(photos, tmp_path, labels, calibrate):
    run = tmp_path / "run"
    asked = [*TINY, *labels, "--holdout", "0.4", "--set", f"imle.calibrate={calibrate}"]
    fitted = glann("fit", photos, "--out", run, *asked)
    assert fitted.exit_code == 0, fitted.stderr
    rows = [json.loads(line) for line in (run / "imle" / "metrics.jsonl").read_text().splitlines()]
    key, other = "held_out_kernel_distance", "held_out_kernel_distance_calibrated"
    if calibrate == "true":
        key, other = other, key
        assert all(other in row and key not in row for row in rows[:-1])
    assert other not in rows[-1]
    assert {row["held_out_features"] for row in rows} == {"efficientnet-lite0"}
    assert fitted.stderr.count("calibrated samples") == (calibrate == "true")

    images, judge = load(run / "images"), features.build("efficientnet-lite0", (16, 16))
    real, samples = judge(to_bytes(images.held_out.batch(range(16)))), GLANN.from_pretrained(run).sample(16)
    assert rows[-1][key] == pytest.approx(kernel_distance(real, judge(to_bytes(samples))), abs=1e-4)
    trained_on = judge(to_bytes(images.batch(torch.linspace(0, 23, 16).round().long())))
    (chance,) = {row["held_out_kernel_distance_chance"] for row in rows}
    assert chance == pytest.approx(kernel_chance(real, trained_on), abs=1e-6)


def test_a_network_in_the_loss_does_not_judge(photos, tmp_path):
    asked = ["--set", "glo.loss=efficientnet-lite0", "--set", "imle.epochs=1", "--set", "glo.epochs=1"]
    fitted = glann("fit", photos, "--out", tmp_path / "run", *TINY, *asked, "--holdout", "0.4")
    assert fitted.exit_code == 0, fitted.stderr
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "imle" / "metrics.jsonl").read_text().splitlines()]
    assert row["held_out_features"] == "small-vgg"
    assert "small-vgg judges instead" in fitted.stderr
