"""Small real inputs, and a run that the tests of one session share."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

TINY = [
    *("--set", "glo.epochs=2", "--set", "glo.latent_dim=8", "--set", "glo.generator_options={width=4}"),
    *("--set", "glo.batch_size=16", "--set", "glo.loss=laplacian", "--precision", "fp32"),
    *("--set", "imle.epochs=3", "--set", "imle.width=16", "--set", "imle.depth=1", "--set", "imle.batch_size=16"),
]


@pytest.fixture(autouse=True)
def _no_torch_cache(tmp_path_factory, monkeypatch):
    """No test sees the weights that a developer happens to have."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "torch-home"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 40 small colour images: smooth gradients with a block, no two alike."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for i in range(40):
        corners = random.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
        picture = Image.fromarray(corners).resize((16, 16), Image.Resampling.BILINEAR)
        picture.paste(tuple(random.integers(0, 255, 3).tolist()), (i % 12, i % 9, i % 12 + 4, i % 9 + 4))
        (folder / f"class {i % 2}").mkdir(exist_ok=True)
        picture.save(folder / f"class {i % 2}" / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def finished(photos, tmp_path_factory):
    """A finished tiny run; look, don't touch (see `copied`)."""
    from click.testing import CliRunner

    from glann.cli import main

    out = tmp_path_factory.mktemp("runs") / "tiny"
    result = CliRunner().invoke(main, ["fit", str(photos), "--out", str(out), *TINY], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def seeded():
    return lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(7))
