import pytest
import torch

from glann.class_scores import score_classes


def blobs(counts, seed, d=6):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    return 9.0 * torch.eye(d)[labels] + torch.randn(len(labels), d, generator=generator), labels


@pytest.mark.parametrize("d", [6, 200])  # fewer and more features than images
def test_accuracy_and_histogram_of_samples(d):
    samples, asked = blobs((30, 10, 0), 2, d)
    asked = torch.where(torch.arange(40) < 15, 1, asked)  # half of the first class was asked to be the second
    found = score_classes(["a", "b", "c"], blobs((40, 40, 20), 0, d), blobs((20, 20, 10), 1, d), samples, asked)
    assert found.histogram == pytest.approx([0.75, 0.25, 0])
    assert found.accuracy == pytest.approx([1.0, 10 / 25, None])
    assert found.real_histogram == pytest.approx([0.4, 0.4, 0.2])
    assert found.real_accuracy == pytest.approx([1.0, 1.0, 1.0])
    facts = found.to_json()
    assert facts["class_accuracy"] == pytest.approx(0.7)
    assert facts["accuracy"] == {"a": 1.0, "b": 0.4, "c": None}
    assert (
        score_classes(["a", "b", "c"], blobs((9, 9, 9), 0, d), blobs((9, 9, 9), 1, d), samples, None).accuracy is None
    )
