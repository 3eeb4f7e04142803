"""Bars and frames around pictures: what is inside comes out as if alone, and what only looks like them stays whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lowlight_cli import Enhancer
from lowlight_cli.borders import content
from lowlight_cli.pictures import read

NIGHT = np.asarray(Image.open(Path(__file__).parent.parent / "samples/night.jpg"))[:240, :320]
HEIGHT, WIDTH = 300, 400
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]

few = settings(max_examples=25, deadline=None)
colours = st.sampled_from([(0, 0, 0), (255, 255, 255), (1, 0, 2), (30, 30, 30), (128, 20, 60)])


def bordered(top: int, bottom: int, left: int, right: int, colour: tuple[int, ...], inside: np.ndarray = NIGHT):
    """(H, W, 3) uint8 with so many lines of a colour around, and where the picture lies in it."""
    height, width, _ = inside.shape
    picture = np.full((top + height + bottom, left + width + right, 3), colour, np.uint8)
    where = slice(top, top + height), slice(left, left + width)
    picture[where] = inside
    return picture, where


def pixels(eight: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(eight), 0, 255).astype(np.float32) / np.float32(255)


def jpeg(eight: np.ndarray, quality: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(eight).save(data, "JPEG", quality=quality)
    return data.getvalue()


@few
@given(st.tuples(*[st.integers(8, 150)] * 4), st.sampled_from(["bars", "pillars", "frame"]), colours)
def test_borders_are_found(widths, kind, colour):
    top, bottom, left, right = widths
    if kind == "bars":
        left = right = 0
    elif kind == "pillars":
        top = bottom = 0
    picture, where = bordered(top, bottom, left, right, colour)
    assert content(pixels(picture)) == where


@few
@given(st.tuples(*[st.integers(0, 2)] * 4), colours)
def test_what_is_thin_is_no_border(widths, colour):
    assert content(pixels(bordered(*widths, colour)[0])) is None


@pytest.mark.parametrize("sides", [(60, 0, 0, 0), (0, 60, 0, 90), (0, 0, 40, 0), (60, 0, 40, 0)], ids=str)
def test_one_side_is_no_border(sides):
    assert content(pixels(bordered(*sides, (0, 0, 0))[0])) is None


def test_two_colours_are_no_border():
    picture, _ = bordered(40, 40, 0, 0, (0, 0, 0))
    picture[-40:] = 40
    assert content(pixels(picture)) is None


@pytest.mark.parametrize("quality", [60, 80, 95])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (120, 70, 30)])
def test_borders_of_a_jpeg_are_found(quality, colour):
    """To within what its blocks of sixteen pixels blur."""
    picture, where = bordered(51, 45, 83, 70, colour)
    found = content(read(jpeg(picture, quality)).pixels)
    assert found
    for part, wanted in zip(found, where, strict=True):
        assert abs(part.start - wanted.start) <= 16 and abs(part.stop - wanted.stop) <= 16


@pytest.mark.parametrize("bottom", [50, 58])
def test_where_it_is_dark_the_border_is_found_by_the_one_opposite(bottom):
    """If it mirrors it, as bars do."""
    inside, random = np.array(NIGHT), np.random.default_rng(0)
    inside[-30:] = random.integers(1, 3, (30, *inside.shape[1:]))
    picture, where = bordered(50, bottom, 0, 0, (0, 0, 0), inside)
    picture[290:298] = random.random((8, 320, 1)) > 0.75  # what a codec leaves of the picture in the bar
    assert content(pixels(picture)) == (where if bottom == 50 else None)


def test_a_light_far_from_the_edge_of_a_bar_is_writing_and_no_noise():
    picture, where = bordered(60, 60, 0, 0, (0, 0, 0))
    picture[20:30, 40:60] = 255
    assert content(pixels(picture)) == where
    assert content(pixels(picture), writing=False) is None


BARS = {"bars": (60, 60, 0, 0), "pillars": (0, 0, 90, 90), "frame": (60, 70, 50, 40), "uneven": (60, 110, 0, 0)}
texts = st.text("abcdefghij 0123456789:", min_size=1, max_size=11)
places = st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(9, 13), st.booleans(), texts)


def inscribed(kind: str, colour: tuple[int, ...], lines: list[tuple[float, float, int, bool, str]]):
    """Like `bordered`, with each line at a place in the first or the second bar; never at the very edges of it."""
    top, bottom, left, right = BARS[kind]
    picture, where = bordered(top, bottom, left, right, colour)
    image = Image.fromarray(picture)
    ink = (255, 255, 255) if sum(colour) < 300 else (0, 0, 0)
    for x, y, size, second, text in lines:
        if kind == "pillars":
            bar = slice(0, len(picture)), slice(where[1].stop, picture.shape[1]) if second else slice(0, left)
        else:
            bar = slice(where[0].stop, len(picture)) if second else slice(0, top), slice(0, picture.shape[1])
        width, height = ImageDraw.Draw(image).textbbox((0, 0), text, font_size=size)[2:]
        free = [part.stop - part.start - 12 - side for part, side in zip(bar, (height, width), strict=True)]
        at = bar[1].start + 6 + round(x * free[1]), bar[0].start + 6 + round(y * free[0])
        ImageDraw.Draw(image).text(at, text, fill=ink, font_size=size)
    return np.asarray(image), where


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(list(BARS)), colours, st.lists(places, min_size=1, max_size=2))
def test_writing_in_a_border_changes_nothing(kind, colour, lines):
    picture, where = inscribed(kind, colour, lines)
    assert content(pixels(picture)) == where


LINE = (0.5, 0.5, 13, True, "a night")


@pytest.mark.parametrize("quality", [60, 80, 95])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (40, 40, 40)])
@pytest.mark.parametrize("lines", [[LINE], [(0.1, 0.4, 12, False, "evening")], [LINE, (0.9, 0.5, 10, False, "20:15")]])
@pytest.mark.parametrize("kind", ["bars", "uneven", "pillars"])
def test_borders_of_a_jpeg_are_found_with_writing_in_them(kind, quality, colour, lines):
    picture, where = inscribed(kind, colour, lines)
    found = content(read(jpeg(picture, quality)).pixels)
    assert found
    for part, wanted in zip(found, where, strict=True):
        assert abs(part.start - wanted.start) <= 16 and abs(part.stop - wanted.stop) <= 16


def test_a_bar_full_of_writing_is_no_bar():
    """It is a page, of which the picture is a part."""
    picture, where = bordered(150, 150, 0, 0, (255, 255, 255))
    image = Image.fromarray(picture)
    found = []
    for top in (10, 400, 40, 430, 70, 460, 100, 490):
        ImageDraw.Draw(image).text((10, top), "words of a document", fill=(0, 0, 0), font_size=24)
        found.append(content(pixels(np.asarray(image))))
    assert found[0] == where
    assert found[-1] is None


def disc(radius: float) -> np.ndarray:
    return (np.hypot(COLUMNS - 200, ROWS - 150) < radius)[..., None]


def texture(low: float, high: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (HEIGHT, WIDTH, 3))


def skyline(seed: int) -> np.ndarray:
    """Lit houses between a black sky and black water."""
    random, left = np.random.default_rng(seed), 0
    picture = np.zeros((HEIGHT, WIDTH, 3))
    while left < WIDTH:
        width, top = random.integers(8, 60), random.integers(40, 170)
        picture[top:240, left : left + width] = random.uniform(20, 90, 3)
        left += width
    return picture


def written(paper: int, ink: int) -> np.ndarray:
    image = Image.new("RGB", (WIDTH, HEIGHT), (paper,) * 3)
    for line in range(13):
        ImageDraw.Draw(image).text((30, 20 + 20 * line), "a line of some text in a document, " * 2, fill=(ink,) * 3)
    return np.asarray(image, np.float64)


def drawn(*points: tuple[int, int]) -> np.ndarray:
    """A dark thing on white."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    ImageDraw.Draw(image).polygon(points, fill=(60, 30, 20))
    return np.asarray(image, np.float64)


