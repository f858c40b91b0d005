"""Models that are told a class: from the command to the bytes of a sample."""

import json
import shutil
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

from glann import GLANN, generators, inversion, registry, report
from glann.classes import check_labels, draw_labels, padded
from tests.glann.conftest import TINY
from tests.glann.test_cli import contents
from tests.glann.test_pipeline import everything, glann, model_bytes

NAMES = ["class 0", "class 1"]


@pytest.fixture(scope="module")
def labelled(photos, tmp_path_factory):
    """A finished tiny run with classes; look, don't touch."""
    out = tmp_path_factory.mktemp("runs") / "labelled"
    result = glann("fit", photos, "--out", out, *TINY, "--labels")
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def model(labelled):
    return GLANN.from_pretrained(labelled)


def test_a_labelled_run_says_so_everywhere(labelled, model):
    assert model.classes == NAMES
    config = json.loads((labelled / "model" / "config.json").read_text())
    assert (config["classes"], config["class_counts"]) == (NAMES, [20, 20])
    assert tomllib.loads((labelled / "run.toml").read_text())["labels"] == "subfolders"
    for path in (labelled, labelled / "model"):
        assert "2: class 0, class 1" in glann("info", path).stdout
    assert "class 0, class 1" in (labelled / "model" / "README.md").read_text()
    assert Image.open(labelled / "samples.png").size == (8 * 66 - 2, 2 * 66 - 2)  # a row a class
    page = (labelled / "report.html").read_text()
    assert page.count("New images of class class") == 2
    assert "<span>--class</span>" in page


def test_a_class_name_cannot_break_the_page(labelled, tmp_path):
    run = shutil.copytree(labelled, tmp_path / "run")
    model = GLANN.from_pretrained(run)
    model.config["classes"] = ["<script>\n", "& '"]
    model.save_pretrained(run / "model")
    page = report.write(run).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_unlabelled_models_have_no_classes(finished):
    model = GLANN.from_pretrained(finished)
    assert model.classes == []
    assert "classes" not in model.config
    assert "classes" not in glann("info", finished).stdout
    assert "Classes" not in (finished / "report.html").read_text()
    assert "labels" not in tomllib.loads((finished / "run.toml").read_text())
    for wrong in (lambda: model.sample(2, label=0), lambda: model.decode(torch.ones(2, 8), "class 0")):
        with pytest.raises(ValueError, match="expected no label"):
            wrong()


def test_sample_k_of_a_class_is_the_same_in_every_call(model):
    whole = model.sample(150, seed=3, label="class 1")
    assert torch.equal(whole[:5], model.sample(5, seed=3, label=1))
    assert torch.equal(whole[70:131], model.sample(61, seed=3, label=1, start=70))
    other = model.sample(150, seed=3, label=0)
    assert not torch.equal(whole, other)
    mixed = [k % 2 for k in range(150)]
    for given in (mixed, [NAMES[k] for k in mixed], np.array(mixed), torch.tensor(mixed)):
        both = model.sample(150, seed=3, label=given)
        assert torch.equal(both[::2], other[::2])
        assert torch.equal(both[1::2], whole[1::2])
    assert torch.equal(model.sample(7, seed=3, label=mixed[70:77], start=70), both[70:77])


def test_without_a_class_the_classes_are_drawn(model):
    drawn = model.sample(150, seed=3)
    labels = draw_labels([20, 20], 3, 0, 150)
    assert torch.equal(drawn, model.sample(150, seed=3, label=labels))
    assert torch.equal(drawn[60:90], model.sample(30, seed=3, start=60))


def test_drawn_classes_have_the_shares_of_the_training():
    counts = [1, 0, 6, 3]
    labels = draw_labels(counts, 7, 0, 20_000)
    assert torch.equal(labels[1000:1700], draw_labels(counts, 7, 1000, 700))
    assert not torch.equal(labels, draw_labels(counts, 8, 0, 20_000))
    shares = labels.bincount(minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=0.015, rtol=0)


def test_a_saved_labelled_model_is_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = GLANN.from_pretrained(tmp_path)
    assert again.is_saved_in(tmp_path)
    assert again.classes == NAMES
    assert torch.equal(again.sample(9, seed=1), model.sample(9, seed=1))
    assert torch.equal(again.sample(9, seed=1, label=1), model.sample(9, seed=1, label=1))


def test_decode_is_told_the_class(model):
    z = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    both = model.decode(z, [0, 1, "class 0", 1, 0])
    assert torch.equal(both[:1], model.decode(z, 0)[:1])
    assert torch.equal(both[1:2], model.decode(z, "class 1")[1:2])
    with pytest.raises(ValueError, match="expected a label, one of class 0, class 1"):
        model.decode(z)


