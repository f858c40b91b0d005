import json
import pathlib
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import safetensors.torch
import torch
from huggingface_hub import HfApi

import imle
from imle.errors import DataError

SMALL = imle.IMLE(epochs=2, noise_dim=4, width=16, depth=1, batch_size=32)


@pytest.fixture
def sampler(sphere):
    return SMALL.fit(sphere)


def test_sample_k_of_a_seed_is_the_same_in_every_request(sampler):
    whole = sampler.sample(700, seed=5)
    assert whole.dtype == torch.float32
    assert whole.shape == (700, 6)
    for start, n, batch_size in [
        (0, 1, None),
        (0, 257, 3),
        (255, 2, 1),
        (256, 256, None),
        (300, 400, 64),
        (699, 1, 1000),
    ]:
        assert torch.equal(sampler.sample(n, seed=5, start=start, batch_size=batch_size), whole[start : start + n])
    assert sampler.sample(0).shape == (0, 6)
    assert not torch.equal(sampler.sample(700, seed=6), whole)


def test_a_saved_sampler_is_the_same(sampler, tmp_path):
    sampler.save_pretrained(tmp_path / "s")
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["config.json", "model.safetensors"]
    loaded = imle.LatentSampler.from_pretrained(tmp_path / "s")
    assert torch.equal(loaded.sample(300, seed=2), sampler.sample(300, seed=2))
    assert loaded.dim == 6
    assert loaded.noise_dim == 4
    again = imle.LatentSampler.from_config(sampler.to_config())
    again.load_state_dict(sampler.state_dict())
    assert torch.equal(again.sample(300, seed=2), sampler.sample(300, seed=2))


def test_forward_is_what_sample_uses(sampler):
    with torch.no_grad():
        assert torch.allclose(sampler(sampler.noise(20, seed=8)), sampler.sample(20, seed=8), atol=1e-5)


def test_a_file_with_nan_is_no_model(sampler, tmp_path):
    sampler.save_pretrained(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    tensors["network.enter.weight"][0] = torch.nan
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"expected numbers, network\.enter\.weight"):
        imle.LatentSampler.from_pretrained(tmp_path)


def test_a_mask_of_infinities_is_averaged_saved_and_loaded(tmp_path):
    class Masked(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.register_buffer("mask", torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]))

        def forward(self, e):
            return super().forward(e) @ self.mask.softmax(0)

    network = Masked()
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    fitted = imle.IMLE(noise_dim=3, epochs=2, ema=0.9, calibrate=False).fit(x, model=network)
    assert fitted.sample(5).isfinite().all()
    fitted.save_pretrained(tmp_path)
    again = imle.LatentSampler.from_pretrained(tmp_path, network=Masked())
    assert torch.equal(again.sample(5), fitted.sample(5))


def test_damaged_folders_are_data_errors(sampler, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected config\.json"):
        imle.LatentSampler.from_pretrained(tmp_path / "empty")
    folder = tmp_path / "s"
    sampler.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "noise_dim": 5}))
    with pytest.raises(DataError, match=r"network\.enter\.weight"):
        imle.LatentSampler.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(DataError, match="format 99"):
        imle.LatentSampler.from_pretrained(folder)
    for change in (
        {"noise_dim": "x"},
        {"shape": 3},
        {"network": {}},
        {"condition": {"labels": "ab"}},
        {"condition": [1]},
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(DataError, match=r"config\.json"):
            imle.LatentSampler.from_pretrained(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(DataError):
        imle.LatentSampler.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(DataError, match="cannot read a model"):
        imle.LatentSampler.from_pretrained(folder)


def hub_cache(sampler, folder):
    """What a download leaves, in the layout of huggingface_hub's cache."""
    home = folder / "models--somebody--ring"
    sampler.save_pretrained(home / "snapshots" / "0123abcd")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123abcd")


def test_a_sampler_comes_from_the_hub(sampler, tmp_path):
    hub_cache(sampler, tmp_path)
    loaded = imle.LatentSampler.from_pretrained("somebody/ring", cache_dir=tmp_path, local_files_only=True)
    assert torch.equal(loaded.sample(20), sampler.sample(20))
    with pytest.raises(DataError, match="expected a folder or a Hub id"):
        imle.LatentSampler.from_pretrained("somebody/else", cache_dir=tmp_path, local_files_only=True)


def test_a_sampler_goes_to_the_hub(sampler, tmp_path, monkeypatch):
    calls = []

    def upload(*, folder_path, **options):
        calls.append((sorted(p.name for p in pathlib.Path(folder_path).iterdir()), options))
        return "https://hub/commit"

    hub = create_autospec(HfApi, instance=True)  # refuses what the real one would not take
    hub.create_repo.side_effect = lambda repo_id, **_: SimpleNamespace(repo_id=f"somebody/{repo_id}")
    hub.upload_folder.side_effect = upload
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: calls.append(token) or hub)
    made = sampler.save_pretrained(tmp_path / "ring", push_to_hub=True, token="t", commit_message="m", branch="b")
    assert made == "https://hub/commit"
    options = {"repo_id": "somebody/ring", "commit_message": "m", "revision": "b", "create_pr": False}
    assert calls == ["t", (["config.json", "model.safetensors"], options)]
    assert sampler.save_pretrained(tmp_path / "ring") is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n": -1},
        {"n": 1, "start": -1},
        {"n": 1, "batch_size": 0},
        {"n": 1, "seed": -1},
        {"n": 2.0},
        {"n": 1, "seed": None},
    ],
)
def test_bad_requests(sampler, kwargs):
    with pytest.raises(ValueError, match="expected"):
        sampler.sample(**kwargs)


