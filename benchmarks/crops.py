"""Small real folders of images of several sizes, from pictures that Python packages bring along.

    pip install --no-deps --target DIR scikit-image
    python benchmarks/crops.py OUT DIR/skimage/data

Writes OUT/64 (200 crops of photographs, 64x64), OUT/48x64 (200, 48 high and 64 wide), OUT/256 (60, 256x256) and
OUT/icons (80 icons of matplotlib with transparency, 48x48: 10 icons in 8 colours). The same files at every call.
"""

import argparse
import colorsys
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

# Public domain or CC0, 300 to 512 pixels high.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
FOLDERS = {"64": (64, 64, 200, (0.35, 0.8)), "48x64": (48, 64, 200, (0.35, 0.8)), "256": (256, 256, 60, (0.75, 1.0))}
COLOURS = 8


def crops(photographs: list[Image.Image], h: int, w: int, count: int, scales: tuple[float, float]) -> list[Image.Image]:
    """Crops of h/w at random places, their height a share in ``scales`` of the largest that fits, resized to (h, w)."""
    random = np.random.default_rng(0)
    made = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        largest = min(photograph.height, photograph.width * h / w)
        height = largest * random.uniform(*scales)
        width = height * w / h
        left, top = random.uniform(0, photograph.width - width), random.uniform(0, photograph.height - height)
        box = (left, top, left + width, top + height)
        made.append(photograph.resize((w, h), Image.Resampling.LANCZOS, box=box))
    return made


def icons() -> list[Image.Image]:
    """The large toolbar icons of matplotlib, their dark strokes in several colours."""
    folder = resources.files("matplotlib").joinpath("mpl-data", "images")
    made = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith("_large.png"):
            with entry.open("rb") as file:
                pixels = np.asarray(Image.open(file).convert("RGBA").resize((48, 48))).astype(np.float32) / 255
            for k in range(COLOURS):
                ink = np.array(colorsys.hsv_to_rgb(k / COLOURS, 0.8, 0.8), np.float32)
                coloured = pixels.copy()
                coloured[..., :3] += (1 - pixels[..., :3]) * ink  # black becomes the ink, white stays
                made.append(Image.fromarray((255 * coloured.clip(0, 1) + 0.5).astype(np.uint8)))
    return made


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("photographs", type=Path, help="the folder with scikit-image's astronaut.png and others")
    arguments = parser.parse_args()
    photographs = [Image.open(arguments.photographs / name).convert("RGB") for name in PHOTOGRAPHS]
    folders = {name: crops(photographs, *shape) for name, shape in FOLDERS.items()}
    for name, images in {**folders, "icons": icons()}.items():
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            image.save(folder / f"{i:03d}.png")
        print(f"{folder}: {len(images)} images, {images[0].height}x{images[0].width} {images[0].mode}")


if __name__ == "__main__":
    main()
