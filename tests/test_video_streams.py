"""Clips in and out: every frame at its tick, colours and depth kept, all else copied. Strength 0 keeps the picture."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran

from lowlight_cli import Enhancer
from lowlight_cli.pictures import Photo, encode
from lowlight_cli.video.colour import TONED
from lowlight_cli.video.mux import decoding_ticks

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")

CHAPTERS = [
    {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 200, "end": 480, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
]
VFR = [0, 512, 1536, 1600, 2100, 4000, 4001, 5000, 7000, 7512, 9000, 12000]

CLIPS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"sound": "aac", "colours": (1, 1, 1, 1)},
    "vfr.mp4": {"ticks": VFR, "sound": "aac"},
    "sound_first.mp4": {"sound": "aac", "sound_first": True},
    "late.mp4": {"delay": 5000, "sound": "aac"},
    "wide.mov": {"codec": "prores_ks", "pixels": "yuv422p10le", "sound": "pcm_s16le", "aspect": Fraction(4, 3)},
    "ten.mkv": {"codec": "libx265", "pixels": "yuv420p10le", "colours": (9, 9, 14, 1), "sound": "ac3",
                "options": {"x265-params": "log-level=none"}, "base": Fraction(1, 1000),
                "ticks": [number * 40 for number in range(12)]},
    "texts.mkv": {"subtitles": True, "sound": "aac", "chapters": CHAPTERS, "tags": {"title": "A night", "mood": "dark"},
                  "base": Fraction(1, 1000), "ticks": [number * 40 for number in range(12)]},
    "vp9.webm": {"codec": "libvpx-vp9", "sound": "libopus", "base": Fraction(1, 1000), "options": {"cpu-used": "8"},
                 "ticks": [number * 40 for number in range(12)]},
    "mpeg4.avi": {"codec": "mpeg4", "base": Fraction(1, 25), "ticks": list(range(12)), "sound": "mp2"},
    "stream.ts": {"base": Fraction(1, 90_000), "ticks": [number * 3600 for number in range(12)], "sound": "mp2"},
    "full.mov": {"codec": "mjpeg", "pixels": "yuvj420p", "sound": "pcm_s16le"},
    "odd.mkv": {"codec": "ffv1", "shown": list(kit.pictures(5, 35, 61)), "base": Fraction(1, 1000),
                "ticks": [number * 40 for number in range(5)]},
    "av1.mp4": {"codec": "libsvtav1", "sound": "aac", "options": {"preset": "12"},
                "shown": list(kit.pictures(12, 64, 96))},
    "hevc.mov": {"codec": "libx265", "sound": "pcm_s16le", "options": {"x265-params": "log-level=none"}},
    "turned.mp4": {"matrix": kit.turned(90), "sound": "aac"},
    "two.mkv": {"sound": "aac", "second": "ac3", "subtitles": True, "chapters": CHAPTERS, "aspect": Fraction(12, 11),
                "shown": list(kit.pictures(12, 144, 176)),
                "base": Fraction(1, 1000), "ticks": [number * 40 for number in range(12)]},
    "tags.mp4": {"chapters": CHAPTERS, "tags": {"title": "A night", "com.example.camera": "north"}},
}  # fmt: skip


def made(name: str, **more: Any) -> Path:
    return kit.write(Path(name), **(CLIPS.get(name, {}) | more))


def lit(path: Path) -> Path:
    return path.with_name(f"{path.stem}_lit{path.suffix}")


@pytest.mark.parametrize("name", CLIPS)
def test_all_is_kept(folder: Path, lowlight: Lowlight, name: str) -> None:
    """Frames, ticks, sizes, colours and shape of the video; every other packet to the byte, in the same streams."""
    clip = made(name)
    ran = lowlight("video", clip, *SAME)
    assert ran.code == 0, ran.err
    assert ran.out.split() == [str(lit(clip))]
    before, after = kit.known(clip), kit.known(lit(clip))
    assert len(after.ticks) == len(CLIPS[name].get("ticks", range(12)))
    assert after.ticks == before.ticks
    assert after.kinds == before.kinds
    assert after.packets == before.packets
    assert after.tags.items() >= before.tags.items() - {("software", before.tags.get("software"))}
    assert after.chapters == before.chapters
    assert after.duration == pytest.approx(before.duration, abs=1000)
    same = dict(before.said)
    if name == "vfr.mp4":  # counts from the first frame's decoding to the last's, which lie elsewhere
        same["length"] = after.said["length"]
    if name == "full.mov":  # the old name of yuv420p in full range
        same["pixels"], after.said["pixels"] = "yuv420p", after.said["pixels"].replace("yuvj", "yuv")
    assert after.said == same
    assert {each.name for each in folder.iterdir()} == {name, lit(clip).name}


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffprobe")
@pytest.mark.parametrize("name", CLIPS)
def test_ffprobe_sees_the_same(folder: Path, lowlight: Lowlight, name: str) -> None:
    """An independent look at frame counts, beginnings, durations, shapes, turns, chapters, and the others' bytes."""
    clip = made(name)
    assert lowlight("video", clip, *SAME).code == 0

    def probed(path: Path) -> Any:
        entries = "packet=stream_index,pts,size,data_hash:format=start_time,duration:stream_side_data=rotation:"
        entries += "chapter=start_time,end_time:stream_tags=rotate:"
        entries += "stream=codec_name,codec_type,nb_read_frames,start_time,sample_aspect_ratio"
        words = ["-show_packets", "-show_streams", "-count_frames", "-show_data_hash", "md5", "-show_entries", entries]
        found = json.loads(subprocess.check_output(["ffprobe", "-v", "error", *words, "-of", "json", str(path)]))
        video = next(i for i, stream in enumerate(found["streams"]) if stream["codec_type"] == "video")
        others = [sorted(packet.items()) for packet in found["packets"] if packet["stream_index"] != video]
        ticks = sorted(int(p.get("pts", -1)) for p in found["packets"] if p["stream_index"] == video)
        found["streams"][video].setdefault("sample_aspect_ratio", "1:1")
        length = float(found["format"].pop("duration"))
        return length, (found["streams"], found["format"], found["chapters"], sorted(others), ticks)

    (length, before), (made_length, after) = probed(clip), probed(lit(clip))
    assert after == before
    if name != "vfr.mp4":  # how long the last frame stays, MP4 does not know where frames are reordered
        assert made_length == pytest.approx(length, abs=0.03)


