"""How often a digit classifier sees the class that a labelled model was asked for.

    python benchmarks/studies/digit_classifier.py FOLDER CLASSIFIER.safetensors    # trained on real digits
    python benchmarks/labels.py RUN CLASSIFIER.safetensors [-n 500] [--seed 1]

RUN is a run or model of grey 28x28 digits with the classes 0 to 9. Prints the agreement of each class and of all.
"""

import argparse
from pathlib import Path

import torch
from studies.digit_classifier import load

from glann import GLANN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("-n", type=int, default=500, help="samples of each class")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()

    model, classifier = GLANN.from_pretrained(asked.run), load(asked.classifier)
    if model.classes != [str(k) for k in range(10)] or (model.channels, *model.size) != (1, 28, 28):
        raise SystemExit(f"expected grey 28x28 digits with the classes 0 to 9, received classes {model.classes}")
    shares = []
    for label, name in enumerate(model.classes):
        with torch.no_grad():
            seen = classifier(model.sample(asked.n, asked.seed, label)).argmax(1)
        shares.append(float((seen == label).float().mean()))
        wrong = seen[seen != label].bincount(minlength=10)
        others = f", mostly seen as {int(wrong.argmax())}" if wrong.any() else ""
        print(f"class {name}  {100 * shares[-1]:5.1f} %{others}")
    print(f"agreement {100 * sum(shares) / len(shares):.1f} % of {10 * asked.n:,} samples")


if __name__ == "__main__":
    main()
