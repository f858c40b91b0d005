import numpy as np
import pytest
import torch
from PIL import Image

from glann import pictures


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_a_picture_has_the_pixels(tmp_path, channels, mode):
    image = torch.arange(channels * 6.0).reshape(channels, 2, 3) / 255
    pictures.save(pictures.to_pil(image), tmp_path / "a.png")
    read = Image.open(tmp_path / "a.png")
    assert read.mode == mode
    assert np.array_equal(np.asarray(read).reshape(2, 3, channels).transpose(2, 0, 1), (image * 255).numpy().round())
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_grid_shows_every_image_once():
    images = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 64, 64)
    sheet = np.asarray(pictures.grid(images, columns=3))
    assert sheet.shape == (2 * 66 - 2, 3 * 66 - 2)
    assert [int(sheet[r * 66, c * 66]) for r, c in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))] == [0, 64, 128, 191, 255]


def test_transparent_images_show_a_checkerboard():
    clear, solid = torch.zeros(4, 64, 64), torch.ones(4, 64, 64)
    sheet = np.asarray(pictures.grid(torch.stack([clear, solid])))
    assert sheet.shape[2] == 3
    assert len(np.unique(sheet[:64, :64])) == 2
    assert sheet[:64, 66:].min() == 255


@pytest.mark.parametrize("count", [1, 5, 12, 30])
def test_pairs_put_each_copy_below_its_original(count):
    originals, copies = torch.zeros(count, 1, 64, 64), torch.full((count, 1, 64, 64), 0.5)
    sheet = np.asarray(pictures.pairs(originals, copies))
    assert sheet[0, 0] == 0
    assert sheet[66, 0] == 128
