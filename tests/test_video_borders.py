"""Bars in clips: found once, held in the dark and under subtitles, followed where the picture changes its shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from numpy.typing import NDArray
from test_video_temporal import scene, sensed

from lowlight_cli import Enhancer
from lowlight_cli.borders import Borders, Where
from lowlight_cli.look import mean_luma
from lowlight_cli.video.lighting import Lighting
from lowlight_cli.video.making import Making

Picture = NDArray[np.float32]

BAR = 24
INSIDE = slice(BAR, BAR + 108), slice(0, 192)
RATE = 25


def frames(count: int, seed: int = 0) -> list[Picture]:
    """A dim room, (108, 192, 3)."""
    return list(sensed([scene(seed)] * count, seed))


def boxed(picture: Picture, subtitle: bool = False) -> Picture:
    """The picture between two black bars, (156, 192, 3)."""
    whole = np.zeros((108 + 2 * BAR, 192, 3), np.float32)
    whole[INSIDE] = picture
    if subtitle:
        whole[-BAR + 6 : -6, 40:150:3] = 0.9
    return whole


def full(count: int) -> list[Picture]:
    """Another scene, of the size that `boxed` has."""
    other = [np.concatenate([frame, frame[:48]]) for frame in frames(count, seed=5)]
    return [np.clip(frame * 2 + 0.02, 0, 1) for frame in other]


def wheres(shown: Iterable[Picture], cut: bool = False) -> list[Where | None]:
    borders = Borders()
    return [borders.frame(picture, lambda _: cut) for picture in shown]


@pytest.fixture
def lit(seeded: Callable[[str], Path]) -> Callable[..., list[Picture]]:
    """Frames as a clip's: every result."""

    def make(shown: Iterable[Picture], temporal: str = "on", **more: object) -> list[Picture]:
        enhancer = Enhancer("dgaf", seeded("dgaf"), device="cpu", precision="fp32", **more)  # type: ignore[arg-type]
        enhancer.load()
        lighting = Lighting(enhancer, Making(temporal=temporal, deblock=False))
        return [lighting.frame(picture, number / RATE) for number, picture in enumerate(shown)]

    return make


def test_bars_keep_what_would_be_evened_out_inside(seeded: Callable[[str], Path]) -> None:
    enhancer = Enhancer("dgaf", seeded("dgaf"), device="cpu", precision="fp32")
    enhancer.load()
    shown = boxed(frames(1)[0])
    shown[2:6, 8:40] = 1 / 255  # a flat step, as codecs leave
    lighting = Lighting(enhancer, Making(deblock=True))
    assert not np.array_equal(lighting.even(shown).even[:8], shown[:8])
    lit = lighting.frame(shown, 0.0)
    assert np.array_equal(lit[:8], shown[:8]) and mean_luma(lit) > mean_luma(shown)


@pytest.mark.parametrize("more", [{}, {"temporal": "off"}, {"exposure": 0.5}, {"strength": 0.6}], ids=str)
def test_a_clip_in_bars_comes_out_as_if_alone(lit: Callable[..., list[Picture]], more: dict[str, object]) -> None:
    shown = frames(6)
    alone, barred = lit(shown, **more), lit([boxed(frame) for frame in shown], **more)
    assert mean_luma(alone[-1]) > 1.5 * mean_luma(shown[-1])
    for one, other in zip(alone, barred, strict=True):
        assert np.array_equal(other, boxed(one))


def test_the_gate_of_a_clip_asks_what_is_inside(lit: Callable[..., list[Picture]]) -> None:
    shown = [boxed(np.clip(frame + 0.3, 0, 1)) for frame in frames(2)]
    assert mean_luma(shown[0]) < 0.3 < mean_luma(shown[0][INSIDE])
    assert all(one is other for one, other in zip(lit(shown, gate=0.3), shown, strict=True))


def test_bars_are_held_where_all_is_dark() -> None:
    """A fade from black tells nothing until it is seen; a fade to black takes nothing away."""
    fade = [*np.linspace(0, 1, 12), *np.linspace(1, 0, 12)]
    found = wheres(boxed(frame * np.float32(light)) for frame, light in zip(frames(24), fade, strict=True))
    first = found.index(INSIDE)
    assert 0 < first < 9
    assert found == [None] * first + [INSIDE] * (24 - first)


def test_what_is_inside_does_not_flicker_in_a_fade(lit: Callable[..., list[Picture]]) -> None:
    fade = np.linspace(0, 1, 12)[:, None, None, None] * np.array(frames(12))
    shown = lit(boxed(frame.astype(np.float32)) for frame in fade)
    found = [not picture[:BAR].any() for picture in shown]
    assert found == sorted(found), "bars are black from when they are found, and stay so"
    assert found[-1]


