"""Containers and codecs with a will of their own: clocks, what they cannot hold, what players ask of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran

pytest.importorskip("av")

import av
import video_kit as kit
from av.stream import Disposition
from av.video.frame import PictureType
from PIL import ExifTags, Image, ImageOps

from lowlight_cli.video import run

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0", "--temporal", "off")
FINE: dict[str, Any] = {"base": Fraction(1, 90_000), "ticks": [number * 3600 for number in range(12)]}
UNEVEN: dict[str, Any] = {"base": Fraction(1, 90_000), "ticks": [number * 3013 + number % 2 for number in range(12)]}


def ticks(path: Path) -> list[Fraction]:
    """From the first on, which some containers put elsewhere."""
    first, *_ = found = kit.known(path).ticks
    return [each - first for each in found]


def alike(one: Path, other: Path) -> bool:
    pairs = zip(kit.shown(one), kit.shown(other), strict=True)
    return all(np.abs(a.astype(int) - b).mean() < 4 for a, b in pairs)


@pytest.mark.parametrize(
    ("clock", "words", "target"),
    [
        ({}, (), "out.mpg"),
        (FINE, (), "out.mpg"),
        (FINE, ("--codec", "mpeg2video"), "out.ts"),
        (UNEVEN, ("--codec", "mpeg2video"), "out.ts"),
        (UNEVEN, ("--codec", "mpeg2video"), "out.mp4"),
        (FINE, ("--codec", "mpeg1video"), "out.mkv"),
        (FINE, ("--codec", "mpeg4"), "out.mp4"),
        (UNEVEN, ("--codec", "mpeg4"), "out.mp4"),
        (FINE, ("--codec", "mpeg4"), "out.avi"),
    ],
)
def test_codecs_that_state_a_rate(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch,
    clock: dict[str, Any], words: tuple[str, ...], target: str,
) -> None:  # fmt: skip
    """MPEG-1, 2 and 4 from a clip of whatever clock: each frame at its tick, as fine as the container counts."""
    monkeypatch.setattr(run, "LENGTH", 5)
    clip = kit.write(Path("clip.mp4"), **clock)
    ran = lowlight("video", clip, "-o", target, *words, *SAME)
    assert ran.code == 0, ran.err
    assert alike(clip, Path(target))
    bound = {".mkv": 1 / 1000, ".avi": 0}.get(Path(target).suffix, 1 / 90_000)
    assert max(abs(a - b) for a, b in zip(ticks(clip), ticks(Path(target)), strict=True)) <= bound


@pytest.mark.parametrize(
    ("source", "base", "at", "even", "bound"),
    [
        ("clip.mp4", kit.BASE, range(0, 12 * kit.STEP, kit.STEP), True, 0),
        ("clip.mkv", Fraction(1, 1000), [number * 40 + number % 3 - 1 for number in range(1, 13)], True, 0.003),
        ("clip.mp4", Fraction(1, 600), [0, 20, 40, 60, 85, 110, 135, 160], False, 0),
    ],
)
def test_avi_counts_frames(
    folder: Path, lowlight: Lowlight, source: str, base: Fraction, at: list[int], even: bool, bound: float
) -> None:
    """A tick of its clock is a frame: if they come evenly, it states their rate, and has no empty ones between them."""
    clip = kit.write(Path(source), kit.pictures(len(at)), codec="mpeg4", base=base, ticks=at)
    ran = lowlight("video", clip, "-o", "out.avi", *SAME)
    assert ran.code == 0, ran.err
    with av.open("out.avi") as made:
        assert (made.streams.video[0].average_rate == 25) == even
        packets = [packet for packet in made.demux() if packet.size]
        assert (made.streams.video[0].frames <= len(packets) + 1) == even  # one more if it begins late
    assert max(abs(a - b) for a, b in zip(ticks(clip), ticks(Path("out.avi")), strict=True)) <= bound


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
@pytest.mark.parametrize("target", ["out.avi", "out.wmv"])
def test_containers_that_know_the_order_of_decoding_alone(
    folder: Path, lowlight: Lowlight, codec: str, target: str
) -> None:
    """Frames come in the order in which they are shown, or each player would guess another moment."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(30))
    ran = lowlight("video", clip, "-o", target, "--codec", codec, *SAME)
    assert ran.code == 0, ran.err
    with av.open(target) as made:
        kinds = {PictureType(frame.pict_type) for frame in made.decode(video=0)}
    assert kinds == {PictureType.I, PictureType.P}
    assert alike(clip, Path(target))


