"""Clips from strangers: they name no other file, reach no address, and take no more memory than a frame needs."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran, environment, program
from PIL import Image

from lowlight_cli.errors import InputError
from lowlight_cli.video.formats import CONTAINERS
from lowlight_cli.video.opening import MAX_PIXELS
from lowlight_cli.video.streams import opened

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{at}\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50004 RTP/AVP 96\na=rtpmap:96 VP8/90000\n"


def secret(name: str) -> Path:
    ticks = [number * 3600 for number in range(12)]
    return kit.write(Path(name), kit.pictures(12), base=Fraction(1, 90_000), ticks=ticks)


def jpeg(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (width, height), 40).save(data, "JPEG")
    return data.getvalue()


def moving(path: Path, shown: Sequence[bytes], width: int, height: int) -> Path:
    """A clip of JPEGs; its header states this size."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = width, height, "yuvj420p"
        for number, data in enumerate(shown):
            packet = av.Packet(data)
            packet.stream, packet.time_base = video, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chain.mp4", "ffconcat version 1.0\nfile secret.ts\n"),
        ("chain.mp4", "ffconcat version 1.0\nfile list.m3u8\n"),
        ("chain.mp4", "ffconcat version 1.0\nfile near.jpg\n"),
        ("list.m3u8", PLAYLIST),
        ("note.nfo", "a private line\n" * 40),
        ("call.sdp", SDP),
    ],
)
def test_a_file_shows_no_other_file(folder: Path, lowlight: Lowlight, name: str, text: str) -> None:
    """Nor a text, and it opens no socket: one line, and nothing is written."""
    at = secret("secret.ts").absolute().as_uri()
    Path("near.jpg").write_bytes(jpeg(64, 48))
    Path("list.m3u8").write_text(PLAYLIST.format(at=at))
    Path(name).write_text(text.format(at=at))
    ran = lowlight("video", name, "-o", "out.mkv", *SAME)
    assert (ran.code, len(ran.lines)) == (3, 1), ran.err
    assert f"{name}: is not a clip that can be read" in ran.err
    assert not Path("out.mkv").exists()


@pytest.mark.parametrize("text", [SDP, PLAYLIST.format(at="http://127.0.0.1:1/x.ts"), "ffconcat version 1.0\nfile a\n"])
def test_nor_does_a_pipe(folder: Path, dgaf_weights: Path, text: str) -> None:
    line = program(["video", "-", "-o", "out.mkv", *SAME])
    done = subprocess.run(
        line, input=text.encode(), capture_output=True, env=environment(dgaf_weights), check=False, timeout=120
    )
    told = done.stderr.decode().splitlines()
    assert (done.returncode, len(told)) == (3, 1), done.stderr
    assert "standard input: is not a clip that can be read" in told[0]


PLAIN = {
    **dict.fromkeys(CONTAINERS.values(), "mpeg4"), "webm": "libvpx-vp9", "mpeg": "mpeg2video", "flv": "flv",
    "yuv4mpegpipe": "rawvideo", "ogg": "libvpx", "mxf": "mpeg2video", "nut": "ffv1", "gif": "gif", "apng": "apng",
    "ivf": "libvpx-vp9", "h264": "libx264", "hevc": "libx265", "m4v": "mpeg4", "mpeg2video": "mpeg2video",
    "mjpeg": "mjpeg", "rm": "rv10", "swf": "flv", "obu": "libsvtav1", "h263": "h263", "smjpeg": "mjpeg",
}  # fmt: skip
"""Containers, and streams without one, by FFmpeg's name of the writer, and a codec that each holds."""


@pytest.mark.parametrize("container", PLAIN)
def test_what_holds_its_own_pictures_opens(folder: Path, container: str) -> None:
    """From a file of whatever name, and from a pipe."""
    codec = PLAIN[container]
    try:
        made = av.open("clip.bin", "w", format=container)
        video: Any = made.add_stream(codec, rate=25)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"cannot be written here: {error}")
    with made:
        pixels = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        video.width, video.height, video.pix_fmt = 176, 144, pixels
        for number, picture in enumerate(kit.pictures(25, 144, 176)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
    with opened(Path("clip.bin"), "clip.bin") as clip:
        assert (clip.width, clip.height) == (176, 144)
    with Path("clip.bin").open("rb") as pipe, opened(pipe, "standard input") as clip:
        assert (clip.width, clip.height) == (176, 144)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM"])
def test_pictures_through_a_pipe(folder: Path, kind: str) -> None:
    """As `ffmpeg -f image2pipe` writes them."""
    data = io.BytesIO()
    Image.fromarray(next(kit.pictures(1, 36, 64))).save(data, kind)
    with opened(io.BytesIO(data.getvalue()), "standard input") as clip:
        assert (clip.width, clip.height) == (64, 36)


@pytest.mark.parametrize("how", ["--offline", "LOWLIGHT_OFFLINE"])
def test_offline_opens_no_address(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:  # fmt: skip
    words = ("--offline",) if how == "--offline" else ()
    if not words:
        monkeypatch.setenv(how, "1")
    ran = lowlight("video", "http://me:pass@127.0.0.1:1/night.mp4", *SAME, *words)
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert "http://127.0.0.1:1/night.mp4 is an address" in ran.err
    clip = kit.write(Path("night.mp4"), kit.pictures(2))
    for source in (clip, clip.absolute().as_uri()):
        ran = lowlight("video", source, *SAME, *words, "--exist", "overwrite")
        assert ran.code == 0, ran.err
    assert lowlight("video", "/dev/video99", "-o", "out.mp4", *words).code == 3  # a camera is no network


def test_offline_for_models_alone_reaches_addresses(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert lowlight("video", "http://127.0.0.1:1/night.mp4", *SAME).code == 3  # nobody answers there


def test_frames_of_too_many_pixels(folder: Path, lowlight: Lowlight) -> None:
    """They are refused before any is decoded, whatever the header states; those of 12K are not."""
    big = jpeg(12_000, 9_000)
    for width, height in ((12_000, 9_000), (64, 48)):
        moving(Path("big.mkv"), [big] * 3, width, height)
        ran = lowlight("video", "big.mkv", *SAME)
        assert (ran.code, len(ran.lines)) == (3, 1), ran.err
        assert "big.mkv: frames of 12000 x 9000 (108 megapixels, at most 100 are read)" in ran.err
    assert MAX_PIXELS > 12_288 * 6_480
    with opened(moving(Path("twelve.mkv"), [jpeg(12_288, 6_480)] * 2, 12_288, 6_480), "twelve.mkv") as clip:
        assert (clip.width, clip.height) == (12_288, 6_480)


def test_frames_that_grow(folder: Path) -> None:
    """A later one of too many pixels counts as damaged: the one before is shown again."""
    small, big = jpeg(64, 48), jpeg(12_000, 9_000)
    clip = moving(Path("grown.mkv"), [small] * 4 + [big] * 2 + [small] * 4, 64, 48)
    with opened(clip, "grown.mkv") as film:
        shown = [frame.picture for frame in film.decoded()]
    assert len(shown) == 10 and all(np.array_equal(shown[0], each) for each in shown)
    assert film.repeated == 2


def test_a_file_object_of_too_many_pixels(folder: Path) -> None:
    clip = moving(Path("big.mkv"), [jpeg(12_000, 9_000)] * 2, 12_000, 9_000)
    with clip.open("rb") as pipe, pytest.raises(InputError, match="108 megapixels"):
        opened(pipe, "standard input")
