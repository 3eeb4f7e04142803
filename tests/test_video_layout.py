"""Streams beside the picture: timecodes, telemetry, covers, second pictures and sounds, as each container has them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

pytest.importorskip("av")

import av
import numpy as np
import video_kit as kit
from av.stream import Disposition

from lowlight_cli.pictures import Photo, encode
from lowlight_cli.video.timecode import later

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0", "--temporal", "off")
ATTACHED = Disposition.attached_pic
TIMECODE = {"timecode": "01:00:00:00"}


def streams(path: Path | str) -> list[tuple[str, str | None]]:
    """The kind of each stream, and its timecode."""
    with av.open(str(path)) as clip:
        return [(stream.type, stream.metadata.get("timecode")) for stream in clip.streams]


def telemetry(path: Path) -> Path:
    """A camera's data: the clip's track of timecode under another name."""
    data = path.read_bytes()
    before, name, after = data.rpartition(b"tmcd\0\0\0\0\0\0\0\1")
    assert name
    path.write_bytes(before.replace(b"mhlrtmcd", b"mhlrmeta") + name.replace(b"tmcd", b"gpmd") + after)
    return path


@pytest.mark.parametrize("source", ["clip.mov", "clip.mp4"])
@pytest.mark.parametrize("target", ["out.mov", "out.mp4"])
def test_a_timecode_stays(folder: Path, lowlight: Lowlight, source: str, target: str) -> None:
    """Its track is written anew, and nothing is said of it."""
    clip = kit.write(Path(source), tags=TIMECODE, sound="aac")
    assert streams(clip)[2] == ("data", "01:00:00:00")
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert "left out" not in ran.err
    assert streams(target) == [("video", "01:00:00:00"), ("audio", None), ("data", "01:00:00:00")]
    assert kit.known(Path(target)).ticks == kit.known(clip).ticks


def test_a_timecode_of_a_part_begins_with_the_part(folder: Path, lowlight: Lowlight) -> None:
    clip = kit.write(Path("clip.mov"), kit.pictures(50), tags=TIMECODE)
    ran = lowlight("video", clip, "--start", "1.2", "-o", "part.mov", *SAME)
    assert ran.code == 0, ran.err
    assert streams("part.mov") == [("video", "01:00:01:05"), ("data", "01:00:01:05")]


@pytest.mark.parametrize(
    ("code", "frames", "rate", "wanted"),
    [
        ("01:00:00:00", 30, Fraction(25), "01:00:01:05"),
        ("23:59:59:23", 1, Fraction(24), "00:00:00:00"),
        ("00:00:59;29", 1, Fraction(30000, 1001), "00:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:00;00", 17982, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:00;00", 17982 + 1800, Fraction(30000, 1001), "00:11:00;02"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("00:00:59:29", 1, Fraction(30000, 1001), "00:01:00:00"),
        ("at night", 5, Fraction(25), "at night"),
    ],
)
def test_timecodes_count_frames(code: str, frames: int, rate: Fraction, wanted: str) -> None:
    """As SMPTE ST 12 has it: with `;` numbers are dropped, but for each tenth minute."""
    assert later(code, frames, rate) == wanted


@pytest.mark.parametrize(("target", "kept"), [("out.mov", True), ("out.avi", False), ("out.flv", False)])
def test_telemetry(folder: Path, lowlight: Lowlight, target: str, kept: bool) -> None:
    """A camera's data is copied where the container has a name for it, else it is said."""
    clip = telemetry(kit.write(Path("clip.mov"), tags=TIMECODE))
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert ("cannot hold stream 1 (data" in ran.err) != kept
    assert [kind for kind, _ in streams(target)] == ["video", "data"][: 1 + kept]


@pytest.mark.parametrize("target", ["out.avi", "out.ts", "out.flv", "out.wmv"])
def test_data_without_a_name(folder: Path, lowlight: Lowlight, target: str) -> None:
    """A container that has no name for data would hold it as a stream that nobody can read: it is left out."""
    clip = kit.write(Path("clip.mov"), tags=TIMECODE)
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert "cannot hold stream 1 (data, no codec): left out" in ran.err
    assert [kind for kind, _ in streams(target)] == ["video"]


