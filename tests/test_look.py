"""The look: what each number promises, on pictures of any size."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import dark_array
from hypothesis import given, settings
from hypothesis import strategies as st

from lowlight_cli import Enhancer
from lowlight_cli.errors import UsageError
from lowlight_cli.exposure import to_linear, to_srgb
from lowlight_cli.look import (
    Look,
    exposing_gain,
    finish,
    gain_for,
    is_grey,
    keep_white,
    left_alone,
    make_grey,
    mean_luma,
)

few = settings(max_examples=25, deadline=None)


def finished(before, after, look):
    """The picture to write; `after` stays as it was."""
    return finish(before, after.copy(), look, exposing_gain(before, after, look))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Any output of an input without saturated colours and white, which would be taken from it."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    before = (1 + rng.random((height, width, 3), np.float32)) * np.float32(draw(st.sampled_from([0.49, 0.05])))
    return before, rng.random((height, width, 3), np.float32)


@few
@given(pairs())
def test_strength_one_is_the_output_exactly(pair):
    assert np.array_equal(finish(pair[0], pair[1].copy(), Look(protect_highlights=False), 1), pair[1])


@few
@given(pairs(), st.floats(0.01, 0.99))
def test_strength_blends_in_linear_light(pair, strength):
    before, after = pair
    got = finish(before, after.copy(), Look(strength, protect_highlights=False), 1)
    wanted = (1 - strength) * to_linear(before) + strength * to_linear(after)
    assert got.dtype == np.float32
    assert np.abs(got - to_srgb(wanted)).max() < 1e-4


@few
@given(pairs(), st.floats(0, 1), st.one_of(st.none(), st.just("auto"), st.floats(0.2, 0.8)), st.booleans())
def test_always_between_zero_and_one(pair, strength, exposure, protect):
    got = finished(*pair, Look(strength, exposure, protect))
    assert got.shape == pair[0].shape
    assert got.min() >= 0
    assert got.max() <= 1


@few
@given(pairs(), st.floats(0.2, 0.8))
def test_exposure_sets_the_mean_luma(pair, target):
    assert mean_luma(finished(*pair, Look(exposure=target, protect_highlights=False))) == pytest.approx(
        target, abs=2e-3
    )


@few
@given(pairs(), st.floats(0.2, 0.8))
def test_exposure_keeps_order_black_and_white(pair, target):
    after = pair[1].copy()
    after[0, 0] = (0, 0.5, 1)
    got = finished(pair[0], after, Look(exposure=target, protect_highlights=False))
    order = np.argsort(after, axis=None)
    assert np.all(np.diff(got.ravel()[order]) >= -1e-6)
    assert got[0, 0, 0] == 0
    assert got[0, 0, 2] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_exposure_of_a_picture_that_cannot_change(level):
    flat = np.full((4, 5, 3), level, np.float32)
    assert np.isfinite(gain_for(flat, 0.5))
    assert np.allclose(finished(flat, flat, Look(exposure=0.5)), level, atol=1e-6)


def test_exposure_of_a_large_picture_is_found_from_a_part():
    rng = np.random.default_rng(1)
    after = np.sort(rng.random((900, 1100, 1), np.float32), axis=0) * np.float32([1.0, 0.8, 0.6])
    assert mean_luma(finished(after, after, Look(exposure=0.6, protect_highlights=False))) == pytest.approx(
        0.6, abs=5e-3
    )


def night() -> np.ndarray:
    """Nearly black, with a few lamps."""
    rng = np.random.default_rng(2)
    picture = 0.004 * rng.random((100, 100, 3), np.float32)
    picture[:6, :50] = 0.9
    return picture


def room() -> np.ndarray:
    """Evenly dim: most of it is half as bright as its lights."""
    rng = np.random.default_rng(3)
    return np.asarray(0.02 + 0.06 * np.sqrt(rng.random((100, 100, 3))), np.float32)


def lit(level: float) -> np.ndarray:
    """A network's output of a mean luma."""
    even = np.broadcast_to(np.linspace(0, 1, 101, dtype=np.float32)[:-1, None, None], (100, 100, 3))
    return finished(even, even, Look(exposure=level))


