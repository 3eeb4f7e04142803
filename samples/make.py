"""Make samples/night.jpg: a photograph of an espresso, as a camera would have seen it with a twentieth of the light.

    pip install -e '.[test]'
    python samples/make.py

The photograph is `skimage.data.coffee()`, which scikit-image carries inside its package: 600x400, CC0, by Rachel
Michetti, courtesy of Pikolo Espresso Bar. The noise is of the kind that lowlight_cli/training/darken.py draws, written
out here with fixed numbers, so that the sample stays what it is when training changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.exposure import to_linear, to_srgb

SEED: Final = 7
LIGHT: Final = 0.05
"""What is left of the light."""
SHOT: Final = 3e-4
"""Variance of the photons' noise, a unit of linear light: a small sensor at a high ISO."""
READ: Final = 3e-4
"""Deviation of the electronics' noise, in linear light."""
SMEAR: Final = 0.6
"""Sigma, in pixels, by which demosaicking spreads the noise."""
QUALITY: Final = 92

TARGET: Final = Path(__file__).parent / "night.jpg"
COMMENT: Final = (
    "Simulated low light, made by samples/make.py of lowlight from skimage.data.coffee (CC0, Rachel Michetti)"
)


def night() -> NDArray[np.uint8]:
    """The dark picture, (400, 600, 3) uint8 RGB, before it is compressed."""
    light = LIGHT * to_linear(skimage.data.coffee().astype(np.float32) / 255)
    noise = np.random.default_rng(SEED).standard_normal(light.shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (3, 3), SMEAR)
    noise /= noise.std()
    seen = light + noise * np.sqrt(SHOT * light + READ**2)
    return np.rint(to_srgb(np.clip(seen, 0, 1)) * 255).astype(np.uint8)


def main(target: Path = TARGET) -> None:
    """Write the sample."""
    Image.fromarray(night()).save(target, "JPEG", quality=QUALITY, comment=COMMENT)


if __name__ == "__main__":
    main()
