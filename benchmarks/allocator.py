"""Images/s of one training step of the default generator at 32×32, with and without `glann.memory`.

    python benchmarks/allocator.py

Each setting runs in processes of its own, in turns, because the allocator cannot be reset; medians of all steps.
"""

import statistics
import subprocess
import sys
import time

BATCH, STEPS, ROUNDS = 128, 12, 3


def measure(kept: bool, bf16: bool) -> list[float]:
    """Images/s of each step, the first two left out."""
    import torch

    from glann import generators, losses
    from glann.memory import keep_freed_buffers

    if kept:
        keep_freed_buffers()
    generator = generators.build("residual", latent_dim=64, size=(32, 32), channels=3)
    generator = generator.to(memory_format=torch.channels_last)
    loss = losses.build("laplacian", size=(32, 32), channels=3)
    adam = torch.optim.Adam(generator.parameters())
    z, x = torch.randn(BATCH, 64), torch.rand(BATCH, 3, 32, 32)
    rates = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            drawn = generator(z)
        loss(drawn.float(), x).mean().backward()
        adam.step()
        adam.zero_grad()
        rates.append(BATCH / (time.perf_counter() - started))
    return rates[2:]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(*measure(sys.argv[1] == "kept", sys.argv[2] == "bf16"))
    else:
        found: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):
            for key in [(m, p) for m in ("returned", "kept") for p in ("fp32", "bf16")]:
                command = [sys.executable, __file__, *key]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found.setdefault(key, []).extend(float(v) for v in output.split())
        for (memory, precision), rates in found.items():
            low, _, high = statistics.quantiles(rates, n=4)
            print(f"{precision}  memory {memory:<8}  {statistics.median(rates):5.0f} images/s  ({low:.0f}-{high:.0f})")
