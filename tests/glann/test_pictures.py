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


def test_pairs_show_an_incomplete_last_row():
    originals, copies = torch.zeros(9, 1, 64, 64), torch.full((9, 1, 64, 64), 0.5)
    sheet = np.asarray(pictures.pairs(originals, copies))
    assert sheet.shape == (4 * 66 - 2, 8 * 66 - 2)
    assert [int(sheet[r * 66, c * 66]) for r, c in ((2, 0), (3, 0), (2, 1), (3, 7))] == [0, 128, 255, 255]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_animation_keeps_frames_and_transparency(tmp_path, suffix, channels):
    images = torch.zeros(3, channels, 32, 32)
    for k, image in enumerate(images):
        image[:, 8 * k : 8 * k + 8] = 1  # with four channels: an opaque bar on nothing
    pictures.save_animation(images, tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as read:
        assert read.n_frames == 3
        for k in range(3):
            read.seek(k)
            pixels = np.asarray(read.convert("RGBA")).astype(int)
            assert pixels.shape == (128, 128, 4)
            visible = pixels[::4, ::4, 3] * pixels[::4, ::4, 0] > 0
            assert np.array_equal(visible, images[k, 0].numpy() > 0)
            assert (pixels[..., 3].min() == 0) == (channels == 4)
