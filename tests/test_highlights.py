"""What brightening washes out is kept, and nothing else changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowlight_cli import highlights
from lowlight_cli.exposure import apply_gain, to_linear, to_srgb
from lowlight_cli.look import Look, exposing_gain, finish, mean_luma

Picture = NDArray[np.float32]
ON, OFF = Look(), Look(protect_highlights=False)
GAIN = 15.0


def finished(before: Picture, after: Picture, look: Look = ON) -> Picture:
    """The picture to write; `after` stays as it was."""
    return finish(before, after.copy(), look, exposing_gain(before, after, look))


def room(scale: int = 1) -> tuple[Picture, NDArray[np.bool_]]:
    """A dark room of 120x160, `scale` times as large, with a window onto a blue sky with clouds; and where that is."""
    rows, columns = np.mgrid[:120, :160].astype(np.float32)
    wall = 0.1 + 0.03 * np.sin(rows / 3) * np.cos(columns / 4)
    clouds = 0.08 * np.sin(rows / 4 + columns / 7)
    picture = np.dstack([wall * 1.1, wall, wall * 0.8])
    sky = np.zeros((120, 160), np.bool_)
    sky[20:70, 50:110] = True
    picture[sky] = np.dstack([0.6 + clouds, 0.7 + clouds, 0.85 + clouds])[sky]
    large = (160 * scale, 120 * scale)
    picture = cv2.resize(picture, large, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    return picture, cv2.resize(sky.astype(np.uint8), large, interpolation=cv2.INTER_NEAREST) > 0


def blown(before: Picture) -> Picture:
    """As a longer exposure shows it."""
    return to_srgb(np.minimum(to_linear(before) * np.float32(GAIN), 1))


@pytest.mark.parametrize("scale", [1, 9])
def test_the_sky_in_a_window_stays_blue_and_keeps_its_clouds(scale: int) -> None:
    before, sky = room(scale)
    after = blown(before)
    assert after[sky].min() > 0.9999
    got = finished(before, after)
    assert np.median(got[sky][:, 2] - got[sky][:, 0]) > 0.24
    assert got[sky][:, 1].std() > 0.8 * before[sky][:, 1].std()
    assert got[sky].mean() > before[sky].mean()  # as bright as it can be without clipping, not as it was


HUES = {"blue": (0.35, 0.5, 0.8), "orange": (0.8, 0.55, 0.3), "cyan": (0.4, 0.75, 0.8)}


@pytest.mark.parametrize("hue", HUES)
@pytest.mark.parametrize("rows", [8, 55])
def test_a_coloured_window_keeps_its_colour_however_small(hue: str, rows: int) -> None:
    """What clips in one channel or two turns pale, not white."""
    before = np.full((120, 160, 3), 0.1, np.float32)
    window = slice(20, 20 + rows), slice(50, 110)
    before[window] = np.float32(HUES[hue]) * (1 + 0.1 * np.sin(np.arange(60) / 9))[:, None]
    got, off = (np.ptp(finished(before, blown(before), look)[window].mean((0, 1))) for look in (ON, OFF))
    assert got > off + 0.15


def test_a_lit_street_is_not_washed_out() -> None:
    """Half of the picture is a black sky, which makes networks expose the rest too long."""
    rows, columns = np.mgrid[:240, :320].astype(np.float32)
    street = 0.3 + 0.05 * np.sin(rows / 2) * np.sin(columns / 3)
    before = np.where((rows < 120)[..., None], np.float32(0.01), street[..., None] * np.ones(3, np.float32))
    before[:, :4] = np.linspace(0.01, 1, 240, dtype=np.float32)[:, None, None]
    after = apply_gain(before, 40)
    assert after[130:, 10:].min() > 0.94
    got = finished(before, after)
    assert 0.6 < np.median(got[130:, 10:]) < 0.9
    assert got[130:, 10:].std() > 2 * after[130:, 10:].std()
    assert np.array_equal(got[:110, 20:], after[:110, 20:])  # the dark is the network's


@pytest.mark.parametrize("level", [0.2, 0.3, 0.5])
def test_no_lamp_turns_grey_in_a_picture_that_is_made_darker(level: float) -> None:
    """The output's white is next to never quite white, which a darkening curve would enlarge."""
    rows, columns = np.mgrid[:200, :300].astype(np.float32)
    glow = np.exp(-(((rows - 100) ** 2 + (columns - 150) ** 2) / 2000))
    before = np.repeat((0.12 + 0.9 * glow).clip(0, 1)[..., None], 3, 2).astype(np.float32)
    after = apply_gain(before, 20)
    after[glow > 0.99] = 250 / 255
    look = Look(exposure=level)
    got = finished(before, after, look)
    assert mean_luma(got) == pytest.approx(level, abs=0.01)
    ray = got[100, 150:].mean(1)
    assert ray[:5].min() > 0.95
    assert np.diff(ray).max() < 1 / 255  # from the lamp outwards, it only grows darker
    assert finished(before, after, Look(exposure=level, protect_highlights=False))[100, 150].min() < 0.95