AUTO = Look(exposure="auto", protect_highlights=False)


def test_auto_lets_a_night_stay_a_night_and_a_room_become_light():
    for level in (0.2, 0.45, 0.7):
        after = lit(level)
        dark, light = (mean_luma(finished(before, after, AUTO)) for before in (night(), room()))
        assert 0.1999 < dark < 0.36
        assert 0.37 < light < 0.51


def test_auto_leaves_alone_what_is_fine_already():
    after = lit(0.48)
    assert np.array_equal(finished(room(), after, AUTO), after)


def test_auto_does_not_depend_on_how_the_input_was_exposed():
    for before in (night(), room()):
        once, twice = (finished(x, lit(0.7), AUTO) for x in (before, to_srgb(to_linear(before) / 2)))
        assert mean_luma(once) == pytest.approx(mean_luma(twice), abs=0.03)


@pytest.mark.parametrize("look", [AUTO, Look(protect_highlights=False)], ids=["auto", "off"])
@pytest.mark.parametrize("level", [0.35, 0.75])
def test_no_picture_is_made_darker_than_it_came(look, level):
    snow = lit(level)
    assert np.array_equal(finished(snow, snow, Look(protect_highlights=False)), snow)
    got = finished(snow, snow * np.float32(0.9), look)
    assert mean_luma(got) >= mean_luma(snow) - 1 / 512
    assert mean_luma(finished(snow, snow, Look(exposure=0.25))) == pytest.approx(0.25, abs=2e-3)  # unless asked for


@pytest.mark.parametrize("level", [0.0, 0.05, 1.0])
def test_auto_of_a_flat_picture(level):
    flat = np.full((4, 5, 3), level, np.float32)
    assert np.isfinite(finished(flat, flat, AUTO)).all()


def test_the_gate():
    bright, dark = np.full((2, 2, 3), 0.6, np.float32), np.full((2, 2, 3), 0.1, np.float32)
    assert left_alone(bright, 0.5)
    assert not left_alone(dark, 0.5)
    assert not left_alone(bright, None)
    enhancer = Enhancer(gate=0.5)
    assert enhancer.enhance_picture(bright) is bright
    assert not enhancer.loaded


@pytest.mark.parametrize(
    "numbers",
    [{"strength": 1.1}, {"strength": -0.1}, {"strength": float("nan")}, {"exposure": 0.1}, {"exposure": 0.9},
     {"exposure": "bright"}, {"gate": 2.0}],
)  # fmt: skip
def test_numbers_out_of_range(numbers):
    with pytest.raises(UsageError, match=r"out of range|'bright' is not a number"):
        Look(**numbers)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        finish(np.zeros((2, 3, 3), np.float32), np.zeros((3, 2, 3), np.float32), Look(), 1)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numbers_may_be_numpys(kind):
    assert Look(kind(0.5), kind(0.4), gate=kind(0.3)) == Look(kind(0.5), float(kind(0.4)), gate=float(kind(0.3)))


def grey(seed: int = 0) -> np.ndarray:
    """A dark picture without colour, (40, 56, 3) float32."""
    return dark_array(seed=seed)[..., 1:2].repeat(3, 2).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"strength": 0.5},
        {"exposure": 0.5},
        {"exposure": "auto"},
        {"protect_highlights": True},
        {"self_ensemble": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["dgaf", "frlie"])
def test_grey_stays_grey(model, more):
    enhancer = Enhancer(model, device="cpu", precision="fp32", **more)
    lit = enhancer.enhance_picture(grey())
    assert mean_luma(lit) > 2 * mean_luma(grey())
    assert not np.ptp(lit, axis=2).any()
    eight = enhancer.enhance(np.rint(grey() * 255).astype(np.uint8))
    assert np.array_equal(eight[..., 0], enhancer.enhance(np.rint(grey()[..., 0] * 255).astype(np.uint8))), (
        "as one channel"
    )


