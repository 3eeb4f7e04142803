"""Make samples/night.jpg: a photograph of an espresso, as a camera would have seen it with a twentieth of the light.

    pip install -e '.[test]'
    python samples/make.py

The photograph is `skimage.data.coffee()`, which scikit-image carries inside its package: 600x400, CC0, by Rachel
Michetti, courtesy of Pikolo Espresso Bar. It is darkened by `lowlight_cli.training.darken.physical`: one factor in
linear light, shot and read noise, rounding to eight bits. Every choice is drawn from one seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.training.darken import physical

SEED: Final = 1345
"""Gives a plain dim room: no added lamps or light field, 0.047 of the light, shot noise 3.8e-4, read noise 3.3e-4."""

QUALITY: Final = 92
TARGET: Final = Path(__file__).parent / "night.jpg"
COMMENT: Final = (
    "Simulated low light, made by samples/make.py of lowlight from skimage.data.coffee (CC0, Rachel Michetti)"
)


def night() -> NDArray[np.uint8]:
    """The dark picture, (400, 600, 3) uint8 RGB, before it is compressed."""
    low, _ = physical(skimage.data.coffee(), np.random.default_rng(SEED))
    return low


def main(target: Path = TARGET) -> None:
    """Write the sample."""
    Image.fromarray(night()).save(target, "JPEG", quality=QUALITY, comment=COMMENT)


if __name__ == "__main__":
    main()
