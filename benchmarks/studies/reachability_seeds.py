"""Which stage's seed decides the distance of samples? Both of the base's stage 1, each with several of stage 2.

    python benchmarks/studies/reachability_seeds.py IMAGES WEIGHTS_H5 --work FOLDER

Arguments are those of reachability.py, which has to have trained the base into FOLDER. The Fréchet distance is shown
beside one of its two terms, that of the means.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from class_folders import read
from common import table
from reachability import JUDGED, PER_CLASS, ROWS, settings_of, stage_1, stage_2, training_images
from stage1 import HELD_OUT, looks

from glann import GLANN
from imle.metrics import frechet_distance

SEEDS, DRAWS = 3, 2  # of stage 2; of the samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("weights_h5", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)

    real = read(options.images, -HELD_OUT, None)[0].float() / 255
    judges = {name: (look, look(real)) for name, look in looks(options.weights_h5).items()}
    images = training_images(options.images, PER_CLASS)
    lines = []
    for seed in ROWS["base"].seeds:
        first, second = settings_of(ROWS["base"], seed)
        generator, latents, _ = stage_1(images, first, seed, options.work)
        config = {"latent_dim": first.latent_dim, "height": 32, "width": 32, "channels": 3}
        for other in range(SEEDS):
            sampler, _ = stage_2(latents, replace(second, seed=other), options.work)
            model = GLANN(generator, sampler, config)
            for draw in range(DRAWS):
                samples = model.sample(JUDGED, seed=draw)
                cells = []
                for look, seen in judges.values():
                    features = look(samples)
                    means = float((features.double().mean(0) - seen.double().mean(0)).square().sum())
                    whole = frechet_distance(seen, features)
                    cells += [f"{whole:.1f}", f"{means:.1f}"]
                lines.append([seed, other, draw, *cells])
                print(lines[-1], flush=True)
    head = [f"{name}, {what}" for name in judges for what in ("distance", "of the means")]
    table(["stage 1", "stage 2", "draw", *head], lines)


if __name__ == "__main__":
    main()