@pytest.mark.parametrize("label", ["class 2", "", 2, -1, True, 0.5, [0], [0, 1, 0], [0, "x"], torch.tensor([0, 9])])
def test_unknown_labels_are_refused(model, label):
    with pytest.raises(ValueError, match="expected"):
        model.sample(2, label=label)


def test_labels_are_repeated_around_a_block():
    assert padded(torch.tensor([3, 4]), 2, 6).tolist() == [3, 3, 3, 4, 4, 4]
    assert padded(None, 2, 6) is None
    assert check_labels(["a", "b"], np.int64(1), 2).tolist() == [1, 1]


def test_samples_of_a_class_as_files(labelled, tmp_path):
    for name, options in {"a": [], "b": ["--batch-size", 5]}.items():
        result = glann("sample", labelled, "-n", 12, "--class", "class 1", "--out", tmp_path / name, *options)
        assert result.exit_code == 0, result.output
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert glann("sample", labelled, "-n", 3, "--class", "class 1", "--out", tmp_path / "s.npy").exit_code == 0
    model = GLANN.from_pretrained(labelled)
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), model.sample(3, label=1).numpy())
    assert glann("sample", labelled, "-n", 3, "--out", tmp_path / "any.png").exit_code == 0


def test_bad_classes_are_usage_errors(labelled, finished, tmp_path):
    unknown = glann("sample", labelled, "--class", "class 7", "--out", tmp_path / "x")
    assert (unknown.exit_code, unknown.stderr.splitlines()[-1]) == (
        2, "Error: --class: expected one of class 0, class 1, received class 7"
    )  # fmt: skip
    without = glann("sample", finished, "--class", "class 0", "--out", tmp_path / "x")
    assert without.exit_code == 2
    assert "this model has no classes" in without.stderr
    assert not (tmp_path / "x").exists()


def test_both_sources_of_classes_are_a_usage_error(photos, tmp_path):
    result = glann("fit", photos, "--out", tmp_path / "run", "--labels", "--labels-file", tmp_path / "l.csv")
    assert result.exit_code == 2
    assert "not both" in result.stderr


@pytest.mark.parametrize("labels", ["--labels", "--labels-file"])
def test_a_run_that_lacks_classes_is_not_begun(photos, tmp_path, labels):
    few = shutil.copytree(photos, tmp_path / "photos")
    shutil.move(few / "class 0" / "00.png", few / "loose.png")
    (tmp_path / "l.csv").write_text("".join(f"{p.relative_to(few)},{k % 2}\n" for k, p in enumerate(few.glob("*/*"))))
    given = [labels] if labels == "--labels" else [labels, tmp_path / "l.csv"]
    result = glann("fit", few, "--out", tmp_path / "run", *TINY, *given)
    assert result.exit_code == 3
    assert "loose.png" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_labelled_run_goes_on_as_it_was_begun(labelled, photos, tmp_path):
    run = shutil.copytree(labelled, tmp_path / "run")
    for options in ([], ["--labels"]):
        assert "nothing to do" in glann("fit", photos, "--out", run, *options).stderr
    shutil.rmtree(run / "images")  # decoded again, with classes
    assert "nothing to do" in glann("fit", photos, "--out", run).stderr
    assert glann("fit", photos, "--out", run, *TINY, "--set", "imle.epochs=4").exit_code == 0
    assert GLANN.from_pretrained(run).classes == NAMES


def test_other_classes_are_exit_4(labelled, finished, photos, tmp_path):
    other = tmp_path / "other.json"
    paths = sorted(str(p.relative_to(photos)) for p in photos.glob("*/*.png"))
    other.write_text(json.dumps({path: k % 3 for k, path in enumerate(paths)}))
    for run, options, named in (
        (labelled, ["--labels-file", other], "40 images of another class (class 0/00.png was class 0, asked 0)"),
        (finished, ["--labels"], "labels were off, asked on"),
    ):
        before = everything(run)
        result = glann("fit", photos, "--out", run, *options)
        assert result.exit_code == 4
        assert named in result.stderr
        assert everything(run) == before
    copied = shutil.copytree(labelled, tmp_path / "run")
    shutil.rmtree(copied / "images")  # nor does it help to remove the cache
    assert glann("fit", photos, "--out", copied, "--labels-file", other).exit_code == 4


