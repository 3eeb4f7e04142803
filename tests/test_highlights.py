"""What a network turns white comes back from the input, and nothing else changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowlight_cli import highlights
from lowlight_cli.exposure import apply_gain, to_linear, to_srgb
from lowlight_cli.look import Look, exposing_gain, finish

Picture = NDArray[np.float32]
PROTECT = Look(protect_highlights=True)
GAIN = 15.0


def finished(before: Picture, after: Picture, look: Look = PROTECT) -> Picture:
    """The picture to write; `after` stays as it was."""
    return finish(before, after.copy(), look, exposing_gain(before, after, look.exposure))


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
    assert np.median(got[sky][:, 2] - got[sky][:, 0]) > 0.15
    assert got[sky][:, 1].std() > 0.8 * before[sky][:, 1].std()
    assert got[sky].mean() > before[sky].mean()  # as bright as it can be without clipping, not as it was


HUES = {"blue": (0.1, 0.25, 0.7), "orange": (0.7, 0.25, 0.02), "cyan": (0.02, 0.65, 0.7)}


@pytest.mark.parametrize("hue", HUES)
@pytest.mark.parametrize(("rows", "kept"), [(55, True), (20, False)])
def test_a_coloured_window_is_kept_by_default_if_it_is_large(hue: str, rows: int, kept: bool) -> None:
    """From a tenth of the picture on; what clips in one channel or two turns pale, not white."""
    before = np.full((120, 160, 3), 0.1, np.float32)
    before[20 : 20 + rows, 50:110] = np.float32(HUES[hue]) * (1 + 0.1 * np.sin(np.arange(60) / 9))[:, None]
    after = blown(before)
    assert highlights.turned_white(before, after) < 0.05
    wanted = PROTECT if kept else Look(protect_highlights=False)
    assert np.array_equal(finished(before, after, Look()), finished(before, after, wanted))
    assert not np.array_equal(finished(before, after), finished(before, after, Look(protect_highlights=False)))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 160), st.integers(1, 120)),
    st.tuples(*[st.floats(0.02, 1)] * 3),
    st.floats(1, 40),
    st.floats(0.3, 3),
)
def test_what_is_kept_by_default(
    size: tuple[int, int], colour: tuple[float, ...], times: float, exposed: float
) -> None:
    """Exactly what is much of a picture whose dark parts gained a stop, though most pictures are told apart sooner."""
    before = room(3)[0] * np.float32(0.5)
    before[: 3 * size[1], : 3 * size[0]] = colour
    after = to_srgb(np.minimum(to_linear(before) * np.float32(times), 1))
    lost = highlights.find(before, after, exposed)
    much = lost and (lost.share >= 0.1 or highlights.turned_white(before, apply_gain(after, exposed)) >= 0.05)
    wanted = Look(protect_highlights=bool(lost and much and lost.gain >= 2))
    found = finish(before, after.copy(), Look(), exposed)
    assert np.array_equal(found, finish(before, after.copy(), wanted, exposed))


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
    assert finished(before, blown(before))[sky].min() > 0.999


def test_it_knows_no_up_and_down() -> None:
    """A picture turned over its diagonal comes out as the picture, turned."""
    before, _ = room(5)
    turned = np.ascontiguousarray(before.swapaxes(0, 1))
    got = finished(before, blown(before))
    assert np.abs(finished(turned, blown(turned)).swapaxes(0, 1) - got).max() < 1e-3


def test_a_picture_that_lost_nothing_is_left_as_it_is() -> None:
    dark = room()[0] * np.float32(0.1)
    after = apply_gain(dark, 10)
    assert highlights.find(dark, after) is None
    assert np.array_equal(finished(dark, after), after)


def test_a_network_that_clips_nothing_is_left_alone() -> None:
    before, _ = room()
    light = to_linear(before) * np.float32(GAIN)
    after = to_srgb(light / (1 + light) * np.float32(0.7))  # brighter, and white nowhere
    assert np.array_equal(finished(before, after), after)


def test_order_stays_where_protection_begins() -> None:
    before = np.zeros((40, 400, 3), np.float32) + np.linspace(0, 1, 400, dtype=np.float32)[None, :, None]
    after = blown(before)
    got = finished(before, after)[20, :, 0]
    steps = np.diff(got)
    assert steps.min() > -0.003  # a ramp may sink by a fraction of a grey level a step, never fall
    assert np.abs(steps[8:]).max() < 0.03
    assert got[-1] > 0.999


def test_a_reflection_on_a_floor_stays_the_brightest_of_it() -> None:
    rows, columns = np.mgrid[:240, :320].astype(np.float32)
    near = np.exp(-(((rows - 120) / 90) ** 2) - ((columns - 160) / 30) ** 2)
    before = np.dstack([0.25 + 0.6 * near, 0.25 + 0.6 * near, 0.27 + 0.63 * near]).astype(np.float32)
    got = finished(before, to_srgb(np.minimum(to_linear(before) * np.float32(30), 1)))
    line = got[120].max(1)
    assert line.min() > 0.9  # a patch of it would be darker than the floor around
    assert line[150:170].min() > line.max() - 0.06


def test_a_lamp_survives_a_network_that_blows_it_out() -> None:
    before = np.full((64, 64, 3), 0.1, np.float32)
    before[20:32, 20:32] = (0.97, 0.8, 0.5)
    after = np.ones_like(before)
    got = finished(before, after)
    times = to_linear(got[22:30, 22:30]) / to_linear(before[22:30, 22:30])
    assert np.ptp(times, axis=2).max() < 0.05  # its colour
    assert 0.99 < times.min() < times.max() < 1.1
    assert got[0, 0, 0] == 1


def test_what_the_input_shows_too_dark_is_left_to_the_network() -> None:
    before = np.full((60, 80, 3), 0.02, np.float32)
    before[20:40, 20:60] = 0.2  # a face, far above the gain's white, but dark and full of noise
    after = to_srgb(np.minimum(to_linear(before) * np.float32(100), 1))
    assert np.array_equal(finished(before, after), after)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_in_bands_as_in_one(rows: int) -> None:
    before, _ = room()
    after = blown(before)
    found = highlights.find(before, after)
    assert found is not None
    whole = highlights.keep(found, before, after)
    tops = range(0, before.shape[0], rows)
    parts = [highlights.keep(found, before[top : top + rows], after[top : top + rows], top) for top in tops]
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-5


def test_with_strength_and_exposure() -> None:
    before, sky = room()
    after = blown(before)
    half = finished(before, after, Look(strength=0.5, protect_highlights=True))
    whole = finished(before, after)
    assert np.abs(to_linear(half) - (to_linear(before) + to_linear(whole)) / 2).max() < 1e-3
    darker = finished(before, after, Look(exposure=0.3, protect_highlights=True))
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