def test_mpeg2_stays(folder: Path, lowlight: Lowlight) -> None:
    clip = kit.write(Path("clip.mpg"), codec="mpeg2video", base=Fraction(1, 25), ticks=list(range(12)), sound="mp2")
    ran = lowlight("video", clip, *SAME)
    assert ran.code == 0, ran.err
    assert kit.known(Path("clip_lit.mpg")).kinds == ("video", "audio")
    assert ticks(Path("clip_lit.mpg")) == ticks(clip)


def test_what_a_track_is_for_is_kept(folder: Path, lowlight: Lowlight) -> None:
    """Its flags, such as of the original among dubbed ones."""
    clip = kit.write(Path("clip.mkv"), base=Fraction(1, 1000), ticks=[number * 40 for number in range(12)],
                     disposition=Disposition.default | Disposition.original | Disposition.forced)  # fmt: skip
    assert lowlight("video", clip, "--strength", "0").code == 0
    flags = []
    for path in (clip, Path("clip_lit.mkv")):
        with av.open(str(path)) as container:
            flags.append(container.streams.video[0].disposition)
    assert flags[0] == flags[1] and flags[0] & Disposition.original


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le"])
def test_yuv4mpeg_as_a_file(folder: Path, lowlight: Lowlight, pixels: str) -> None:
    """At the clip's rate, without its sound, which is said."""
    clip = kit.write(Path("clip.mov"), pixels=pixels, sound="aac")
    ran = lowlight("video", clip, "-o", "out.y4m", *SAME)
    assert ran.code == 0, ran.err
    assert "cannot hold stream 1 (audio, aac): left out" in ran.err
    assert Path("out.y4m").read_bytes().startswith(b"YUV4MPEG2 W64 H36 F25:1 ")
    assert ticks(Path("out.y4m")) == ticks(clip)
    assert kit.known(Path("out.y4m")).said["pixels"] == pixels
    again = lowlight("video", "out.y4m", *SAME)
    assert again.code == 0, again.err
    assert len(kit.shown(Path("out_lit.y4m"))) == 12