def test_classes_of_a_file_train_the_same_model(labelled, photos, tmp_path):
    names = "".join(f"{p.relative_to(photos)},{p.parent.name}\n" for p in photos.glob("*/*.png"))
    (tmp_path / "l.csv").write_text("path,class\n" + names)
    result = glann("fit", photos, "--out", tmp_path / "run", *TINY, "--labels-file", tmp_path / "l.csv")
    assert result.exit_code == 0, result.output
    assert model_bytes(tmp_path / "run") == model_bytes(labelled)


@pytest.mark.parametrize("name", sorted(generators.GENERATORS))
def test_a_generator_is_told_its_class(name):
    network = generators.build(name, latent_dim=8, size=(16, 20), channels=1, classes=3).train()
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    images = network(z, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert images.shape == (6, 1, 16, 20)
    images.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    network.eval()
    one, two = (network(z, torch.full((6,), k)) for k in (0, 1))
    assert not torch.allclose(one, two)
    with pytest.raises(ValueError, match=r"labels \(B,\) from 0 to 2"):
        network(z)
    plain = generators.build(name, latent_dim=8, size=(16, 20), channels=1).eval()
    with pytest.raises(ValueError, match="expects no labels"):
        plain(z, torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one class"):
        generators.build(name, latent_dim=8, size=(16, 20), channels=1, classes=0)


def test_a_generator_that_takes_no_classes_is_refused_before_a_run_begins(photos, tmp_path, monkeypatch):
    class Plain(torch.nn.Module):
        def __init__(self, latent_dim, size, channels):
            super().__init__()

    class Point:
        value = "elsewhere:Plain"

        def load(self):
            return Plain

    monkeypatch.setattr(registry, "_registered", lambda kind: {"plain": Point()} if kind == "generators" else {})
    options = [*TINY, "--set", "glo.generator=plain", "--set", "glo.generator_options={}"]
    result = glann("fit", photos, "--out", tmp_path / "run", *options, "--labels")
    assert result.exit_code == 2
    assert "the generator plain takes no classes" in result.stderr
    assert not (tmp_path / "run").exists()


def test_classes_are_no_option_of_the_generator(photos, tmp_path):
    result = glann("fit", photos, "--out", tmp_path / "run", "--set", "glo.generator_options={classes=3}")
    assert result.exit_code == 2
    assert "--labels" in result.stderr


def test_dense_samples_keep_their_class(model):
    """Density is that among samples of the same class, and a sample is the same in every call."""
    mixed = model.sample(70, seed=4, truncation=0.5)
    assert torch.equal(model.sample(9, seed=4, start=61, truncation=0.5), mixed[61:])
    labels = draw_labels([20, 20], 4, 0, 70)
    for label in (0, 1):
        own = model.sample(70, seed=4, label=label, truncation=0.5)
        assert torch.equal(own[labels == label], mixed[labels == label])
        assert not torch.equal(own, model.sample(70, seed=4, label=label))


def test_images_are_embedded_as_their_class_or_as_the_best(labelled, model):
    images = model.decode(torch.randn(4, 8, generator=torch.Generator().manual_seed(2)), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="expected a label, one of class 0, class 1"):
        model.embed(images)
    inverter = inversion.Inverter(model)
    assert len(inverter.candidates) == inversion.SAMPLES + 40  # the training latents, with their classes
    told = inverter(images, 20, torch.tensor([1, 1, 0, 0]))
    assert told.labels.tolist() == [1, 1, 0, 0]
    assert torch.equal(model.embed(images, 20, label=[1, 1, 0, 0]), told.latents)
    free = inverter(images, 20)
    measured = inverter.loss(model.decode(free.latents, free.labels), images)
    torch.testing.assert_close(free.distances, measured, rtol=1e-4, atol=1e-6)


def test_commands_that_go_through_latents_know_classes(labelled, finished, photos, tmp_path):
    result = glann("reconstruct", labelled, photos / "class 0" / "00.png", "--out", tmp_path / "out", "--steps", 2)
    assert result.exit_code == 0, result.output
    file = photos / "class 0" / "00.png"
    for number, options in enumerate([[], ["--loop"], ["--from", file, "--to", file, "--steps", 2]]):
        out = tmp_path / f"{number}.png"
        result = glann("interpolate", labelled, "--class", "class 1", "--out", out, "--frames", 5, *options)
        assert result.exit_code == 0, result.output
        assert Image.open(out).size == (5 * 66 - 2, 64)
    for run, options, named in ((labelled, [], "expected one of class 0"), (finished, ["--class", "x"], "no classes")):
        result = glann("interpolate", run, "--out", tmp_path / "x.png", *options)
        assert result.exit_code == 2
        assert named in result.stderr
