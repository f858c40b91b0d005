"""At which size EfficientNet-Lite0 tells small images apart: why `glann evaluate` brings them to 160 pixels.

    python benchmarks/studies/resize.py CIFAR10 [--side 64]…

CIFAR10 has one folder a class; the first 150 images of each are used. An image is recognised where most of its 10
nearest neighbours among the others are of its class.
"""

import argparse
import time
from pathlib import Path

import common
import torch
import torch.nn.functional as F
from class_folders import read

from glann import extractors, features
from imle.search import nearest

EACH, NEIGHBOURS = 150, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--side", type=int, action="append")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = read(asked.cifar10, 0, EACH)
    rows = []
    for side in asked.side or (64, 96, 128, 160, 224):
        extractors.SMALL_SIDE = side
        judge = features.build("efficientnet-lite0", (32, 32))
        started = time.process_time()
        found = judge(images)
        seconds = time.process_time() - started
        near = nearest(found, found, k=NEIGHBOURS + 1).indices[:, 1:]
        seen = F.one_hot(labels[near]).sum(1).argmax(1)
        rows.append([side, f"{float((seen == labels).float().mean()):.3f}", f"{len(images) / seconds:.0f}"])
        print(rows[-1], flush=True)
    common.table(["side in pixels", "recognised", "images a processor second"], rows)


if __name__ == "__main__":
    main()
