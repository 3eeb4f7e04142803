"""Recordings joined end to end, each with a clock of its own: one goes on where the other ends."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import Ran

pytest.importorskip("av")

import video_kit as kit
from test_video_mux import shifted, times

from lowlight_cli.video.streams import Span, opened

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0", "--temporal", "off")
FRAME = Fraction(1, 25)
HOURS = 20_000


def joined(name: str, codec: str, sound: str = "mp2", *, clock: float = 0.0) -> tuple[Path, list[Path]]:
    """Three recordings of two seconds, the first of which begins at `clock`, in one file, and each by itself."""
    plain = kit.write(
        Path("plain.mov"), kit.pictures(50), codec=codec, sound=sound, base=FRAME, ticks=range(50), options={"g": "10"}
    )
    suffix = Path(name).suffix
    recordings = [shifted(plain, f"{number}{suffix}", 0 if number else clock) for number in range(3)]
    Path(name).write_bytes(b"".join(path.read_bytes() for path in recordings))
    return Path(name), recordings


@pytest.mark.parametrize("clock", [0, 3000, HOURS])
@pytest.mark.parametrize(
    ("name", "codec", "sound", "target"),
    [
        ("clip.ts", "libx264", "ac3", "out.mp4"),
        ("clip.ts", "libx264", "aac", "out.ts"),
        ("clip.ts", "mpeg2video", "mp2", "out.mkv"),
        ("clip.mpg", "mpeg2video", "mp2", "out.mp4"),
    ],
)
def test_all_is_there_at_its_time(
    folder: Path, lowlight: Lowlight, name: str, codec: str, sound: str, target: str, clock: float
) -> None:
    """Frames go on evenly, whether the clock begins again or is set back by hours; sound stays with its picture."""
    clip, recordings = joined(name, codec, sound, clock=clock)
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    frames, heard = times(target)
    assert [frame - frames[0] for frame in frames] == pytest.approx([number / 25 for number in range(150)], abs=0.001)
    for number, path in enumerate(recordings):
        shown, sounds = times(path)
        shift = frames[50 * number] - shown[0]
        wanted = [each + shift for each in sounds]
        found = [each for each in wanted if min(abs(each - other) for other in heard) < 0.002]
        assert len(found) >= len(wanted) - 2  # what sounds on at the end does so under the next
    assert len(heard) <= sum(len(times(path)[1]) for path in recordings)


@pytest.mark.parametrize("clock", [0, HOURS])
@pytest.mark.parametrize(("name", "codec"), [("clip.ts", "libx264"), ("clip.mpg", "mpeg2video")])
def test_from_any_frame_on(folder: Path, name: str, codec: str, clock: float) -> None:
    """A moment is one of the whole, not the one that each recording calls so."""
    clip, _ = joined(name, codec, clock=clock)
    with opened(clip, name) as whole:
        frames = list(whole.decoded())
        base = whole.base
    for at in (35, 60, 95, 140):
        with opened(clip, name) as rest:
            found = list(rest.decoded(frames[at].pts))
        assert [frame.pts for frame in found] == [frame.pts for frame in frames[at + 1 :]]
        assert all((one.picture == other.picture).all() for one, other in zip(found, frames[at + 1 :], strict=True))
        begin = float(frames[at].pts * base - whole.zero) - 0.01
        with opened(clip, name, Span(start=begin)) as rest:
            assert [frame.pts + rest.span.shift(base) for frame in rest.decoded()] == [each.pts for each in frames[at:]]


def test_the_sound_of_a_part(folder: Path, lowlight: Lowlight) -> None:
    """It is that of the frames, in whichever recording."""
    clip, _ = joined("clip.ts", "libx264")
    for words, target in (((), "whole.mp4"), (("--start", "2.4", "--end", "5"), "part.mp4")):
        ran = lowlight("video", clip, "-o", target, *words, *SAME)
        assert ran.code == 0, ran.err
    for whole, part, count in zip(times("whole.mp4"), times("part.mp4"), (65, 108), strict=True):
        wanted = [float(each) - 2.4 for each in whole if 2.4 <= each < 5]
        assert [float(each) for each in part] == pytest.approx(wanted, abs=0.001)
        assert abs(len(part) - count) <= 1


def test_sound_far_from_its_picture_stays_in_order(folder: Path, lowlight: Lowlight) -> None:
    """MPEG-PS may hold it seconds behind, which is no recording that begins."""
    clip = kit.write(Path("clip.mpg"), kit.pictures(100), codec="mpeg2video", sound="mp2", base=FRAME, ticks=range(100))
    ran = lowlight("video", clip, "-o", "out.mpg", *SAME)
    assert ran.code == 0, ran.err
    assert kit.known(Path("out.mpg")).packets == kit.known(clip).packets


def test_one_damaged_clock_is_no_recording(folder: Path, lowlight: Lowlight) -> None:
    """Where the stamp of one frame is another than those around it, all others stay where they are."""
    ticks = range(0, 50 * 3600, 3600)
    options = {"bf": "0"}
    clip = kit.write(
        Path("clip.ts"), kit.pictures(50), base=Fraction(1, 90_000), ticks=ticks, delay=200 * 90_000, options=options
    )
    frames, _ = times(clip)
    data = bytearray(clip.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\xe0"]
    assert len(starts) == 50
    data[starts[20] + 10] -= 1  # of 2^22 / 90000 s: ISO 13818-1, 2.4.3.6
    clip.write_bytes(data)
    assert times(clip)[0][0] == frames[20] - Fraction(2**22, 90_000)
    ran = lowlight("video", clip, "-o", "out.ts", *SAME)
    assert ran.code == 0, ran.err
    assert kit.known(Path("out.ts")).ticks == tuple(frames)