@pytest.mark.parametrize("target", ["out.mkv", "out.webm", "out.ts", "out.mp4", "out.mpg", "out.wmv"])
def test_attachments(folder: Path, lowlight: Lowlight, target: str) -> None:
    """A font for subtitles, say: Matroska alone holds it, elsewhere it is said."""
    film = kit.write(Path("plain.mkv"), base=Fraction(1, 25), ticks=range(12))
    with av.open(str(film)) as plain, av.open("clip.mkv", "w") as out:
        copy = out.add_stream_from_template(plain.streams.video[0])
        out.add_attachment("night.ttf", "application/x-truetype-font", b"letters")
        for packet in plain.demux():
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    ran = lowlight("video", "clip.mkv", "-o", target, *SAME)
    assert ran.code == 0, ran.err
    kept = target == "out.mkv"
    assert ("cannot hold stream 1 (attachment, night.ttf): left out" in ran.err) != kept
    assert [kind for kind, _ in streams(target)] == ["video", "attachment"][: 1 + kept]


@pytest.mark.parametrize("target", ["out.mkv", "out.webm", "out.mov", "out.3gp", "out.wmv", "out.ts", "out.mpg",
                                    "out.avi", "out.flv", "out.y4m"])  # fmt: skip
def test_chapters(folder: Path, lowlight: Lowlight, target: str) -> None:
    """They are there, or it is said that they are not."""
    half = {"id": 1, "start": 0, "end": 240, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
    clip = kit.write(Path("clip.mp4"), chapters=[half, half | {"id": 2, "start": 240, "end": 480}])
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    with av.open(target) as made:
        assert len(made.chapters()) == (0 if "cannot hold chapters: left out" in ran.err else 2)
    plain = lowlight("video", kit.write(Path("plain.mp4")), "-o", target, "--exist", "overwrite", *SAME)
    assert "chapters" not in plain.err


def test_text_that_would_be_read_as_pictures(folder: Path, lowlight: Lowlight) -> None:
    """MPEG-PS knows subtitles of DVDs alone, and FFmpeg writes all others as if they were."""
    ticks = [number * 40 for number in range(12)]
    clip = kit.write(Path("clip.mkv"), subtitles=True, sound="mp2", base=Fraction(1, 1000), ticks=ticks)
    ran = lowlight("video", clip, "-o", "out.mpg", *SAME)
    assert ran.code == 0, ran.err
    assert "mpeg cannot hold stream 2 (subtitle, srt): left out" in ran.err
    assert [kind for kind, _ in streams("out.mpg")] == ["video", "audio"]


def bytes_of(path: Path | str, cover: bool) -> list[bytes]:
    """The first packet of each other picture than the clip's own: of covers, or of second films."""
    with av.open(str(path)) as clip:
        others = [each.index for each in clip.streams.video[1:] if bool(each.disposition & ATTACHED) == cover]
    found = []
    for index in others:
        with av.open(str(path)) as clip:
            found.append(next(bytes(each) for each in clip.demux(clip.streams[index]) if each.size))
    return found


def copied(source: Path | list[Path], target: str, *more: tuple[bytes, str]) -> Path:
    """All streams of clips in one, and covers: bytes and codec."""
    sources = [source] if isinstance(source, Path) else source
    with av.open(target, "w") as out:
        clips = [av.open(str(each)) for each in sources]
        pairs = [(clip, {each.index: out.add_stream_from_template(each) for each in clip.streams}) for clip in clips]
        covers = []
        for data, codec in more:
            cover: Any = out.add_stream(codec, rate=1)
            cover.width, cover.height, cover.pix_fmt = 16, 16, {"png": "rgb24"}.get(codec, "yuvj420p")
            cover.disposition = ATTACHED
            covers.append((cover, data))
        for cover, data in covers:
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 90_000)
            out.mux(packet)
        for clip, copies in pairs:
            for packet in clip.demux():
                if packet.size:
                    packet.stream = copies[packet.stream.index]
                    out.mux(packet)
            clip.close()
    return Path(target)