@pytest.mark.parametrize("scale", [1, 9])
def test_the_room_around_is_the_networks_without_a_halo(scale: int) -> None:
    before, sky = room(scale)
    after = blown(before)
    got = finished(before, after)
    change = np.abs(got - after).max(2) * 255
    assert change[~sky].max() < 3
    assert change[~sky].mean() < 0.1


def test_a_window_that_is_white_before_is_no_darker_after() -> None:
    before, sky = room()
    before[sky] = 1
    assert np.rint(finished(before, blown(before))[sky].min() * 255) >= 254


def test_it_knows_no_up_and_down() -> None:
    """A picture turned over its diagonal comes out as the picture, turned."""
    before, _ = room(5)
    turned = np.ascontiguousarray(before.swapaxes(0, 1))
    got = finished(before, blown(before))
    assert np.abs(finished(turned, blown(turned)).swapaxes(0, 1) - got).max() < 1e-3


def test_a_picture_that_lost_nothing_is_left_as_it_is() -> None:
    dark = room()[0] * np.float32(0.1)
    after = apply_gain(dark, 10)
    assert highlights.find(highlights.measured(dark, after)) is None
    assert np.array_equal(finished(dark, after), after)


def test_a_network_that_clips_nothing_is_left_alone() -> None:
    before, _ = room()
    light = to_linear(before) * np.float32(GAIN)
    after = to_srgb(light / (1 + light) * np.float32(0.7))  # brighter, and white nowhere
    assert np.array_equal(finished(before, after), after)


@pytest.mark.parametrize("gain", [1, 3, 15, 100])
def test_order_stays(gain: float) -> None:
    before = np.zeros((40, 400, 3), np.float32) + np.linspace(0, 1, 400, dtype=np.float32)[None, :, None]
    got = finished(before, apply_gain(before, gain))[20, :, 0]
    steps = np.diff(got)
    assert steps.min() >= -1e-6
    assert np.abs(steps[8:]).max() < 0.03
    assert np.rint(got[-1] * 255) == 255


def test_order_nearly_stays_for_a_network_that_clips() -> None:
    """It is unlike film: just before it clips, it seems to have got more light than there was."""
    before = np.zeros((40, 400, 3), np.float32) + np.linspace(0, 1, 400, dtype=np.float32)[None, :, None]
    got = finished(before, blown(before))[20, :, 0]
    assert (np.maximum.accumulate(got) - got).max() < 0.04


def test_a_reflection_on_a_floor_stays_the_brightest_of_it() -> None:
    rows, columns = np.mgrid[:240, :320].astype(np.float32)
    near = np.exp(-(((rows - 120) / 90) ** 2) - ((columns - 160) / 30) ** 2)
    before = np.dstack([0.25 + 0.6 * near, 0.25 + 0.6 * near, 0.27 + 0.63 * near]).astype(np.float32)
    before[:40] = 0.02
    got = finished(before, apply_gain(before, 30))
    line = got[120, 40:-40].max(1)
    assert line[:20].max() < line[110:130].min() - 0.05
    assert np.diff(line[:120]).min() > -0.002


def test_what_is_white_everywhere_tells_no_gain_and_stays() -> None:
    before = np.full((64, 64, 3), 0.1, np.float32)
    assert highlights.find(highlights.measured(before, np.ones_like(before))) is None


def test_where_the_input_is_dark_the_colour_is_the_networks() -> None:
    """A face far above what film can show, but dark in the input: its colour there is a cast and noise."""
    before = np.full((120, 160, 3), 0.02, np.float32)
    before[:, :8] = np.linspace(0.02, 0.9, 120, dtype=np.float32)[:, None, None]
    face = slice(30, 90), slice(50, 110)
    before[face] = (0.25, 0.18, 0.15)
    after = apply_gain(before, 120)
    after[face] = (0.995, 0.99, 0.985)
    got = finished(before, after)[face].mean((0, 1))
    assert got.max() < 0.97
    assert np.ptp(got) < 0.1 < np.ptp(before[face].mean((0, 1)) * got.max() / 0.25)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_in_bands_as_in_one(rows: int) -> None:
    before, _ = room()
    after = blown(before)
    found = highlights.find(highlights.measured(before, after))
    assert found is not None
    whole, parts = after.copy(), after.copy()
    highlights.keep(found, before, after, whole)
    assert not np.array_equal(whole, after)
    for top in range(0, before.shape[0], rows):
        band = slice(top, top + rows)
        highlights.keep(found, before[band], after[band], parts[band], top)
    assert np.abs(parts - whole).max() < 1e-5


