"""`glann evaluate` as other programs see it."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from glann import GLANN, pictures, reconstruction
from glann.evaluate import evaluate
from glann.info import read_run
from glann.inversion import training_latents
from tests.glann.conftest import TINY
from tests.glann.test_pipeline import glann

QUICK = ("--features", "small-vgg")
NUMBERS = (
    *("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage", "diversity"),
    *("memorised_share", "psnr_reconstruction"),
)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """40 images of two folders, none of them trained on, of another size and shape."""
    folder = tmp_path_factory.mktemp("unseen")
    generator = torch.Generator().manual_seed(1)
    for k in range(40):
        picture = pictures.to_pil(torch.rand(3, 3, 4, generator=generator)).resize((40, 30), Image.Resampling.BICUBIC)
        (folder / f"class {k % 2}").mkdir(exist_ok=True)
        picture.save(folder / f"class {k % 2}" / f"{k:02d}.png")
    return folder


def test_scores_of_a_run_on_its_own_images(copied, photos):
    result = glann("evaluate", copied, photos, "--json", *QUICK)
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert all(isinstance(facts[key], float) for key in NUMBERS)
    assert facts["real_floor"].keys() >= set(NUMBERS) - {"psnr_reconstruction"}
    assert facts["frechet_distance"] > facts["real_floor"]["frechet_distance"]
    assert (facts["n_real"], facts["n_generated"], facts["n_images"]) == (20, 20, 40)
    assert facts["n_real_trained_on"] == 20
    assert (facts["features"], facts["leading"]) == ("small-vgg", "kernel_distance")
    assert any("20 of the 20 real images are training images" in line for line in facts["warnings"])
    assert any("kernel distance" in line and line in result.stderr for line in facts["warnings"])
    assert facts["lpips_reconstruction"] is None
    assert facts["n_reconstructions"] == 40

    # PSNR is that of the images and their latents.
    model = GLANN.from_pretrained(copied)
    latents = training_latents(copied, read_run(copied).stages).latents
    originals = torch.stack([torch.from_numpy(_pixels(p)) for p in sorted(photos.rglob("*.png"))]).double()
    squared = (model.decode(latents).double() - originals / 255).square().mean((1, 2, 3))
    assert facts["psnr_reconstruction"] == pytest.approx(float((-10 * squared.log10()).mean()), abs=1e-4)

    # The samples nearest to a training image, by the manifest's paths.
    nearest = facts["memorisation"]["nearest"]
    assert len(nearest) == 16
    assert all((photos / one["training_image"]).is_file() for one in nearest)
    assert [one["closeness"] for one in nearest] == sorted(one["closeness"] for one in nearest)

    # A picture of 16 columns: two blocks of a sample row and three rows of training images, a white row between.
    assert Image.open(copied / "evaluation.png").size == (16 * 66 - 2, 9 * 66 - 2)
    assert json.loads(glann("evaluate", copied, photos, "--json", *QUICK).stdout) == facts


def _pixels(path):
    return np.array(Image.open(path)).transpose(2, 0, 1)


def test_a_model_folder_and_images_it_never_saw(finished, unseen, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "INVERTED", 2)
    shutil.copytree(finished / "model", tmp_path / "model")
    out = tmp_path / "picture.png"
    result = glann("evaluate", tmp_path / "model", unseen, *QUICK, "--labels", "-n", 16, "--picture", out)
    assert result.exit_code == 0, result.stderr
    assert "features   small-vgg" in result.stdout
    assert "2 images from latents found in" in result.stdout
    assert "class 1" in result.stdout
    assert "the folder is taken for them" in result.stderr
    assert pictures.is_ours(out)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_unseen_images_are_counted(finished, photos, unseen, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(photos, both / "seen")
    shutil.copytree(unseen, both / "unseen")
    result = glann("evaluate", finished, both, "--json", *QUICK, "--picture", tmp_path / "p.png")
    facts = json.loads(result.stdout)
    assert (facts["n_images"], facts["n_real"]) == (80, 40)
    assert 10 < facts["n_real_trained_on"] < 30


def test_a_copy_is_not_on_both_sides(finished, unseen, tmp_path):
    both, model = tmp_path / "both", GLANN.from_pretrained(finished)
    shutil.copytree(unseen, both / "a")
    shutil.copytree(unseen, both / "b")
    found, once = (evaluate(model, folder, features="small-vgg") for folder in (both, unseen))
    assert (found.n_images, found.n) == (40, 20)
    assert any("40 files have the content of another one" in line for line in found.warnings)
    assert found.floor == once.floor


def test_names_that_are_not_text_are_in_the_json(photos, tmp_path):
    folder, run = tmp_path / "images", tmp_path / "run"
    folder.mkdir()
    for path in photos.rglob("*.png"):
        shutil.copy(path, folder / os.fsdecode(b"caf\xe9" + path.name.encode()))
    assert glann("fit", folder, "--out", run, *TINY).exit_code == 0
    result = glann("evaluate", run, folder, "--json", *QUICK)
    assert result.exit_code == 0, result.stderr
    first = json.loads(result.stdout.encode("utf-8"))["memorisation"]["nearest"][0]
    assert first["training_image"].startswith("caf\ufffd")


def test_a_model_that_repeats_its_training_images_is_found_out(finished, photos, unseen, monkeypatch):
    model = GLANN.from_pretrained(finished)
    copies = torch.stack([torch.from_numpy(_pixels(p)) for p in sorted(photos.rglob("*.png"))]).float() / 255
    monkeypatch.setattr(GLANN, "sample", lambda self, n, seed=0, *, start=0, truncation=1.0: copies.roll(-start, 0)[:n])
    found = evaluate(model, unseen, features="small-vgg")
    assert found.to_json()["memorised_share"] > 0.9
    paths = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    for one in found.memorised["nearest"]:
        assert one["training_image"] == paths[one["sample"]]
        assert one["closeness"] < 1e-3
    assert len({one["sample"] for one in found.memorised["nearest"]}) == 16


def test_the_share_of_new_images_that_count_as_memorised_is_measured_where_there_are_enough(finished, photos, tmp_path):
    generator, folder = torch.Generator().manual_seed(2), tmp_path / "images"
    shutil.copytree(photos, folder)
    for k in range(110):
        picture = pictures.to_pil(torch.rand(3, 4, 4, generator=generator)).resize((16, 16), Image.Resampling.BICUBIC)
        picture.save(folder / f"{k:03d}.png")
    few = glann("evaluate", finished, photos, *QUICK, "--picture", tmp_path / "p.png")
    assert "(0.010)" in few.stdout
    shutil.copy(folder / "000.png", folder / "copy.png")
    found = evaluate(GLANN.from_pretrained(finished), folder, n=20, features="small-vgg")
    assert found.memorised["floor_of"] == "110 unseen images"
    assert 0 <= found.memorised["floor"] < 0.5
    assert found.n_unseen == 110


def test_the_caveats_of_scores(finished, photos):
    found = evaluate(GLANN.from_pretrained(finished), photos, features="small-vgg")
    assert not any("is not known" in line for line in found.caveats())

    def said(words, **changed):
        return any(words in line for line in replace(found, **changed).caveats())

    usual = {**found.memorised, "contrast": 1.0, "reconstructions_share": 1.0, "n_training": 40}
    assert not said("contrast", memorised=usual)
    assert said("have 69% of the contrast", memorised={**usual, "contrast": 0.69})
    assert not said("copies by design", memorised=usual)
    assert said("only 49% of the reconstructions", memorised={**usual, "reconstructions_share": 0.49})
    assert not said("held against", memorised=usual)
    assert said("held against 40 of 41 training images", memorised=usual, n_training=41)
    assert said("which distance the model was trained with is not known", loss=None)
    assert said("few for 224 features")
    assert not said("few for 224 features", n=448)
    assert not said("--unseen")
    assert said("--unseen", n_unseen=32)


def test_an_exported_model_is_not_judged_by_the_network_of_its_loss(finished, unseen, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "INVERTED", 2)
    model = GLANN.from_pretrained(finished)
    assert model.config["loss"] == "laplacian"
    model.config["loss"] = "2*efficientnet-lite0+l1"
    model.save_pretrained(tmp_path / "model")
    found = evaluate(GLANN.from_pretrained(tmp_path / "model"), unseen, n=16)
    assert found.features.name == "small-vgg"
    assert any("small-vgg judges instead" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 16.5}, "expected n from 16"),
        ({"labels": "no/such.csv"}, r"no/such\.csv"),
        ({"truncation": float("nan")}, "truncation"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, finished, photos):
    with pytest.raises(ValueError, match=message):
        evaluate(GLANN.from_pretrained(finished), str(photos), features="small-vgg", **arguments)


def test_numbers_of_numpy_are_numbers(finished, photos):
    n, seed, truncation = np.int64(16), np.int64(1), np.float32(0.5)
    found = evaluate(
        GLANN.from_pretrained(finished), photos, n=n, seed=seed, truncation=truncation, features="small-vgg"
    )
    facts = json.loads(json.dumps(found.to_json()))
    assert (facts["n_real"], facts["seed"], facts["truncation"]) == (16, 1, 0.5)


def test_a_picture_that_is_not_ours_stays(copied, photos):
    (copied / "evaluation.png").write_text("mine")
    result = glann("evaluate", copied, photos, *QUICK)
    assert result.exit_code == 3
    assert "name another --picture" in result.stderr
    assert (copied / "evaluation.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-n", "21"), 2, "expected n from 16 to 20"),
        (("--features", "vgg"), 2, "vgg"),
        (("--features", "inception"), 3, "glann weights fetch inception"),
        (("--weights", "x.pth"), 2, "no weights"),
        (("--labels", "--labels-file", "x.csv"), 2, "not both"),
        (("--picture", "x.jpg"), 2, "expected a .png file"),
        (("--picture", "nowhere/x.png"), 3, "does not exist"),
    ],
)
def test_bad_requests_are_refused(arguments, code, message, finished, photos):
    result = glann("evaluate", finished, photos, *arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_folders_that_cannot_be_used_are_refused(finished, photos, tmp_path):
    assert glann("evaluate", tmp_path, photos).exit_code == 3
    assert glann("evaluate", finished, tmp_path / "none").exit_code == 3
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.rglob("*.png"))[:20]:
        shutil.copy(path, few)
    result = glann("evaluate", finished, few, *QUICK)
    assert result.exit_code == 3
    assert "expected at least 32 usable images" in result.stderr


def test_a_labelled_run_of_transparent_images_that_are_not_square(tmp_path):
    generator = torch.Generator().manual_seed(3)
    for k in range(40):
        colour = torch.rand(4, 4, 6, generator=generator) * (0.5 + 0.5 * (k % 2))  # the classes differ in brightness
        picture = pictures.to_pil(colour).resize((24, 16), Image.Resampling.BICUBIC)
        (tmp_path / "images" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "images" / "ab"[k % 2] / f"{k:02d}.png")
    fitted = glann("fit", tmp_path / "images", "--out", tmp_path / "run", "--labels", "--size", "16x24", *TINY)
    assert fitted.exit_code == 0, fitted.stderr
    result = glann("evaluate", tmp_path / "run", tmp_path / "images", "--json", *QUICK)
    assert result.exit_code == 0, result.stderr
    classes = json.loads(result.stdout)["classes"]
    assert classes["accuracy"].keys() == {"a", "b"}
    assert classes["class_accuracy_real"] > 0.8
    assert sum(classes["histogram"].values()) == pytest.approx(1)
    assert "seen as it" in glann("evaluate", tmp_path / "run", tmp_path / "images", *QUICK).stdout

    # A folder without the classes is scored without them, and says so; asked for them, it is refused.
    shutil.copytree(tmp_path / "images" / "a", tmp_path / "other" / "c" / "x")
    shutil.copytree(tmp_path / "images" / "b", tmp_path / "other" / "d")
    result = glann("evaluate", tmp_path / "run", tmp_path / "other", "--json", *QUICK)
    assert json.loads(result.stdout)["classes"] is None
    assert "no scores of classes" in result.stderr
    refused = glann("evaluate", tmp_path / "run", tmp_path / "other", "--labels", *QUICK)
    assert refused.exit_code == 3
    assert "expected classes that the model knows, received 'c'" in refused.stderr
