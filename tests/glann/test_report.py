import base64
import io
import json
import math
import os
import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import safetensors.torch
import tomli_w
import torch
from PIL import Image

from glann import charts, embedded, generators, images, pictures, report
from glann.model import GLANN
from glann.snapshots import Snapshots
from imle.errors import DataError
from imle.sampler import LatentSampler

LEARNT = {
    "Worst reconstructions",
    "Nearest training images",
    "Farthest from any sample",
    "From each training image to the nearest …",
}
LOOKS = {"Stage 1, glo: learning to draw", "Stage 2, imle: learning where to draw from"}
PICTURED = LEARNT | LOOKS | {"Reconstructions", "From one image to another"}
NASTY = '<img src=x onerror=alert(1)> & "ü".png'
COUNT = 14


class Page(HTMLParser):
    """Sections with their text, the headings inside them, and every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self.headings = [], {}, []
        self._in_heading = self._in_small_heading = False
        self._section = None
        self.feed(text)
        self.text = " ".join(self.sections.values())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_heading, self._in_small_heading = tag in ("h1", "h2"), tag == "h3"

    def handle_endtag(self, tag):
        self._in_heading = self._in_small_heading = False

    def handle_data(self, data):
        if self._in_small_heading:
            self.headings.append(data.strip())
        if self._in_heading:
            self._section = data
            self.sections[data] = ""
        elif self._section is not None:
            self.sections[self._section] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(run):
    return Page(report.write(run).read_text(encoding="utf-8"))


def decoded(src):
    assert src.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))


def shown(page, alt):
    """The pictures whose alternative text begins so."""
    return [tag for tag in page.all("img") if tag["alt"].startswith(alt)]


def write_rows(run, name, rows):
    (run / name).mkdir(exist_ok=True)
    (run / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def imle_row(epoch):
    return {
        "epoch": epoch, "loss": 0.5, "lr": 1e-3, "mean_distance": 0.8, "median_distance": 0.7, "max_distance": 1.1,
        "distinct_share": 0.6, "seconds_generate": 1.0, "seconds_search": 2.0, "seconds_train": 3.0, "seconds": 6.0,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A small finished run, made as `glann fit` makes it, but not trained."""
    run, source = tmp_path / "my <run> & co", tmp_path / "photos"
    (source / "a").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(source / "a" / f"{k:02d} <i>.png")
    (source / NASTY).write_text("no image")
    cache = images.prepare(source, run / "images", size=(16, 16))
    stages = [
        {"use": "glo", "name": "glo", "epochs": 3, "loss": "laplacian", "generator_options": {}},
        {"use": "imle", "name": "imle", "epochs": 2, "refresh": {"Every": {"epochs": 1}}, "calibrate": True},
    ]
    record = {
        "description": "a <b>bold</b> test", "seed": 0, "device": "cpu", "precision": "fp32", "threads": 2,
        "source": str(source), "command": "glann fit 'my photos' --out run", "decode_seconds": 4.0,
        "stages": stages, "versions": {"python": "3.99.1", "torch": "2.99"},
    }  # fmt: skip
    (run / "run.toml").write_text(tomli_w.dumps(record))
    write_rows(
        run, "glo", [{"epoch": e, "batch_size": 47, "loss": 0.3 / e, "lr": 1e-3, "seconds": 30.0} for e in (1, 2, 3)]
    )
    write_rows(run, "imle", [imle_row(1), imle_row(2)])

    torch.manual_seed(0)
    config = {"generator": "residual", "generator_options": {}, "latent_dim": 4, "loss": "laplacian"}
    config |= {"height": 16, "width": 16, "channels": 3}
    network = {"name": "residual", "width": 8, "depth": 1}
    facts = {"noise_dim": 3, "shape": [4], "network": network, "sphere": True, "calibrated": False, "condition": None}
    model = GLANN(generators.build("residual", latent_dim=4, size=(16, 16), channels=3), LatentSampler(facts), config)
    model.save_pretrained(run / "model")
    latents = torch.nn.functional.normalize(torch.randn(COUNT, 4), dim=1)
    losses = torch.linspace(0.1, 0.2, COUNT)
    losses[5], losses[9] = 0.9, math.nan
    safetensors.torch.save_file({"latents": latents, "losses": losses}, run / "glo" / "latents.safetensors")
    pictures.save(pictures.grid(model.sample(9)), run / "samples.png")
    copies = model.decode(latents)
    pictures.save(pictures.pairs(cache.batch(range(COUNT)), copies), run / "reconstructions.png")
    for name in ("glo", "imle"):
        looks = Snapshots(run / name, 16)
        for epoch in (1, 2):
            looks.add(epoch, torch.full((8, 3, 16, 16), epoch / 4))
    return run


