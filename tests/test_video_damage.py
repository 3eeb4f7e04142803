"""Damaged and odd clips, full disks, interruptions: a line each, the right exit code, and nothing half-written."""

from __future__ import annotations

import _thread
import errno
import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran, environment, program
from test_video_resume import crashed

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")
MS = Fraction(1, 1000)


def matroska(count: int, name: str = "clip.mkv", **more: object) -> Path:
    ticks = [number * 40 for number in range(count)]
    options = {"g": "10", "bf": "0"}
    return kit.write(Path(name), kit.pictures(count), base=MS, ticks=ticks, options=options, **more)  # type: ignore[arg-type]


def spoilt(clip: Path, target: Path, bad: set[int]) -> Path:
    """A copy of a clip in which the contents of some video packets are noise."""
    noise = random.Random(0)
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        number = 0
        for packet in source.demux():
            if not packet.size:
                continue
            index = packet.stream.index
            if source.streams[index].type == "video":
                if number in bad:
                    broken = av.Packet(noise.randbytes(packet.size))
                    broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                    broken.duration = packet.duration
                    packet = broken
                number += 1
            packet.stream = copies[index]
            out.mux(packet)
    return target


def test_damaged_packets_are_filled(folder: Path, lowlight: Lowlight) -> None:
    """As many frames, at the same ticks; where one cannot be read, the one before stands."""
    clip = matroska(40, sound="ac3")
    broken = spoilt(clip, Path("broken.mkv"), {13, 14, 15, 30})
    ran = lowlight("video", broken, *SAME)
    assert ran.code == 0, ran.err
    assert "damaged frames could not be read: the frame before is shown again" in ran.err
    after = kit.known(Path("broken_lit.mkv"))
    assert after.ticks == kit.known(clip).ticks
    assert after.packets == kit.known(clip).packets
    shown = kit.shown(Path("broken_lit.mkv"))
    assert all(np.abs(shown[number].astype(int) - shown[12]).mean() < 1 for number in (13, 14, 15))


