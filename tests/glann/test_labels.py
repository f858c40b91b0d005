"""Which class an image is of, and every way in which a folder or a file can fail to say it."""

import json

import pytest

from glann.images import load, prepare
from glann.labels import list_some, read_file, read_labels
from imle.errors import DataError, ResumeError
from tests.glann.test_images import save, table

PATHS = ["a/0.png", "a/1.png", "b/2.png", "b/c/3.png"]


def labels_of(labels, source, paths=PATHS):
    lines = []
    return read_labels(labels, paths, source, lines.append), lines


@pytest.fixture
def source(tmp_path):
    for k, path in enumerate(PATHS):
        save(tmp_path / "photos" / path, (100 + k, 20, 30))
    return tmp_path / "photos"


def test_the_first_folder_is_the_class(tmp_path):
    assert labels_of(True, tmp_path) == (["a", "a", "b", "b"], [])


def test_a_file_that_is_skipped_needs_no_class(source, tmp_path):
    (source / "damaged.png").write_bytes(b"no image")
    made = prepare(source, tmp_path / "cache", labels=True)
    assert (made.labels, made.skipped) == (["a", "a", "b", "b"], 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "path,class\na/0.png,cat\na/1.png,dog\nb/2.png,cat\nb/c/3.png,dog\n"),
        ("l.csv", "\ufefffile,label\r\n./a/0.png, cat\r\na/1.png,dog\r\n\r\nb/2.png,cat \r\nb/c/3.png,dog"),
        ("l.txt", 'a/0.png,cat\na/1.png,dog\n"b/2.png",cat\nb/c/3.png,dog\na/0.png,cat\n'),  # twice, but agreeing
        ("l.json", '{"a/0.png": "cat", "a/1.png": "dog", "b/2.png": "cat", "b/c/3.png": "dog"}'),
    ],
)
def test_a_file_says_the_class(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert labels_of(tmp_path / name, tmp_path) == (["cat", "dog", "cat", "dog"], [])


def test_integers_in_json_are_names(tmp_path):
    (tmp_path / "l.json").write_text(json.dumps({path: k % 2 for k, path in enumerate(PATHS)}))
    assert labels_of(tmp_path / "l.json", tmp_path)[0] == ["0", "1", "0", "1"]


def test_paths_that_are_no_image_are_told(tmp_path):
    (tmp_path / "l.csv").write_text("\n".join(f"{path},{path[0]}" for path in [*PATHS, "z/9.png", "y.png"]))
    classes, lines = labels_of(tmp_path / "l.csv", tmp_path)
    assert classes == ["a", "a", "b", "b"]
    (line,) = lines
    assert "names 2 paths that are no image there, the first is y.png" in line


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("l.csv", "a/0.png,cat\na/1.png,dog\n", "received 2 outside it, the first is b/2.png"),
        ("l.csv", "id,class\n0,cat\n1,dog\n", "received 4 outside it, the first is a/0.png; it names 0, which"),
        ("l.csv", "", "received 4 outside it"),
        ("l.csv", "a/0.png,cat,x\n", "line 1: expected path,class, received 3 columns"),
        ("l.csv", "path,class\na/0.png\n", "line 2: expected path,class, received 1 columns"),
        ("l.csv", "a/0.png,cat\na/1.png, \n", "line 2: expected a class for a/1.png"),
        ("l.csv", "a/0.png,cat\n./a/0.png,dog\n", "line 2: a/0.png is dog, but was cat before"),
        ("l.csv", "\n".join(f"{path},cat" for path in PATHS), "at least two classes in .*, received only cat"),
        ("l.json", '{"a/0.png": "cat", "a/0.png": "dog"}', "entry 2: a/0.png is dog, but was cat before"),
        ("l.json", '["a/0.png"]', "expected one object"),
        ("l.json", '{"a/0.png": {"class": "cat"}}', "entry 1: expected a text or an integer as the class of a/0.png"),
        ("l.json", '{"a/0.png": true}', "entry 1: expected a text or an integer"),
        ("l.json", '{"a/0.png": "\\ud800"}', "l.json"),
        ("l.json", '{"a/0.png": ', "l.json"),
        ("none.csv", None, "none.csv: No such file"),
    ],
)
def test_what_a_file_does_not_say_is_named(tmp_path, name, text, named):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=named) as error:
        labels_of(tmp_path / name, tmp_path)
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)


def test_one_subfolder_is_no_choice(tmp_path):
    with pytest.raises(DataError, match="received only a; or leave the labels out"):
        labels_of(True, tmp_path, ["a/0.png", "a/b/1.png"])


def test_a_class_whose_images_are_all_damaged_does_not_count(source, tmp_path):
    for path in PATHS:
        save(source / "a" / f"more {path[-5]}.png")
    for path in PATHS[2:]:
        (source / path).write_bytes(b"no image")
    with pytest.raises(DataError, match="received only a"):
        prepare(source, tmp_path / "images", labels=True)
    assert not (tmp_path / "images").exists()


def test_the_manifest_and_the_image_set_have_the_classes(source, tmp_path):
    (tmp_path / "l.json").write_text(json.dumps({path: ["zebra", "ant"][k % 2] for k, path in enumerate(PATHS)}))
    made = prepare(source, tmp_path / "images", labels=tmp_path / "l.json")
    assert [row["label"] for row in table(tmp_path / "images" / "manifest.csv")] == ["zebra", "ant"] * 2
    assert made.classes == ["ant", "zebra"]
    assert made.class_rows().tolist() == [1, 0, 1, 0]
    plain = prepare(source, tmp_path / "plain")
    assert (plain.classes, plain.class_rows()) == ([], None)
    assert plain.fingerprint != made.fingerprint


def test_a_cache_keeps_its_classes(source, tmp_path):
    made = prepare(source, tmp_path / "images", labels=True)
    same = tmp_path / "same.csv"
    same.write_text("".join(f"{path},{path[0]}\n" for path in PATHS))
    for labels in (False, True, same):  # not given: as it was; else only the classes count, not where they are from
        assert prepare(source, tmp_path / "images", labels=labels).labels == made.labels
    same.write_text(same.read_text().replace("b/2.png,b", "b/2.png,a"))
    with pytest.raises(ResumeError, match=r"1 images of another class \(b/2.png was b, asked a\)"):
        prepare(source, tmp_path / "images", labels=same)
    manifest = tmp_path / "images" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",b,", ",a,"))
    with pytest.raises(ResumeError, match="damaged"):
        load(tmp_path / "images")


def test_long_lists_are_cut():
    assert list_some(["a", "b\n"]) == "a, 'b\\n'"
    assert list_some([str(k) for k in range(9)], most=2) == "0, 1 and 7 more"


def test_a_path_may_hold_a_comma(tmp_path):
    (tmp_path / "l.csv").write_text('"a, b.png",cat\n')
    assert read_file(tmp_path / "l.csv") == {"a, b.png": "cat"}