@pytest.mark.parametrize("said", [(1, 1, 1, 1), (6, 6, 6, 1), (9, 9, 14, 1), (1, 1, 1, 2), (5, 5, 6, 1)], ids=str)
def test_colours_by_the_matrix_that_is_said(folder: Path, lowlight: Lowlight, said: tuple[int, int, int, int]) -> None:
    """A saturated picture comes back as it was; the wrong matrix would be off by ten levels and more."""
    flat = np.zeros((32, 48, 3), np.uint8)
    flat[:, :24], flat[:, 24:] = (150, 40, 30), (30, 60, 140)
    clip = made("flat.mkv", shown=[flat] * 3, codec="ffv1", pixels="yuv444p", colours=said)
    assert lowlight("video", clip, *SAME).code == 0
    with av.open(str(lit(clip))) as after:
        context = after.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == said
    for one, other in zip(kit.shown(clip), kit.shown(lit(clip)), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_pictures_that_the_network_sees_have_their_colours(folder: Path) -> None:
    """The same RGB in BT.601 and in BT.709, limited and full, is the same picture to the network."""
    from lowlight_cli.video.streams import opened

    flat = np.zeros((32, 48, 3), np.uint8)
    flat[:, :24], flat[:, 24:] = (150, 40, 30), (30, 60, 140)
    for number, said in enumerate([(1, 1, 1, 1), (5, 5, 6, 1), (9, 9, 14, 1), (1, 1, 1, 2)]):
        path = made(f"{number}.mkv", shown=[flat], codec="ffv1", pixels="yuv444p", colours=said)
        with opened(path, path.name) as clip:
            (frame,) = clip.decoded()
        assert np.abs(frame.picture * 255 - flat).max() < 2.5


@pytest.mark.parametrize("said", [(1, 1, 1, 1), (6, 6, 6, 1), (1, 1, 1, 2)], ids=str)
def test_dark_codes_are_read_to_a_fraction_of_a_level(folder: Path, said: tuple[int, int, int, int]) -> None:
    """As ITU-T H.273 has it. FFmpeg's own RGB is up to one level darker, which a network makes four of."""
    from lowlight_cli.video.streams import opened

    path = Path("ramp.mkv")
    ramp = np.tile(np.arange(16, 80, dtype=np.uint8), (16, 1))
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 16, "yuv420p"
        stream.colorspace, stream.color_primaries, stream.color_trc, stream.color_range = said
        frame = av.VideoFrame(64, 16, "yuv420p")
        for plane, codes in zip(frame.planes, (ramp, 131, 122), strict=True):
            rows = np.empty((plane.height, plane.line_size), np.uint8)
            rows[:, : plane.width] = codes
            plane.update(rows)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with opened(path, path.name) as clip:
        (found,) = clip.decoded()
    red, blue = (0.2126, 0.0722) if said[0] == 1 else (0.299, 0.114)
    full = said[3] == 2
    luma = ramp[0] / 255 if full else (ramp[0] - 16.0) / 219
    cb, cr = ((code - 128) / (255 if full else 224) for code in (131, 122))
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    wanted = np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], 1).clip(0, 1)
    assert np.abs(found.picture - wanted).max() * 255 < 0.01


