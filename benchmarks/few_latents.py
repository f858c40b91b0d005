"""Stage 2 on 100 latents of a run, with batches of 256 and with the default for few examples.

    python benchmarks/few_latents.py RUN

Prints the loss of the last epoch (1 is to answer the mean every time), the mean distance from 2,000 samples to the
nearest of the 100, from 2,000 latents held out to the nearest sample, and processor seconds.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

import imle

VARIANTS = {
    "60 epochs, batches of 256": {"batch_size": 256, "epochs": 60},
    "60 epochs": {"epochs": 60},
    "400 epochs, batches of 256": {"batch_size": 256, "epochs": 400, "noise_dim": 8},
    "400 epochs": {"epochs": 400, "noise_dim": 8},
}


def main() -> None:
    """Run the variants one after the other and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    latents = load_file(parser.parse_args().run / "glo" / "latents.safetensors")["latents"]
    latents = latents[torch.randperm(len(latents), generator=torch.Generator().manual_seed(0))]
    few, held_out = latents[:100], latents[-2000:]
    for name, settings in VARIANTS.items():
        seconds = time.process_time()
        sampler = imle.IMLE(refresh=imle.Every(1), **settings).fit(few)
        seconds = time.process_time() - seconds
        samples = sampler.sample(2000, seed=1)
        known = imle.nearest(samples, few).distances.mean()
        unseen = imle.nearest(held_out, samples).distances.mean()
        loss = sampler.history[-1]["loss"]
        print(f"{name:<26} loss {loss:.3f}  to known {known:.3f}  from unseen {unseen:.3f}  processor {seconds:.0f} s")


if __name__ == "__main__":
    main()