def test_the_page_tells_everything(run):
    page = read(run)
    assert list(page.sections) == [
        "my <run> & co", "How it learnt", "What it can draw", "What is new", "Is every image within reach?", "Training",
        "Where the time went", "Skipped files", "Draw more", "How it was made",
    ]  # fmt: skip
    for told in ("16×16 RGB", "a <b>bold</b> test", "laplacian", "{Every = {epochs = 1}}", "when to match again",
                 "images in one step", "47",
                 "3.99.1", NASTY, "1 file could not be decoded", "--out run", "cpu", "fp32"):  # fmt: skip
        assert told in page.text, told
    words = page.sections["Where the time went"].split()
    assert " ".join(words).startswith("1 min 46 s to decode and to train")  # 4 + 3 · 30 + 2 · 6


def test_nothing_comes_from_elsewhere_and_nothing_runs(run):
    text = report.write(run).read_text(encoding="utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    assert NASTY not in text
    assert all(tag["src"].startswith("data:image/webp;base64,") for tag in page.all("img"))
    assert all(tag["alt"] and int(tag["width"]) and int(tag["height"]) for tag in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_small_images_keep_every_pixel_and_gaps_are_clear(run):
    page = read(run)
    for alt, name in (("A grid of", "samples.png"), ("Rows of training", "reconstructions.png")):
        (tag,) = shown(page, alt)
        seen, file = np.asarray(decoded(tag["src"]).convert("RGBA")), np.asarray(Image.open(run / name))
        assert (int(tag["width"]), int(tag["height"])) == (file.shape[1], file.shape[0])
        y, x = np.indices(file.shape[:2])
        image = (y % 66 < 64) & (x % 66 < 64)
        assert np.array_equal(seen[image, :3], file[image])
        assert np.array_equal(seen[..., 3] == 255, image)


def test_large_images_are_shrunken(run):
    seen = embedded.embed(pictures.grid(torch.rand(6, 3, 256, 128), columns=3), (256, 128))
    assert (seen.width, seen.height) == (3 * 128 + 2 * 2, 2 * 256 + 2)
    seen = embedded.embed(pictures.grid(torch.rand(4, 1, 512, 512), columns=2), (512, 512))
    assert abs(seen.width - 256) <= 1
    assert decoded(seen.src).size == (seen.width, seen.height)


def test_how_it_learnt_shows_each_moment_and_the_originals(run):
    page = read(run)
    words = page.sections["How it learnt"].split()
    assert words[-3:] == ["epoch", "1", "2"]
    first, second = shown(page, "Images drawn after epoch 1")
    assert first["src"] == second["src"]
    pixels = np.asarray(decoded(first["src"]).convert("RGB"))
    assert abs(int(pixels[5, 5, 0]) - 64) <= 1
    (originals,) = shown(page, "The training images")
    (file,) = sorted((run.parent / "photos" / "a").glob("00*"))
    assert np.array_equal(
        np.asarray(decoded(originals["src"]).convert("RGB"))[:64:4, :64:4], np.asarray(Image.open(file))
    )


def test_the_worst_reconstruction_comes_first(run):
    worst = shown(read(run), "Training image and its reconstruction")
    assert len(worst) == 12
    assert "a/05 <i>.png, distance 0.9" in worst[0]["alt"]
    assert not any("a/09" in tag["alt"] for tag in worst)  # its loss is no number
    both = np.asarray(decoded(worst[0]["src"]).convert("RGB"))
    original = np.asarray(Image.open(run.parent / "photos" / "a" / "05 <i>.png"))
    assert np.array_equal(both[:64:4, ::4], original)  # above, enlarged four times


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("reconstructions.png", {"Reconstructions"}),
        ("glo/latents.safetensors", LEARNT),
        ("images/manifest.csv", LEARNT | LOOKS),
        ("images/images.json", LEARNT | LOOKS),
        ("model/model.safetensors", LEARNT | {"From one image to another"}),
        ("imle/snapshots/epoch-000001.png", set()),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "noise"])
def test_what_is_missing_or_damaged_leaves_its_section_out(run, missing, gone, damage):
    (run / missing).unlink()
    if damage != "missing":
        (run / missing).write_bytes(b"" if damage == "empty" else b"\xfe\x00\x81" * 50)
    assert PICTURED - set(read(run).headings) == gone


