"""Brightness that does not flicker: still scenes, cuts, lamps, movement; with networks of both kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from numpy.typing import NDArray

from lowlight_cli import Enhancer
from lowlight_cli.errors import UsageError
from lowlight_cli.exposure import to_srgb
from lowlight_cli.look import mean_luma
from lowlight_cli.metrics.steadiness import flow, jitter, warped_error
from lowlight_cli.steady import Steady
from lowlight_cli.video.temporal import Begin, Smoothing

Picture = NDArray[np.float32]
RATE = 25
SIZE = 108, 192

BOTH = pytest.mark.parametrize("model", ["dgaf", "neid"])
"""One that settles its own gain, one whose input is exposed and that measures means besides."""


def scene(seed: int = 0, level: float = 1.0) -> Picture:
    """A dim room in linear light: smooth, with a few things in it."""
    random = np.random.default_rng(seed)
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width] / np.array([[[height]], [[width]]])
    room = 0.004 + 0.01 * np.cos(3 * rows + seed)[..., None] ** 2 * np.array([1, 0.8, 0.6])
    for _ in range(6):
        top, left = random.integers(0, height - 12), random.integers(0, width - 20)
        room[top : top + 12, left : left + 20] = random.uniform(0.002, 0.06, 3)
    return np.asarray(level * room * (0.7 + 0.6 * columns[..., None]), np.float32)


def sensed(light: Iterable[Picture], seed: int = 1) -> Iterator[Picture]:
    """What a sensor makes of linear light, with fresh noise in each frame, in eight bits."""
    random = np.random.default_rng(seed)
    for each in light:
        noisy = each + random.normal(size=each.shape) * np.sqrt(4e-4 * each + 1e-6)
        yield np.rint(to_srgb(np.clip(noisy, 0, 1)) * 255).astype(np.float32) / np.float32(255)


def results(enhancer: Enhancer, frames: Iterable[Picture], mode: str) -> list[Picture]:
    smoothing = Smoothing(mode)

    def begin(picture: Picture, steady: Steady) -> Callable[[], Picture] | None:
        return (lambda: enhancer.enhance_picture(picture)) if mode == "off" else enhancer.begin_frame(picture, steady)

    return [smoothed(smoothing, frame, number, begin) for number, frame in enumerate(frames)]


def smoothed(smoothing: Smoothing, picture: Picture, number: int, begin: Begin) -> Picture:
    """The result of a frame."""
    finish = smoothing.begin(picture, number / RATE, begin)
    return picture if finish is None else finish()


def lumas(pictures: Iterable[Picture]) -> NDArray[np.float64]:
    return np.array([mean_luma(picture) for picture in pictures])


@pytest.fixture
def enhancer(seeded: Callable[[str], Path]) -> Callable[..., Enhancer]:
    return lambda model, **more: Enhancer(model, seeded(model), device="cpu", precision="fp32", **more)


@pytest.mark.parametrize(("model", "mode"), [("dgaf", "strong"), ("dgaf", "on"), ("neid", "on")])
def test_a_still_does_not_flicker(enhancer: Callable[..., Enhancer], model: str, mode: str) -> None:
    """A still picture with fresh noise: at most a fifth of the jitter, and no slow wandering in its place."""
    frames = list(sensed([scene()] * 24))
    off, on = (lumas(results(enhancer(model), frames, each)) for each in ("off", mode))
    assert jitter(on.tolist()) <= jitter(off.tolist()) / 5
    assert on[8:].std() <= off[8:].std() / 2
    assert abs(on[-10:].mean() - off.mean()) < 0.005


@BOTH
def test_a_grey_clip_stays_grey(enhancer: Callable[..., Enhancer], model: str) -> None:
    """What the level is corrected by, each channel by itself, gives it no tint."""
    frames = [np.repeat(frame[..., 1:2], 3, 2) for frame in sensed([scene()] * 6)]
    assert max(np.ptp(lit, axis=2).max() for lit in results(enhancer(model), frames, "on")) < 0.1 / 255


@BOTH
def test_a_clip_that_is_almost_grey_does_not_flicker_in_colour(enhancer: Callable[..., Enhancer], model: str) -> None:
    """In every second frame four pixels are a code of chroma off: the others are tinted as those are, not less."""
    frames = [np.repeat(frame[..., 1:2], 3, 2) for frame in sensed([scene()] * 24)]
    for frame in frames[1::2]:
        frame[40:42, 60:62, 2] += 2 / 255
    off, on = ([np.ptp(lit, axis=2).mean() for lit in results(enhancer(model), frames, mode)] for mode in ("off", "on"))
    assert min(off[1::2]) > 0.5 / 255 and max(off[::2]) < 0.1 / 255
    assert np.abs(np.diff(on[12:])).max() < np.abs(np.diff(off)).min() / 10


@BOTH
def test_colours_are_there_with_the_light(enhancer: Callable[..., Enhancer], model: str) -> None:
    """A room that is grey as long as it is dark, as in a fade from black: nothing of its colours is held back."""
    dark = [np.repeat(frame[..., 1:2], 3, 2) for frame in sensed([scene(0, 0.1)] * 6)]
    frames = [*dark, *sensed([scene()] * 3)]
    off, on = ([np.ptp(lit, axis=2).mean() for lit in results(enhancer(model), frames, mode)] for mode in ("off", "on"))
    assert min(off[6:]) > 10 / 255
    assert on[6:] == pytest.approx(off[6:], rel=0.05)


@BOTH
def test_colours_are_there_after_a_shot_without(enhancer: Callable[..., Enhancer], model: str) -> None:
    """As bright as before, as where a camera leaves its infrared mode: that is no cut by the light."""
    frames = list(sensed([scene()] * 14))
    for frame in frames[:8]:
        frame[:] = (frame @ np.array([0.2126, 0.7152, 0.0722], np.float32))[..., None]
    off, on = ([np.ptp(lit, axis=2).mean() for lit in results(enhancer(model), frames, mode)] for mode in ("off", "on"))
    assert min(off[8:]) > 10 / 255
    assert on[8:] == pytest.approx(off[8:], rel=0.25)  # what `neid` measures of the whole follows later


@pytest.mark.parametrize("exposure", [0.5])
def test_an_exposure_that_is_asked_for_does_not_flicker(enhancer: Callable[..., Enhancer], exposure: float) -> None:
    frames = list(sensed([scene()] * 20))
    on = lumas(results(enhancer("dgaf", exposure=exposure), frames, "on"))
    assert np.abs(on - exposure).max() < 0.01
    assert jitter(on.tolist()) < 0.05


def test_an_exposure_that_is_found_does_not_flicker(enhancer: Callable[..., Enhancer]) -> None:
    frames = list(sensed([scene()] * 20))
    off, on = (lumas(results(enhancer("dgaf", exposure="auto"), frames, mode)) for mode in ("off", "on"))
    assert jitter(on.tolist()) <= jitter(off.tolist()) / 3


@BOTH
def test_a_cut_is_followed_at_once(enhancer: Callable[..., Enhancer], model: str) -> None:
    """The first frame of the new shot is what it would be alone, whether it is brighter or darker or as bright."""
    for after in (scene(5), scene(7, 4.0), scene(8, 0.3)):
        frames = list(sensed([scene()] * 6 + [after] * 3))
        off, on = (results(enhancer(model), frames, mode) for mode in ("off", "strong"))
        assert np.abs(on[6] - off[6]).max() < 1e-5
        assert np.abs(lumas(on)[7:] - lumas(off)[7:]).max() < 0.004


@pytest.mark.parametrize(("model", "mode"), [("dgaf", "strong"), ("dgaf", "on"), ("neid", "strong")])
def test_a_lamp_is_followed_within_half_a_second(enhancer: Callable[..., Enhancer], model: str, mode: str) -> None:
    """Lamps of all sizes: within 0.5 s the result is where single frames would have it, but for a tenth of the way."""
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width]
    for reach, power in ((12, 0.8), (50, 0.05)):
        glow = power * np.exp(-((rows - 40) ** 2 + (columns - 120) ** 2) / (2 * reach**2))[..., None]
        lit = np.asarray(scene() + glow * np.array([1, 0.8, 0.6]), np.float32)
        frames = list(sensed([scene()] * 12 + [lit] * 13))
        off, on = (lumas(results(enhancer(model), frames, each)) for each in ("off", mode))
        before, settled = off[4:12].mean(), off[14:].mean()
        assert abs(on[12 + RATE // 2] - settled) <= 0.1 * abs(settled - before) + 0.004


@BOTH
def test_headlights_do_not_change_the_rest(enhancer: Callable[..., Enhancer], model: str) -> None:
    """A bright thing comes nearer, up to a fifteenth of the frame: what it does not reach stays as it was."""
    views = [scene(2).copy() for _ in range(22)]
    for number, view in enumerate(views[8:], 1):
        view[60 : 60 + 2 * number, 60 + 4 * number : 60 + 8 * number] = 0.5
    frames = list(sensed(views))
    off, on = (lumas(shown[:50] for shown in results(enhancer(model), frames, mode)) for mode in ("off", "on"))
    assert np.ptp(off) > 9 / 255
    assert np.ptp(on) < 1.5 / 255


def test_what_passes_by_does_not_dim_the_rest(enhancer: Callable[..., Enhancer]) -> None:
    """A small light blinks in a dim scene: single frames dim all around it each time, a smoothed clip hardly does."""
    views = []
    for number in range(12):
        view = scene(2).copy()
        if number % 2:
            view[60:72, 90:110] = 0.15
        views.append(view)
    frames = list(sensed(views))
    off, on = (lumas(shown[:50] for shown in results(enhancer("dgaf"), frames, mode)) for mode in ("off", "on"))
    assert jitter(on.tolist()) < 0.7 * jitter(off.tolist())


def test_warped_error_knows_the_movement() -> None:
    random = np.random.default_rng(0)
    wide = np.repeat(np.repeat(random.random((12, 24, 3)), 8, 0), 8, 1).astype(np.float32)
    one, other = wide[:, :160], wide[:, 4:164]
    back, seen = flow(one, other)
    assert seen.mean() > 0.8
    assert np.median(back[..., 0]) == pytest.approx(4, abs=0.3)
    assert warped_error(one, other, back, seen) < ((one - other) ** 2).mean() / 5
    assert warped_error(one, np.clip(other + 0.1, 0, 1), back, seen) > 0.004


def test_what_was_hidden_is_not_seen_before() -> None:
    """A square moves eight pixels to the right; what it leaves free behind it was nowhere in the frame before."""

    def texture(seed: int, height: int, width: int) -> Picture:
        coarse = np.random.default_rng(seed).random((height // 4, width // 4, 3)).astype(np.float32)
        return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)

    one, other = texture(0, 96, 160), texture(0, 96, 160)
    one[24:72, 40:88] = other[24:72, 48:96] = texture(1, 48, 48)
    back, seen = flow(one, other)
    assert np.median(back[30:66, 60:84, 0]) == pytest.approx(-8, abs=0.3)
    assert seen[30:66, 56:88].mean() > 0.9 and seen[:16].mean() > 0.9  # the square, and what stands still
    assert seen[30:66, 40:48].mean() < 0.3


def settled(mode: str, values: list[float]) -> list[float]:
    """What is measured of each frame of a still picture, 25 a second, as it is settled."""
    still, smoothing, found = np.full((64, 64, 3), 0.2, np.float32), Smoothing(mode), list[float]()

    def begin(_: Picture, steady: Steady) -> None:
        found.append(float(steady.settle("value", np.float32(values[len(found)]))))

    for number in range(len(values)):
        smoothing.begin(still, number / RATE, begin)
    return found


@pytest.mark.parametrize(("mode", "seconds"), [("on", 1), ("strong", 3)])
def test_a_step_is_forgotten_in_so_many_seconds(mode: str, seconds: int) -> None:
    """After them 1/e of it is left, when the shot is older than that."""
    before, steps = 8 * RATE, seconds * RATE
    assert settled(mode, [1.0] * before + [0.0] * steps)[-1] == pytest.approx(np.exp(-1), abs=0.005)


def test_a_frame_is_settled_once_and_what_it_lacks_is_forgotten() -> None:
    """Tiles and the members of an ensemble ask for the same values again."""
    steady, first, then = Steady(), np.float32(8), np.float32(4)
    steady.begin(1.0)
    steady.settle("gain", first)
    steady.begin(0.25)
    assert [float(steady.settle("gain", then)) for _ in range(3)] == [7.0] * 3
    steady.begin(0.25)
    steady.begin(0.25)
    assert float(steady.settle("gain", first)) == 8.0


def test_a_shot_begins_with_plain_means() -> None:
    found = settled("strong", [4.0, 8.0, 0.0, 0.0])
    assert found == pytest.approx([4, 6, 4, 3])


def test_darkness_is_no_cut_but_another_picture_is() -> None:
    random, smoothing = np.random.default_rng(0), Smoothing("on")
    one, other = (np.kron(random.uniform(0.1, 0.9, (8, 8, 1)), np.ones((8, 8, 3))).astype(np.float32) for _ in "ab")
    cuts = []
    for number, picture in enumerate((one, one * np.float32(0.4), other * np.float32(0.4), other)):
        smoothing.begin(picture, number / RATE, lambda *_: None)
        cuts.append(smoothing.cuts)
    assert cuts == [0, 0, 1, 1]


def test_it_goes_on_where_it_was(enhancer: Callable[..., Enhancer]) -> None:
    """The state, through JSON, gives the frames that an uninterrupted run gives."""
    frames, ready = list(sensed([scene()] * 12)), enhancer("dgaf")
    whole = results(ready, frames, "on")
    first, second = Smoothing("on"), Smoothing("on")
    for number in range(7):
        smoothed(first, frames[number], number, ready.begin_frame)
    second.restore(json.loads(json.dumps(first.state(), default=np.ndarray.tolist)))
    for number in range(7, 12):
        assert np.allclose(smoothed(second, frames[number], number, ready.begin_frame), whole[number], atol=1e-5)


def test_tiles_use_what_was_settled(enhancer: Callable[..., Enhancer]) -> None:
    """With nothing of the new frame counted, it is lit by the gain of the old one: in tiles as in one piece."""
    dim, bright = (np.tile(to_srgb(scene(0, level)), (4, 3, 1)) for level in (1, 4))
    lit = []
    for more in ({}, {"tile": 384}):
        ready, steady = enhancer("dgaf", **more), Steady()
        steady.begin(1.0)
        ready.enhance_frame(dim, steady)
        steady.begin(0.0)
        lit.append(ready.enhance_frame(bright, steady))
    assert mean_luma(lit[0]) > mean_luma(enhancer("dgaf").enhance_picture(bright)) + 0.05
    assert mean_luma(lit[1]) == pytest.approx(mean_luma(lit[0]), abs=0.01)


def test_ensemble_is_steady_too(enhancer: Callable[..., Enhancer]) -> None:
    frames = list(sensed([scene()] * 6))
    ready = enhancer("dgaf", self_ensemble=True)
    off, on = (lumas(results(ready, frames, mode)) for mode in ("off", "on"))
    assert jitter(on.tolist()) < jitter(off.tolist())


def test_modes() -> None:
    with pytest.raises(UsageError, match="no smoothing 'soft': there are off, on, strong"):
        Smoothing("soft")


def test_bench_measures_clips(folder: Path, lowlight: Callable[..., Ran], dgaf_weights: Path) -> None:
    """The input and every kind of smoothing, on a still with noise: the first table that a user would look at."""
    shown = [np.rint(frame * 255).astype(np.uint8) for frame in sensed([scene()] * 10)]
    clip = kit.write(Path("still.mkv"), shown, codec="ffv1", pixels="yuv444p", base=Fraction(1, 1000),
                     ticks=[number * 40 for number in range(10)])  # fmt: skip
    ran = lowlight("bench", "--clip", clip, "--frames", "8", "-m", "dgaf", "-w", dgaf_weights, "--precision", "fp32")
    assert ran.code == 0, ran.err
    rows = [line.split("\t") for line in ran.out.splitlines() if not line.startswith("#")]
    assert rows[0] == ["clip", "method", "jitter", "warped error", "luma", "s"]
    assert [row[1].rsplit(" ", 1)[-1] for row in rows[1:]] == ["input", "off", "on", "strong", "deblock"]
    off, on = (float(row[2]) for row in rows[2:4])
    assert on < off / 2
    assert lowlight("bench", "--clip", clip, "--verify").code == 2