@pytest.mark.parametrize("pixels", ["rgb24", "bgr0", "gbrp", "gray", "gray10le", "gbrp10le", "gbrp12le", "rgb48le"])
def test_without_a_matrix_codes_are_kept(pixels: str) -> None:
    """RGB and grey of all depths: black is 0, white is 1, and every code comes back."""
    from lowlight_cli.video.colour import Colours, Converter

    bits = av.VideoFormat(pixels, 16, 16).components[0].bits
    codes = np.tile(np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16), (16, 1))
    picture = np.repeat((codes / (2**bits - 1)).astype(np.float32)[..., None], 3, 2)
    converter = Converter(Colours(), 256, 16)
    seen = converter.picture(converter.frame(picture, pixels))
    assert np.abs(seen - picture).max() < 1e-4
    if bits == 8:
        made = av.VideoFrame.from_ndarray((picture * 255).round().astype(np.uint8), "rgb24").reformat(format=pixels)
        if pixels != "gray":  # FFmpeg's own way to grey is not exact
            assert np.abs(converter.picture(made) - picture).max() < 1e-6


def test_a_frame_is_lit_as_its_pixels_are(folder: Path, lowlight: Lowlight, dgaf_weights: Path) -> None:
    """The same values through `Enhancer` and through `video` come out alike, to the rounding of eight bits.

    A file of 8 bits would not do: the steps of its dark gradients are smoothed first, see `banding`.
    """
    shown = list(kit.pictures(1))
    clip = made("one.mkv", shown=shown, codec="ffv1", pixels="bgr0", ticks=[0])
    ran = lowlight("video", clip, "-w", dgaf_weights, "--device", "cpu", "--precision", "fp32")
    assert ran.code == 0, ran.err
    enhancer = Enhancer("dgaf", dgaf_weights, device="cpu", precision="fp32")
    picture = enhancer.enhance_picture(shown[0].astype(np.float32) / np.float32(255)) * 255
    frame = kit.shown(lit(clip))[0].astype(float)
    assert np.abs(picture - frame).max() <= 1
    assert abs(picture.mean() - frame.mean()) < 0.1


def test_ten_bits_stay_ten(folder: Path, lowlight: Lowlight) -> None:
    """A ramp of codes that eight bits do not have comes back code by code."""
    path = Path("ramp.mkv")
    codes = np.zeros((16, 256, 3), np.uint16)
    codes[..., 0] = (np.arange(256) * 3 + 64) << 6  # luma in the upper ten bits of sixteen
    codes[..., 1:] = 512 << 6
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 16, "yuv444p10le"
        frame = av.VideoFrame.from_ndarray(codes, "yuv444p16le", channel_last=True).reformat(format="yuv444p10le")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert lowlight("video", path, *SAME).code == 0
    (before,), (after,) = (kit.shown(each, "yuv444p16le") for each in (path, lit(path)))
    assert len(np.unique(before[..., 0] >> 6)) == 256
    assert np.array_equal(before >> 6, after >> 6)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_carried_on(folder: Path, lowlight: Lowlight, degrees: int) -> None:
    clip = made("turned.mp4", matrix=kit.turned(degrees))
    assert lowlight("video", clip, *SAME).code == 0
    angles = []
    for path in (clip, lit(clip)):
        with av.open(str(path)) as opened:
            frame = next(opened.decode(video=0))
            angles.append((frame.rotation, frame.width, frame.height))
    assert angles[0] == angles[1]
    assert angles[0][0] % 360 in (90, 180, 270)


def test_rotation_where_the_container_cannot_say_it(folder: Path, lowlight: Lowlight) -> None:
    """The pictures are turned as a player would."""
    clip = made("turned.mp4", matrix=kit.turned(90), codec="mjpeg", pixels="yuvj444p")
    assert lowlight("video", clip, *SAME, "-o", "out.avi").code == 0
    with av.open(str(clip)) as opened:
        quarter = next(opened.decode(video=0)).rotation // 90
    one, other = kit.shown(clip)[0], kit.shown(Path("out.avi"))[0]
    assert other.shape == (64, 36, 3)
    assert np.abs(np.rot90(one, quarter).astype(int) - other).mean() < 2


