"""The table of docs/generators.md: parameters, time and memory of the generators at each size.

    python benchmarks/generators.py

Each row is measured in a process of its own, on one thread, in the precision that `glann fit` takes here. A training
step is forward and backward with a gradient for the latents; the memory is what the process needs at its peak beyond
what it had before the first step (Linux), with the number of images given. Processor time, medians of several.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from glann import generators
from glann.memory import keep_freed_buffers

SIZES = ["16x16", "28x28", "32x32", "48x64", "64x64", "128x128", "256x256", "512x512", "1024x1024"]
BATCHES = {64: 64, 128: 16, 256: 8, 512: 2, 1024: 1}  # images in a step, by the longest side up to which it holds
LATENT_DIM, SECONDS = 64, 4.0


def peak(reset: bool = False) -> float:
    """MiB that the process has needed at most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(ln for ln in Path("/proc/self/status").read_text().splitlines() if ln.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def seconds(step: Callable[[], object]) -> float:
    """Processor seconds of one call, the median of at least three."""
    step()
    found: list[float] = []
    while len(found) < 3 or (sum(found) < SECONDS and len(found) < 20):
        started = time.process_time()
        step()
        found.append(time.process_time() - started)
    return statistics.median(found)


def measure(name: str, size: str) -> None:
    """Print one row."""
    torch.set_num_threads(1)
    keep_freed_buffers()
    height, width = map(int, size.split("x"))
    network = generators.build(name, latent_dim=LATENT_DIM, size=(height, width), channels=3)
    network = network.to(memory_format=torch.channels_last)
    count = next(n for side, n in BATCHES.items() if max(height, width) <= side)
    bf16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    z = torch.randn(count, LATENT_DIM)

    def train() -> None:
        latents = z.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            drawn = network.train()(latents)
        drawn.float().square().mean().backward()
        network.zero_grad(set_to_none=True)

    @torch.no_grad()
    def sample() -> None:
        network.eval()(z)

    gc.collect()
    before = peak(reset=True)
    training = seconds(train)
    memory = peak() - before
    drawing = seconds(sample)
    parameters = sum(p.numel() for p in network.parameters())
    print(
        f"| {name} | {size.replace('x', '×')} | {parameters / 1e6:.2f} M | {count} | {count / training:,.3g} | "
        f"{count / drawing:,.3g} | {memory:,.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    one = parser.parse_args().one
    if one:
        measure(*one)
        return
    print("| generator | height × width | parameters | images a step | trained /s | drawn /s | MiB in training |")
    print("|---|---|---|---|---|---|---|")
    for name in generators.GENERATORS:
        for size in SIZES if name != "reference" else SIZES[:-2]:  # at 512 its weights alone are 9 GB
            subprocess.run([sys.executable, __file__, "--one", name, size], check=True)


if __name__ == "__main__":
    main()