def bent(depth: float, reach: float) -> np.ndarray:
    """Light that grows from both sides, in whole levels."""
    grown = np.clip(np.minimum(COLUMNS, WIDTH - 1 - COLUMNS) - reach, 0, None) / (WIDTH / 2 - reach) * depth
    return np.rint(grown)[..., None].repeat(3, 2)


WHOLE = {
    "black": np.zeros((HEIGHT, WIDTH, 3)),
    "white": np.full((HEIGHT, WIDTH, 3), 255.0),
    "nearly black": np.random.default_rng(0).normal(1, 1, (HEIGHT, WIDTH, 3)),
    "noise": texture(0, 255),
    "stars": np.where(np.random.default_rng(1).random((HEIGHT, WIDTH, 1)) > 0.999, 200.0, 0).repeat(3, 2),
    "lights in a row": np.where(abs(ROWS - 150) < 8, COLUMNS % 7 * 20.0, 0)[..., None].repeat(3, 2),
    "a horizon under a black sky": np.where(ROWS > 150, 40.0, 0)[..., None].repeat(3, 2),
    "a strip of light near the top": np.where(abs(ROWS - 7) < 3, 90.0, 0)[..., None].repeat(3, 2),
    "text on white": written(255, 0),
    "text on black": written(0, 220),
    "a white window in a dark wall": np.where((abs(ROWS - 150) < 50) & (abs(COLUMNS - 200) < 70), 255, 20)[..., None]
    * np.ones(3),
    "a bottle": drawn((185, 30), (215, 30), (215, 80), (240, 110), (240, 280), (160, 280), (160, 110), (185, 80)),
    "a book, not straight": drawn((80, 60), (300, 40), (319, 250), (99, 270)),
    **{f"the moon of {radius}": disc(radius) * texture(120, 220) for radius in (9, 40, 75, 100, 140)},
    **{f"a dim disc of {radius}": disc(radius) * texture(6, 14) for radius in (40, 100, 140)},
    **{f"a ball of {radius} on white": 255 - disc(radius) * texture(120, 220) for radius in (40, 100, 140)},
    **{f"houses {seed}": skyline(seed) for seed in range(4)},
    **{f"a slope to {depth} from {reach}": bent(depth, reach) for depth in (3, 20, 120) for reach in (0, 20)},
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 3])
def test_what_looks_like_borders_stays_whole(name, size):
    assert content(pixels(WHOLE[name])[::size, ::size]) is None
    assert content(pixels(WHOLE[name]).swapaxes(0, 1)[::size, ::size]) is None


