"""A constant rate, as YUV4MPEG2 has: each frame is shown at its time, and a constant rate keeps its frames."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import video_kit as kit
from test_video_pipes import piped

from lowlight_cli.video.pace import LONGEST, Packed, at_rate, steady_rate
from lowlight_cli.video.streams import opened

MS = Fraction(1, 1000)
BURSTS = [*range(10), *range(10, 20, 2), *range(25, 35), *range(37, 61, 3)]
"""When frames are shown, in thirtieths of a second."""


def paced(ticks: Iterable[int], base: Fraction, rate: Fraction | int, lasts: int = 0) -> tuple[list[int], list[str]]:
    """Which frame is in each slot, and the notes; `lasts` is the length of each frame in ticks."""
    notes: list[str] = []
    frames = (Packed(str(number).encode(), tick, lasts, True) for number, tick in enumerate(ticks))
    return [int(data) for data in at_rate(frames, base, Fraction(rate), notes)], notes


def levels(path: Path) -> list[float]:
    return [float(frame.mean()) for frame in kit.shown(path)]


def flat(count: int) -> list[Any]:
    """Frames that are told apart by their level."""
    return [np.full((36, 64, 3), 20 + 6 * number, np.uint8) for number in range(count)]


@pytest.mark.parametrize("to", ["-", "out.y4m"])
def test_a_variable_rate(folder: Path, dgaf_weights: Path, to: str) -> None:
    """At each moment the pipe shows what the clip shows, so that sound stays in step."""
    clip = kit.write(Path("clip.mp4"), flat(len(BURSTS)), base=Fraction(1, 30), ticks=BURSTS)
    done = piped(dgaf_weights, b"", str(clip), "-o", to)
    assert done.returncode == 0, done.stderr
    if to == "-":
        Path("out.y4m").write_bytes(done.stdout)
    assert Path("out.y4m").read_bytes().startswith(b"YUV4MPEG2 W64 H36 F30:1 ")
    before, after = levels(clip), levels(Path("out.y4m"))
    wanted = [before[max(index for index, at in enumerate(BURSTS) if at <= slot)] for slot in range(BURSTS[-1] + 1)]
    assert np.allclose(after[: len(wanted)], wanted, atol=1.5)
    assert b"constant rate" not in done.stderr


def test_numbered_pictures_with_a_gap(folder: Path, dgaf_weights: Path) -> None:
    """The frame before stays in the place of those that are missing, as in other containers."""
    clip = kit.write(Path("clip.mp4"), flat(6))
    assert piped(dgaf_weights, b"", str(clip), "-o", "row/%02d.png").returncode == 0
    Path("row/03.png").unlink()
    done = piped(dgaf_weights, b"", "row", "-o", "out.y4m")
    assert done.returncode == 0, done.stderr
    after = levels(Path("out.y4m"))
    assert len(after) == 6
    assert after[2] == pytest.approx(after[1], abs=0.5) and after[3] > after[2] + 8


@pytest.mark.parametrize(
    ("ticks", "base", "rate"),
    [
        (range(0, 1000 * 40, 40), MS, Fraction(25)),
        ([round(number * 1001 / 30) for number in range(2000)], MS, Fraction(30_000, 1001)),
        ([at * 3003 + 1500 * (at % 3 - 1) for at in range(1, 999)], Fraction(1, 90_000), Fraction(2997, 100)),
        (range(0, 3_000_100, 3000), Fraction(1, 90_000), Fraction(30 * 20_000, 20_001)),  # the last was stated longer
        ([7], MS, Fraction(25)),
    ],
)  # fmt: skip
def test_a_constant_rate_keeps_its_frames(ticks: list[int], base: Fraction, rate: Fraction) -> None:
    """Exactly, whatever its clock, its jitter, and the length that the header states for the last frame."""
    found, _ = paced(ticks, base, rate, lasts=round(2 / rate / base))
    assert found == list(range(len(ticks)))


def test_a_burst_loses_as_few_frames_as_it_must() -> None:
    """Every other one at twice the rate; none is shown more than a slot early or late, and it is said."""
    ticks = range(0, 2000, 20)
    found, notes = paced(ticks, MS, 25)
    assert len(found) in (50, 51)
    assert all(abs(ticks[number] - 40 * slot) <= 40 for slot, number in enumerate(found))
    (note,) = notes
    assert "25 frames/s" in note and "20 ms" in note and f"{100 - len(found)} that came faster are left out" in note


def test_the_last_frame_lasts_as_long_as_it_says() -> None:
    found, notes = paced([0, 40, 160], MS, 25, lasts=120)
    assert (found, notes) == ([0, 1, 1, 1, 2, 2, 2], [])


def test_an_hour_of_standstill_is_cut() -> None:
    """To the longest pause, also at the end; what comes after keeps its distances."""
    found, notes = paced([0, 40, 3_600_000, 3_600_080], MS, 25, lasts=7_200_000)
    assert [found.count(number) for number in range(4)] == [1, LONGEST * 25 + 1, 2, LONGEST * 25 + 1]
    (note,) = notes
    assert f"{3540 + 7140} s" in note


@pytest.mark.parametrize(
    ("ticks", "base", "rate"),
    [
        (range(60), Fraction(1, 12), 12),
        (BURSTS, Fraction(1, 30), 30),
        ([number * 3000 + number * number * 7919 % 1709 for number in range(90)], Fraction(1, 90_000), None),
        ([number * 9000 + number * number * 7919 % 5003 for number in range(90)], Fraction(1, 90_000), 25),
    ],
)
def test_a_rate_is_one_of_frames(folder: Path, ticks: list[int], base: Fraction, rate: int | None) -> None:
    """Not of the clock's ticks, at which each frame would be written thousands of times; None is near the average."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(len(ticks)), base=base, ticks=ticks)
    with opened(clip, "clip.mp4") as film:
        found = steady_rate(film)
    assert found == rate if rate else 25 <= found <= 31