@pytest.mark.parametrize(
    ("codec", "source", "target", "becomes"),
    [
        ("libvpx-vp9", "clip.webm", "out.ts", "h264"),
        ("libvpx-vp9", "clip.webm", "out.mov", "h264"),
        ("ffv1", "clip.mkv", "out.m2ts", "h264"),
        ("mjpeg", "clip.avi", "out.ts", "h264"),
        ("libx265", "clip.mkv", "out.ts", "hevc"),
        ("libx265", "clip.mkv", "out.avi", "h264"),
        ("libx265", "clip.mkv", "out.wmv", "h264"),
        ("libvpx-vp9", "clip.webm", "out.wmv", "vp9"),
    ],
)
def test_another_codec_where_the_clips_own_does_not_go_in(
    folder: Path, lowlight: Lowlight, codec: str, source: str, target: str, becomes: str
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    clip = kit.write(
        Path(source), codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p",
        base=Fraction(1, 25), ticks=list(range(12)), options=options,
    )  # fmt: skip
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    with av.open(target) as after:
        assert after.streams.video[0].codec_context.codec.canonical_name == becomes
    assert len(kit.shown(Path(target))) == 12


@pytest.mark.parametrize(
    ("target", "becomes", "pixels"),
    [
        ("out.mp4", "hevc", "yuv422p10le"),
        ("out.mov", "prores", "yuv422p10le"),
        ("out.avi", "h264", "yuv420p"),
        ("out.wmv", "h264", "yuv420p"),
        ("out.flv", "h264", "yuv420p"),
    ],
)
def test_ten_bits_where_the_clips_own_codec_does_not_go_in(
    folder: Path, lowlight: Lowlight, target: str, becomes: str, pixels: str
) -> None:
    """HEVC, or else eight bits of H.264, of which hardly any player takes ten; it is said."""
    clip = kit.write(Path("clip.mov"), codec="prores_ks", pixels="yuv422p10le")
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert ("8 bits a sample, the clip has 10" in ran.err) == (becomes == "h264")
    with av.open(target) as after:
        context = after.streams.video[0].codec_context
        assert (context.codec.canonical_name, context.pix_fmt) == (becomes, pixels)
    assert alike(clip, Path(target))


def test_ten_bits_of_h264_stay(folder: Path, lowlight: Lowlight) -> None:
    clip = kit.write(Path("clip.mkv"), pixels="yuv420p10le", **FINE)
    assert lowlight("video", clip, *SAME).code == 0
    assert kit.known(Path("clip_lit.mkv")).said["pixels"] == "yuv420p10le"


@pytest.mark.parametrize(
    ("words", "target"),
    [(("--codec", "vp9"), "out.ts"), (("--codec", "vp9"), "out.mov"), (("--codec", "ffv1"), "out.ts")],
)
def test_what_is_refused_is_refused_before_the_first_frame(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], target: str
) -> None:
    monkeypatch.setattr(run, "_encode", lambda *_: pytest.fail("frames were made for nothing"))
    clip = kit.write(Path("clip.mp4"), kit.pictures(3))
    ran = lowlight("video", clip, "-o", target, *words, *SAME)
    assert (ran.code, len(ran.lines)) == (4, 1), ran.err
    assert [each.name for each in folder.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("source", "sound", "target"),
    [
        ("clip.mov", "pcm_s16le", "out.ts"),
        ("clip.mov", "pcm_s16le", "out.mpg"),
        ("clip.mp4", "aac", "out.mpg"),
        ("clip.mov", "pcm_s16le", "out.flv"),
        ("clip.ts", "aac", "out.avi"),
    ],
)
def test_sound_that_the_container_cannot_hold(
    folder: Path, lowlight: Lowlight, source: str, sound: str, target: str
) -> None:
    """It is left out and said: not data that nobody plays, no abort of the process, no error at the end."""
    clip = kit.write(Path(source), sound=sound, **FINE)
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert f"cannot hold stream 1 (audio, {sound}): left out" in ran.err
    assert kit.known(Path(target)).kinds == ("video",)
    assert len(kit.shown(Path(target))) == 12


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("target", ["out.mp4", "out.avi"])
def test_a_turned_clip_side_by_side(folder: Path, lowlight: Lowlight, degrees: int, target: str) -> None:
    """Upright with its labels upright, and said to be so."""
    clip = kit.write(Path("clip.mp4"), matrix=kit.turned(degrees))
    ran = lowlight("video", clip, "-o", target, "--compare", *SAME)
    assert ran.code == 0, ran.err
    with av.open(str(clip)) as before, av.open(target) as after:
        frame, sheet = next(before.decode(video=0)), next(after.decode(video=0))
        assert (frame.rotation % 180, sheet.rotation) == (degrees % 180, 0)
        upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90).astype(int)
        pixels = sheet.to_ndarray(format="rgb24").astype(int)
    height, width, _ = upright.shape
    places = [
        np.abs(pixels[y : y + height, x : x + width] - upright).mean()
        for y in range(pixels.shape[0] - height + 1)
        for x in range(8)
    ]
    assert min(places) < 4


