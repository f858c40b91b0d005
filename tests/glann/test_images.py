"""A folder of images -> cache -> ImageSet: what is found, decided, skipped, reused and refused."""

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glann import imagebuild, imagecache, images
from glann.images import load, prepare
from imle.errors import DataError, ResumeError

RED, GREY, CLEAR = (200, 30, 40), (90, 90, 90), (0, 0, 255, 0)


def save(path: Path, colour: tuple[int, ...] = RED, size: tuple[int, int] = (32, 32), **options: object) -> Path:
    """One image of one colour; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new({3: "RGB", 4: "RGBA"}[len(colour)], size, colour).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six PNGs in two class folders, each of its own red."""
    for i in range(6):
        save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", (100 + i, 20, 30))
    return tmp_path / "photos"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "images"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written(source: Path, folder: Path) -> None:
    made = prepare(source, folder, labels=True)
    assert made.paths == ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
    assert made.labels == ["a", "a", "a", "b", "b", "b"]
    assert (len(made), made.channels, made.height, made.width, made.skipped) == (6, 3, 32, 32, 0)
    assert made.pixels[:, 0, 7, 9].tolist() == [100, 102, 104, 101, 103, 105]
    assert not made.pixels.flags.writeable
    rows = table(folder / "manifest.csv")
    assert list(rows[0]) == ["path", "sha256", "row", "width", "height", "bytes", "mtime_ns", "label", "split"]
    for k, row in enumerate(rows):
        status = (source / row["path"]).stat()
        assert (row["row"], row["width"], row["height"]) == (str(k), "32", "32")
        assert (int(row["bytes"]), int(row["mtime_ns"])) == (status.st_size, status.st_mtime_ns)
    assert sorted(p.name for p in folder.iterdir()) == ["images.json", "manifest.csv", "pixels.npy", "skipped.csv"]
    assert not folder.with_name("images.tmp").exists()


def test_the_fingerprint_of_a_manifest_is_the_one_that_checkpoints_know() -> None:
    known = "505570eb04af7dbe77ae9d1726455a0919c51d52669f4cfc5ed9fca4e2d4c36e"  # before there was a split
    rows = [imagecache.Row("a/0.png", "00", 0, 32, 32, 9, 1, "a"), imagecache.Row("b/1.png", "01", 1, 32, 32, 9, 1, "")]
    assert imagecache.fingerprint(rows, (32, 24), 3) == known
    rows[1] = replace(rows[1], split="held out")
    assert imagecache.fingerprint(rows, (32, 24), 3) != known


def test_batches_are_pixels_over_255(source: Path, folder: Path) -> None:
    made = prepare(source, folder)
    for rows in ([4, 0, 0], np.array([4, 0, 0]), torch.tensor([4, 0, 0])):
        batch = made.batch(rows)
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch.numpy(), np.asarray(made.pixels)[[4, 0, 0]].astype(np.float32) / 255)
    assert made.batch([]).shape == (0, 3, 32, 32)
    with pytest.raises(IndexError):
        made.batch([6])


