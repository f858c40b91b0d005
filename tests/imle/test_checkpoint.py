import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from imle import checkpoint
from imle.atomic import write_atomically
from imle.checkpoint import (
    Checkpoints,
    graceful_stop,
    load_module,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
)
from imle.errors import Interrupted, ResumeError

OPERATIONS = [
    (os, "replace"), (os, "fsync"), (os, "open"), (Path, "write_text"), (Path, "mkdir"), (shutil, "rmtree"),
    (Path, "write_bytes"),
]  # fmt: skip


class Trap:
    """Counts file operations, and makes one of them fail: before it happens, or after half of it."""

    def __init__(self, monkeypatch, fail_at: int | None):
        self.count = 0
        for owner, name in OPERATIONS:
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name), fail_at))

    def wrap(self, operation, fail_at):
        def counted(*args, **kwargs):
            self.count += 1
            if self.count == fail_at:
                raise OSError(28, "No space left on device")
            return operation(*args, **kwargs)

        return counted


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weights": torch.full((5,), value), "one": torch.tensor(value, dtype=torch.float64)}


def put(folder: Path, value: int) -> None:
    Checkpoints(folder).commit(value, state(value), {"epoch": value, "history": [{"loss": 0.5}]})


def value_of(folder: Path) -> float:
    found = Checkpoints(folder).latest()
    assert found is not None
    assert set(found.tensors) == {"weights", "one"}
    assert torch.equal(found.tensors["weights"], torch.full((5,), float(found.facts["epoch"])))
    assert found.tensors["one"].dtype == torch.float64
    return found.facts["epoch"]


def operations_of_a_commit(folder, monkeypatch) -> int:
    for value in (1, 2, 3):
        put(folder, value)
    with monkeypatch.context() as patch:
        trap = Trap(patch, None)
        put(folder, 4)
    return trap.count


def test_whichever_file_operation_fails_the_old_or_the_new_state_is_there(tmp_path, monkeypatch):
    total = operations_of_a_commit(tmp_path / "count", monkeypatch)
    assert total >= 10
    seen = set()
    for k in range(1, total + 1):
        folder = tmp_path / str(k)
        for value in (1, 2, 3):
            put(folder, value)
        with monkeypatch.context() as patch:
            Trap(patch, k)
            with pytest.raises(OSError, match="No space left"):
                put(folder, 4)
        seen.add(value_of(folder))
        put(folder, 4)  # and the next attempt works
        assert value_of(folder) == 4
        put(folder, 5)
        assert value_of(folder) == 5
        assert sorted(p.name for p in folder.iterdir()) == ["step-000000000004", "step-000000000005"]
    assert seen == {3, 4}


@pytest.mark.parametrize("name", ["tensors.safetensors", "facts.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(name, damage, tmp_path):
    put(tmp_path, 1)
    put(tmp_path, 2)
    path = tmp_path / "step-000000000002" / name
    if damage == "remove":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        path.write_bytes(data[: len(data) // 2] if damage == "truncate" else bytes([data[0] ^ 1, *data[1:]]))
    with pytest.warns(UserWarning, match="damaged"):
        assert value_of(tmp_path) == 1
    put(tmp_path, 2)  # the same step, whole again
    assert value_of(tmp_path) == 2


def test_when_all_are_damaged_it_says_so(tmp_path):
    put(tmp_path, 1)
    (tmp_path / "step-000000000001" / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ResumeError, match="--fresh"):
        Checkpoints(tmp_path).latest()


def test_nothing_committed_is_none_and_old_states_are_pruned(tmp_path):
    assert Checkpoints(tmp_path / "none").latest() is None
    for value in range(1, 6):
        put(tmp_path, value)
    assert len(list(tmp_path.iterdir())) == checkpoint.KEEP
    Checkpoints(tmp_path).clear()
    assert not tmp_path.exists()


def test_due_by_time_and_by_signal(tmp_path):
    assert Checkpoints(tmp_path, every_seconds=0).due()
    patient = Checkpoints(tmp_path, every_seconds=1e9)
    assert not patient.due()
    with graceful_stop():
        os.kill(os.getpid(), signal.SIGTERM)
        assert patient.due()
        with pytest.raises(Interrupted):
            patient.commit(1, state(1), {"epoch": 1})
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert not patient.due()
    assert value_of(tmp_path) == 1


def test_module_and_optimizer_go_through_a_checkpoint(tmp_path):
    def made():
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
        return module, torch.optim.Adam(module.parameters(), lr=0.01)

    def step(module, optimizer):
        optimizer.zero_grad()
        module(torch.arange(12.0).view(4, 3)).square().mean().backward()
        optimizer.step()

    one, one_optimizer = made()
    for _ in range(3):
        step(one, one_optimizer)
    tensors = {**module_tensors("m", one), **optimizer_tensors("o", one_optimizer)}
    Checkpoints(tmp_path).commit(3, tensors, {})
    found = Checkpoints(tmp_path).latest()
    two, two_optimizer = made()
    load_module("m", two, found.tensors)
    load_optimizer("o", two_optimizer, found.tensors)
    step(one, one_optimizer)
    step(two, two_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    with pytest.raises(RuntimeError, match="Missing key"):
        load_module("m", two, {k: v for k, v in found.tensors.items() if k != "m.0.weight"})


def test_write_atomically_leaves_the_old_bytes_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        Trap(patch, 1)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimiser_goes_on_alike_for_parameters_of_another_memory_layout(tmp_path, fused):
    def steps(parameter, adam, seeds):
        for seed in seeds:
            parameter.grad = torch.empty_like(parameter).copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            )
            adam.step()

    def fresh():
        parameter = torch.nn.Parameter(torch.ones(8, 4, 3, 3).to(memory_format=torch.channels_last))
        return parameter, torch.optim.Adam([parameter], lr=0.1, fused=fused)

    whole, adam = fresh()
    steps(whole, adam, range(4))
    half, adam = fresh()
    steps(half, adam, range(2))
    Checkpoints(tmp_path).commit(1, checkpoint.optimizer_tensors("adam", adam), {})
    again, adam = fresh()
    again.data.copy_(half.data)
    checkpoint.load_optimizer("adam", adam, Checkpoints(tmp_path).latest().tensors)
    steps(again, adam, range(2, 4))
    assert torch.equal(whole, again)
