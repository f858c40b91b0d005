import sys

import pytest

from glann.memory import free_bytes, keep_freed_buffers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much is free")
def test_free_memory_is_that_of_this_computer():
    import os

    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_bytes("cpu") <= total


def test_a_system_that_does_not_say_is_no_error(monkeypatch):
    def refuse(self, *_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    assert free_bytes("cpu") is None
    assert free_bytes("mps") is None


def test_a_container_limits_further_and_its_file_cache_gives_way(monkeypatch):
    texts = {
        "meminfo": "MemTotal: 4000 kB\nMemAvailable:   3000 kB\n",
        "memory.stat": "anon 7\ninactive_file 500\n",
        "memory.current": "1500\n",
        "memory.max": "2000\n",
    }
    monkeypatch.setattr("pathlib.Path.read_text", lambda self, *_, **__: texts[self.name])
    assert free_bytes("cpu") == 1000
    texts["memory.max"] = "max\n"
    assert free_bytes("cpu") == 3000 * 1024


def test_the_allocator_answers():
    assert keep_freed_buffers() in (True, False)