MIXED = {
    "milliseconds": (
        [*(round(n * 100 / 3) for n in range(60)), *(2000 + round(n * 200 / 3) for n in range(30))],
        MS,
        30,
    ),
    "faster later": ([*range(0, 60 * 24, 24), *range(60 * 24, 60 * 24 + 60 * 20, 20)], Fraction(1, 600), 30),
    "slow motion": ([*range(0, 40 * 8, 8), *range(320, 400)], Fraction(1, 240), 240),
}


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_no_frame_of_a_file_is_left_out(folder: Path, container: str, kind: str) -> None:
    """Whatever the header and the first frames suggest; the rate is at least that of the frames that come fastest."""
    ticks, base, rate = MIXED[kind]
    clip = kit.write(Path(f"clip.{container}"), kit.pictures(len(ticks)), base=base, ticks=ticks)
    with opened(clip, clip.name) as film:
        found = steady_rate(film)
        times = [frame.pts for frame in film.decoded()]
        slots, _ = paced(times, film.base, found)
    assert 0.98 * rate <= found <= 240
    assert set(slots) == set(range(len(ticks)))


def test_a_part_ends_in_a_pause(folder: Path, dgaf_weights: Path) -> None:
    """The frame before `--end` is not shown as long as in the whole clip."""
    clip = kit.write(Path("clip.mp4"), flat(21), base=Fraction(1, 10), ticks=[*range(20), 300], options={"bf": "0"})
    assert piped(dgaf_weights, b"", str(clip), "--end", "2", "-o", "out.y4m").returncode == 0
    assert len(levels(Path("out.y4m"))) == 20
    assert piped(dgaf_weights, b"", str(clip), "--end", "2", "-o", "out.mp4").returncode == 0
    with av.open("out.mp4") as made:
        assert made.duration / av.time_base == pytest.approx(2, abs=0.05)