def test_latents_that_are_no_numbers_are_not_drawn(run):
    learnt = safetensors.torch.load_file(run / "glo" / "latents.safetensors")
    learnt["latents"][3, 2] = math.nan
    safetensors.torch.save_file(learnt, run / "glo" / "latents.safetensors")
    assert PICTURED - set(read(run).headings) == LEARNT


def test_without_samples_or_metrics_the_rest_stands(run):
    (run / "samples.png").unlink()
    (run / "glo" / "metrics.jsonl").unlink()
    (run / "images" / "skipped.csv").unlink()
    page = read(run)
    assert not shown(page, "A grid of")
    assert shown(page, "Rows of training")
    assert "Stage 1, glo: loss" not in page.text
    assert "Stage 2, imle: loss" in page.text
    assert "Skipped files" not in page.sections


def test_a_bare_run_has_a_page(tmp_path):
    (tmp_path / "run.toml").write_text("")
    assert "holds no model" in read(tmp_path).text
    (tmp_path / "run.toml").write_text('stages = [{use = "glo"}, 3]\nversions = 4\nimages = {}\ndecode_seconds = nan')
    assert "Where the time went" not in read(tmp_path).sections


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"run\.toml"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stages_of_other_packages_and_other_names(run):
    record = {
        "stages": [
            {"use": "acme-flow", "name": "<flow>", "epochs": 9, "secret": 5},
            {"use": "imle", "name": "second"},
            {"use": "silent", "name": "silent"},
        ]
    }
    (run / "run.toml").write_text(tomli_w.dumps(record))
    write_rows(run, "<flow>", [{"epoch": 1, "loss": -3.0, "seconds": 1.0, "seconds_odd_part": 2.0}])
    write_rows(run, "second", [imle_row(1)])
    page = read(run)
    titles = re.findall(r"Stage \d, \S+: [a-z ]+", page.sections["Training"])
    assert titles == [
        "Stage 1, <flow>: loss", "Stage 2, second: loss", "Stage 2, second: how far the nearest sample is",
        "Stage 2, second: distinct samples",
    ]  # fmt: skip
    assert "Stage 1, <flow>: odd part" in page.sections["Where the time went"]
    assert "secret" in page.sections["How it was made"]


def test_figures_that_are_no_numbers_are_left_out(run):
    rows = [{"epoch": 1, "loss": math.nan}, {"epoch": 2, "loss": math.inf}, {"epoch": "3", "loss": 1}, {"loss": None}]
    write_rows(run, "glo", rows)
    write_rows(run, "imle", [{**imle_row(1), "max_distance": math.inf, "loss": None}])
    text = report.write(run).read_text(encoding="utf-8")
    assert "Stage 1, glo: loss" not in text
    assert "farthest" not in text
    assert "median" in text
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", text), re.IGNORECASE)