def test_messy_folder(tmp_path: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "photos"
    good = [
        save(source / "plain.JPG"),
        save(source / "deep" / "er" / "with space & ünïcödé 猫.png"),
        save(source / 'new\nline, "quoted".webp'),
        save(source / "frames.gif", save_all=True, append_images=[Image.new("RGB", (32, 32), "blue")]),
        save(source / "scan.tiff"),
        save(source / "bitmap.bmp"),
        save(source / "really a png.jpeg", format="PNG"),
        source / "sixteen.png",
        source / "cmyk.jpg",
        source / "palette.png",
    ]
    Image.fromarray(np.full((32, 32), 65535, np.uint16)).save(source / "sixteen.png")
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(source / "cmyk.jpg")
    Image.new("P", (32, 32)).save(source / "palette.png", transparency=0)
    raw = os.fsencode(source) + b"/not utf-8 \xff\xfe.png"
    shutil.copy(source / "bitmap.bmp", raw)
    good.append(Path(os.fsdecode(raw)))
    bad = {
        "empty.png": "empty file",
        "text.jpg": "not a JPEG, PNG, WebP, BMP, GIF or TIFF image",
        "truncated.jpg": "truncated",
        "nowhere.png": "No such file or directory",
        "circle.gif": "Too many levels of symbolic links",
        "pipe.jpg": "not a regular file",
    }
    (source / "empty.png").touch()
    (source / "text.jpg").write_text("hello")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(source / "truncated.jpg")
    (source / "truncated.jpg").write_bytes((source / "truncated.jpg").read_bytes()[:2000])
    (source / "nowhere.png").symlink_to(source / "gone.png")
    (source / "circle.gif").symlink_to(source / "circle.gif")
    os.mkfifo(source / "pipe.jpg")
    (source / "loop").symlink_to(source, target_is_directory=True)
    (source / "deep" / "up").symlink_to("..", target_is_directory=True)
    for other in (
        "notes.txt",
        "film.mp4",
        ".hidden.png",
        ".cache/thumb.png",
        "old run/run.toml",
        "old run/samples.png",
    ):
        (source / other).parent.mkdir(exist_ok=True)
        (source / other).write_bytes(b"x")

    lines: list[str] = []
    made = prepare(source, folder, report=lines.append)
    assert made.paths == sorted(path.relative_to(source).as_posix() for path in good)
    assert [row["path"] for row in table(folder / "manifest.csv")] == made.paths
    assert made.channels == 4  # the palette has a transparent colour
    row = dict(zip(made.paths, np.asarray(made.pixels), strict=True))
    assert (row["sixteen.png"] == 255).all()
    assert (row["palette.png"][3] == 0).all()
    assert row["frames.gif"][:3].mean((1, 2)).tolist() == pytest.approx(RED)
    assert np.abs(row["cmyk.jpg"][:3, 0, 0].astype(int) - (255, 0, 0)).max() < 5
    skipped = {line["path"]: line["reason"] for line in table(folder / "skipped.csv")}
    assert skipped.keys() == bad.keys()
    for path, reason in bad.items():
        assert reason in skipped[path]
        assert f"skipped {path}: {skipped[path]}" in lines
    assert "other files ignored: 2" in lines[-1]
    assert made.skipped == 6
    assert all(line.isprintable() for line in lines)
    assert capfd.readouterr() == ("", "")

    again = prepare(source, folder)
    assert (again.paths, again.fingerprint, again.skipped) == (made.paths, made.fingerprint, 6)
    with pytest.raises(DataError, match=r"circle\.gif: Too many"):
        prepare(source, folder, on_bad_image="error")


def test_unreadable_file_and_folder(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "0.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    def closed_folder(path: Path) -> object:
        if path.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    save(source / "a" / "6.png")
    save(source / "a" / "8.png")
    opened, scandir = Path.open, os.scandir
    monkeypatch.setattr(Path, "open", closed)
    monkeypatch.setattr(os, "scandir", closed_folder)
    made = prepare(source, folder)
    assert made.paths == ["a/2.png", "a/4.png", "a/6.png", "a/8.png"]
    assert {r["path"]: r["reason"] for r in table(folder / "skipped.csv")} == {
        "a/0.png": "Permission denied",
        "b": "folder cannot be opened: Permission denied",
    }
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ResumeError, match=r"4 added \(a/0.png, b/1.png, b/3.png, \.\.\.\)"):
        prepare(source, folder)


def test_linked_folders_are_read_once_and_under_their_own_name(source: Path, folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "x.png")
    (source / "Z").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (source / "Y").symlink_to(source / "a", target_is_directory=True)
    (source / "ZZ").symlink_to(tmp_path, target_is_directory=True)
    paths = prepare(source, folder).paths
    assert [path for path in paths if path[0] in "ab"] == [
        "a/0.png",
        "a/2.png",
        "a/4.png",
        "b/1.png",
        "b/3.png",
        "b/5.png",
    ]
    assert [path for path in paths if path[0] not in "ab"] == ["Z/x.png"]


@pytest.mark.parametrize(
    ("colours", "channels"),
    [
        ([GREY, GREY, GREY, GREY], 1),
        ([GREY, GREY, RED, GREY], 3),
        ([RED, (*RED, 255), (*GREY, 255), GREY], 3),
        ([(*GREY, 255), (*GREY, 255), GREY, GREY], 1),
        ([RED, GREY, GREY, CLEAR], 4),
        ([GREY, GREY, GREY, (*GREY, 254)], 4),
    ],
)
def test_channels_are_as_few_as_hold_every_pixel(
    tmp_path: Path, folder: Path, colours: list[tuple[int, ...]], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagecache, "_NARROW_BYTES", 3 * 4 * 32 * 32)  # narrowing takes several blocks
    for i, colour in enumerate(colours):
        save(tmp_path / "in" / f"{i}.png", colour)
    made = prepare(tmp_path / "in", folder)
    assert made.channels == channels
    direct = prepare(tmp_path / "in", folder.with_name("direct"), channels=str(channels))  # type: ignore[arg-type]
    np.testing.assert_array_equal(made.pixels, direct.pixels)
    assert made.fingerprint == direct.fingerprint
    for asked in ("1", "3", "4"):
        assert prepare(tmp_path / "in", folder.with_name(asked), channels=asked).channels == int(asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 5, (28, 28)),
        ([(48, 64)] * 2 + [(100, 90), (80, 70)], (48, 64)),
        ([(48, 64), (100, 90), (80, 70), (60, 50)], (32, 32)),
        ([(30, 30)] * 5, (28, 28)),
        ([(126, 18)] * 5, (124, 16)),
        ([(30, 30), (31, 31), (39, 40)], (16, 16)),
        ([(8, 8)] * 5, (16, 16)),
        ([(256, 128)] * 5, (256, 128)),
        ([(3000, 4000)] * 5, (64, 64)),
        ([(480, 640), (481, 640), (482, 640)], (64, 64)),
    ],
)
def test_size_is_chosen(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    chosen, reason = imagebuild.choose_size(sizes)
    assert chosen == expected
    assert reason


def test_size_is_reported_and_upright(tmp_path: Path, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(4):
        save(tmp_path / "in" / f"{i}.jpg", (10 * i, 0, 0), size=(64, 48), exif=exif)
    lines: list[str] = []
    made = prepare(tmp_path / "in", folder, report=lines.append)
    assert (made.height, made.width) == (64, 48)
    assert lines[0] == "size 64x48: the size of 4 of 4 images; --size chooses another"
    assert {(row["height"], row["width"]) for row in table(folder / "manifest.csv")} == {("64", "48")}


@pytest.mark.parametrize("size", [(12, 16), (16, 18), (8192, 16), (0, 0)])
def test_sizes_that_no_generator_makes_are_refused(source: Path, folder: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="divides"):
        prepare(source, folder, size=size)
    assert not folder.parent.exists()


def test_other_channels_are_refused(source: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="expected channels"):
        prepare(source, folder, channels="2")  # type: ignore[arg-type]


def make_missing(source: Path) -> None:
    shutil.rmtree(source)


def make_file(source: Path) -> None:
    shutil.rmtree(source)
    source.write_bytes(b"x")


def make_empty(source: Path) -> None:
    shutil.rmtree(source)
    source.mkdir()


def make_texts(source: Path) -> None:
    make_empty(source)
    (source / "a.txt").touch()


def make_few(source: Path) -> None:
    shutil.rmtree(source / "b")


def make_bad_headers(source: Path) -> None:
    for path in source.rglob("*.png"):
        path.write_bytes(b"")


def make_bad_bodies(source: Path) -> None:
    for path in source.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])


