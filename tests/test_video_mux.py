"""Packets into a container: when a clip begins there, and what becomes of the picture where others do not go in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import Ran, environment, program

pytest.importorskip("av")

import av
import video_kit as kit
from test_video_resume import crashed

from lowlight_cli.video import run

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0", "--temporal", "off")
HOURS = 20_000
"""Seconds that a broadcast's clock shows where a recording begins."""


def shifted(clip: Path, name: str, seconds: float, late: float = 0.0) -> Path:
    """A copy of a clip that begins later by its clock; its sound `late` seconds more."""
    options = {"mpegts_copyts": "1"} if name.endswith(".ts") else {}
    with av.open(str(clip)) as source, av.open(name, "w", options=options) as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if not packet.size:
                continue
            stream = packet.stream
            more = round(Fraction(seconds + (late if stream.type == "audio" else 0)) / packet.time_base)
            packet.pts, packet.dts = packet.pts + more, packet.dts + more
            packet.stream = copies[stream.index]
            out.mux(packet)
    return Path(name)


def broadcast(name: str, count: int = 50, late: float = 0.0) -> Path:
    """A recording with sound."""
    codec = "mpeg2video" if name.endswith(".mpg") else "libx264"
    plain = kit.write(
        Path("plain.mp4"), kit.pictures(count), sound="mp2", codec=codec, base=Fraction(1, 25), ticks=range(count)
    )
    return shifted(plain, name, HOURS, late)


def times(path: Path | str) -> tuple[list[Fraction], list[Fraction]]:
    """When each frame is shown and each packet of sound heard, in seconds, as the container has it."""
    found: dict[str, list[Fraction]] = {"video": [], "audio": []}
    with av.open(str(path)) as clip:
        for packet in clip.demux():
            tick = packet.dts if packet.pts is None else packet.pts
            if packet.size and tick is not None:
                found[packet.stream.type].append(tick * packet.time_base)
    return sorted(found["video"]), found["audio"]


@pytest.mark.parametrize("source", ["clip.ts", "clip.mpg", "clip.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.wmv", "out.flv", "out.avi", "out.ts"])
def test_a_clip_begins_at_once_in_another_kind_of_container(
    folder: Path, lowlight: Lowlight, source: str, target: str
) -> None:
    """The clock of a broadcast is no gap of hours; picture and sound stay together, and times in one kind stay."""
    clip = broadcast(source)
    frames, sounds = times(clip)
    assert min(frames[0], sounds[0]) > HOURS - 1
    # where FFmpeg reads H.264 from these, the moment of a frame is a guess
    words = ("--codec", "mpeg4") if target in ("out.avi", "out.wmv") else ()
    ran = lowlight("video", clip, "-o", target, *words, *SAME)
    assert ran.code == 0, ran.err
    after, heard = times(target)
    alike = {("clip.ts", "out.ts"), ("clip.mpg", "out.ts"), ("clip.mkv", "out.mkv")}
    if (source, target) in alike:
        assert (after, heard) == (frames, sounds)
        return
    shift, bound = frames[0] - after[0], Fraction(1, 40 if target == "out.avi" else 400)
    assert max(abs(a - b - shift) for a, b in zip(frames, after, strict=True)) <= bound
    if target != "out.flv":  # it cannot hold this sound
        assert max(abs(a - b - shift) for a, b in zip(sounds, heard, strict=True)) <= bound
    assert min([after[0], *heard[:1]]) < Fraction(1, 4)
    with av.open(target) as made:
        assert made.duration is not None and made.duration / av.time_base < 3


def test_a_part_of_a_broadcast_begins_at_once(folder: Path, lowlight: Lowlight) -> None:
    clip = broadcast("clip.ts", late=0.5)
    frames, sounds = times(clip)
    ran = lowlight("video", clip, "--start", "0.8", "--end", "1.6", "-o", "part.mp4", *SAME)
    assert ran.code == 0, ran.err
    with av.open(str(clip)) as source:
        begin = Fraction(source.start_time or 0, av.time_base) + Fraction(8, 10)
    after, heard = times("part.mp4")
    for wanted, found in ((frames, after), (sounds, heard)):
        part = [each - begin for each in wanted if 0 <= each - begin < Fraction(8, 10)]
        assert len(part) >= 20
        assert max(abs(a - b) for a, b in zip(part, found, strict=True)) < Fraction(1, 400)


