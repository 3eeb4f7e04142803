"""Clips through pipes, and the sheet to look at first."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran, environment, program
from PIL import Image

from lowlight_cli import errors
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import OutputError, ResourceError
from lowlight_cli.video.making import Making
from lowlight_cli.video.pipes import enhance_to_pipe

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")


def stream(name: str, count: int = 5, **more: Any) -> Path:
    ticks = list(range(count))
    return kit.write(Path(name), kit.pictures(count), codec="rawvideo", base=Fraction(1, 25), ticks=ticks, **more)


def piped(weights: Path, data: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    line = program(["video", *words, "--strength", "0"])
    return subprocess.run(line, input=data, capture_output=True, env=environment(weights), check=False, timeout=120)


def test_between_two_pipes(folder: Path, dgaf_weights: Path) -> None:
    """YUV4MPEG2 in and out, the frames as they were, ten bits too; stdout has nothing else."""
    for pixels in ("yuv420p", "yuv422p10le"):
        clip = stream("in.y4m", pixels=pixels, options={"strict": "-1"}) if pixels == "yuv420p" else ten("in.y4m")
        done = piped(dgaf_weights, clip.read_bytes(), "-", "-o", "-")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(b"YUV4MPEG2 W64 H36 F25:1")
        Path("out.y4m").write_bytes(done.stdout)
        one, other = kit.shown(clip), kit.shown(Path("out.y4m"))
        assert len(one) == len(other) == 5
        assert all(np.abs(a.astype(int) - b).mean() < 1 for a, b in zip(one, other, strict=True))


def ten(name: str) -> Path:
    """The same in ten bits."""
    with av.open(name, "w", options={"strict": "-1"}) as out:
        video: Any = out.add_stream("rawvideo", rate=25)
        video.width, video.height, video.pix_fmt = 64, 36, "yuv422p10le"
        for number, picture in enumerate(kit.pictures(5)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv422p10le")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return Path(name)


def test_the_rate_of_a_file_in_a_pipe(folder: Path, dgaf_weights: Path) -> None:
    """It is that of the frames, not the clock of the file."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(5))
    done = piped(dgaf_weights, b"", str(clip), "-o", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"YUV4MPEG2 W64 H36 F25:1 ")
    Path("out.y4m").write_bytes(done.stdout)
    assert kit.known(Path("out.y4m")).ticks == kit.known(clip).ticks


