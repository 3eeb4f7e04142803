"""Small pairs of pictures to measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float32]

SIZE = (24, 36)


def picture(number: int, scale: float = 1.0) -> NDArray[np.uint8]:
    random = np.random.default_rng(number)
    slope = np.linspace(20, 200, SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3)
    return np.asarray(np.clip((slope + random.normal(0, 12, slope.shape)) * scale, 0, 255), np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))


def pairs(folder: Path, stems: range, suffix: str = ".png") -> Path:
    for stem in stems:
        save(folder / "low" / f"{stem}{suffix}", picture(stem, 0.12))
        save(folder / "high" / f"{stem}.png", picture(stem))
    return folder