def test_subtitles_do_not_change_what_is_inside() -> None:
    shown = [boxed(frame, subtitle=3 <= number < 9) for number, frame in enumerate(frames(12))]
    assert wheres(shown) == [INSIDE] * 12


def test_bars_are_not_found_by_frames_with_subtitles() -> None:
    """What is written in both would hide them wherever the picture is dark, and they would come and go."""
    shown = [boxed(frame, subtitle=number < 3) for number, frame in enumerate(frames(5))]
    assert wheres(shown) == [None] * 3 + [INSIDE] * 2


@pytest.mark.parametrize("temporal", ["on", "off"])
def test_a_cut_to_a_picture_without_bars(lit: Callable[..., list[Picture]], temporal: str) -> None:
    shown = [*(boxed(frame) for frame in frames(4)), *full(4), *(boxed(frame) for frame in frames(4))]
    assert wheres(shown) == [INSIDE] * 4 + [None] * 4 + [INSIDE] * 4
    made = lit(shown, temporal)
    alone = lit(shown[4:8], temporal)
    for one, other in zip(made[4:8], alone, strict=True):
        assert np.abs(one - other).max() < 1e-5
    assert all(not picture[:BAR].any() for picture in (*made[:4], *made[8:]))


def test_a_cut_to_a_picture_without_thin_bars() -> None:
    """The blocks of a codec are as high as these bars."""
    thin = [np.pad(frame, ((10, 10), (0, 0), (0, 0))) for frame in frames(2)]
    found = wheres([*thin, *(frame[:128] for frame in full(2))])
    assert found == [(slice(10, 118), slice(0, 192))] * 2 + [None] * 2


def test_a_cut_to_a_picture_that_is_black_above_alone() -> None:
    shown = [boxed(frame) for frame in frames(4)]
    for frame, other in zip(shown[2:], full(2), strict=True):
        frame[BAR:] = other[BAR:]
    assert wheres(shown) == [INSIDE] * 2 + [None] * 2


@pytest.mark.parametrize("cut", [True, False])
def test_wider_bars_are_taken_at_a_cut_alone(cut: bool) -> None:
    """Within a shot, two dark walls are no bars."""
    walls = frames(8)
    for frame in walls[4:]:
        frame[:, :40] = frame[:, -40:] = 0
    wanted = (INSIDE[0], slice(40, 152)) if cut else INSIDE
    assert wheres((boxed(frame) for frame in walls), cut) == [INSIDE] * 4 + [wanted] * 4


def test_another_size_is_looked_at_anew() -> None:
    small = boxed(frames(1)[0])[:, :96]
    assert wheres([boxed(frames(1)[0]), small]) == [INSIDE, (INSIDE[0], slice(0, 96))]


def test_a_run_that_goes_on_knows_the_bars(lit: Callable[..., list[Picture]], seeded: Callable[[str], Path]) -> None:
    enhancer = Enhancer("dgaf", seeded("dgaf"), device="cpu", precision="fp32")
    enhancer.load()
    dark = np.zeros((108, 192, 3), np.float32)
    shown = [boxed(frame) for frame in (*frames(3), dark, dark + np.float32(2 / 255))]
    first, second = (Lighting(enhancer, Making(deblock=False)) for _ in range(2))
    for number in range(3):
        first.frame(shown[number], number / RATE)
    second.restore(json.loads(json.dumps(first.state(), default=lambda array: array.tolist())))
    for number in range(3, 5):
        one, other = (lighting.frame(shown[number], number / RATE) for lighting in (first, second))
        assert np.allclose(one, other, atol=1e-5)
        assert not other[:BAR].any()


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {"crf": "20"}), ("libx264", {"crf": "32"}), ("mpeg4", {}), ("mjpeg", {})]
)
@pytest.mark.parametrize("sides", [(40, 0), (0, 60)])
def test_bars_of_a_coded_clip_stay_black(
    lowlight: Callable[..., Ran], folder: Path, codec: str, options: dict[str, str], sides: tuple[int, int]
) -> None:
    rows, columns = sides
    wide = ((rows, rows), (columns, columns), (0, 0))
    dim = [np.pad(np.rint(np.sqrt(frame) * 255).astype(np.uint8), wide) for frame in frames(6)]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    kit.write(folder / "night.mkv", dim, codec=codec, pixels=pixels, options=options)
    assert lowlight("video", "night.mkv", "-o", "lit.mkv", "--codec", "ffv1").code == 0
    for before, after in zip(kit.shown(folder / "night.mkv"), kit.shown(folder / "lit.mkv"), strict=True):
        near = max(rows, columns) // 2
        bar, same = (x[:near] if rows else x[:, :near] for x in (before, after))
        assert np.abs(bar.astype(int) - same).max() <= 1
        assert after.mean() > before.mean() + 10
