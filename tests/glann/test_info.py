import json
import subprocess
import sys

import pytest
import safetensors.torch
import tomli_w
import torch

from glann import generators
from glann.info import amount, describe, duration, read_model, read_run
from glann.model import GLANN
from imle.errors import DataError
from imle.sampler import LatentSampler


def make_model(generator="residual", network="residual", size=(16, 24), channels=3):
    torch.manual_seed(0)
    config = {
        "generator": generator, "generator_options": {}, "latent_dim": 8,
        "height": size[0], "width": size[1], "channels": channels,
    }  # fmt: skip
    sampler = LatentSampler(
        {
            "noise_dim": 5, "shape": [8], "network": {"name": network, "width": 16, "depth": 1}, "sphere": True,
            "calibrated": True, "condition": None,
        }
    )  # fmt: skip
    return GLANN(generators.build(generator, latent_dim=8, size=size, channels=channels), sampler, config)


def make_run(folder, stages=("glo", "imle"), epochs=3):
    folder.mkdir(exist_ok=True)
    record = {
        "description": "a test", "seed": 7, "device": "cpu", "precision": "fp32", "source": "/photos",
        "decode_seconds": 1.5,
        "stages": [{"use": name, "name": name, "epochs": 5} for name in stages],
    }  # fmt: skip
    (folder / "run.toml").write_text(tomli_w.dumps(record))
    for name in stages:
        (folder / name).mkdir(exist_ok=True)
        rows = [{"epoch": e, "loss": 1 / e, "seconds": 10.0} for e in range(1, epochs + 1)]
        (folder / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(("generator", "network"), [("residual", "residual"), ("reference", "reference")])
def test_weights_are_counted_as_torch_counts_parameters(tmp_path, generator, network):
    model = make_model(generator, network, size=(32, 32))
    model.save_pretrained(tmp_path)
    found = read_model(tmp_path)
    assert found.generator_weights == sum(p.numel() for p in model.generator.parameters())
    assert found.sampler_weights == sum(p.numel() for p in model.sampler.network.parameters())
    assert found.bytes == (tmp_path / "model.safetensors").stat().st_size


def test_a_model_folder(tmp_path):
    make_model().save_pretrained(tmp_path)
    lines = describe(tmp_path)
    assert lines["image"] == "16×24 RGB"
    assert (lines["latent dim"], lines["noise dim"], lines["format"]) == ("8", "5", "1")
    assert lines["generator"].startswith("residual, ")
    assert lines["sampler"].startswith("residual, ")
    assert "F32" in lines["file"]
    assert all(len(key) <= 14 and "\n" not in value for key, value in lines.items())


def test_a_run_before_and_after_its_model(tmp_path):
    run = make_run(tmp_path / "holiday")
    lines = describe(run)
    assert next(iter(lines)) == "run"
    assert lines["run"] == "holiday"
    assert lines["stage 1"] == "glo: 3 of 5 epochs, last loss 0.3333"
    assert lines["time"] == "1 min 02 s"  # 1.5 s decoding, twice three epochs of 10 s
    assert (lines["seed"], lines["device"], lines["precision"], lines["source"]) == ("7", "cpu", "fp32", "/photos")
    assert "images" not in lines
    assert lines["model"].startswith("none yet")
    make_model().save_pretrained(run / "model")
    (run / "images").mkdir()
    (run / "images" / "images.json").write_text('{"count": 1234, "height": 16, "width": 24, "channels": 3}')
    (run / "images" / "skipped.csv").write_text('path,reason\n"a,b.png",empty file\n')
    lines = describe(run)
    assert lines["images"] == "1,234, 16×24 RGB, 1 skipped"
    assert lines["model"] == str(run / "model")
    assert lines["generator"] == describe(run / "model")["generator"]


def test_rows_survive_a_crash_and_odd_values(tmp_path):
    run = make_run(tmp_path / "run", stages=("first",))
    with (run / "first" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "loss": NaN, "seconds": Infinity}\n{"epoch": 5, "lo')
    (stage,) = read_run(run).stages
    assert stage.epochs_done == 4
    assert stage.series("loss")[-1] == (3, 1 / 3)
    assert read_run(run).seconds == pytest.approx(31.5)
    (run / "first" / "metrics.jsonl").write_bytes(b"\xff\xfe")
    assert describe(run)["stage 1"] == "first: 0 of 5 epochs"


def test_what_followed_from_the_number_of_images_is_told_and_what_was_asked_goes_before(tmp_path):
    run = make_run(tmp_path / "run", stages=("glo",))
    rows = [{"epoch": 1, "epochs": 334, "batch_size": 4, "loss": 0.5}]
    (run / "glo" / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert describe(run)["stage 1"] == "glo: 1 of 5 epochs in batches of 4, last loss 0.5"
    (run / "run.toml").write_text('[[stages]]\nuse = "glo"\nlatent_dim = 8\n')
    assert describe(run)["stage 1"] == "glo: 1 of 334 epochs in batches of 4, last loss 0.5"
    assert read_run(run).stages[0].settings == {"epochs": 334, "batch_size": 4, "latent_dim": 8}


def test_phases_take_the_place_of_the_sum(tmp_path):
    run = make_run(tmp_path / "run", stages=("imle",))
    rows = [{"epoch": e, "seconds_search": 2.0, "seconds_train": 1.0, "seconds": 3.0} for e in (1, 2)]
    (run / "imle" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_run(run).stages[0].phases() == {"search": 4.0, "train": 2.0}
    assert read_run(run).seconds == 7.5


def test_what_is_no_run_and_no_model_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.toml").write_text("stages = [")
    for name, content in (
        ("noise", b"\xff" * 99),
        ("cut", b""),
        ("foreign", safetensors.torch.save({"a": torch.ones(2)})),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    for name in ("missing", "file", "empty", "broken", "noise", "cut", "foreign"):
        with pytest.raises(DataError, match=name) as caught:
            describe(tmp_path / name)
        assert caught.value.exit_code == 3


def test_a_truncated_model_is_refused(tmp_path):
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        describe(tmp_path)


def test_torch_is_not_imported(tmp_path):
    make_model().save_pretrained(make_run(tmp_path / "run") / "model")
    code = "import sys; from glann.info import describe; describe(sys.argv[1]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (0.412, "0.41 s"), (0.999, "1.0 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185.2, "3 min 05 s"),
     (3599.7, "1 h 00 min"), (3600, "1 h 00 min"), (7 * 3600 + 59.9 * 60, "8 h 00 min"), (4e6, "1,111 h 07 min")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1 thousand"), (12_345, "12.3 thousand"), (999_400, "999 thousand"),
     (999_999, "1 million"), (1_250_000, "1.25 million"), (3_000_000_000, "3 billion")],
)  # fmt: skip
def test_amount(count, text):
    assert amount(count) == text