def test_with_strength_and_exposure() -> None:
    before, sky = room()
    after = blown(before)
    half = finished(before, after, Look(strength=0.5))
    whole = finished(before, after)
    assert np.abs(to_linear(half) - (to_linear(before) + to_linear(whole)) / 2).max() < 1e-3
    darker = finished(before, after, Look(exposure=0.3))
    assert darker[~sky].mean() < whole[~sky].mean() - 0.05
    assert np.median(darker[sky][:, 2] - darker[sky][:, 0]) > 0.15


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_pictures_of_any_shape(shape: tuple[int, int], level: float) -> None:
    before = np.full((*shape, 3), level, np.float32)
    got = finished(before, np.ones_like(before))
    assert got.shape == before.shape
    assert np.isfinite(got).all()
    assert got.min() >= 0
    assert got.max() <= 1


def test_the_gain_of_a_place_has_no_edges() -> None:
    """A white sky measures nothing; a sign in it, which the network lifted more, must not draw a square there."""
    columns = np.mgrid[:240, :320][1]
    before = np.repeat((0.5 + 0.2 * columns / 320)[..., None], 3, 2).astype(np.float32)
    before[200:] = 0.2
    after = apply_gain(before, 15)
    before[60:76, 150:166] = 0.08
    after[60:76, 150:166] = apply_gain(before[60:76, 150:166], 150)
    got = finished(before, after)[10:140, 10:310]
    got[48:69, 138:159] = 0  # the sign itself
    across = np.abs(np.diff(got[..., 1], axis=0))
    across[46:70, 137:160] = 0
    assert across.max() < 1 / 255


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0.3, 1), st.sampled_from([1.0, 1.5, 4, 20, 100]), st.integers(0, 2**16))
def test_nothing_that_the_network_lit_becomes_darker_than_it_was(
    low: float, high: float, gain: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    coarse = random.random((24, 32, 3), np.float32) * np.float32([1, 0.9, 0.7])
    before = np.clip(low * 0.2 + high * cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC), 0, 1)
    after = apply_gain(before, gain)
    got = finished(before, after)
    assert (got.max(2) >= before.max(2) - 1 / 255).all()


def test_a_bright_exposure_does_not_turn_black_to_fog() -> None:
    """What highlights do not gain would have to come from the dark."""
    before = np.full((120, 160, 3), 0.004, np.float32)
    before[60:] = 0.3
    before[60:, :20] = np.linspace(0.3, 1, 20, dtype=np.float32)[None, :, None]
    after = apply_gain(before, 20)
    gains = [exposing_gain(before, after, Look(exposure=0.65, protect_highlights=each)) for each in (True, False)]
    assert 1.3 * gains[1] < gains[0] <= 1.6 * gains[1]


def test_what_a_clip_holds_ends_with_its_power_and_not_with_the_need() -> None:
    """Light that fades would brighten at once where compression ends at the first frame that needs none."""
    needless, dark = room()[0] * np.float32(0.3), np.zeros((90, 120, 3), np.float32)
    after = apply_gain(needless, 8)
    assert highlights.find(highlights.measured(needless, after)) is None
    found = highlights.find(highlights.measured(needless, after), held=lambda _: 0.8)
    assert found is not None and found.power == 0.8
    asked = list[float]()
    assert highlights.find(highlights.measured(dark, dark), held=lambda power: asked.append(power) or power) is None
    assert (
        highlights.find(highlights.measured(needless, after), held=lambda power: asked.append(power) or power) is None
    )
    assert asked == [1, 1]


def test_a_face_that_is_nearly_white_gets_no_dark_patches() -> None:
    """The network lifted it more than its surroundings, whose gain would lower it again."""
    before = np.full((120, 160, 3), 0.25, np.float32)
    before[:, :8] = np.linspace(0.25, 1, 120, dtype=np.float32)[:, None, None]
    face = slice(45, 65), slice(70, 90)
    before[face] = 0.06 + 0.01 * np.arange(20, dtype=np.float32)[:, None, None] / 20
    after = apply_gain(before, 8)
    after[face] = 0.9 + 0.08 * np.arange(20, dtype=np.float32)[:, None, None] / 20
    got = finished(before, after)[50:60, 75:85].mean((1, 2))
    assert got.min() > 0.72
    assert (np.maximum.accumulate(got) - got).max() < 0.03


def test_a_window_in_a_room_that_stays_dark_is_kept() -> None:
    """What little light the room has tells the lift."""
    before, sky = room()
    before[~sky] *= np.float32(0.15)
    after = apply_gain(before, 20)
    assert after[~sky].max() < 0.2 < 0.95 < after[sky].min()
    got = finished(before, after)
    assert np.median(got[sky][:, 2] - got[sky][:, 0]) > 0.1
    assert np.array_equal(got[~sky], after[~sky])


@pytest.mark.parametrize("level", [0.3, 0.45])
def test_an_exposure_is_reached_in_a_large_picture_with_small_lights(level: float) -> None:
    """Few of its pixels show other lights than the picture reduced by area."""
    before, _ = room(9)
    random = np.random.default_rng(3)
    for y, x in random.integers(0, (1070, 1430), (300, 2)):
        before[y : y + 4, x : x + 4] = 0.8
    after = apply_gain(before, 12)
    assert mean_luma(finished(before, after, Look(exposure=level))) == pytest.approx(level, abs=0.004)
