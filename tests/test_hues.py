"""Saturated lights keep their colour, and nothing else is touched."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray

from lowlight_cli import Enhancer
from lowlight_cli.exposure import LUMA, apply_gain, to_linear, to_srgb
from lowlight_cli.hues import keep_hues
from lowlight_cli.look import mean_luma

Picture = NDArray[np.float32]

LIGHTS = {"red": (255, 20, 60), "green": (10, 250, 70), "blue": (40, 20, 250), "sodium": (250, 120, 10)}


def street(colour: tuple[int, int, int]) -> Picture:
    """A dark wall with a sign in one colour, (96, 128, 3)."""
    rng = np.random.default_rng(4)
    picture = np.asarray(0.02 + 0.03 * rng.random((96, 128, 3)), np.float32)
    picture[30:60, 40:90] = np.float32(colour) / 255
    return picture


def hue(picture: Picture) -> float:
    """Of the mean of the sign, in degrees."""
    return 360 * colorsys.rgb_to_hsv(*to_linear(picture[35:55, 45:85]).mean((0, 1)).tolist())[0]


def turned(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


@pytest.mark.parametrize("name", LIGHTS)
def test_a_sign_keeps_its_colour(name: str) -> None:
    """Exposure of each channel alone turns it by a fifth of the way to the next primary colour, or makes it pale."""
    before = street(LIGHTS[name])
    after = apply_gain(before, 30)
    keep_hues(before, after)
    assert turned(hue(after), hue(before)) < 10
    assert turned(hue(apply_gain(before, 30)), hue(before)) > 20
    assert np.allclose(after.max(2), apply_gain(before, 30).max(2), atol=1e-5)  # as bright as it was made


@pytest.mark.parametrize("model", ["dgaf", "lw-drgn"])
def test_red_neon_comes_out_red(model: str) -> None:
    before = street(LIGHTS["red"])
    after = Enhancer(model, device="cpu", precision="fp32", engine="torch").enhance_picture(before)
    assert after[:20].mean() > 3 * before[:20].mean()
    assert turned(hue(after), hue(before)) < 10
    red, green, blue = after[35:55, 45:85].mean((0, 1))
    assert red > 0.9 and max(green, blue) < 0.6


@pytest.mark.parametrize(
    "colour",
    [(0.19, 0.01, 0.05), (0.9, 0.9, 0.9), (0.9, 0.6, 0.5), (0, 0, 0), (1, 1, 1)],
    ids=["dark", "grey", "skin", "black", "white"],
)
def test_what_is_no_coloured_light_is_left_to_the_network(colour: tuple[float, float, float]) -> None:
    before = np.full((8, 9, 3), colour, np.float32)
    after = np.random.default_rng(0).random((8, 9, 3), np.float32)
    got = after.copy()
    keep_hues(before, got)
    assert np.array_equal(got, after)


def test_there_is_no_edge_where_it_begins() -> None:
    """Along a ramp from dark to bright, and from pale to pure, the result changes in small steps."""
    for ramp in (np.linspace(0, 1, 1001)[:, None] * (1, 0.1, 0.2), np.linspace((1, 1, 1), (1, 0, 0), 1001)):
        before = ramp[None].astype(np.float32)
        after = apply_gain(before, 20)
        least = np.abs(np.diff(after, axis=1)).max()
        keep_hues(before, after)
        assert np.abs(np.diff(after, axis=1)).max() < max(0.01, 1.5 * least)


@pytest.mark.parametrize("colour", [(1, 0.04, 0.05), (0.03, 1, 0.1), (0.03, 0.1, 1), (1, 0.35, 0.02)], ids=LIGHTS)
def test_what_is_brighter_stays_lighter(colour: tuple[float, float, float]) -> None:
    """The core of a light is no darker than its glow, along a ramp that a network brightens smoothly."""
    light = to_linear(np.linspace(0.05, 1, 1001, dtype=np.float32))[:, None] * np.float32(colour)
    before, after = (to_srgb(each)[None] for each in (light, 12 * light / (12 * light + np.float32(0.6))))
    keep_hues(before, after)
    luma = (after @ LUMA)[0] * 255
    assert (np.maximum.accumulate(luma) - luma).max() < 12


@pytest.mark.parametrize("exposure", [0.3, 0.4, 0.5])
def test_an_exposure_is_reached_with_coloured_lights(exposure: float) -> None:
    before = street(LIGHTS["red"])
    before[:24] = np.float32(LIGHTS["blue"]) / 255
    enhancer = Enhancer(device="cpu", precision="fp32", engine="torch", exposure=exposure, protect_highlights=False)
    assert mean_luma(enhancer.enhance_picture(before)) == pytest.approx(exposure, abs=0.01)


@pytest.mark.parametrize(
    "colour", [(0.05, 0.95, 0.3), (0.9, 0.03, 0.8), (0.9, 0.8, 0.05)], ids=["green", "magenta", "yellow"]
)
@pytest.mark.parametrize("model", ["dgaf", "lw-drgn"])
def test_no_coloured_light_becomes_darker_than_it_came(model: str, colour: tuple[float, float, float]) -> None:
    rows, columns = np.mgrid[:96, :128]
    waves = 0.7 + 0.3 * np.sin(rows / 20) * np.cos(columns / 25)
    before = np.asarray(waves[..., None] * colour, np.float32).clip(0, 1)
    after = Enhancer(model, device="cpu", precision="fp32", engine="torch").enhance_picture(before)
    assert mean_luma(after) > mean_luma(before) - 1 / 400