@pytest.mark.parametrize("target", ["out.mp4", "out.mov"])
def test_hevc_as_quicktime_plays_it(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """Under the name hvc1, by which all parameters stand in the header: several parts share them."""
    monkeypatch.setattr(run, "LENGTH", 5)
    clip = kit.write(Path("clip.mp4"))
    ran = lowlight("video", clip, "-o", target, "--codec", "hevc", *SAME)
    assert ran.code == 0, ran.err
    with av.open(target) as after:
        assert after.streams.video[0].codec_context.codec_tag == "hvc1"
    assert alike(clip, Path(target))


@pytest.mark.parametrize("target", ["out.webm", "out.mkv", "out.mp4"])
def test_transparency_beside_the_picture(folder: Path, lowlight: Lowlight, target: str) -> None:
    """VP9 has it in a stream of its own, which FFmpeg does not read: it is said, and no tag promises it any more."""
    more: dict[str, Any] = {"codec": "libvpx-vp9", "base": Fraction(1, 1000), "ticks": range(0, 480, 40)}
    clear = kit.write(Path("clear.webm"), pixels="yuva420p", **more)
    ran = lowlight("video", clear, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    assert ran.err.count("transparency is left out") == 1
    with av.open(target) as after:
        assert "alpha_mode" not in {key.lower() for key in after.streams.video[0].metadata}
    plain = kit.write(Path("plain.webm"), **more)
    assert "transparency" not in lowlight("video", plain, *SAME).err


@pytest.mark.parametrize(
    ("codec", "pixels", "kept"),
    [
        ("ffv1", "ya8", "gray"),
        ("ffv1", "yuva420p", "yuv420p"),
        ("ffv1", "bgra", "bgra"),
        ("png", "ya16be", "gray16be"),
    ],
)
def test_transparency_in_the_picture(folder: Path, lowlight: Lowlight, codec: str, pixels: str, kept: str) -> None:
    """It is left out, and what it lay beside stays as it was."""
    clip = kit.write(Path("clip.avi"), codec=codec, pixels=pixels, base=Fraction(1, 25), ticks=range(12))
    ran = lowlight("video", clip, "--codec", codec, *SAME)
    assert ran.code == 0, ran.err
    assert "transparency is left out" in ran.err
    made = Path("clip_lit.avi")
    assert kit.known(made).said["pixels"] == kept
    pairs = zip(kit.shown(clip), kit.shown(made), strict=True)
    assert all(np.abs(one.astype(int) - other).mean() < 1 for one, other in pairs)


def test_an_interlaced_clip_is_told_of(folder: Path, lowlight: Lowlight) -> None:
    told = "is interlaced: combing will stay"
    clip = kit.write(Path("clip.mp4"), kit.pictures(12, 64, 64), options={"x264-params": "tff=1"})
    assert told in lowlight("video", clip, *SAME).err
    assert told not in lowlight("video", kit.write(Path("plain.mp4")), *SAME).err


@pytest.mark.parametrize(("turned", "size"), [(1, (64, 36)), (6, (36, 64))])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_exif_in_motion_jpeg(
    folder: Path, lowlight: Lowlight, turned: int, size: tuple[int, int], target: str
) -> None:  # fmt: skip
    """Read as FFmpeg understands it: the result stands as a player shows the clip."""
    exif, data = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = turned
    Image.fromarray(next(kit.pictures(1))).save(data, "JPEG", exif=exif)
    with av.open("clip.avi", "w") as out:
        video: Any = out.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 36, "yuvj420p"
        for number in range(3):
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = video, Fraction(1, 25), True
            packet.pts = packet.dts = number
            out.mux(packet)
    ran = lowlight("video", "clip.avi", "-o", target, *SAME)
    assert ran.code == 0, ran.err
    upright = np.asarray(ImageOps.exif_transpose(Image.open(data)).convert("RGB")).astype(int)
    with av.open(target) as made:
        shown = [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in made.decode(video=0)]
    assert [each.shape[1::-1] for each in shown] == [size] * 3
    assert all(np.abs(each - upright).mean() < 6 for each in shown)