def test_part_of_a_clip(folder: Path, lowlight: Lowlight) -> None:
    """Frames and sound from --start to --end, both counted from there."""
    shown = list(kit.pictures(75))
    clip = made("long.mp4", shown=shown, sound="aac", colours=(1, 1, 1, 1), chapters=CHAPTERS)
    ran = lowlight("video", clip, *SAME, "--start", "1.2", "--end", "0:02.0", "-o", "part.mp4", "--crf", "1")
    assert ran.code == 0, ran.err
    before, after = kit.known(clip), kit.known(Path("part.mp4"))
    assert after.ticks == tuple(tick - Fraction(6, 5) for tick in before.ticks if Fraction(6, 5) <= tick < 2)
    heard = [packet for packet in before.packets[1] if packet[0] and Fraction(6, 5) <= packet[0] < 2]
    assert [each[1:] for each in after.packets[1]] == [each[1:] for each in heard]
    shifts = {one[0] - other[0] for one, other in zip(heard, after.packets[1], strict=True) if one[0] and other[0]}
    assert shifts == {Fraction(6, 5)}
    first, wanted = kit.shown(Path("part.mp4"))[0], kit.shown(clip)[30]
    assert np.abs(first.astype(int) - wanted).mean() < 2
    assert after.chapters == ()


def test_part_that_is_none(folder: Path, lowlight: Lowlight) -> None:
    clip = made("h264.mp4")
    assert lowlight("video", clip, "--start", "3", "--end", "2").code == 2
    late = lowlight("video", clip, "--start", "30")
    assert (late.code, late.lines[0]) == (3, "error: h264.mp4: no frame from 30 s on; the clip is shorter")
    assert not lit(clip).exists()