def test_colour_stays_colour():
    enhancer, tinted = Enhancer("dgaf", device="cpu", precision="fp32"), grey()
    tinted[-1, -1, 0] += np.float32(1 / 255)
    assert np.ptp(enhancer.enhance_picture(tinted), axis=2).max() > 1 / 255


@few
@given(st.integers(1, 400), st.integers(1, 60), st.sampled_from([0, 2e-5]), st.booleans())
def test_one_pixel_of_colour_is_seen(height, width, rounded, coloured):
    random = np.random.default_rng(height)
    picture = random.random((height, width, 1), np.float32).repeat(3, 2)
    picture += random.random(picture.shape, np.float32) * np.float32(rounded)
    if coloured:
        picture[random.integers(height), random.integers(width), random.integers(3)] += np.float32(1e-4)
    assert is_grey(picture) == (not coloured)
    level = mean_luma(picture)
    make_grey(picture)
    assert is_grey(picture)
    assert mean_luma(picture) == pytest.approx(level, abs=1e-5)


@few
@given(pairs(), st.floats(0.9, 1))
def test_white_stays_white_and_the_rest_as_it_is(pair, shown):
    before, after = pair
    before[:: max(1, len(before) // 3), ::2] = 1
    after = after * np.float32(shown)
    kept = after.copy()
    keep_white(before, kept)
    white, dim = (before == 1).all(2), before.min(axis=2) <= 0.98
    assert (kept[white] == 1).all()
    assert np.array_equal(kept[dim], after[dim])
    assert (kept >= after).all() and (kept <= np.maximum(before, after) + 1e-6).all()


def test_towards_white_nothing_sinks():
    ramp = np.linspace(0.9, 1, 400, dtype=np.float32)[None, :, None].repeat(3, 2)
    for most in (0.95, 0.985, 1):
        kept = np.minimum(ramp * np.float32(1.06), np.float32(most))
        keep_white(ramp, kept)
        steps = np.diff(kept, axis=1)
        assert steps.min() >= -1e-6
        assert steps.max() < 0.002, "and nothing jumps"
        assert (kept[0, -1] == 1).all()


def test_red_is_not_white():
    before, after = np.full((30, 40, 3), 0.97, np.float32), np.zeros((30, 40, 3), np.float32)
    before[..., 0] = 1
    keep_white(before, after)
    assert not after.any()


@pytest.mark.parametrize(
    "more", [{}, {"strength": 0.5}, {"exposure": 0.7}, {"self_ensemble": True}, {"protect_highlights": True}], ids=str
)
@pytest.mark.parametrize("model", ["dgaf", "frlie", "neid"])
def test_paper_comes_out_white(model, more):
    page = dark_array(80, 90)
    page[10:60, 20:70] = 255
    lit = Enhancer(model, device="cpu", precision="fp32", **more).enhance(page)
    assert (lit[10:60, 20:70] == 255).all()
    assert lit[:, :20].mean() > page[:, :20].mean()


def test_an_exposure_that_darkens_may_darken_white():
    """Else all of a page that is not white would have to be black."""
    page = np.full((90, 90, 3), 255, np.uint8)
    page[20:60:8, 10:80] = 120
    lit = Enhancer("dgaf", device="cpu", precision="fp32", exposure=0.4).enhance(page)
    assert lit.mean() / 255 == pytest.approx(0.4, abs=0.05)
    assert lit[22, 40].min() > 10
    kept = []
    for gain in (0.1, 0.5, 0.6, 0.8, 1, 4):
        after = np.full((4, 4, 3), 0.99, np.float32)
        keep_white(np.ones_like(after), after, gain)
        kept.append(after.mean())
    assert kept == sorted(kept) and kept[0] == pytest.approx(0.99) and kept[-2:] == [1, 1]
