"""From the middle of a clip on: no frame is lost, whatever the container's way of finding a place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
import video_kit as kit
from conftest import Ran
from test_video_addresses import server  # noqa: F401  # a fixture

from lowlight_cli.video import opening
from lowlight_cli.video.streams import Span, opened

Lowlight = Callable[..., Ran]
RATE = Fraction(1, 25)
FINE = Fraction(1, 90_000)


def made(name: str, gop: int = 60, **more: object) -> Path:
    """Six seconds with a key frame after every `gop` frames."""
    bases = {".mkv": Fraction(1, 1000), ".wmv": Fraction(1, 1000), ".mp4": kit.BASE, ".mpg": RATE, ".avi": RATE}
    base = bases.get(Path(name).suffix, FINE)
    ticks = [round(number / 25 / base) for number in range(150)]
    options = {"g": str(gop)} | ({"sc_threshold": "0"} if "codec" not in more else {})
    return kit.write(Path(name), kit.pictures(150), base=base, ticks=ticks, options=options, **more)  # type: ignore[arg-type]


CLIPS: dict[str, dict[str, object]] = {
    "clip.ts": {"sound": "mp2"},
    "one_key.ts": {"gop": 200},
    "clip.m2ts": {},
    "clip.mpg": {"codec": "mpeg2video", "gop": 40},
    "clip.h264": {},
    "clip.mp4": {},
    "clip.mkv": {},
}


@pytest.mark.parametrize("name", CLIPS)
def test_from_any_frame_on(folder: Path, name: str) -> None:
    """What is behind a frame, and what is from a moment on, is what one finds who reads it all."""
    clip = made(name, **CLIPS[name])  # type: ignore[arg-type]
    with opened(clip, name) as whole:
        frames = list(whole.decoded())
        base = whole.base
    assert len(frames) == 150
    first = frames[0].pts
    for at in (30, 65, 110, 147):
        with opened(clip, name) as rest:
            found = list(rest.decoded(frames[at].pts))
        assert [frame.pts for frame in found] == [frame.pts for frame in frames[at + 1 :]]
        assert all((one.picture == other.picture).all() for one, other in zip(found, frames[at + 1 :], strict=True))
        with opened(clip, name, Span(start=at / 25 - 0.01)) as rest:
            shift = rest.span.shift(base)
            found = list(rest.decoded())
        wanted = [frame.pts for frame in frames if frame.pts * base >= rest.zero + Fraction(at, 25) - Fraction(1, 100)]
        assert first <= wanted[0] and [frame.pts + shift for frame in found] == wanted
        assert not rest.notes


def test_keyframes_far_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is between them is decoded rather than held in memory."""
    monkeypatch.setattr(opening, "_HELD", 50)
    clip, moment = made("clip.ts", gop=100), Fraction(5)
    with av.open(str(clip)) as container:
        packets = list(container.demux(video=0))
    coming = iter(packets)
    found = opening.from_keyframe(coming, moment)
    first = next(found)
    assert len(packets) - len(list(coming)) == 50 and first is packets[0]
    with opened(clip, "clip.ts", Span(start=5)) as rest:
        assert len(list(rest.decoded())) == 25


@pytest.mark.parametrize("name", ["clip.wmv", "clip.avi"])
def test_frames_that_are_decoded_in_another_order(folder: Path, lowlight: Lowlight, name: str) -> None:
    """These containers do not say when a frame is shown: one comes after the other, none in another's place.

    The first is not lost either where the header says that the clip begins later.
    """
    clip = made(name, sound="mp2")
    with opened(clip, name) as whole:
        ticks = [frame.pts * whole.base for frame in whole.decoded()]
    steps = {after - before for before, after in itertools.pairwise(ticks[:-1])}  # of the last, WMV says what it likes
    assert (len(ticks), steps) == (150, {Fraction(1, 25)})
    with opened(clip, name) as rest:
        assert len(list(rest.decoded(round(ticks[99] / rest.base)))) == 50
    assert lowlight("video", clip, "-o", "lit.mkv", "--strength", "0").code == 0
    assert len(kit.known(Path("lit.mkv")).ticks) == 150


@pytest.mark.parametrize("name", ["clip.wmv", "clip.avi"])
def test_frames_that_are_decoded_in_their_order(folder: Path, name: str) -> None:
    """When a frame is decoded, it is shown; FFmpeg guesses that it were shown with the next."""
    base = Fraction(1, 1000) if name == "clip.wmv" else Fraction(1, 600)
    ticks = [round(Fraction(number + number % 3, 25) / base) for number in range(0, 60, 2)]
    kit.write(Path(name), kit.pictures(30), base=base, ticks=ticks, options={"bf": "0"})
    with opened(Path(name), name) as whole:
        frames = list(whole.decoded())
        assert [frame.pts * whole.base for frame in frames] == [tick * base for tick in ticks]
    with opened(Path(name), name, Span(start=1.5)) as rest:
        wanted = [each for each in ticks if each * base >= Fraction(3, 2)]
        assert [(each.pts * rest.base + Fraction(3, 2)) for each in rest.decoded()] == [each * base for each in wanted]


def test_a_part_of_a_broadcast(folder: Path, lowlight: Lowlight) -> None:
    clip = made("clip.ts", sound="mp2")
    ran = lowlight("video", clip, "--start", "1.5", "--end", "2.3", "-o", "part.ts", "--strength", "0")
    assert ran.code == 0, ran.err
    assert len(kit.shown(Path("part.ts"))) == 20


def test_a_server_that_cannot_go_back(folder: Path, lowlight: Lowlight, server: str) -> None:  # noqa: F811
    """It knows no ranges: what is not wanted is read and left out, in the picture and in the sound."""
    clip = made("clip.mkv", sound="aac")
    for source, target in ((str(clip), "disk.mkv"), (f"{server}/clip.mkv", "net.mkv")):
        ran = lowlight("video", source, "--start", "3.5", "-o", target, "--strength", "0")
        assert ran.code == 0, ran.err
    disk, net = kit.known(Path("disk.mkv")), kit.known(Path("net.mkv"))
    assert len(disk.ticks) == 62
    assert (net.ticks, net.packets) == (disk.ticks, disk.packets)