def test_from_a_pipe_to_a_file(folder: Path, dgaf_weights: Path) -> None:
    clip = stream("in.y4m")
    done = piped(dgaf_weights, clip.read_bytes(), "-", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert len(kit.shown(Path("out.mp4"))) == 5


def test_an_index_at_the_end_of_a_pipe(folder: Path, dgaf_weights: Path) -> None:
    """What is before it has gone by when it comes: the message says what to do. In front, it does no harm."""
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 60, (240, 320, 3), np.uint8) for _ in range(12)]
    clip = kit.write(Path("clip.mp4"), frames, options={"crf": "10"})
    done = piped(dgaf_weights, clip.read_bytes(), "-", "-o", "out.mp4")
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert "its index stands at its end" in line and "name the file" in line and "-movflags +faststart" in line
    assert not Path("out.mp4").exists()
    assert piped(dgaf_weights, b"", str(clip), "-o", "first.mp4").returncode == 0
    done = piped(dgaf_weights, Path("first.mp4").read_bytes(), "-", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert len(kit.shown(Path("out.mp4"))) == 12


def test_json_and_the_clip_do_not_share_stdout(folder: Path, lowlight: Lowlight) -> None:
    ran = lowlight("video", stream("in.y4m"), "-o", "-", "--json")
    assert (ran.code, ran.out.count("YUV4MPEG2")) == (2, 0)


def test_preview(folder: Path, lowlight: Lowlight) -> None:
    """A sheet of pairs, the result of each brighter, and no clip."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(30))
    ran = lowlight("video", clip, "--preview", "3", "--precision", "fp32")
    assert ran.code == 0, ran.err
    assert ran.out.split() == ["clip_lit.jpg"]
    with Image.open("clip_lit.jpg") as sheet:
        assert sheet.width > 2 * 64
        assert sheet.height > 3 * 36
        pixels = np.asarray(sheet.convert("RGB"), float)
    half = pixels.shape[1] // 2
    assert pixels[:, half:].mean() > pixels[:, :half].mean() + 10
    assert sorted(each.name for each in folder.iterdir()) == ["clip.mp4", "clip_lit.jpg"]
    assert lowlight("video", "-", "--preview", "3", "-o", "sheet.jpg").code == 2


@pytest.mark.parametrize("count", [1, 8, 40])
def test_a_preview_of_few_frames(folder: Path, lowlight: Lowlight, count: int) -> None:
    """As many pairs as were asked for, however few frames there are, at whatever rate, and from the end of a part."""
    kit.write(Path("clip.mp4"), kit.pictures(12))
    kit.write(Path("film.mp4"), kit.pictures(12), base=Fraction(1, 30000), ticks=[1001 * at for at in range(12)])
    assert lowlight("video", "clip.mp4", "-o", "row/%02d.png", "--end", "0.4", "--strength", "0").code == 0
    for words in (("clip.mp4",), ("film.mp4",), ("row",), ("clip.mp4", "--start", "0.4"), ("row", "--start", "0.3")):
        ran = lowlight("video", *words, "--preview", str(count), "-o", "sheet.png", "--exist", "overwrite", *SAME)
        assert ran.code == 0, ran.err
        with Image.open("sheet.png") as sheet:
            assert sheet.height > (-(-count // 2) if count > 3 else count) * 36
    late = lowlight("video", "clip.mp4", "--start", "0.6", "--preview", str(count))
    assert (late.code, late.lines) == (3, ["error: clip.mp4: no frame from 0.6 s on; the clip is shorter"])


def test_a_preview_of_a_clip_whose_sound_is_longer(folder: Path, lowlight: Lowlight) -> None:
    """Its frames are from all over the picture, as if there were no sound."""
    for name, more in (("plain.mkv", {}), ("long.mkv", {"sound": "ac3", "sound_after": 3.0})):
        kit.write(Path(name), kit.pictures(25), base=Fraction(1, 1000), ticks=list(range(0, 1000, 40)), **more)
        ran = lowlight("video", name, "--preview", "6", "-o", f"{name}.png", *SAME)
        assert ran.code == 0, ran.err
    with Image.open("plain.mkv.png") as one, Image.open("long.mkv.png") as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))


def sheet(lowlight: Lowlight, clip: Path, count: int, *words: str) -> Any:
    """The sheet of a clip, as pixels."""
    ran = lowlight("video", clip, "--preview", str(count), "-o", "sheet.png", "--exist", "overwrite", *SAME, *words)
    assert ran.code == 0, ran.err
    with Image.open("sheet.png") as made:
        return np.asarray(made)


def test_a_preview_of_a_clip_of_unknown_length(folder: Path, lowlight: Lowlight) -> None:
    """As of the same clip in a container that states it: a recording that crashed or was piped, a raw stream."""
    ticks = list(range(0, 1000, 40))
    known = kit.write(Path("known.mkv"), kit.pictures(25), base=Fraction(1, 1000), ticks=ticks)
    wanted = sheet(lowlight, known, 4)
    with av.open(str(known)) as clip, av.open("raw.h264", "w") as raw, Path("piped.mkv").open("wb") as file:
        pipe = SimpleNamespace(write=file.write)  # it cannot go back to state the length
        with av.open(pipe, "w", format="matroska") as piped:
            copies = [out.add_stream_from_template(clip.streams.video[0]) for out in (raw, piped)]
            for packet in clip.demux():
                pts, dts = packet.pts, packet.dts
                for copy, out in zip(copies, (raw, piped), strict=True):
                    if packet.size:
                        packet.stream, packet.pts, packet.dts = copy, pts, dts
                        packet.time_base = Fraction(1, 1000)
                        out.mux(packet)
    for name in ("piped.mkv", "raw.h264"):
        with av.open(name) as clip:
            assert not clip.duration
        assert np.array_equal(sheet(lowlight, Path(name), 4), wanted)
        assert np.array_equal(sheet(lowlight, Path(name), 3, "--end", "0.5"), sheet(lowlight, known, 3, "--end", "0.5"))


@pytest.mark.parametrize("name", ["clip.flv", "clip.avi", "clip.wmv", "clip.mov", "clip.ts", "clip.mpg"])
def test_a_preview_in_any_container(folder: Path, lowlight: Lowlight, name: str) -> None:
    """Whether or not it finds a moment, and although its sound is longer: the last of three is from five sixths on."""
    codec = "mpeg2video" if name == "clip.mpg" else "libx264"
    base = Fraction(1, 1000) if name in ("clip.flv", "clip.wmv") else Fraction(1, 25)
    ticks = [round(number / 25 / base) for number in range(50)]
    more: dict[str, Any] = {"sound": "aac" if name in ("clip.flv", "clip.mov") else "mp2", "sound_after": 2.0}
    clip = kit.write(Path(name), kit.pictures(50), codec=codec, base=base, ticks=ticks, **more)
    last = sheet(lowlight, clip, 3)[-52:, :80].astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(last, (36, 64, 3))
    near = [np.abs(windows - frame).mean((-1, -2, -3)).min() for frame in kit.shown(clip)]
    assert abs(int(np.argmin(near)) - 42) <= 1


def test_a_preview_of_a_clip_whose_last_packet_is_damaged(folder: Path, lowlight: Lowlight) -> None:
    """The frame before it is shown again."""
    clip = kit.write(Path("clip.avi"), kit.pictures(12), codec="mpeg4", base=Fraction(1, 25), ticks=range(12))
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as source:
        *_, packet = (bytes(each) for each in source.demux() if each.size)
    at = data.rindex(packet)
    data[at : at + len(packet)] = bytes(len(packet))
    clip.write_bytes(data)
    assert sheet(lowlight, clip, 40).shape[0] > 20 * 36


def test_preview_writes_pictures_alone(folder: Path, lowlight: Lowlight) -> None:
    """Never over the clip or a frame of it, whatever `--exist` says; folders are made, as elsewhere."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(3))
    before = clip.read_bytes()
    for name in ("clip.mp4", "other.mp4", "sheet.xyz"):
        ran = lowlight("video", clip, "--preview", "1", "-o", name, "--exist", "overwrite")
        assert (ran.code, len(ran.lines)) == (2, 1)
        assert f"-o {name} names none" in ran.err
    assert clip.read_bytes() == before
    assert sorted(each.name for each in folder.iterdir()) == ["clip.mp4"]
    assert lowlight("video", clip, "--preview", "1", "-o", "new/sheet.png").out == f"{Path('new/sheet.png')}\n"
    assert lowlight("video", clip, "--preview", "1", "-o", "new").out == f"{Path('new/clip_lit.jpg')}\n"
    assert lowlight("video", clip, "-o", "frames/%05d.png", "--strength", "0").code == 0
    frame = Path("frames/00002.png").read_bytes()
    ran = lowlight("video", "frames", "--preview", "1", "-o", "frames/00002.png", "--exist", "overwrite")
    assert (ran.code, "is one of the frames" in ran.err) == (2, True)
    assert Path("frames/00002.png").read_bytes() == frame


def test_preview_as_json(folder: Path, lowlight: Lowlight) -> None:
    ran = lowlight("video", kit.write(Path("clip.mp4"), kit.pictures(3)), "--preview", "1", "--json")
    event, summary = (json.loads(line) for line in ran.out.splitlines())
    assert (event["event"], event["output"], event["status"]) == ("clip", "clip_lit.jpg", "done")
    assert (summary["event"], summary["done"]) == ("summary", 1)


def test_side_by_side(folder: Path, lowlight: Lowlight) -> None:
    clip = kit.write(Path("clip.mp4"), kit.pictures(6), sound="aac")
    ran = lowlight("video", clip, "--compare", "--precision", "fp32")
    assert ran.code == 0, ran.err
    before, after = kit.known(clip), kit.known(Path("clip_lit.mp4"))
    assert (after.ticks, after.packets) == (before.ticks, before.packets)
    frame = kit.shown(Path("clip_lit.mp4"))[0].astype(float)
    half = frame.shape[1] // 2
    assert frame.shape[1] > 2 * 64
    assert frame[:, half:].mean() > frame[:, :half].mean() + 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout(folder: Path, dgaf_weights: Path) -> None:
    line = program(["video", str(stream("in.y4m")), "-o", "-", "--strength", "0"])
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, env=environment(dgaf_weights), check=False, timeout=120
        )
    assert done.returncode == 7
    assert b"is full" in done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_used_up_quota_is_a_full_disk(folder: Path, dgaf_weights: Path, number: int) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _: object) -> int:
            raise OSError(number, os.strerror(number))

    enhancer = Enhancer(weights=dgaf_weights, strength=0)
    with pytest.raises(ResourceError, match="standard output: the disk is full"):
        enhance_to_pipe(enhancer, stream("in.y4m"), cast("BinaryIO", Full()), Making())


@pytest.mark.parametrize(("system", "error"), [("nt", BrokenPipeError), ("posix", OutputError)])
def test_a_reader_that_is_gone_on_windows(
    folder: Path, dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch, system: str, error: type[Exception]
) -> None:
    class Gone(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _: object) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(errors, "os", SimpleNamespace(name=system))
    enhancer = Enhancer(weights=dgaf_weights, strength=0)
    with pytest.raises(error):
        enhance_to_pipe(enhancer, stream("in.y4m"), cast("BinaryIO", Gone()), Making())


@pytest.mark.parametrize(
    ("name", "hint"), [("photo.jpg", "lowlight enhance"), ("clip.dat", "suffix"), ("clip", "suffix")]
)
def test_a_name_that_is_no_clips_wants_another(folder: Path, lowlight: Lowlight, name: str, hint: str) -> None:
    stream("in.y4m").rename(name)
    ran = lowlight("video", name)
    assert ran.code == 2
    assert hint in ran.err and "-o night.mp4" in ran.err
    if name != "photo.jpg":
        assert lowlight("video", name, "-o", "out.mp4", *SAME).code == 0
