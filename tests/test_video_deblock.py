"""Blocks of the codec in the dark: nearer to what was there, steadier, and nothing else touched."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from numpy.typing import NDArray

from lowlight_cli.video.deblock import Deblock
from lowlight_cli.video.streams import opened

Picture = NDArray[np.float32]
Lowlight = Callable[..., Ran]

HEIGHT, WIDTH = 96, 160


def night() -> Picture:
    """A sky that goes from 2 to 6 levels, in a colour, and a lamp."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    sky = 2 + 4 * (rows / HEIGHT) * (columns / WIDTH)
    picture = sky[..., None] * np.array([0.8, 0.9, 1.4], np.float32)
    picture[40:44, 60:64] = (250, 220, 180)
    return np.asarray(picture / 255, np.float32)


@pytest.fixture
def coded(folder: Path) -> list[Picture]:
    """The same with a sensor's noise, as a codec that spends little gives it back."""
    noise, scene = np.random.default_rng(0), night() * 255
    shown = [np.rint(np.clip(scene + noise.normal(0, 1, scene.shape), 0, 255)).astype(np.uint8) for _ in range(12)]
    path = kit.write(Path("night.mkv"), shown, base=Fraction(1, 1000), ticks=[40 * number for number in range(12)],
                     options={"crf": "24", "g": "1"}, colours=(1, 1, 1, 1))  # fmt: skip
    with opened(path, path.name) as clip:
        return [frame.picture for frame in clip.decoded()]


def test_the_sky_is_nearer_to_what_it_was(coded: list[Picture]) -> None:
    """Its slope comes back, frames differ by less, and nothing is shifted."""
    deblock = Deblock()
    made = [deblock.frame(picture) for picture in coded]
    sky = np.ones((HEIGHT, WIDTH), bool)
    sky[32:52, 52:72] = False

    def off(pictures: list[Picture]) -> float:
        """Mean square of what is wrong in the shape, in levels: a codec's own shift of all is not meant."""
        wrong = [(picture - night())[sky] * 255 for picture in pictures[4:]]
        return float(np.mean([(each - each.mean(0)) ** 2 for each in wrong]))

    assert off(made) < 0.7 * off(coded)
    change = [np.mean([np.abs(b - a)[sky].mean() for a, b in itertools.pairwise(row)]) for row in (coded, made)]
    assert change[1] < 0.5 * change[0]
    assert abs(np.mean(made) - np.mean(coded)) * 255 < 0.2


def test_lamps_have_no_halo_and_bright_frames_are_the_same(coded: list[Picture]) -> None:
    deblock = Deblock()
    made = [deblock.frame(picture) for picture in coded][-1]
    assert np.array_equal(made[41:43, 61:63], coded[-1][41:43, 61:63])
    around = np.s_[36:39, 56:68]
    assert made[around].mean() * 255 < coded[-1][around].mean() * 255 + 0.5
    bright = np.clip(coded[0] + 0.4, 0, 1)
    assert Deblock().frame(bright) is bright


def test_a_cut_leaves_nothing_behind() -> None:
    """What differs by more than a few codes is light: the frame before does not show through."""
    one, other = (np.full((HEIGHT, WIDTH, 3), level / 255, np.float32) for level in (4, 14))
    deblock = Deblock()
    deblock.frame(one)
    assert np.abs(deblock.frame(other) - other).max() * 255 < 0.01
    assert np.array_equal(deblock.frame(other[:40]), Deblock().frame(other[:40]))


def test_as_an_option(folder: Path, lowlight: Lowlight, coded: list[Picture]) -> None:
    """Blocks come and go from frame to frame: in the result they do so by less."""
    for words, name in (((), "plain.mkv"), (("--deblock",), "even.mkv")):
        ran = lowlight("video", "night.mkv", "-o", name, "--precision", "fp32", "--codec", "ffv1", *words)
        assert ran.code == 0, ran.err
    change = [
        np.abs(np.diff(np.stack(kit.shown(Path(name))).astype(float), axis=0)).mean()
        for name in ("plain.mkv", "even.mkv")
    ]
    assert change[1] < 0.6 * change[0], change
