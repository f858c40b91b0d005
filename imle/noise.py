"""Randomness that depends on what is drawn, never on when or in which batch."""

import numpy as np
import torch
from torch import Tensor

_BLOCK = 64  # samples that share one counter-based stream; part of the format: another value gives other samples


def stream(seed: int, *keys: int) -> torch.Generator:
    """A CPU random generator that is a function of (seed, keys) alone.

    Training code names each use, for instance ``stream(seed, SHUFFLE, epoch)``, so that a resumed run draws
    what an uninterrupted one would have drawn.

    Args:
        seed: the run's seed, ≥ 0.
        *keys: integers ≥ 0 that tell this use from all others.

    Returns:
        A freshly seeded ``torch.Generator`` on the CPU.
    """
    # As a spawn key, because plain entropy is padded with zeros: (1,) and (1, 0) would be the same.
    state = np.random.SeedSequence(seed, spawn_key=keys).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def sample_noise(seed: int, start: int, count: int, dim: int) -> Tensor:
    """Standard normal noise of samples ``start … start + count − 1`` of a seed.

    Row k is the same whatever range it is asked in: blocks of 64 samples are drawn from a Philox counter
    keyed by (seed, block).

    Args:
        seed: which sequence of samples, 0 … 2⁶⁴ − 1.
        start: index of the first sample, ≥ 0.
        count: number of samples, ≥ 0.
        dim: noise dimension, ≥ 1.

    Returns:
        (count, dim) float32 tensor on the CPU.

    Raises:
        ValueError: for a negative start or count, a dimension below 1, or a seed out of range.
    """
    if start < 0 or count < 0 or dim < 1:
        raise ValueError(f"expected start >= 0, count >= 0 and dim >= 1, received {start}, {count}, {dim}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"expected a seed from 0 to 2**64 - 1, received {seed}")
    first, last = start // _BLOCK, -(-(start + count) // _BLOCK)
    blocks = [
        np.random.Generator(np.random.Philox(key=np.array([seed, b], dtype=np.uint64))).standard_normal((_BLOCK, dim))
        for b in range(first, last)
    ]
    if not blocks:
        return torch.empty(0, dim)
    noise = np.concatenate(blocks)[start - first * _BLOCK :][:count]
    return torch.from_numpy(noise.astype(np.float32))
