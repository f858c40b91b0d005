"""The digits of scikit-learn as a folder of PNGs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from glann.digits import write_digits
from glann.images import prepare
from imle.errors import DataError


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "digits"
    assert write_digits(folder) == 1797
    return folder


def test_every_digit_lies_in_its_class(digits: Path) -> None:
    data = load_digits()
    for k in range(0, 1797, 13):
        with Image.open(digits / str(data.target[k]) / f"{k:04d}.png") as image:
            assert (image.mode, image.size) == ("L", (32, 32))
            assert len(np.unique(np.asarray(image))) > 17  # smooth: more shades than the original has
            blocks = np.asarray(image, float).reshape(8, 4, 8, 4).mean((1, 3))
        # Averaged back, the picture is the 8x8 original: white ink on black, no border, not mirrored.
        assert np.corrcoef(blocks.ravel(), data.images[k].ravel())[0, 1] > 0.97
    assert sorted(path.name for path in digits.iterdir()) == list("0123456789")
    assert len(list(digits.rglob("*.png"))) == 1797


def test_can_be_prepared(digits: Path, tmp_path: Path) -> None:
    made = prepare(digits, tmp_path / "images", labels=True)
    assert (len(made), made.channels, made.height, made.width) == (1797, 1, 32, 32)
    assert made.labels is not None
    assert [made.labels.count(str(k)) for k in range(10)] == np.bincount(load_digits().target).tolist()
    assert made.pixels.min() == 0
    assert made.pixels.max() == 255


def test_twice_is_once(digits: Path) -> None:
    before = (digits / "0" / "0000.png").stat().st_mtime_ns
    (digits / "1" / "0001.png").unlink()
    assert write_digits(digits) == 1797
    assert (digits / "1" / "0001.png").exists()
    assert (digits / "0" / "0000.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("foreign", ["notes.txt", "0/mine.png", "0/0001.png", "11/x.png", "0/0000.png"])
def test_other_folders_are_left_alone(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_bytes(b"mine")
    with pytest.raises(DataError, match="expected an empty folder"):
        write_digits(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / foreign]


def test_another_picture_under_the_right_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    Image.new("L", (32, 32), 7).save(tmp_path / "0" / "0000.png")
    with pytest.raises(DataError, match=r"with 0/0000\.png"):
        write_digits(tmp_path)


def test_file_instead_of_folder(tmp_path: Path) -> None:
    (tmp_path / "digits").touch()
    with pytest.raises(DataError, match="received a file"):
        write_digits(tmp_path / "digits")


def test_missing_scikit_learn_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r'pip install "glann\[demo\]"'):
        write_digits(tmp_path / "digits")
    assert not (tmp_path / "digits").exists()
