"""Blocks of the codec in the dark: nearer to what was there, steadier, and nothing else touched."""

from __future__ import annotations

import itertools
import json
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
SAME = ("--precision", "fp32", "--codec", "ffv1")


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
    deblock = Deblock(True)
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
    deblock = Deblock(True)
    made = [deblock.frame(picture) for picture in coded][-1]
    assert np.array_equal(made[41:43, 61:63], coded[-1][41:43, 61:63])
    around = np.s_[36:39, 56:68]
    assert made[around].mean() * 255 < coded[-1][around].mean() * 255 + 0.5
    bright = np.clip(coded[0] + 0.4, 0, 1)
    assert Deblock(True).frame(bright) is bright


def test_a_cut_leaves_nothing_behind() -> None:
    """What differs by more than a few codes is light: the frame before does not show through."""
    one, other = (np.full((HEIGHT, WIDTH, 3), level / 255, np.float32) for level in (4, 14))
    deblock = Deblock(True)
    deblock.frame(one)
    assert np.abs(deblock.frame(other) - other).max() * 255 < 0.01
    assert np.array_equal(deblock.frame(other[:40]), Deblock(True).frame(other[:40]))


def test_as_an_option(folder: Path, lowlight: Lowlight, coded: list[Picture]) -> None:
    """Blocks come and go from frame to frame: in the result they do so by less, unless that is not wanted."""
    results = []
    for word in ("--no-deblock", "--deblock", ""):
        ran = lowlight("video", "night.mkv", "-o", f"lit{word}.mkv", *SAME, *word.split())
        assert ran.code == 0, ran.err
        assert ("blocks in the dark evened out by 100%" in ran.err) == (word != "--no-deblock"), ran.err
        results.append(np.stack(kit.shown(Path(f"lit{word}.mkv"))).astype(float))
    plain, even, by_itself = results
    change = [np.abs(np.diff(each, axis=0)).mean() for each in (plain, even)]
    assert change[1] < 0.6 * change[0], change
    assert np.array_equal(even, by_itself)


def test_a_preview_shows_it(folder: Path, lowlight: Lowlight, coded: list[Picture]) -> None:
    for word in ("--deblock", "--no-deblock"):
        assert lowlight("video", "night.mkv", "--preview", "1", "-o", f"{word[2:]}.png", word).code == 0
    assert Path("deblock.png").read_bytes() != Path("no-deblock.png").read_bytes()


@pytest.mark.parametrize("words", [("--strength", "0"), ("--gate", "0.001"), ("--gate", "0.001", "--temporal", "off")])
def test_where_nothing_is_done_blocks_stay(
    folder: Path, lowlight: Lowlight, coded: list[Picture], words: tuple[str, ...]
) -> None:
    """A strength of 0 is the input, and so is what is bright already: in clips, in pictures, on sheets."""
    for more in ("--deblock", "--no-deblock"):
        ran = lowlight("video", "night.mkv", "-o", f"{more}.mkv", *SAME, *words, more)
        assert ran.code == 0, ran.err
        assert "evened out" not in ran.err
        ran = lowlight("video", "night.mkv", "--preview", "2", "-o", f"{more}.png", *words, more)
        assert ran.code == 0, ran.err
    assert np.array_equal(kit.shown(Path("--deblock.mkv")), kit.shown(Path("--no-deblock.mkv")))
    assert Path("--deblock.png").read_bytes() == Path("--no-deblock.png").read_bytes()


@pytest.mark.parametrize("kind", ["noise", "texture", "slope", "black", "small"])
def test_clean_clips_stay_as_they_are(folder: Path, lowlight: Lowlight, kind: str) -> None:
    """Without blocks there is nothing to even out: not noise, not fine texture, not the bands of eight bits."""
    random, shown = np.random.default_rng(1), []
    texture = random.normal(0, 0.7, (HEIGHT, WIDTH + 12, 3))
    for number in range(6):
        picture = night() * 255
        if kind == "noise":
            picture += random.normal(0, 2, picture.shape)
        elif kind == "texture":
            picture += texture[:, number : number + WIDTH]
        elif kind == "black":
            picture[:] = 0
        elif kind == "small":
            picture = picture[:6, :6]
        shown.append(np.rint(np.clip(picture, 0, 255)).astype(np.uint8))
    kit.write(Path("clean.mkv"), shown, codec="ffv1", pixels="yuv444p", base=Fraction(1, 1000),
              ticks=[40 * number for number in range(6)], colours=(1, 1, 1, 1))  # fmt: skip
    ran = lowlight("video", "clean.mkv", "-o", "lit.mkv", *SAME, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[0])["deblocked"] == 0
    assert lowlight("video", "clean.mkv", "-o", "plain.mkv", *SAME, "--no-deblock").code == 0
    assert np.array_equal(kit.shown(Path("lit.mkv")), kit.shown(Path("plain.mkv")))


def test_it_comes_and_goes_slowly(coded: list[Picture]) -> None:
    """From a shot with blocks to one without and back: over a second each, never from one frame to the next."""
    noise = np.random.default_rng(2)
    clean = [np.clip(night() + noise.normal(0, 2 / 255, (HEIGHT, WIDTH, 3)), 0, 1).astype(np.float32) for _ in range(8)]
    deblock, changed = Deblock(), []
    for number in range(240):
        part = coded if number // 80 != 1 else clean
        picture = part[number % len(part)]
        before = deblock.share * number
        deblock.frame(picture)
        changed.append(deblock.share * (number + 1) - before)
    assert changed[0] == changed[79] == changed[239] == 1
    assert changed[159] == 0
    assert np.abs(np.diff(changed)).max() < 0.05


def test_it_goes_on_where_it_was(coded: list[Picture]) -> None:
    """A run that goes on knows what was seen before; a single frame may show no blocks."""
    first, second = Deblock(), Deblock()
    for picture in coded:
        first.frame(picture)
    second.restore(json.loads(json.dumps(first.state(), default=np.ndarray.tolist)))
    flat = np.full((HEIGHT, WIDTH, 3), 4 / 255, np.float32)
    first.frame(flat)
    second.frame(flat)
    assert second.share == 1
