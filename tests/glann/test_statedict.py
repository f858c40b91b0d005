import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glann.statedict import read_state
from imle.errors import DataError


def test_state_dicts_are_read_in_every_format(tmp_path):
    state = {"features.0.weight": torch.arange(6.0).reshape(2, 3), "features.0.bias": torch.ones(2)}
    torch.save(state, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "s.safetensors")
    for path in tmp_path.iterdir():
        if path.is_file():
            read = read_state(path)
            assert read.keys() == state.keys()
            assert all(torch.equal(read[key], state[key]) for key in state)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trap-was-sprung"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "kind", ["empty", "text", "cut", "list", "nested", "number", "code", "plain pickle", "png", "st"]
)
def test_files_that_are_no_state_dicts_are_refused_and_never_run(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("odd.safetensors" if kind == "st" else "odd.pth")
    contents = {"list": [torch.ones(2)], "nested": {"state_dict": {"a": torch.ones(2)}}, "number": {"a": 3}}
    if kind in contents:
        torch.save(contents[kind], path)
    elif kind == "code":
        torch.save({"a": Trap()}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"a": Trap()}))
    else:
        torch.save({"a": torch.rand(600, 1000)}, path)
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[:5000], "png": b"\x89PNG\r\n", "st": b"x"}[kind])
    with pytest.raises(DataError, match="expected a state dict") as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("trap-was-sprung").exists()


def test_a_missing_state_dict_is_a_data_error(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(DataError, match="expected a state dict"):
            read_state(path)
