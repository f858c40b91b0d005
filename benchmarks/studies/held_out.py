"""How much of the kernel distance of a few images is chance: what `glann fit --holdout` can tell with how many.

    python benchmarks/studies/held_out.py IMAGES

IMAGES holds at least 1,600 images. Two sets of n of them, without an image in common, are compared 40 times; then one
set with another that is blurred (mean of 3×3 pixels), for scale.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import common
import torch
import torch.nn.functional as F
from torch import Tensor

from glann import features, images
from glann.evaluation_images import to_bytes
from glann.scores import kernel_distance

COUNT, TIMES = 1600, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        found = images.prepare(asked.images, Path(scratch) / "images")
        batch = found.batch(torch.randperm(len(found), generator=draw)[:COUNT])
        judge = features.build("efficientnet-lite0", (found.height, found.width))
    started = time.process_time()
    real = judge(to_bytes(batch))
    print(f"{COUNT / (time.process_time() - started):.0f} images a processor second")
    blurred = judge(to_bytes(F.avg_pool2d(F.pad(batch, (1,) * 4, mode="replicate"), 3, 1)))

    def measured(others: Tensor, n: int) -> str:
        """Mean and standard deviation × 1000."""
        values = []
        for _ in range(TIMES):
            order = torch.randperm(COUNT, generator=draw)
            values.append(1000 * kernel_distance(real[order[:n]], others[order[n : 2 * n]]))
        return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"

    rows = [[n, measured(real, n), measured(blurred, n)] for n in (16, 32, 64, 100, 200, 400, 800)]
    common.table(["images a set", "real", "blurred"], rows)


if __name__ == "__main__":
    main()