def make_run(source: Path) -> None:
    (source / "run.toml").touch()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (make_missing, "no such folder"),
        (make_file, "a file"),
        (make_empty, "an empty folder"),
        (make_texts, r"only other kinds of files \(1\)"),
        (make_few, "at least 4 usable images in .*, received 3"),
        (make_bad_headers, "received 0; 6 bad, the first is a/0.png: empty file"),
        (make_bad_bodies, "received 0; 6 bad, the first is a/0.png: "),
        (make_run, "a run folder"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(source: Path, folder: Path, spoil, message: str) -> None:
    spoil(source)
    with pytest.raises(DataError, match=message) as error:
        prepare(source, folder)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3
    assert not folder.exists()
    assert not folder.with_name("images.tmp").exists()


@pytest.mark.parametrize("spoil", [make_bad_headers, make_bad_bodies])
def test_bad_files_are_refused_where_asked(source: Path, folder: Path, spoil) -> None:
    save(source / "a" / "0 good.png")
    spoil(source / "b")
    with pytest.raises(DataError, match=r"expected only usable images in .*photos, received b/1.png: "):
        prepare(source, folder, on_bad_image="error")
    assert not folder.exists()


def test_images_outside_a_class_are_refused(source: Path, folder: Path) -> None:
    save(source / "loose.png")
    with pytest.raises(DataError, match=r"received 1 outside any subfolder, the first is loose\.png"):
        prepare(source, folder, labels=True)


def no_decoding(*args: object, **kwargs: object) -> None:
    raise AssertionError("decoded again")


def test_unchanged_images_are_not_decoded_again(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(source, folder, size=(16, 20), channels="1", labels=True)
    for module in (images, imagebuild):
        monkeypatch.setattr(module, "decode", no_decoding)
        monkeypatch.setattr(module, "probe", no_decoding)
    for again in (
        prepare(source, folder, labels=True),
        prepare(source, folder, labels=True, size=(16, 20), channels="1"),
        load(folder),
    ):
        assert (again.paths, again.labels, again.fingerprint) == (made.paths, made.labels, made.fingerprint)
        np.testing.assert_array_equal(again.pixels, made.pixels)


def test_touched_images_are_read_once_more(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(source, folder)
    os.utime(source / "a" / "0.png", ns=(1, 1))
    assert prepare(source, folder).fingerprint == made.fingerprint
    assert table(folder / "manifest.csv")[0]["mtime_ns"] == "1"
    monkeypatch.setattr(hashlib, "file_digest", no_decoding)
    assert prepare(source, folder).fingerprint == made.fingerprint


def test_changes_are_named(source: Path, folder: Path) -> None:
    (source / "broken.png").write_bytes(b"")
    prepare(source, folder)
    save(source / "a" / "new 1.png")
    save(source / "broken.png")
    (source / "b" / "3.png").unlink()
    save(source / "a" / "2.png", GREY)
    (source / "a" / "4.png").write_bytes(b"no longer an image")
    with pytest.raises(ResumeError) as error:
        prepare(source, folder, size=(16, 16), channels="4", labels=True)
    for part in (
        "2 added (a/new 1.png, broken.png)",
        "1 removed (b/3.png)",
        "2 changed (a/2.png, a/4.png)",
        "size was 32x32, asked 16x16",
        "channels were 3, asked 4",
        "labels were off, asked on",
    ):
        assert part in str(error.value)
    assert error.value.exit_code == 4


def test_same_length_and_time_but_moved_is_named(source: Path, folder: Path) -> None:
    prepare(source, folder)
    (source / "a" / "0.png").rename(source / "a" / "9.png")
    with pytest.raises(ResumeError, match=r"1 added \(a/9.png\); 1 removed \(a/0.png\)"):
        prepare(source, folder)


def test_new_files_that_are_no_images_change_nothing(source: Path, folder: Path) -> None:
    made = prepare(source, folder)
    (source / "new.jpg").write_text("text")
    lines: list[str] = []
    assert prepare(source, folder, report=lines.append).fingerprint == made.fingerprint
    assert lines[0].startswith("skipped new.jpg: not a")
    with pytest.raises(DataError, match=r"received new\.jpg"):
        prepare(source, folder, on_bad_image="error")


def test_fingerprint_depends_on_what_a_model_sees(source: Path, folder: Path) -> None:
    def of(name: str, **settings: object) -> str:
        return prepare(source, folder.with_name(name), **settings).fingerprint  # type: ignore[arg-type]

    seen = {of("0"), of("1", size=(16, 32)), of("2", size=(32, 16)), of("3", channels="1")}
    seen.add(of("4", labels=True))
    save(source / "a" / "0.png", GREY)
    seen.add(of("5"))
    (source / "a" / "0.png").rename(source / "a" / "00.png")
    seen.add(of("6"))
    assert len(seen) == 7


def test_run_folder_inside_the_images(source: Path) -> None:
    run = source / "run"
    run.mkdir()
    (run / "run.toml").touch()
    made = prepare(source, run / "images")
    save(run / "samples.png")
    assert prepare(source, run / "images").paths == made.paths


@pytest.mark.parametrize("name", ["images.json", "manifest.csv", "skipped.csv", "pixels.npy"])
@pytest.mark.parametrize("damage", ["remove", "halve", "empty", "swap"])
def test_damaged_cache_is_refused(source: Path, folder: Path, name: str, damage: str) -> None:
    (source / "bad.png").touch()
    prepare(source, folder)
    data = (folder / name).read_bytes()
    if damage == "remove":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes({"halve": data[: len(data) // 2], "empty": b"", "swap": b"\x80\x04]\x94."}[damage])
    for again in (lambda: prepare(source, folder), lambda: load(folder)):
        with pytest.raises(ResumeError, match="damaged"):
            again()


def test_foreign_folder_is_not_touched(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "holiday.txt").write_text("mine")
    with pytest.raises(ResumeError, match="damaged"):
        prepare(source, folder)
    assert (folder / "holiday.txt").read_text() == "mine"
    (folder / "holiday.txt").unlink()
    assert len(prepare(source, folder)) == 6


def test_failure_at_any_file_operation_leaves_no_half_cache(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(source / "b" / "grey.png", (*GREY, 255))  # four channels by its header, three by its pixels: narrowed
    expected = prepare(source, tmp_path / "undisturbed")
    real = {name: getattr(os, name) for name in ("replace", "fsync")}
    calls = 0

    def failing(name: str, at: int):
        def call(*args: object) -> object:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real[name](*args)

        return call

    failures = 0
    for at in range(1, 100):
        calls = 0
        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, failing(name, at))
            try:
                prepare(source, folder)
                break
            except OSError:
                failures += 1
        if folder.exists():  # the rename had happened; what was flushed before it is whole
            np.testing.assert_array_equal(load(folder).pixels, expected.pixels)
            shutil.rmtree(folder)
        assert not list(folder.parent.glob("*.tmp"))
    assert failures >= 10
    assert prepare(source, folder).fingerprint == expected.fingerprint


def test_killed_while_decoding(source: Path, folder: Path, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from glann import imagebuild
        from glann.images import prepare
        decode = imagebuild.decode
        imagebuild.decode = lambda path, *rest: os._exit(9) if path.name == "3.png" else decode(path, *rest)
        prepare(Path(sys.argv[1]), Path(sys.argv[2]))
    """)
    done = subprocess.run([sys.executable, "-c", script, source, folder], check=False)
    assert done.returncode == 9
    assert folder.with_name("images.tmp").exists()
    assert not folder.exists()
    with pytest.raises(ResumeError):
        load(folder)
    made = prepare(source, folder)
    assert made.fingerprint == prepare(source, tmp_path / "undisturbed").fingerprint
    assert not folder.with_name("images.tmp").exists()


def test_order_and_pixels_do_not_depend_on_threads(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{i}.png")
        if i % 7 == 3:
            (tmp_path / "in" / f"{i} bad.png").write_bytes((tmp_path / "in" / f"{i}.png").read_bytes()[:300])
    alone = prepare(tmp_path / "in", folder)

    def slow(path: Path, *rest: object) -> object:
        time.sleep(0.004 * (int(path.stem.split()[0]) % 3))
        return decode(path, *rest)

    decode = imagebuild.decode
    monkeypatch.setattr(imagebuild, "decode", slow)
    monkeypatch.setattr(imagebuild, "_SMALL", 1)
    monkeypatch.setattr(imagebuild, "_CHUNK", 3)
    monkeypatch.setattr(imagebuild, "_cores", lambda: 8)
    together = prepare(tmp_path / "in", folder.with_name("together"))
    assert together.paths == alone.paths
    assert together.fingerprint == alone.fingerprint
    np.testing.assert_array_equal(together.pixels, alone.pixels)
    assert alone.skipped == together.skipped == 6


def test_facts_say_what_was_decided(source: Path, folder: Path) -> None:
    made = prepare(source, folder)
    facts = json.loads((folder / "images.json").read_text())
    assert (facts["count"], facts["height"], facts["width"], facts["channels"]) == (6, 32, 32, 3)
    assert facts["fingerprint"] == made.fingerprint
    assert facts["size_reason"] == "the size of 6 of 6 images"


def test_long_work_is_reported(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagebuild, "PLAIN_SECONDS", 0.0)
    lines: list[str] = []
    prepare(source, folder, report=lines.append)
    assert "looked at 6 of 6 images" in lines
    assert "decoded 6 of 6 images" in lines


def test_pixels_file_takes_any_count(tmp_path: Path) -> None:
    for count in (0, 1, 9, 10, 123, 1000):
        written = imagecache.write_pixels(
            tmp_path, (1, 2, 2), (np.full((1, 1, 2, 2), i % 256, np.uint8) for i in range(count))
        )
        pixels = np.load(tmp_path / "pixels.npy")
        assert written == count
        assert pixels.shape == (count, 1, 2, 2)
        assert pixels[:, 0, 1, 1].tolist() == [i % 256 for i in range(count)]


def test_reading_images_needs_no_torch() -> None:
    script = "import sys; import glann.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