def test_no_condition_for_an_unconditional_sampler(sampler):
    with pytest.raises(ValueError, match="without"):
        sampler.sample(3, condition=1)


@pytest.fixture
def labelled(ring):
    labels = torch.where(ring[:, 0] > 0, 7, -2)
    return imle.IMLE(epochs=80, noise_dim=4, width=32, depth=1, batch_size=32).fit(ring, condition=labels)


def test_labels_steer_the_samples(labelled, tmp_path):
    assert (labelled.sample(300, condition=7)[:, 0] > -0.2).float().mean() > 0.9
    assert (labelled.sample(300, condition=-2)[:, 0] < 0.2).float().mean() > 0.9
    mixed = torch.tensor([7, -2] * 200)
    both = labelled.sample(400, seed=3, condition=mixed)
    assert torch.equal(both[::2], labelled.sample(400, seed=3, condition=7)[::2])
    assert torch.equal(labelled.sample(100, seed=3, start=300, condition=mixed[300:]), both[300:])
    labelled.save_pretrained(tmp_path)
    assert torch.equal(imle.LatentSampler.from_pretrained(tmp_path).sample(400, seed=3, condition=mixed), both)


def test_no_samples_of_a_label(labelled):
    assert labelled.sample(0, condition=7, start=5).shape == (0, 3)


@pytest.mark.parametrize("condition", [None, 3, 7.0, [7, -2, 7], [[7, -2]], "7", True])
def test_bad_labels(labelled, condition):
    with pytest.raises((ValueError, TypeError)):
        labelled.sample(2, condition=condition)


def test_vectors_steer_the_samples(ring):
    sampler = imle.IMLE(epochs=60, noise_dim=4, width=32, depth=1, batch_size=32, pool=5.0).fit(
        ring, condition=ring[:, :1]
    )
    samples = sampler.sample(len(ring), condition=ring[:, :1])
    assert (samples[:, 0] - ring[:, 0]).abs().mean() < 0.3
    assert sampler.sample(5, condition=[0.5]).shape == (5, 3)
    for bad in (None, [0.5, 0.1], [float("nan")], 1):
        with pytest.raises(ValueError, match="expected"):
            sampler.sample(5, condition=bad)


@pytest.mark.parametrize(
    "condition", [torch.zeros(3, dtype=torch.long), torch.zeros(120), torch.zeros(120, 1, dtype=torch.long),
                  torch.full((120, 2), torch.inf), torch.zeros(120, 0)]
)  # fmt: skip
def test_bad_conditions_at_fit(condition, ring):
    with pytest.raises(DataError, match="condition"):
        SMALL.fit(ring, condition=condition)


def test_interpolation_starts_and_ends_where_it_should_and_stays_on_the_shell(sampler):
    from imle.inversion import between
    from imle.noise import sample_noise

    one, two = sample_noise(3, 0, 2, 4)
    path = sampler.interpolate(one, two, 9)
    with torch.no_grad():
        ends = sampler(torch.stack([one, two]))
    assert torch.allclose(path[[0, -1]], ends, atol=1e-4)
    assert torch.allclose(path.norm(dim=1), torch.tensor(3.0), atol=1e-4)
    norms = between(one, two, 9).norm(dim=1)
    low, high = sorted([float(one.norm()), float(two.norm())])
    assert low - 1e-4 <= norms.min()
    assert norms.max() <= high + 1e-4
    for other in (one, -one):
        assert torch.isfinite(sampler.interpolate(one, other, 3)).all()
    for bad in (lambda: sampler.interpolate(one, two, 1), lambda: sampler.interpolate(one[:3], two, 4)):
        with pytest.raises(ValueError, match="expected"):
            bad()


def test_arrays_are_taken_like_tensors(sampler):
    z = sampler.sample(3)
    noise = sampler.nearest_noise(z, steps=3)
    assert torch.equal(sampler.nearest_noise(z.double().numpy(), steps=3), noise)
    path = sampler.interpolate(noise[0].numpy(), noise[1].numpy(), 4)
    assert torch.equal(path, sampler.interpolate(noise[0], noise[1], 4))


def test_nearest_noise_finds_samples_back(sampler, labelled):
    z = sampler.sample(20, seed=11)
    with torch.no_grad():
        start = (sampler(sampler.nearest_noise(z, steps=0)) - z).norm(dim=1)
        reached = (sampler(sampler.nearest_noise(z, steps=200)) - z).norm(dim=1)
    assert (reached <= start + 1e-5).all()
    assert reached.mean() < 0.1 * start.mean()
    labels = torch.tensor([7, -2] * 5)
    z = labelled.sample(10, seed=1, condition=labels)
    with torch.no_grad():
        assert (labelled(labelled.nearest_noise(z, condition=labels), labels) - z).norm(dim=1).mean() < 0.05
    for bad in (z[:, :2], z[0], z[:0], z * float("nan")):
        with pytest.raises(ValueError, match="expected finite points"):
            labelled.nearest_noise(bad, condition=7)