@pytest.mark.parametrize(
    ("words", "target", "codec", "pixels"),
    [
        (("--codec", "hevc", "--crf", "30", "--preset", "ultrafast"), "out.mkv", "hevc", "yuv420p"),
        (("--codec", "vp9", "--bitrate", "300k", "--preset", "8"), "out.webm", "vp9", "yuv420p"),
        (("--codec", "av1", "--preset", "12"), "out.mp4", "av1", "yuv420p"),
        (("--codec", "prores"), "out.mov", "prores", "yuv422p10le"),
        (("--codec", "libx264", "--bitrate", "1M"), "out.ts", "h264", "yuv420p"),
        (("--codec", "mpeg4", "--crf", "5"), "out.avi", "mpeg4", "yuv420p"),
        (("--codec", "mjpeg"), "out.mov", "mjpeg", "yuvj420p"),
        ((), "out.webm", "vp9", "yuv420p"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_codecs(folder: Path, lowlight: Lowlight, words: tuple[str, ...], target: str, codec: str, pixels: str) -> None:
    clip = made("h264.mp4", sound="")
    ran = lowlight("video", clip, *SAME, "-o", target, *words)
    assert ran.code == 0, ran.err
    with av.open(target) as after:
        context = after.streams.video[0].codec_context
        assert (context.codec.canonical_name, context.pix_fmt) == (codec, pixels)
        assert sum(1 for _ in after.decode(video=0)) == 12
    for one, other in zip(kit.shown(clip), kit.shown(Path(target)), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 4


def test_what_the_encoder_cannot_do(folder: Path, lowlight: Lowlight) -> None:
    clip = made("h264.mp4")
    for words, code, told in (
        (("--codec", "nosuch"), 2, "no encoder 'nosuch': there are h264, hevc"),
        (("--codec", "ffv1", "--crf", "3"), 2, "ffv1 has no --crf"),
        (("--codec", "h264", "--crf", "60"), 2, "--crf 60 is out of range for libx264; choose 0 to 51"),
        (("--crf", "3", "--bitrate", "1M"), 2, "--crf and --bitrate exclude each other"),
        (("--codec", "h264", "-o", "out.webm"), 4, "webm cannot hold what libx264 writes"),
        (("--codec", "h264", "--preset", "gently"), 6, "the encoder libx264 does not work here"),
        (("--temporal", "much"), 2, "no smoothing 'much': there are off, on, strong"),
    ):
        ran = lowlight("video", clip, *words)
        assert (ran.code, len(ran.lines)) == (code, 1), ran.err
        assert told in ran.err
    assert sorted(each.name for each in folder.iterdir()) == ["h264.mp4"]


def test_streams_that_the_container_cannot_hold(folder: Path, lowlight: Lowlight) -> None:
    """They are left out, and it is said."""
    clip = made("texts.mkv")
    ran = lowlight("video", clip, *SAME, "-o", "out.webm")
    assert ran.code == 0, ran.err
    assert "webm cannot hold stream 1 (audio, aac): left out" in ran.err
    assert kit.known(Path("out.webm")).kinds[0] == "video"


def test_odd_sides(folder: Path, lowlight: Lowlight) -> None:
    clip = made("odd.mkv")
    ran = lowlight("video", clip, *SAME, "--codec", "h264")
    assert ran.code == 0, ran.err
    assert "61x35 has an odd side" in ran.err
    assert kit.known(lit(clip)).said["size"] == (61, 35)


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1", "ffv1", "mjpeg"])
@pytest.mark.parametrize("target", ["out.mkv", "out.webm"])
def test_the_shape_of_pixels_in_matroska(folder: Path, lowlight: Lowlight, codec: str, target: str) -> None:
    """In whichever codec, by the words of the container; read by FFmpeg and, where there is one, by ffprobe."""
    if target == "out.webm" and codec not in ("vp9", "av1"):
        pytest.skip("WebM holds VP9 and AV1 alone")
    clip = made("wide.mov", sound="", shown=list(kit.pictures(3, 96, 320)))
    ran = lowlight("video", clip, *SAME, "-o", target, "--codec", codec)
    assert ran.code == 0, ran.err
    with av.open(target) as after:
        video = after.streams.video[0]
        assert video.sample_aspect_ratio == Fraction(4, 3)
        assert "stereo_mode" not in video.metadata
        assert sum(1 for _ in after.decode(video)) == 3
    if shutil.which("ffprobe"):
        words = ["ffprobe", "-v", "error", "-show_entries", "stream=sample_aspect_ratio:stream_side_data", "-of", "csv"]
        assert subprocess.check_output([*words, target], text=True).strip() == "stream,4:3"


@pytest.mark.parametrize(
    ("tags", "target", "covers", "told"),
    [
        ({"title": "A night"}, "out.mp4", 1, ""),
        ({"location": "+52.5200+013.4050/"}, "out.mp4", 1, ""),
        ({"com.example.camera": "north"}, "out.mp4", 1, "mp4 holds a cover or unusual tags, not both: left out COM.EX"),
        ({"com.example.camera": "north"}, "out.mov", 0, "mov cannot hold stream 1 (cover): left out"),
    ],
)  # fmt: skip
def test_covers(folder: Path, lowlight: Lowlight, tags: dict[str, str], target: str, covers: int, told: str) -> None:
    """What cannot be written beside it, or it itself, is told."""
    picture = encode(Photo(np.zeros((16, 16, 3), np.float32), depth=8, name="cover"), format="png")
    with av.open(str(made("plain.mp4"))) as clip, av.open("clip.mkv", "w") as out:
        out.metadata.update(tags)
        copy: Any = out.add_stream_from_template(clip.streams.video[0])
        out.add_attachment("cover.png", "image/png", picture)
        for packet in clip.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    ran = lowlight("video", "clip.mkv", *SAME, "-o", target)
    assert ran.code == 0, ran.err
    assert told in ran.err and ("left out" in ran.err) == bool(told)
    with av.open(target) as after:
        found = [each for each in after.streams.video if each.disposition & av.stream.Disposition.attached_pic]
        assert len(found) == covers
        kept = {key.lower(): value for key, value in after.metadata.items()}  # Matroska writes all in capitals
        assert (kept.items() >= tags.items()) == ("unusual tags" not in told)


def test_hdr_is_refused(folder: Path, lowlight: Lowlight) -> None:
    clip = made("hdr.mkv", codec="ffv1", pixels="yuv420p10le", colours=(9, 9, 16, 1))
    ran = lowlight("video", clip)
    wanted = "is HDR (PQ): make an SDR clip of it first, by ffmpeg -i hdr.mkv -c:v libx265"
    assert (ran.code, len(ran.lines)) == (3, 1) and f"error: hdr.mkv: {wanted}" in ran.err
    assert TONED.replace("\n", "") in (Path(__file__).parents[1] / "docs" / "video.md").read_text().replace("\\\n", "")


def test_decoding_ticks() -> None:
    """Rising, never later than the frame is shown, whatever the order and the gaps."""
    for shown in ([0, 1, 2, 3], [0, 4, 2, 1, 3, 8, 6, 5, 7], [10, 70, 30, 20], [5]):
        ticks = decoding_ticks(shown)
        assert all(one < other for one, other in itertools.pairwise(ticks))
        assert all(tick <= when for tick, when in zip(ticks, shown, strict=True))
