"""Stage 2 of Hoshen, Li, Malik 2019 as one would write it from the paper: the yardstick of `benchmarks/imle_speed.py`.

    python benchmarks/plain/imle.py LATENTS.npy SAMPLES.npy

Every epoch draws 2N fresh noise vectors, maps them, finds for every latent the nearest of the mapped ones by exact
search, and takes one pass of minibatches that pull each of these towards its latent.
"""

import sys
from collections.abc import Callable

import faiss
import numpy as np
import torch
from torch import Tensor, nn

NOISE_DIM, WIDTH, BATCH_SIZE, LR = 32, 128, 128, 1e-3


def mapping_network(dim: int) -> nn.Module:
    """(B, 32) noise -> (B, dim)."""
    return nn.Sequential(
        nn.Linear(NOISE_DIM, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, dim),
    )  # fmt: skip


def fit(
    latents: Tensor, epochs: int = 50, seed: int = 0, after_epoch: Callable[[int, nn.Module], None] | None = None
) -> nn.Module:
    """(N, d) float32 latents -> the trained network, in eval mode."""
    torch.manual_seed(seed)
    n, dim = latents.shape
    network = mapping_network(dim)
    adam = torch.optim.Adam(network.parameters(), lr=LR)
    for epoch in range(1, epochs + 1):
        # The nearest of 2N fresh samples for every latent.
        network.eval()
        noise = torch.randn(2 * n, NOISE_DIM)
        with torch.no_grad():
            samples = network(noise)
        index = faiss.IndexFlatL2(dim)
        index.add(samples.numpy())
        matched = noise[torch.from_numpy(index.search(latents.numpy(), 1)[1][:, 0])]

        # One pass of gradient steps on these pairs.
        network.train()
        for rows in torch.randperm(n).split(BATCH_SIZE):
            loss = nn.functional.mse_loss(network(matched[rows]), latents[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
        network.eval()
        if after_epoch is not None:
            after_epoch(epoch, network)
    return network


if __name__ == "__main__":
    given = torch.from_numpy(np.load(sys.argv[1], allow_pickle=False)).float()
    with torch.no_grad():
        drawn = fit(given)(torch.randn(len(given), NOISE_DIM))
    np.save(sys.argv[2], drawn.numpy())
