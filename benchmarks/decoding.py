"""Seconds until a folder of images is ready to train on: scanned and decoded, then once more from the cache.

python benchmarks/decoding.py IMAGES [--rounds 2]
"""

import argparse
import tempfile
import time
from pathlib import Path

from glann.images import prepare

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for start in ("first start", "second start"):
                wall, processor = time.perf_counter(), time.process_time()
                images = prepare(options.images, Path(folder) / "cache")
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
                print(
                    f"{len(images):,} images, {start:12}  wall {wall:5.2f} s  processor {processor:5.2f} s", flush=True
                )
