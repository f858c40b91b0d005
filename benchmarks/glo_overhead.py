"""What a step of stage 1 spends outside the networks: settings of the pipeline `quick`, 32×32 colour images.

    python benchmarks/glo_overhead.py

Each part is called in turns with the others; medians of processor time with one thread, which other programs hardly
change. The three Adams take the same step; only the first is used. ``everything`` is a step of `glann.glo.fit` itself,
so what it has beyond its parts is Python.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from glo_speed import Stamps, random_vgg

from glann import generators, glo, losses
from glann.images import ImageSet
from glann.latents import RowAdam, noise_latents
from glann.memory import keep_freed_buffers
from glann.settings import GLOSettings
from glann.targets import Targets

COUNT, STEPS = 1280, 20


def milliseconds(parts: dict[str, Callable[[], Any]]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(STEPS):
        for name, part in parts.items():
            started = time.process_time()
            part()
            found[name].append(1e3 * (time.process_time() - started))
    return {name: statistics.median(values) for name, values in found.items()}


def measure(name: str, weights: Path | None, bf16: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)
    images = ImageSet(pixels, [str(i) for i in range(COUNT)], None, "", 0)
    settings = GLOSettings(epochs=1, latent_init="noise", batch_size=64)
    loss = losses.build(name, size=(32, 32), channels=3, weights=weights)
    stamps = Stamps()
    glo.fit(images, settings, lambda: loss, bf16=bf16, watcher=stamps)

    generator = generators.build("residual", latent_dim=settings.latent_dim, size=(32, 32), channels=3)
    generator = generator.to(memory_format=torch.channels_last)
    latents = RowAdam(noise_latents(COUNT, settings.latent_dim, 0))
    targets = Targets(images, loss, "cpu", bf16)
    targets.keep(2**33, settings.batch_size, lambda line: None)
    rows = torch.randperm(COUNT)[: settings.batch_size]
    prepared, gradient = targets(rows), torch.randn(len(rows), settings.latent_dim)

    def networks() -> None:
        generator.zero_grad()
        z = latents.rows[rows].requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            distances = loss.compare(generator(z), prepared)
        distances.mean().backward()

    adams = {
        label: torch.optim.Adam(generator.parameters(), **how)
        for label, how in (("Adam, fused", {"fused": True}), ("Adam, a loop", {}), ("Adam, foreach", {"foreach": True}))
    }
    found = milliseconds(
        {
            "networks": networks,
            "targets": lambda: targets(rows),
            "Adam of the latents": lambda: latents.step(rows, gradient, 1e-2),
            **{label: adam.step for label, adam in adams.items()},
        }
    )
    found["everything"] = 1e3 * statistics.median(processor for _, processor in stamps.seconds())
    kept = "kept" if targets.kept else "read"
    print(f"{name}, {'bf16' if bf16 else 'fp32'}, targets {kept}, batches of {settings.batch_size}: ms a step")
    for label, value in found.items():
        print(f"  {label:20} {value:7.2f}  {value / found['everything']:6.1%}")
    outside = found["targets"] + found["Adam of the latents"] + found["Adam, fused"]
    print(f"  {'outside networks':20} {outside:7.2f}  {outside / (found['networks'] + outside):6.1%}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_buffers()
    able = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    with tempfile.TemporaryDirectory() as folder:
        _, weights = random_vgg(Path(folder))
        for distance, file in (("laplacian", None), ("vgg", weights)):
            measure(distance, file, able)