@pytest.fixture(scope="module")
def enhancer(seeded: Callable[[str], Path]) -> Callable[..., Enhancer]:
    return lambda **more: Enhancer("dgaf", seeded("dgaf"), device="cpu", precision="fp32", **more)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"strength": 0.5},
        {"exposure": 0.6},
        {"exposure": "auto"},
        {"protect_highlights": True},
        {"self_ensemble": True},
        {"tile": 384},
        {"gate": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("sides", [(0, 0, 150, 170), (60, 61, 0, 0), (20, 30, 40, 50)], ids=str)
def test_a_picture_in_borders_comes_out_as_if_alone(enhancer, more, sides):
    inside = np.tile(NIGHT, (2, 2, 1)) if "tile" in more else NIGHT
    alone = enhancer(**more).enhance(inside)
    assert alone.mean() > inside.mean()
    for colour in ((0, 0, 0), (255, 255, 255)):
        picture, where = bordered(*sides, colour, inside)
        lit = enhancer(**more).enhance(picture)
        assert np.array_equal(lit[where], alone)
        lit[where] = inside
        assert np.array_equal(lit, picture), "the border is as it was"


@pytest.mark.parametrize("kind", BARS)
def test_what_is_written_in_borders_stays_and_does_not_change_the_picture(enhancer, kind):
    picture, where = inscribed(kind, (0, 0, 0), [(0.3, 0.6, 12, True, "a night")])
    lit = enhancer().enhance(picture)
    assert np.array_equal(lit[where], enhancer().enhance(NIGHT))
    lit[where] = NIGHT
    assert np.array_equal(lit, picture)


def test_depth_and_alpha_stay_with_borders(enhancer):
    picture, where = bordered(30, 30, 0, 0, (0, 0, 0))
    alpha = np.random.default_rng(0).integers(0, 65536, (*picture.shape[:2], 1), np.uint16)
    deep = np.dstack([picture.astype(np.uint16) * 257, alpha])
    lit = enhancer().enhance(deep)
    assert np.array_equal(lit[where][..., :3], enhancer().enhance(deep[where])[..., :3])
    assert np.array_equal(lit[..., 3:], alpha)
    assert not lit[:30, :, :3].any()


def test_the_gate_asks_what_is_inside(enhancer):
    bright = 255 - NIGHT
    picture, _ = bordered(300, 300, 0, 0, (0, 0, 0), bright)
    assert picture.mean() < 0.4 * 255 < bright.mean()
    assert np.array_equal(enhancer(gate=0.4).enhance(picture), picture)
    picture, where = bordered(300, 300, 0, 0, (255, 255, 255))
    assert enhancer(gate=0.4).enhance(picture)[where].mean() > 2 * NIGHT.mean()


def test_a_grey_picture_in_a_coloured_frame_stays_grey(enhancer):
    picture, where = bordered(20, 20, 20, 20, (90, 20, 20), NIGHT[..., :1].repeat(3, 2))
    assert not np.ptp(enhancer().enhance(picture)[where], axis=2).any()


def test_white_around_a_picture_did_not_turn_white(lowlight: Callable[..., Ran], folder: Path):
    picture, _ = bordered(60, 60, 80, 80, (255, 255, 255))
    Image.fromarray(picture).save(folder / "framed.png")
    ran = lowlight("enhance", "framed.png", "--weights", "real")
    assert ran.code == 0
    assert "turned white" not in ran.err
