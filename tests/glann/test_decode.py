"""One image file -> pixels: formats, bit depths, colour models, orientation, resizing, and files that are no image."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glann.decode import decode, parse_size, probe, why

EXIF_ORIENTATION = 0x0112
SIZE = (24, 32)  # height, width


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def colours(rng: np.random.Generator, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """A smooth picture without any symmetry, (H, W, 3) uint8."""
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def planar(picture: np.ndarray) -> np.ndarray:
    return picture.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("48x64", (48, 64)), (" 16X1024 ", (16, 1024)), ("20×24", (20, 24))]
)
def test_size_is_read(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "64x", "x64", "-64", "64x64x64", "12", "66", "64x66", "4100", "1e2", "64.0", "９６"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_size(text)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".png", {}), (".bmp", {}), (".tif", {}), (".tiff", {"compression": "tiff_lzw"}), (".webp", {"lossless": True})],
)
def test_lossless_formats_come_back_exactly(
    tmp_path: Path, rng: np.random.Generator, suffix: str, options: dict
) -> None:
    picture, path = colours(rng), tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(path, **options)
    image = decode(path, SIZE, 3)
    np.testing.assert_array_equal(image.pixels, planar(picture))
    assert (image.width, image.height, image.needed) == (32, 24, 3)
    assert (probe(path).width, probe(path).height) == (32, 24)
    assert probe(path).channels == 3


def test_jpeg_comes_back_nearly(tmp_path: Path, rng: np.random.Generator) -> None:
    picture, path = colours(rng), tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, quality=95)
    difference = decode(path, SIZE, 3).pixels.astype(int) - planar(picture)
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    pixels = decode(path, (32, 32), 3).pixels
    assert pixels.reshape(3, -1).T.tolist() == [[255, 0, 0]] * 1024


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_orientation_is_applied(tmp_path: Path, rng: np.random.Generator, suffix: str, orientation: int) -> None:
    upright = colours(rng)
    # What a camera held that way stores: the EXIF standard says where the first row and column belong.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a{suffix}", exif=exif, **options)
    image = decode(tmp_path / f"a{suffix}", SIZE, 3)
    assert (image.width, image.height) == (32, 24)
    assert np.abs(image.pixels.astype(int) - planar(upright)).mean() < (3 if suffix == ".jpg" else 1e-9)
    header = probe(tmp_path / f"a{suffix}")
    assert (header.width, header.height) == (32, 24)


def test_damaged_metadata_loses_no_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    Image.fromarray(colours(rng)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + rng.bytes(40))
    assert decode(tmp_path / "a.jpg", SIZE, 3).pixels.shape == (3, *SIZE)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str, order: str) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).round().astype("<u2").reshape(32, 32)
    image = Image.fromarray(ramp.astype(order))
    assert image.mode.startswith("I;16")
    image.save(tmp_path / f"a{suffix}")
    decoded = decode(tmp_path / f"a{suffix}", (32, 32), 1)
    np.testing.assert_array_equal(decoded.pixels[0], np.rint(ramp / 257).astype(np.uint8))
    assert probe(tmp_path / f"a{suffix}").channels == 1


def test_numbers_of_unknown_range_are_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    Image.fromarray(values).save(tmp_path / "unit.tif")
    Image.fromarray(values * 300).save(tmp_path / "float.tif")
    Image.fromarray(np.where(values > 0.5, np.nan, values).astype(np.float32)).save(tmp_path / "nan.tif")
    Image.fromarray((values * 1e6).astype(np.int32)).save(tmp_path / "int.tif")
    np.testing.assert_array_equal(decode(tmp_path / "unit.tif", (32, 32), 1).pixels[0], np.rint(values * 255))
    for name in ("float", "nan", "int"):
        with pytest.raises(ValueError, match="pixels outside"):
            decode(tmp_path / f"{name}.tif", (32, 32), 1)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 60, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
    pixels = decode(tmp_path / "a.jpg", (32, 32), 3).pixels
    assert np.abs(pixels.reshape(3, -1).T.astype(int) - (200, 60, 30)).max() <= 6


def test_transparent_palette(tmp_path: Path) -> None:
    indices = np.zeros((32, 32), np.uint8)
    indices[:16] = 1
    image = Image.fromarray(indices).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=0)
    assert probe(tmp_path / "a.png").channels == 4
    rgba = decode(tmp_path / "a.png", (32, 32), 4)
    assert rgba.needed == 4
    assert rgba.pixels[:, 0, 0].tolist() == [200, 100, 50, 255]
    assert rgba.pixels[:, -1, 0].tolist() == [255, 255, 255, 0]  # the hidden colour is not learnt
    rgb = decode(tmp_path / "a.png", (32, 32), 3)
    assert rgb.pixels[:, 0, 0].tolist() == [200, 100, 50]
    assert rgb.pixels[:, -1, 0].tolist() == [255, 255, 255]
    grey = decode(tmp_path / "a.png", (32, 32), 1)
    assert grey.pixels[0, -1, 0] == 255


def test_half_transparent_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 100, 200, 51)).save(tmp_path / "a.png")
    expected = [round(255 * 0.8 + value * 0.2) for value in (0, 100, 200)]
    np.testing.assert_allclose(decode(tmp_path / "a.png", (32, 32), 3).pixels[:, 5, 5], expected, atol=1)


def test_resizing_lets_no_hidden_colour_through(tmp_path: Path) -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[...] = (0, 255, 0, 0)  # hidden green
    rgba[16:48, 16:48] = (255, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", (20, 20), 3).pixels.astype(int)
    assert (pixels[1] <= pixels[2] + 1).all()  # between red and white, green never exceeds blue


@pytest.mark.parametrize(("mode", "needed"), [("L", 1), ("1", 1), ("RGB", 1), ("RGBA", 1), ("LA", 1), ("P", 1)])
def test_grey_needs_one_channel_however_stored(
    tmp_path: Path, rng: np.random.Generator, mode: str, needed: int
) -> None:
    grey = Image.fromarray(rng.integers(0, 2, (40, 56), dtype=np.uint8) * 255)
    grey.convert(mode).save(tmp_path / "a.png")
    for channels in (3, 4):
        image = decode(tmp_path / "a.png", (16, 20), channels)
        assert image.needed == needed
        np.testing.assert_array_equal(image.pixels[0], decode(tmp_path / "a.png", (16, 20), 1).pixels[0])


@pytest.mark.parametrize("size", [(16, 16), (64, 16), (16, 64), (60, 100), (128, 128)])
@pytest.mark.parametrize("shape", [(30, 90), (90, 30), (31, 93), (300, 900), (1, 3), (5000, 2)])
def test_covers_any_size(tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]) -> None:
    Image.new("RGB", shape[::-1], (90, 160, 230)).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", size, 3).pixels
    assert pixels.shape == (3, *size)
    assert pixels.flags.c_contiguous
    assert (pixels == np.array([90, 160, 230], np.uint8)[:, None, None]).all()  # no border, no drift


def test_centre_is_kept(tmp_path: Path) -> None:
    bands = np.zeros((40, 120, 3), np.uint8)
    bands[:, :40, 0] = bands[:, 40:80, 1] = bands[:, 80:, 2] = 255
    Image.fromarray(bands).save(tmp_path / "wide.png")
    Image.fromarray(bands.transpose(1, 0, 2)).save(tmp_path / "high.png")
    for name in ("wide.png", "high.png"):
        same = decode(tmp_path / name, (40, 40), 3).pixels
        assert same.reshape(3, -1).max(1).tolist() == [0, 255, 0]
        half = decode(tmp_path / name, (20, 20), 3).pixels
        assert (half[1, 4:-4, 4:-4] == 255).all()


def test_crop_without_resize_interpolates_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (24, 39, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", (24, 32), 3).pixels, planar(picture[:, 3:35]))


def test_big_jpeg_looks_as_if_decoded_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    picture = colours(rng, 1200, 1600)
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(picture).save(tmp_path / "a.png")
    by_draft = decode(tmp_path / "a.jpg", (48, 64), 3)
    whole = decode(tmp_path / "a.png", (48, 64), 3).pixels
    assert (by_draft.width, by_draft.height) == (1600, 1200)
    assert np.abs(by_draft.pixels.astype(int) - whole).mean() < 1.5


def png_of_claimed_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_460, 12_000, 60_000])  # just above the limit, where Pillow warns, where it raises
@pytest.mark.parametrize("read", [probe, lambda path: decode(path, SIZE, 3)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, side: int, read) -> None:
    (tmp_path / "a.png").write_bytes(png_of_claimed_size(side, side))
    with pytest.raises(Image.DecompressionBombError) as error:
        read(tmp_path / "a.png")
    assert why(error.value) == "more than 89,478,485 pixels"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif"])
def test_half_a_file_is_bad(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    data = io.BytesIO()
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    picture.save(data, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()))
    (tmp_path / f"a{suffix}").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    with pytest.raises(Exception) as error:  # noqa: PT011 - every format has its own
        decode(tmp_path / f"a{suffix}", SIZE, 3)
    assert why(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is text", "not a JPEG, PNG, WebP, BMP, GIF or TIFF image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG, PNG, WebP, BMP, GIF or TIFF image"),
    ],
)
def test_what_is_no_image_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (probe, lambda path: decode(path, SIZE, 3)):
        with pytest.raises(Exception) as error:  # noqa: PT011 - whatever Pillow raises
            read(tmp_path / "a.jpg")
        assert why(error.value) == reason


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_pixels_or_one_line(
    tmp_path: Path, rng: np.random.Generator, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(colours(rng)).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            assert decode(path, SIZE, 3).pixels.shape == (3, *SIZE)
        except Exception as error:
            reason = why(error)
            assert len(reason.splitlines()) == 1
            assert "BytesIO" not in reason
    assert capfd.readouterr() == ("", "")
