"""Make docs/images/ from samples/night.jpg and the shipped weights.

    pip install -e . && python docs/make_images.py

before_after.jpg: the sample, and what the default model makes of it. models.jpg: every shipped model, labelled.
To be run again when weights change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from lowlight_cli import Enhancer
from lowlight_cli.networks import NETWORKS
from lowlight_cli.weights.catalog import catalog

ROOT: Final = Path(__file__).resolve().parent.parent
SAMPLE: Final = ROOT / "samples" / "night.jpg"
IMAGES: Final = ROOT / "docs" / "images"

GAP: Final = 8
COLUMNS: Final = 2
QUALITY: Final = 88
WHITE: Final = (255, 255, 255)


def sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size side by side on white, row by row."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), WHITE)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        whole.paste(picture, (column * (width + GAP), row * (height + GAP)))
    return whole


def labelled(picture: Image.Image, text: str) -> Image.Image:
    """A copy with a name in its lower left corner."""
    copy = picture.copy()
    draw = ImageDraw.Draw(copy)
    font = ImageFont.load_default(20)
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    y = copy.height - (bottom - top) - 14
    draw.rectangle((0, y, right - left + 16, copy.height), fill=(0, 0, 0))
    draw.text((8 - left, y + 7 - top), text, WHITE, font)
    return copy


def save(picture: Image.Image, name: str) -> None:
    """Write one picture of the documentation."""
    IMAGES.mkdir(exist_ok=True)
    picture.save(IMAGES / name, "JPEG", quality=QUALITY, optimize=True)


def main() -> None:
    """Make both."""
    dark = Image.open(SAMPLE).convert("RGB")
    save(sheet([dark, Enhancer(offline=True).enhance(dark)], 2), "before_after.jpg")
    shipped = {checkpoint.network for checkpoint in catalog() if checkpoint.file}
    lit = [labelled(Enhancer(name, offline=True).enhance(dark), name) for name in NETWORKS if name in shipped]
    save(sheet(lit, COLUMNS), "models.jpg")


if __name__ == "__main__":
    main()