def test_scores_of_held_out_images_have_a_linear_chart_with_their_floor(run):
    assert "held-out" not in report.write(run).read_text(encoding="utf-8")
    key = "held_out_kernel_distance"
    shared = {f"{key}_chance": 0.005, "held_out_images": 64, "held_out_features": "<judge>"}
    scored = [{key: 0.5}, {key: 0.02}, {f"{key}_calibrated": 0.01}]
    write_rows(run, "imle", [imle_row(e) | (shared | scored[e // 2 - 1] if e % 2 == 0 else {}) for e in range(1, 7)])
    text = report.write(run).read_text(encoding="utf-8")
    (spoken,) = re.findall(r'aria-label="Stage 2, imle: distance to held-out images, ([^"]*)"', text)
    assert spoken == (
        "epochs 2 to 6: samples from 500 to 20, calibrated samples from 10 to 10, real images from 5 to 5"
    )
    assert "64 held-out images at some moments, in features of &lt;judge&gt;." in text
    assert text.count('class="l1 dot"') == 1  # a single point is large enough to be seen
    assert "Calibration follows the last epoch." in text  # and no word of a logarithmic axis


def test_a_long_run_stays_small(run):
    short = report.write(run).stat().st_size
    draw = random.Random(0)
    write_rows(run, "glo", [{"epoch": e, "loss": 3 / e + draw.random(), "seconds": 1.0} for e in range(1, 5001)])
    write_rows(run, "imle", [imle_row(e) | {"loss": draw.random()} for e in range(1, 5001)])
    assert report.write(run).stat().st_size - short < 40_000


def test_only_the_first_skipped_files_are_named(run):
    lines = [f"bad/{k}\udc80.jpg,truncated\n" for k in range(1500)]
    (run / "images" / "skipped.csv").write_text("path,reason\n" + "".join(lines), errors="surrogateescape")
    skipped = read(run).sections["Skipped files"]
    assert skipped.count("truncated") == 20
    assert "1,500 files" in skipped


def test_a_folder_whose_name_is_no_text(run):
    try:
        renamed = run.rename(run.parent / "run\udc80")  # a byte that is no UTF-8, as Python names it
    except (OSError, ValueError):
        pytest.skip("this file system only takes names that are text")
    assert read(renamed).all("img")


def test_an_interruption_leaves_the_old_page(run, monkeypatch):
    before = report.write(run).read_bytes()
    write_rows(run, "glo", [{"epoch": 1, "loss": 9.0}])

    def crash(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        report.write(run)
    assert (run / "report.html").read_bytes() == before


def test_the_same_run_gives_the_same_bytes(run):
    assert report.write(run).read_bytes() == report.write(run).read_bytes()


def coordinates(path):
    return [tuple(map(float, dot.split())) for dot in path.removeprefix("M").removesuffix("h0").split("L")]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shape", ["flat", "falling", "steep", "negative", "zero", "mixed"])
@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_curves_and_marks_stay_inside_the_drawing(scale, shape, count):
    value = {
        "flat": lambda e: 1.0, "falling": lambda e: 1 + 1 / e, "steep": lambda e: 1 / e**2,
        "negative": lambda e: -1 / e, "zero": lambda e: 0.0, "mixed": math.sin,
    }[shape]  # fmt: skip
    drawn = charts.chart("t", "", {"a": [(e, scale * value(e)) for e in range(1, count + 1)], "b": []})
    assert [line.label for line in drawn.lines] == ["a"]
    dots = coordinates(drawn.lines[0].path)
    assert all(0 <= x <= charts.SIDE and 0 <= y <= charts.SIDE for x, y in dots)
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    for ticks in (drawn.x, drawn.y):
        assert 1 <= len(ticks) <= 12
        assert all(-3 <= tick.at <= 103 for tick in ticks)
        assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)


def test_marks_lie_where_the_curve_has_their_value():
    for points in ([(1, 0.0), (2, 2.0), (3, 4.0)], [(1, 0.01), (2, 0.1), (3, 1.0)]):
        drawn = charts.chart("t", "", {"a": points})
        at = {float(tick.text): tick.at for tick in drawn.y}
        for (_, value), (_, y) in zip(points, coordinates(drawn.lines[0].path), strict=True):
            assert at[value] == pytest.approx(100 - y * 100 / charts.SIDE, abs=0.06)


def test_a_histogram_counts_and_names_the_median():
    drawn = charts.histogram("t", "", "m", {"a": [0.0, 1.0, 1.0, 4.0], "b": [], "c": [2.0]})
    assert [(line.label, line.last) for line in drawn.lines] == [("a", "median 1"), ("c", "median 2")]
    dots = coordinates(drawn.lines[0].path)
    assert all(0 <= x <= charts.SIDE and 0 <= y <= charts.SIDE for x, y in dots)
    full = min(y for _, y in coordinates(drawn.lines[1].path))  # c: all of it in one bin
    assert charts.SIDE - min(y for _, y in dots) == pytest.approx((charts.SIDE - full) / 2, abs=1)  # a: half of it
    assert charts.histogram("t", "", "m", {"a": [3.0, 3.0]}).x[0].text == "3"
    assert charts.histogram("t", "", "m", {"a": []}) is None


def test_no_points_no_chart():
    assert charts.chart("t", "", {"a": []}) is None


def test_thinning_keeps_ends_and_peaks():
    draw = random.Random(0)
    points = [(e, draw.random()) for e in range(1, 4000)]
    points[1234] = (1235, 50.0)
    points[2345] = (2346, -50.0)
    kept = charts.thin(points)
    assert len(kept) < 310
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert {points[0], points[1234], points[2345], points[-1]} <= set(kept)
    assert charts.thin(points[:300]) == points[:300]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 12, [5, 10]),
        (1, 2, [1, 2]),
        (4, 4, [4]),
        (-4, 0, [-4, -3, -2, -1, 0]),
    ],
)
def test_linear_ticks_are_round(low, high, ticks):
    assert charts.linear_ticks(low, high, 5, smallest=1.0 if low else 0.0) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (1 / 3, "0.333"), (999.7, "1,000"), (12345.6, "12,346"), (-4, "-4")]
)
def test_figure(value, text):
    assert charts.figure(value) == text
