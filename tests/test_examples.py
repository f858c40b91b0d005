"""The documentation runs: every block of Python in it, the tour, and what its links point to."""

import os
import re
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/imle.md", "docs/labels.md", "docs/sampling.md")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(imle .*?)(?:  +#.*)?$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
TINY_RUN = [
    *("--set", "glo.epochs=1", "--set", "glo.latent_dim=8", "--set", "glo.generator_options={width=4}"),
    *("--set", "glo.loss=laplacian", "--set", "imle.epochs=1", "--set", "imle.width=16", "--precision", "fp32"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: str) -> list[str]:
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert found, f"{page} has no block of Python"
    return found


def run(page: str, names: dict) -> dict:
    """Execute the blocks of a page in order, as one program."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks(page), 1):
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def test_the_python_of_the_readme_runs(folder):
    from glann.cli import main

    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(8):
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / "photos" / f"{i}.png")
    done = CliRunner().invoke(main, ["fit", "photos", "--out", "runs/photos", *TINY_RUN], catch_exceptions=False)
    assert done.exit_code == 0, done.output

    vectors = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    names = run("README.md", {"vectors": vectors})
    assert names["images"].shape == (16, 3, 16, 16)
    assert names["new"].shape == (1000, 4)


def test_the_python_of_the_imle_page_runs(folder):
    names = run("docs/imle.md", {})
    assert names["new"].shape == (1000, 2)
    assert torch.equal(names["again"].sample(9), names["sampler"].sample(9))
    five, last_three = (names["sampler"].sample(*a, seed=1, start=s) for a, s in (((5,), 0), ((3,), 2)))
    assert torch.equal(five[2:], last_three)
    reached = (names["reached"] - names["x"][:4]).norm(dim=1)
    assert (reached <= names["distances_to"](names["x"][:4], names["new"]).max + 1e-6).all()
    assert sorted(p.name for p in (folder / "circle").iterdir()) == ["config.json", "model.safetensors"]


def test_the_python_of_the_page_on_classes_runs(folder):
    from glann.cli import main

    random = np.random.default_rng(0)
    for i in range(20):
        (folder / "digits" / str(i % 10)).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(random.integers(0, 255, (16, 16), dtype=np.uint8))
        picture.save(folder / "digits" / str(i % 10) / f"{i}.png")
    command = ["fit", "digits", "--labels", "--out", "runs/digits", *TINY_RUN]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    names = run("docs/labels.md", {"z": torch.ones(2, 8)})
    assert names["sevens"].shape == names["mixed"].shape == (16, 1, 16, 16)
    assert names["again"].shape == (2, 1, 16, 16)


def test_the_commands_of_the_imle_page_run(folder):
    from imle.cli import main

    random = np.random.default_rng(0)
    np.save("latents.npy", random.standard_normal((60, 3)).astype("f4"))
    np.savez("latents.npz", z=np.load("latents.npy"), other=np.zeros(2))
    np.save("labels.npy", np.arange(60) % 4)
    np.save("held-out.npy", random.standard_normal((60, 3)).astype("f4"))
    commands = COMMAND.findall((ROOT / "docs/imle.md").read_text(encoding="utf-8"))
    assert len(commands) >= 5
    for command in commands:
        done = CliRunner().invoke(main, command.split()[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{command}: {done.output}"
    assert np.load("samples.npy").shape == (1000, 3)


def test_the_tour_runs(folder):
    names = runpy.run_path(str(ROOT / "docs/examples/imle_tour.py"), run_name="__main__")
    assert names["agree"].float().mean() > 0.9  # samples belong to the labels asked for
    reached = names["evaluate"](names["held_out"], names["new"])
    real = names["evaluate"](names["held_out"], names["train"][:500])
    assert 0.3 < reached["coverage"] <= real["coverage"] + 0.05
    images = names["drawer"].sample(4, seed=1)
    assert images.shape == (4, 1, 8, 8)
    assert images.std() > 0.1


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = {target for target, _ in LINK.findall(text) if not target.startswith("http")}
    assert targets
    missing = sorted(t for t in targets if not ((ROOT / page).parent / t).exists())
    assert not missing


def test_every_picture_of_the_imle_page_has_a_function_that_draws_it():
    shown = set(re.findall(r"images/imle-(\w+)\.png", (ROOT / "docs/imle.md").read_text(encoding="utf-8")))
    backend = os.environ.get("MPLBACKEND")
    drawn = runpy.run_path(str(ROOT / "docs/examples/figures.py"), run_name="figures")
    assert os.environ.get("MPLBACKEND") == backend
    assert {draw.__name__ for draw in drawn["FIGURES"]} == shown


def test_a_picture_is_drawn_700_pixels_wide(folder, monkeypatch):
    figures = runpy.run_path(str(ROOT / "docs/examples/figures.py"), run_name="figures")
    figures["main"].__globals__["IMAGES"] = folder / "images"
    figures["main"](["metrics"])
    with Image.open(folder / "images" / "imle-metrics.png") as picture:
        assert picture.width == 700
    with pytest.raises(SystemExit, match="received nonsense"):
        figures["main"](["nonsense"])


def test_the_page_of_settings_is_what_the_code_says():
    page = runpy.run_path(str(ROOT / "docs" / "examples" / "settings.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page
