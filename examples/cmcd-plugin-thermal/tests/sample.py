"""Generates pairs to try the plugin on: python examples/cmcd-plugin-thermal/tests/sample.py my_pairs"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {"cold": (5.0, 60), "warm": (36.0, 220)}
"""Temperature in °C and grey value of each kind of thing; the room has 20 °C and 140."""


def write_pairs(root, count=60, side=24):
    """A colour picture and a thermal one (16-bit PNG, hundredths of a kelvin) of each thing, in two classes."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side]
    for number in range(count):
        kind = tuple(KINDS)[number % 2]
        centre, radius = rng.uniform(0.38, 0.62, 2) * side, rng.uniform(0.2, 0.33) * side
        inside = np.hypot(y - centre[0], x - centre[1]) < radius
        degrees = np.where(inside, KINDS[kind][0], 20) + rng.normal(0, 0.5, inside.shape)
        grey = np.where(inside, KINDS[kind][1], 140) + rng.normal(0, 8, inside.shape)
        save(root / "image" / kind, number, grey.clip(0, 255).astype(np.uint8)[..., None].repeat(3, axis=2))
        save(root / "thermal" / kind, number, ((degrees + 273.15) * 100).round().astype(np.uint16))


def save(folder, number, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{number:03d}.png")


if __name__ == "__main__":
    write_pairs(Path(sys.argv[1]))