def test_damage_at_the_end(folder: Path, lowlight: Lowlight) -> None:
    clip = spoilt(matroska(20), Path("broken.mkv"), {18, 19})
    ran = lowlight("video", clip, *SAME, "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["repeated"]) == (20, 2)


def test_cut_short(folder: Path, lowlight: Lowlight) -> None:
    """What can be read is enhanced; the header's promise is said."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(60), options={"g": "10"}, sound="aac")
    data = clip.read_bytes()
    front = bytearray()
    with av.open(str(clip)) as source, av.open("front.mp4", "w", options={"movflags": "faststart"}) as out:
        copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    front += Path("front.mp4").read_bytes()
    Path("short.mp4").write_bytes(front[: len(data) * 2 // 3])
    ran = lowlight("video", "short.mp4", *SAME)
    assert ran.code == 0, ran.err
    assert "cut short: the header promises 60 frames" in ran.err
    count = len(kit.shown(Path("short_lit.mp4")))
    assert 20 < count < 60


@pytest.mark.parametrize(
    "more", [{}, {"sound": "ac3"}, {"sound": "ac3", "subtitles": True}], ids=lambda more: " ".join(more)
)
def test_matroska_cut_short(folder: Path, lowlight: Lowlight, more: dict[str, Any]) -> None:
    """It states lengths, not numbers of frames; a clip whose sound is longer than its picture is not cut short."""
    whole = matroska(60, **more)
    Path("short.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ran = lowlight("video", "short.mkv", *SAME)
    assert ran.code == 0, ran.err
    count = len(kit.shown(Path("short_lit.mkv")))
    assert f"cut short: the header promises 2.40 s, the picture ends at {count / 25:.2f} s" in ran.err
    assert "cut short" not in lowlight("video", whole, *SAME).err
    if "sound" in more:
        assert "cut short" not in lowlight("video", matroska(60, "long.mkv", sound_after=3.0, **more), *SAME).err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a clip that can be read"),
        (b"no clip at all" * 100, "is not a clip that can be read"),
        (None, "no such file"),
    ],
)
def test_no_clip(folder: Path, lowlight: Lowlight, content: bytes | None, told: str) -> None:
    if content is not None:
        Path("clip.mp4").write_bytes(content)
    ran = lowlight("video", "clip.mp4")
    assert (ran.code, len(ran.lines)) == (3, 1)
    assert told in ran.err
    assert not list(folder.glob(".lowlight*"))


def test_sound_alone(folder: Path, lowlight: Lowlight) -> None:
    with av.open("song.mp4", "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    ran = lowlight("video", "song.mp4")
    assert (ran.code, ran.lines) == (3, ["error: song.mp4: has no video, only audio"])


def test_no_frame_at_all(folder: Path, lowlight: Lowlight) -> None:
    clip = spoilt(matroska(5), Path("broken.mkv"), set(range(5)))
    ran = lowlight("video", clip)
    assert (ran.code, len(ran.lines)) == (3, 1)
    assert "no frame of its video can be decoded" in ran.err or "nothing here decodes" in ran.err


def test_another_size_in_the_middle(folder: Path, lowlight: Lowlight) -> None:
    """The first size holds."""
    one = kit.write(Path("one.ts"), kit.pictures(10), base=Fraction(1, 90_000), ticks=[i * 3600 for i in range(10)])
    other = kit.write(
        Path("other.ts"), kit.pictures(10, 48, 80), base=Fraction(1, 90_000), ticks=[(10 + i) * 3600 for i in range(10)]
    )
    Path("both.ts").write_bytes(one.read_bytes() + other.read_bytes())
    ran = lowlight("video", "both.ts", *SAME)
    assert ran.code == 0, ran.err
    assert "the size changes to 80x48" in ran.err
    assert {each.shape for each in kit.shown(Path("both_lit.ts"))} == {(36, 64, 3)}
    assert len(kit.shown(Path("both_lit.ts"))) == len(kit.shown(Path("both.ts")))


def test_sound_that_begins_in_the_middle(folder: Path, lowlight: Lowlight) -> None:
    """Of a broadcast, behind all that FFmpeg looks at before: the clip is whole but for it, and that is said."""
    noise = np.random.default_rng(0)
    shown = {
        "one.ts": list(kit.pictures(200, 120, 160)),
        "two.ts": list(kit.pictures(5, 120, 160)),
        "three.ts": [noise.integers(0, 60, (120, 160, 3), np.uint8) for _ in range(30)],
    }
    whole, begin = b"", 0
    for name, frames in shown.items():
        ticks = [(begin + number) * 3600 for number in range(len(frames))]
        more: dict[str, Any] = {"options": {"crf": "10", "bf": "0"}, "sound": "mp2" if name == "two.ts" else ""}
        whole += kit.write(Path(name), frames, base=Fraction(1, 90_000), ticks=ticks, **more).read_bytes()
        begin += len(frames)
    Path("clip.ts").write_bytes(whole)
    ran = lowlight("video", "clip.ts", *SAME, "-o", "lit.mp4")
    assert ran.code == 0, ran.err
    assert "a stream begins in the middle: left out" in ran.err
    assert len(kit.shown(Path("lit.mp4"))) == begin


def test_part_folder_cannot_be_made(folder: Path, lowlight: Lowlight) -> None:
    clip = matroska(3)
    ran = lowlight("video", clip, *SAME, "-o", "nowhere/at/all/lit.mkv")
    assert ran.code == 0, ran.err
    Path("file").write_bytes(b"")
    ran = lowlight("video", clip, *SAME, "-o", "file/lit.mkv")
    assert (ran.code, len(ran.lines)) == (4, 1)


def test_a_full_disk(folder: Path, dgaf_weights: Path) -> None:
    """As a limit of the file size: one line, 7, nothing under the final name."""
    clip = matroska(40)
    noise = np.random.default_rng(0)
    shown = [noise.integers(0, 60, (128, 128, 3), np.uint8) for _ in range(30)]
    clip = kit.write(Path("noise.mkv"), shown, base=MS, ticks=[number * 40 for number in range(30)], codec="ffv1")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    words = program(["video", clip, *SAME])
    words[2] = limit + words[2]
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment(dgaf_weights), check=False, timeout=120
    )
    assert done.returncode in (4, 7), done.stderr
    assert "cannot be written" in done.stderr or "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("noise_lit.mkv").exists()
    assert not list(folder.glob("*partial*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_written_to_the_disk_as_windows_wants_it(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, only what is open for writing can be made safe."""
    real = os.fsync

    def strict(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", strict)
    ran = lowlight("video", matroska(3), *SAME)
    assert ran.code == 0, ran.err


def test_interrupted_and_resumed(folder: Path, dgaf_weights: Path, lowlight: Lowlight) -> None:
    """Ctrl-C leaves a clip that plays, with its sound; --resume makes the whole, as if nothing had been."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(400, 72, 128), sound="aac")
    words = ["video", str(clip), "--precision", "fp32", "--crf", "12"]
    run = subprocess.Popen(
        program(words), env=environment(dgaf_weights), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    parts = folder / ".lowlight-clip_lit.mp4.parts"
    deadline = time.monotonic() + 60
    while not (parts / "00000.data").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130, told
    assert "clip_lit.partial.mp4; the same command with --resume goes on" in told
    assert not Path("clip_lit.mp4").exists()
    partial = kit.known(Path("clip_lit.partial.mp4"))
    assert 0 < len(partial.ticks) < 400
    ((sound, heard),) = partial.packets.items()
    assert heard and heard == kit.known(clip).packets[sound][: len(heard)]
    ran = lowlight(*words, "--resume", "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["resumed"]) == (400, len(partial.ticks))
    assert kit.known(Path("clip_lit.mp4")).ticks == kit.known(clip).ticks
    assert lowlight(*words, "-o", "whole.mp4").code == 0
    for one, other in zip(kit.shown(Path("clip_lit.mp4")), kit.shown(Path("whole.mp4")), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1.5
    assert not parts.exists()
    assert not Path("clip_lit.partial.mp4").exists()


def test_an_interruption_loses_no_frame(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a frame is between the encoder and the disk: once in a dozen, that one was missing."""
    from lowlight_cli.video.encode import Encoder

    clip = kit.write(Path("clip.mp4"), kit.pictures(90))
    packed, given = Encoder._packed, []

    def interrupted(self: Encoder, packets: list[Any]) -> Any:
        for each in packed(self, packets):
            given.append(each)
            if len(given) == 10:
                _thread.interrupt_main()
                time.sleep(0.1)
            yield each

    with monkeypatch.context() as once:
        once.setattr(Encoder, "_packed", interrupted)
        assert lowlight("video", str(clip)).code == 130
    ticks = kit.known(clip).ticks
    partial = kit.known(Path("clip_lit.partial.mp4")).ticks
    assert 10 <= len(partial) < 90 and partial == ticks[: len(partial)]
    assert lowlight("video", str(clip), "--resume").code == 0
    assert kit.known(Path("clip_lit.mp4")).ticks == ticks


def test_killed_and_resumed(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash leaves, whole parts and a torn one, is gone on from; another job begins anew."""
    from lowlight_cli.video import run as runs

    monkeypatch.setattr(runs, "LENGTH", 8)
    clip = kit.write(Path("clip.mp4"), kit.pictures(30), sound="aac", sound_first=True)

    parts = crashed(lowlight, clip, *SAME, whole=2)
    torn = parts / "00002.data"
    torn.write_bytes(torn.read_bytes()[:-5])
    ran = lowlight("video", clip, *SAME, "--resume", "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["resumed"]) == (30, 16)
    assert kit.known(Path("clip_lit.mp4")).ticks == kit.known(clip).ticks
    assert len(kit.shown(Path("clip_lit.mp4"))) == 30
    crashed(lowlight, clip, *SAME, "--exist", "overwrite")
    ran = lowlight("video", clip, *SAME, "--exist", "overwrite", "--resume", "--crf", "30")
    assert ran.code == 0
    assert "what an earlier run left is of another job or clip: begun anew" in ran.err


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGTERM,), 143),
        ((signal.SIGHUP,), 129),
        ((signal.SIGINT, signal.SIGINT), 130),  # `timeout` sends its signal to the process and to its group
        ((signal.SIGHUP, signal.SIGHUP, signal.SIGTERM), 129),  # so do a shell and the terminal that closes around it
    ],
)
def test_terminated(folder: Path, dgaf_weights: Path, numbers: tuple[int, ...], code: int) -> None:
    """By a request, or because the connection is gone: what is done is there to be seen."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(300, 72, 128))
    run = subprocess.Popen(program(["video", clip]), env=environment(dgaf_weights), stderr=subprocess.PIPE)
    while not (folder / ".lowlight-clip_lit.mp4.parts" / "00000.data").exists():
        time.sleep(0.02)
    for number in numbers:
        run.send_signal(number)
        time.sleep(0.005)
    run.communicate(timeout=60)
    assert run.returncode == code
    assert len(kit.shown(Path("clip_lit.partial.mp4"))) > 0
    assert not Path("clip_lit.mp4").exists()


def test_nothing_here_needs_much(folder: Path, lowlight: Lowlight) -> None:
    """Frames come through one by one: a clip that would be 500 MB of pictures adds far less."""
    clip = kit.write(Path("clip.mp4"), (next(iter(kit.pictures(1, 180, 320))) for _ in range(750)))
    before = _resident()
    assert lowlight("video", clip, *SAME).code == 0
    assert _resident() - before < 150e6


def _resident() -> float:
    """The most that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_no_thread_is_left(folder: Path, lowlight: Lowlight) -> None:
    import threading

    clip = matroska(6)
    assert lowlight("video", clip, *SAME).code == 0
    assert [each for each in threading.enumerate() if each.name.startswith("ahead")] == []
    assert list(folder.iterdir())


def test_a_trimmed_clip_is_whole(folder: Path, lowlight: Lowlight) -> None:
    """A cut without encoding anew keeps what is before it from the key frame on, and an edit list hides it."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(50))
    with av.open(str(clip)) as source, av.open("trimmed.mp4", "w") as out:
        (video,) = source.streams
        copy = out.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts - 18 * kit.STEP, packet.dts - 18 * kit.STEP
                packet.stream = copy
                out.mux(packet)
    ran = lowlight("video", "trimmed.mp4", *SAME, "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["notes"]) == (32, [])


@pytest.mark.parametrize("parts", [0, 1])
def test_a_disk_that_is_full_when_a_part_is_made_safe(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """The encoder has given all that it had, and is not asked again: what it says then would hide the reason."""
    from lowlight_cli.video import run as runs

    monkeypatch.setattr(runs, "LENGTH", 8)
    clip = matroska(30)
    with kit.disk_full_after(1 + 3 * parts):  # the job, and of each part data, state and index
        ran = lowlight("video", clip, *SAME)
    assert (ran.code, len(ran.lines)) == (7, 1), ran.err
    assert f"the disk is full; make room, then {'--resume goes on' if parts else 'begin again'}" in ran.err
    ran = lowlight("video", clip, *SAME, "--resume", "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["resumed"]) == (30, 8 * parts)
    assert kit.known(Path("clip_lit.mkv")).ticks == kit.known(clip).ticks