def test_a_broadcast_that_is_gone_on_with(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run left and what comes after stand on one clock."""
    monkeypatch.setattr(run, "LENGTH", 8)
    clip = broadcast("clip.ts")
    crashed(lowlight, clip, "-o", "lit.mp4", *SAME, whole=3)
    ran = lowlight("video", clip, "-o", "lit.mp4", *SAME, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert '"resumed": 24' in ran.out
    assert lowlight("video", clip, "-o", "whole.mp4", *SAME).code == 0
    assert times("lit.mp4") == times("whole.mp4")
    assert len(times("lit.mp4")[0]) == 50


def test_a_broadcast_from_a_pipe_begins_at_once(folder: Path, dgaf_weights: Path) -> None:
    clip = broadcast("clip.ts", 10)
    line = program(["video", "-", "-o", "lit.mp4", *SAME])
    done = subprocess.run(
        line, input=clip.read_bytes(), capture_output=True, env=environment(dgaf_weights), check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    frames, _ = times("lit.mp4")
    assert len(frames) == 10 and frames[0] < Fraction(1, 4)


@pytest.mark.parametrize("target", ["out.ts", "out.mpg", "out.mp4", "out.mkv", "out.avi"])
def test_packets_that_a_container_refuses(folder: Path, lowlight: Lowlight, target: str) -> None:
    """Sound that goes back, as where recordings overlap that are put together, costs itself, not the clip."""
    plain = kit.write(Path("plain.mp4"), kit.pictures(25), sound="mp2", base=Fraction(1, 25), ticks=range(25))
    clip = Path("clip.ts")
    clip.write_bytes(b"".join(shifted(plain, f"{at}.ts", at * 0.9).read_bytes() for at in range(2)))
    frames, sounds = times(clip)
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    after, heard = times(target)
    assert len(after) >= len(frames) == 50
    assert len(sounds) - 10 < len(heard) < len(sounds)
    assert f"refuses {len(sounds) - len(heard)} packets beside the picture" in ran.err


def test_a_picture_is_written_whatever_is_beside_it(folder: Path, lowlight: Lowlight) -> None:
    """AVI fills what is silent, but not hours of it, and says so at the end: the picture goes in without sound."""
    clip = Path("clip.mkv")
    with av.open(str(kit.write(Path("plain.mp4"), sound="mp2"))) as source, av.open(str(clip), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                stream = packet.stream
                if stream.type == "audio" and packet.pts:
                    packet.pts, packet.dts = (
                        tick + round(HOURS / packet.time_base) for tick in (packet.pts, packet.dts)
                    )
                packet.stream = copies[stream.index]
                out.mux(packet)
    ran = lowlight("video", clip, "-o", "out.avi", *SAME)
    assert ran.code == 0, ran.err
    assert "avi cannot hold stream 1 (audio, mp2): left out" in ran.err
    assert kit.known(Path("out.avi")).kinds == ("video",)
    assert len(kit.shown(Path("out.avi"))) == 12
    assert sorted(each.name for each in folder.iterdir()) == ["clip.mkv", "out.avi", "plain.mp4"]


def test_how_long_the_last_frame_stays(folder: Path, lowlight: Lowlight) -> None:
    """As the header says: for FFmpeg, a frame in MP4 lasts until the next is decoded, which may be an earlier one."""
    ticks = [number * 40 for number in range(52) if not number % 3 or not number % 7]
    clip = kit.write(Path("clip.mkv"), kit.pictures(len(ticks)), base=Fraction(1, 1000), ticks=ticks)
    for source, target in ((clip, "lit.mp4"), ("lit.mp4", "back.mkv")):
        ran = lowlight("video", source, "-o", target, *SAME)
        assert ran.code == 0, ran.err
        assert kit.known(Path(target)).ticks == tuple(Fraction(tick, 1000) for tick in ticks)
    assert kit.known(Path("back.mkv")).duration == kit.known(clip).duration == (ticks[-1] + 40) * 1000


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (0, 8, [(5, 8)]),
        (2, 14, [(3, 8), (10, 12)]),
        (6.4, 13, [(0, 3.6), (5.6, 6.6)]),
        (11, 16, [(1, 5)]),
        (14, 16, [(0, 2)]),
        (10, 12, []),
    ],
)
def test_subtitles_of_a_part(
    folder: Path, lowlight: Lowlight, start: float, end: float, wanted: list[tuple[float, float]]
) -> None:
    """One that is showing when the part begins is there from its beginning, and none is there after its end."""
    plain = kit.write(
        Path("plain.mkv"), kit.pictures(17 * 25), base=Fraction(1, 25), ticks=range(17 * 25), subtitles=True
    )
    with av.open(str(plain)) as source, av.open("clip.mkv", "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        lines = iter([(5, 5), (12, 5)])  # seconds
        for packet in source.demux():
            if packet.size:
                if packet.stream.type == "subtitle":
                    begin, length = next(lines)
                    packet.pts = packet.dts = begin * 1000
                    packet.duration = length * 1000
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    words = ("--start", str(start), "--end", str(end))
    ran = lowlight("video", "clip.mkv", "-o", "part.mkv", *words, *SAME)
    assert ran.code == 0, ran.err
    with av.open("part.mkv") as made:
        shown = [
            (each.pts, each.pts + each.duration)
            for each in made.demux(subtitles=0)
            if each.size and each.pts is not None
        ]
        assert shown == [(one * 1000, other * 1000) for one, other in wanted]
        assert made.duration == (end - start) * 1_000_000
