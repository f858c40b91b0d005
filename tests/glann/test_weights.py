import hashlib
import http.server
import io
import os
import threading
import time

import pytest
import torch

from glann import weights
from imle.errors import DataError


def packed(seed=0):
    """Bytes of a small state dict, larger than one chunk of a download."""
    buffer = io.BytesIO()
    torch.save({"features.0.weight": torch.rand(600, 1000, generator=torch.Generator().manual_seed(seed))}, buffer)
    return buffer.getvalue()


DATA = packed()
TINY = weights.TrunkFile(f"tiny-{hashlib.sha256(DATA).hexdigest()[:8]}.pth", 2)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answer
        if answer == "silent":
            time.sleep(1.0)
            return
        if answer == 404:
            self.send_error(404)
            return
        self.send_response(200)
        body = packed(seed=1) if answer == "other" else DATA
        if answer != "unannounced":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if answer in ("cut", "stalled") else body)
        self.wfile.flush()
        if answer == "stalled":
            time.sleep(1.0)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stub of the download server; ``answer`` says how it behaves."""
    stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.answer, stub.asked = "whole", []
    threading.Thread(target=stub.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv(weights.URL_VARIABLE, f"http://127.0.0.1:{stub.server_port}/models/")
    yield stub
    stub.shutdown()
    stub.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty torch cache, and ``vgg`` standing for a file of two megabytes."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setitem(weights.TRUNKS, "vgg", TINY)
    return tmp_path / "torch" / "hub" / "checkpoints"


def left_behind(cache):
    return sorted(p.name for p in cache.iterdir()) if cache.is_dir() else []


def test_names_and_sizes_are_those_of_torchvision(monkeypatch):
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    monkeypatch.undo()
    published = {"vgg": VGG16_Weights, "alex": AlexNet_Weights, "squeeze": SqueezeNet1_1_Weights}
    for net, choices in published.items():
        trunk = weights.TRUNKS[f"lpips-{net}"]
        assert choices.IMAGENET1K_V1.url == f"{weights.DEFAULT_URL}/{trunk.file}"
        assert abs(choices.IMAGENET1K_V1.meta["_file_size"] * 2**20 / 1e6 - trunk.megabytes) <= 0.5  # given in MiB
        assert len(trunk.digest) == 8
        assert int(trunk.digest, 16)
    assert weights.TRUNKS["vgg"] == weights.TRUNKS["lpips-vgg"]


@pytest.mark.parametrize("answer", ["whole", "unannounced"])
def test_fetch_brings_the_file_and_tells_how_far_it_is(answer, server, cache):
    server.answer = answer
    told = []
    path = weights.fetch("vgg", lambda done, total: told.append((done, total)))
    assert path == cache / TINY.file
    assert path.read_bytes() == DATA
    assert left_behind(cache) == [TINY.file]
    assert server.asked == [f"/models/{TINY.file}"]
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(DATA), len(DATA) if answer == "whole" else None)
    assert len(told) > 1


def test_fetched_files_are_readable_by_others_as_far_as_the_umask_allows(server):
    old = os.umask(0o022)
    try:
        assert weights.fetch("vgg").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(old)


def test_fetch_downloads_only_what_is_not_there_whole(server, cache):
    weights.fetch("vgg")
    weights.fetch("vgg")
    assert len(server.asked) == 1
    (cache / TINY.file).write_bytes(DATA[:-1])
    assert weights.fetch("vgg").read_bytes() == DATA
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, "the server answered 404"),
        ("other", "expected a SHA-256 that starts with"),
        ("cut", f"expected {len(DATA)} bytes, the connection ended after {len(DATA) // 2}"),
        ("silent", r"no answer within 0\.2 seconds"),
        ("stalled", r"no answer within 0\.2 seconds"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(answer, message, server, cache):
    server.answer = answer
    with pytest.raises(DataError, match=message) as caught:
        weights.fetch("vgg", timeout=0.2)
    assert f"http://127.0.0.1:{server.server_port}/models/{TINY.file}" in str(caught.value)
    assert left_behind(cache) == []


def test_a_failed_download_keeps_the_file_that_was_there(server, cache):
    cache.mkdir(parents=True)
    (cache / TINY.file).write_bytes(b"damaged")
    server.answer = "other"
    with pytest.raises(DataError):
        weights.fetch("vgg")
    assert (cache / TINY.file).read_bytes() == b"damaged"
    assert left_behind(cache) == [TINY.file]


def test_an_interrupted_download_leaves_nothing(server, cache):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch("vgg", interrupt)
    assert left_behind(cache) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http:/nohost", "http://host.invalid", "ftp2://x"])
def test_unreachable_servers_are_a_data_error(url, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv(weights.URL_VARIABLE, url)
    with pytest.raises(DataError, match=f"cannot download {url}"):
        weights.fetch("vgg", timeout=5)


def test_a_mirror_can_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / TINY.file).write_bytes(DATA)
    monkeypatch.setenv(weights.URL_VARIABLE, tmp_path.as_uri())
    assert weights.fetch("vgg").read_bytes() == DATA


def test_a_cache_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "torch").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="TORCH_HOME"):
        weights.fetch("vgg")


def test_locate_takes_the_given_file_then_the_cache_then_a_download(server, cache, tmp_path):
    given = tmp_path / "mine.pth"
    with pytest.raises(DataError, match=r"found none at .*mine\.pth"):
        weights.locate("vgg", given)
    given.write_bytes(b"whatever")
    assert weights.locate("vgg", given) == given

    with pytest.raises(DataError, match=r"`glann weights fetch vgg`.*`glann weights import FILE`") as caught:
        weights.locate("vgg")
    assert caught.value.exit_code == 3
    assert server.asked == []

    server.answer = 404
    with pytest.raises(DataError, match=r"answered 404.*`glann weights fetch vgg`"):
        weights.locate("vgg", download=lambda done, total: None)
    server.answer = "whole"
    assert weights.locate("vgg", download=lambda done, total: None) == cache / TINY.file
    assert weights.locate("vgg") == cache / TINY.file
    assert len(server.asked) == 2


def test_available_tells_cached_damaged_and_missing_apart(cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / TINY.file).write_bytes(DATA)
    (cache / weights.TRUNKS["lpips-alex"].file).write_bytes(b"half")
    rows = {row.name: row for row in weights.available()}
    assert list(rows) == list(weights.TRUNKS)
    assert rows["vgg"] == weights.Row("vgg", cache / TINY.file, "cached", len(DATA), 2)
    assert (rows["lpips-alex"].state, rows["lpips-alex"].bytes) == ("damaged", 4)
    assert (rows["lpips-squeeze"].state, rows["lpips-squeeze"].bytes) == ("missing", None)


@pytest.mark.parametrize("name", [None, "vgg"])
def test_import_knows_a_file_by_its_hash(name, cache, tmp_path):
    source = tmp_path / "from a friend.bin"
    source.write_bytes(DATA)
    assert weights.import_file(source, name) == cache / TINY.file
    assert (cache / TINY.file).read_bytes() == DATA
    assert weights.import_file(cache / TINY.file) == cache / TINY.file
    assert left_behind(cache) == [TINY.file]


def test_import_refuses_what_it_does_not_know(cache, tmp_path):
    source = tmp_path / TINY.file
    source.write_bytes(DATA + b"!")
    with pytest.raises(DataError, match=f"starts with {TINY.digest}"):
        weights.import_file(source, "vgg")
    source.write_bytes(DATA)
    with pytest.raises(DataError, match=r"7be5be79 \(alexnet"):
        weights.import_file(source, "lpips-alex")
    with pytest.raises(DataError, match="found none at"):
        weights.import_file(tmp_path)
    assert left_behind(cache) == []


@pytest.mark.parametrize("call", [weights.cached, weights.fetch, weights.locate])
def test_losses_without_a_trunk_are_refused(call):
    with pytest.raises(ValueError, match=r"one of lpips-vgg.*received 'laplacian'"):
        call("laplacian")
