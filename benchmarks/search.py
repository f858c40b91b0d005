"""Seconds, recall and memory of `imle.nearest` at two sizes.

    python benchmarks/search.py                          # 10,000 queries among 1,000,000 x 64, exact
    python benchmarks/search.py --cifar FOLDER           # and 8,000 among 200,000 x 3,072, made of 32x32 images

FOLDER holds at least 28,000 colour images of 32x32, such as CIFAR-10's training set. 8,000 of them are the queries,
and no candidates; the candidates are the others, shifted by a few pixels and flipped until there are 200,000.
Each figure is the median of three calls, each of which builds whatever index it uses. Processor time is summed over
threads. The memory is what the process needed at its peak beyond queries and candidates (Linux).
"""

import argparse
import gc
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import imle

QUERIES, CANDIDATES, REPEATS = 8000, 200_000, 3
SHIFTS = [(0, 0), (0, 2), (2, 0), (0, -2), (-2, 0)]  # pixels down and right
COPIES = [(shift, flip) for shift in SHIFTS for flip in (False, True)]


def cifar_vectors(folder: Path) -> tuple[Tensor, Tensor]:
    """(8,000, 3,072) queries and (200,000, 3,072) candidates in [0, 1]."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if len(files) < QUERIES + CANDIDATES // len(COPIES):
        raise SystemExit(f"--cifar: expected at least 28,000 images in {folder}, received {len(files)}")
    with ThreadPoolExecutor(4) as threads:
        pixels = list(threads.map(lambda path: np.asarray(Image.open(path).convert("RGB")), files))
    images = torch.from_numpy(np.stack(pixels))
    if images.shape[1:] != (32, 32, 3):
        raise SystemExit(f"--cifar: expected images of 32x32, received {tuple(images.shape[1:3])}")
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    queries, rest = images[:QUERIES], images[QUERIES:]
    candidates = torch.empty(CANDIDATES, 3072)
    filled = 0
    for shift, flip in COPIES:
        moved = rest.roll(shift, dims=(1, 2))[: CANDIDATES - filled]
        moved = moved.flip(2) if flip else moved
        candidates[filled : filled + len(moved)] = moved.flatten(1).float() / 255
        filled += len(moved)
    # In random order, so that no method can profit from copies that lie side by side.
    order = torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(1))
    return queries.flatten(1).float() / 255, candidates[order]


def status(field: str) -> float:
    """MiB from /proc/self/status."""
    line = next(ln for ln in Path("/proc/self/status").read_text().splitlines() if ln.startswith(field))
    return int(line.split()[1]) / 1024


def measure(queries: Tensor, candidates: Tensor, method: str, repeats: int) -> imle.Neighbours:
    """Print the median of some calls, and hand back what was found."""
    seconds, processor, extra = [], [], 0.0
    for _ in range(repeats):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = status("VmRSS")
        started, used = time.perf_counter(), time.process_time()
        found = imle.nearest(queries, candidates, 1, method)
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
        extra = max(extra, status("VmHWM") - before)
    spread = f"{min(seconds):.2f}-{max(seconds):.2f}" if repeats > 1 else "one call"
    print(
        f"{len(queries):,} queries, {len(candidates):,} x {candidates.shape[1]}, method {method} took {found.method}: "
        f"{statistics.median(seconds):.2f} s ({spread}), {statistics.median(processor):.2f} s of processor time, "
        f"{extra:,.0f} MiB beyond the data", flush=True
    )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, help="a folder of 32x32 colour images")
    folder = parser.parse_args().cifar
    print(f"{torch.get_num_threads()} threads")
    imle.nearest(torch.randn(100, 64), torch.randn(1000, 64))  # loads faiss

    generator = torch.Generator().manual_seed(0)
    candidates, queries = torch.randn(1_000_000, 64, generator=generator), torch.randn(10_000, 64, generator=generator)
    measure(queries, candidates, "exact", REPEATS)
    if folder is None:
        return
    del candidates
    queries, candidates = cifar_vectors(folder)
    found = measure(queries, candidates, "auto", REPEATS)
    truth = measure(queries, candidates, "exact", 1)
    right = found.distances[:, 0] <= truth.distances[:, 0] * (1 + 1e-6)
    print(f"recall@1 over all queries: {right.float().mean():.4f}; the method's own estimate: {found.recall:.4f}")
    further = (found.distances / truth.distances.clamp_min(1e-9))[~right]
    if len(further):
        print(f"where it missed, its answer is {further.mean():.4f} times as far as the nearest")


if __name__ == "__main__":
    main()