def cover(kind: str) -> bytes:
    return encode(Photo(np.full((16, 16, 3), 0.5, np.float32), depth=8, name="cover"), format=kind)


@pytest.mark.parametrize(("kind", "codec"), [("png", "png"), ("jpeg", "mjpeg")])
@pytest.mark.parametrize("words", [(), ("--start", "0.2")])
def test_a_cover_to_matroska_and_back(
    folder: Path, lowlight: Lowlight, kind: str, codec: str, words: tuple[str, ...]
) -> None:
    """It stays a cover, which in Matroska is an attachment and no film of one frame, and nothing is said."""
    picture = cover(kind)
    clip = copied(kit.write(Path("plain.mp4"), sound="aac"), "clip.mp4", (picture, codec))
    assert bytes_of(clip, cover=True) == [picture]
    for source, target in (("clip.mp4", "one.mkv"), ("one.mkv", "two.mkv"), ("two.mkv", "three.mp4")):
        ran = lowlight("video", source, "-o", target, *SAME, *words)
        assert ran.code == 0, ran.err
        assert "stream" not in ran.err
        assert bytes_of(target, cover=True) == [picture]
        assert bytes_of(target, cover=False) == []
        words = ()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_a_part_has_the_cover_too(folder: Path, lowlight: Lowlight, name: str, target: str) -> None:
    clip = copied(kit.write(Path("plain.mp4"), kit.pictures(75)), "clip.mp4", (cover("jpeg"), "mjpeg"))
    if name != clip.name:
        assert lowlight("video", clip, "-o", name, *SAME).code == 0
    ran = lowlight("video", name, "-o", target, "--start", "1.6", "--end", "2", *SAME)
    assert ran.code == 0, ran.err
    assert bytes_of(target, cover=True) == [cover("jpeg")]
    assert kit.known(Path(target)).ticks == tuple(Fraction(number, 25) for number in range(10))


@pytest.mark.parametrize("target", ["out.webm", "out.avi", "out.ts", "out.flv", "out.wmv", "out.3gp", "out.mov"])
def test_a_cover_that_a_container_cannot_hold(folder: Path, lowlight: Lowlight, target: str) -> None:
    clip = copied(kit.write(Path("plain.mp4")), "clip.mp4", (cover("jpeg"), "mjpeg"))
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert "cannot hold stream 1 (cover): left out" in ran.err
    assert streams(target) == [("video", None)]


def test_flv_holds_one_picture_and_one_sound(folder: Path, lowlight: Lowlight) -> None:
    """The first that it can hold of each; what FFmpeg would write beside them, players do not find."""
    films = [kit.write(Path("one.mkv"), sound="ac3", second="aac"), kit.write(Path("two.mkv"), sound="aac")]
    clip = copied(films, "clip.mkv")
    ran = lowlight("video", clip, "-o", "out.flv", *SAME)
    assert ran.code == 0, ran.err
    for index, what in ((3, "video, h264"), (4, "audio, aac")):
        assert f"flv cannot hold stream {index} ({what}): left out" in ran.err
    assert sorted(streams("out.flv")) == [("audio", None), ("video", None)]
    assert len(kit.shown(Path("out.flv"))) == 12


def test_a_second_picture_stays_dark_and_that_is_said(folder: Path, lowlight: Lowlight) -> None:
    """A camera that looks forth and back."""
    films = [kit.write(Path("front.mp4"), sound="aac"), kit.write(Path("back.mp4"), kit.pictures(12, 24, 40))]
    clip = copied(films, "clip.mp4")
    ran = lowlight("video", clip, *SAME)
    assert ran.code == 0, ran.err
    assert "stream 2 is another picture: copied as it is, not lit" in ran.err
    assert bytes_of("clip_lit.mp4", cover=False) == bytes_of(clip, cover=False)
    assert "another picture" not in lowlight("video", "front.mp4", *SAME).err
