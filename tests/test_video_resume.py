"""Where a run goes on and where it must not: what is known again, what plays once, and what is kept of a secret."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from numpy.typing import NDArray
from test_video_addresses import played, server  # noqa: F401  # a fixture

from lowlight_cli import read
from lowlight_cli.errors import InputError
from lowlight_cli.pictures import Photo, write
from lowlight_cli.video import mux
from lowlight_cli.video import run as runs
from lowlight_cli.video.parts import Parts

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")


def crashed(lowlight: Lowlight, *words: str | Path, whole: int | None = None) -> Path:
    """A run that ends as if killed, when so many parts are whole, or all frames encoded; the folder that it leaves."""
    close = Parts.close

    def crash(*_: object) -> list[str]:
        raise RuntimeError("killed")

    def crash_in_a_part(self: Parts, state: Mapping[str, Any]) -> None:
        if len(self.done) == whole:
            crash()
        close(self, state)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(runs, "assemble", crash)
        broken.setattr(Parts, "close", crash_in_a_part)
        assert lowlight("video", *words).code == 1
    (parts,) = Path().glob(".lowlight-*.parts")
    return parts


def fed(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """The clip comes from stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))


def camera(name: str = "cam.ts", step: int = 3600) -> Path:
    return kit.write(Path(name), kit.pictures(12), base=Fraction(1, 90_000), ticks=[step * at for at in range(12)])


def test_what_comes_through_a_pipe_is_not_gone_on_with(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another clip of the same size may come the second time: half of each is nobody's wish."""
    clip = kit.write(Path("one.mkv"), kit.pictures(12), base=Fraction(1, 1000), ticks=[40 * at for at in range(12)])
    for target, left in (("out.mkv", ["out.partial.mkv"]), ("row/%d.png", [f"{at}.png" for at in range(1, 6)])):
        fed(monkeypatch, clip)
        ran = cut_short(5, "video", "-", "-o", target, *SAME)
        assert (ran.code, "--resume" in ran.err) == (130, False), ran.err
        assert ("what is done is in out.partial.mkv" in ran.err) == (target == "out.mkv")
        there = Path(target).parent
        assert sorted(path.name for path in there.iterdir() if path != clip and path.is_file()) == left
        fed(monkeypatch, clip)
        ran = lowlight("video", "-", "-o", target, *SAME, "--resume", "--exist", "overwrite")
        assert (ran.code, len(ran.lines)) == (2, 1), ran.err
        assert ran.lines[0].startswith("error: standard input: nothing tells whether it is the clip of an earlier run")


def test_what_plays_live_is_not_gone_on_with(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    """As much as the old recording had would be missing from the new one."""
    clip = camera()
    url, thread = played(clip, 10.0)
    with pytest.raises(SystemExit):
        cut_short(5, "video", url, "-o", "out.mkv", *SAME, by=SystemExit(143))
    thread.join(timeout=10)
    told = capsys.readouterr().err
    assert "what is done is in out.partial.mkv" in told
    assert "--resume" not in told
    assert len(kit.shown(Path("out.partial.mkv"))) == 5
    for target in ("out.mkv", "row/%d.png"):
        url, thread = played(clip, 10.0)
        ran = lowlight("video", url, "-o", target, *SAME, "--resume")
        thread.join(timeout=10)
        assert (ran.code, len(ran.lines)) == (2, 1), ran.err
        assert f"{url}: plays live" in ran.err
        assert "leave --resume out" in ran.err
    assert sorted(path.name for path in folder.iterdir()) == ["cam.ts", "out.partial.mkv"]


def test_a_recording_that_was_killed_is_not_lost(folder: Path, lowlight: Lowlight) -> None:
    """What plays live cannot be gone on with; what was recorded becomes a clip of its own."""
    clip = camera()
    url, thread = played(clip, 10.0)
    parts = crashed(lowlight, url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)
    _, thread = played(clip, 10.0, port=int(url.rpartition(":")[2]))
    ran = lowlight("video", url, "-o", "out.mkv", *SAME, "--resume")
    thread.join(timeout=10)
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert "what an earlier run left is in out.partial.mkv" in ran.err
    assert len(kit.shown(Path("out.partial.mkv"))) == 12
    assert not parts.exists()


def again(lowlight: Callable[..., Ran], url: str, offset: float, *words: str) -> Ran:
    """The camera at `url` has run on, a little slower, and a second recording of it begins."""
    _, thread = played(camera(step=3750), offset, port=int(url.rpartition(":")[2]))
    ran = lowlight("video", url, "-o", "out.mkv", *SAME, *words)
    thread.join(timeout=10)
    return ran


def test_a_recording_that_begins_again_keeps_the_killed_one(folder: Path, lowlight: Lowlight) -> None:
    """A service that was killed is started by the same command; each time, what there was becomes a clip."""
    for left in ("out.partial.mkv", "out.partial_2.mkv"):
        Path("out.mkv").unlink(missing_ok=True)
        url, thread = played(camera(), 10.0)
        parts = crashed(lowlight, url, "-o", "out.mkv", *SAME)
        thread.join(timeout=10)
        ran = again(lowlight, url, 25.0)
        assert ran.code == 0, ran.err
        assert f"what an earlier run left is in {left}" in ran.err
        assert len(kit.shown(Path(left))) == len(kit.shown(Path("out.mkv"))) == 12
        assert not parts.exists()
    assert len(kit.shown(Path("out.partial.mkv"))) == 12


def test_a_recording_that_is_ended_again_replaces_none(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    """What each left stays, and is told; what was killed before too."""
    url, thread = played(camera(), 10.0)
    with pytest.raises(SystemExit):
        cut_short(5, "video", url, "-o", "out.mkv", *SAME, by=SystemExit(143))
    thread.join(timeout=10)
    assert "what is done is in out.partial.mkv\n" in capsys.readouterr().err
    _, thread = played(camera(), 20.0, port=int(url.rpartition(":")[2]))
    crashed(lowlight, url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        again(functools.partial(cut_short, 7, by=SystemExit(143)), url, 30.0)
    told = capsys.readouterr().err
    assert "what an earlier run left is in out.partial_2.mkv; what is done is in out.partial_3.mkv\n" in told
    lengths = {path.name: len(kit.shown(path)) for path in folder.glob("out*")}
    assert lengths == {"out.partial.mkv": 5, "out.partial_2.mkv": 12, "out.partial_3.mkv": 7}


def test_a_recording_leaves_the_partial_clip_of_another(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran]
) -> None:
    """That of a file, which may be gone on with."""
    clip = kit.write(Path("one.mkv"), kit.pictures(12), base=Fraction(1, 1000), ticks=[40 * at for at in range(12)])
    cut_short(5, "video", clip, "-o", "out.mkv", *SAME)
    url, thread = played(camera(), 10.0)
    ran = lowlight("video", url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)
    assert ran.code == 0, ran.err
    assert len(kit.shown(Path("out.partial.mkv"))) == 5 and len(kit.shown(Path("out.mkv"))) == 12


def test_a_recording_that_fails_says_where_the_earlier_one_is(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, thread = played(camera(), 10.0)
    crashed(lowlight, url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)

    def gone(*_: object) -> None:
        raise InputError("the camera went away")

    monkeypatch.setattr(runs, "_encode", gone)
    ran = again(lowlight, url, 20.0)
    assert ran.code == 3, ran.err
    assert "the camera went away; what an earlier run left is in out.partial.mkv" in ran.err
    assert len(kit.shown(Path("out.partial.mkv"))) == 12


def test_an_interruption_before_the_first_frame_says_what_is_there(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = kit.write(Path("one.mkv"), kit.pictures(12), base=Fraction(1, 1000), ticks=[40 * at for at in range(12)])
    cut_short(5, "video", clip, "-o", "out.mkv", *SAME)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "prepared", stopped)
    ran = lowlight("video", clip, "-o", "out.mkv", *SAME, "--resume")
    assert ran.code == 130
    assert "what is done is in out.partial.mkv; the same command with --resume goes on" in ran.err


def test_a_full_disk_ends_a_recording_and_loses_none(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--resume is refused there, so it is not advised; the part that was whole becomes a clip."""
    monkeypatch.setattr(runs, "LENGTH", 8)
    url, thread = played(camera(), 10.0)
    with kit.disk_full_after(1 + 3):  # the job, and of the first part data, state and index
        ran = lowlight("video", url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)
    assert ran.code == 7, ran.err
    assert ran.lines[-1].endswith("the disk is full; make room, then begin again; what is done is kept"), ran.err
    ran = again(lowlight, url, 20.0)
    assert ran.code == 0, ran.err
    assert len(kit.shown(Path("out.partial.mkv"))) == 8


def test_no_password_on_the_disk(
    folder: Path,
    lowlight: Lowlight,
    cut_short: Callable[..., Ran],
    server: str,  # noqa: F811
) -> None:
    """What tells whether a run is of the same address does not tell how to get in; it goes on all the same."""
    kit.write(Path("night.mp4"), kit.pictures(12))
    url = server.replace("http://", "http://me:se@cret@") + "/night.mp4"
    parts = crashed(lowlight, url, *SAME)
    assert (parts / "job.json").exists()
    ran = cut_short(5, "video", url, "-o", "row/%d.png", *SAME)
    assert ran.code == 130, ran.err
    assert Path("row/.lowlight-%d.png.json").exists()
    for path in folder.rglob("*.json"):
        assert "cret" not in path.read_text()
        assert "me:" not in path.read_text()
    for words in ((), ("-o", "row/%d.png")):
        ran = lowlight("video", url, *words, *SAME, "--resume", "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out.splitlines()[0])["resumed"] > 0
        assert "cret" not in ran.out + ran.err


def brightening(count: int) -> Iterator[NDArray[np.uint8]]:
    """A scene that grows lighter from frame to frame, without a cut."""
    for number, picture in enumerate(kit.pictures(count)):
        yield np.clip(picture * (0.6 + 0.06 * number), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("falls", [False, True])
def test_the_gate_decides_once_a_shot_in_two_runs_too(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, falls: bool
) -> None:
    """A shot that passes the gate while it is on its way is lit to its end, or left alone to its end."""
    monkeypatch.setattr(runs, "LENGTH", 8)
    shown = list(brightening(24))[:: -1 if falls else 1]
    kit.write(Path("clip.mkv"), shown, codec="ffv1", pixels="bgr0", base=Fraction(1, 1000),
              ticks=[40 * at for at in range(24)])  # fmt: skip
    words = ("clip.mkv", "--gate", "0.12", "--precision", "fp32")
    assert lowlight("video", *words, "-o", "whole.mkv").code == 0
    crashed(lowlight, *words, "-o", "lit.mkv", whole=2)
    ran = lowlight("video", *words, "-o", "lit.mkv", "--resume", "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["resumed"], event["cuts"]) == (24, 16, 0)
    for before, one, other in zip(shown, kit.shown(Path("whole.mkv")), kit.shown(Path("lit.mkv")), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1
        assert (np.mean(one) > np.mean(before) + 5) != falls


@pytest.mark.parametrize("target", ["%s/%%d.png", "%s.mkv"])
@pytest.mark.parametrize("damaged", [[5], [4, 5, 6]])
def test_a_sequence_goes_on_at_a_damaged_frame(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], target: str, damaged: list[int]
) -> None:
    """The one before stands in its place, as in a run that is not interrupted."""
    Path("in").mkdir()
    for number, picture in enumerate(brightening(8), 1):
        write(Path("in", f"{number}.png"), Photo(picture.astype(np.float32) / 255))
    for number in damaged:
        Path("in", f"{number}.png").write_bytes(b"")
    more = ("--codec", "ffv1") if target.endswith(".mkv") else ()
    words = ("video", "in", "--precision", "fp32", *more)
    assert lowlight(*words, "-o", target % "whole").code == 0
    assert cut_short(4, *words, "-o", target % "cut").code == 130
    ran = lowlight(*words, "-o", target % "cut", "--resume", "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["resumed"]) == (8, 4)
    whole, cut = (
        kit.shown(Path(f"{each}.mkv")) if more else [read(Path(each, f"{at}.png")).pixels for at in range(1, 9)]
        for each in ("whole", "cut")
    )
    assert all((one == other).all() for one, other in zip(whole, cut, strict=True))


def test_the_input_is_not_replaced_by_what_is_done(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran]
) -> None:
    """A clip that has the name of what an interruption leaves: it would be gone."""
    clip = kit.write(Path("clip_lit.partial.mp4"), kit.pictures(12))
    before = clip.read_bytes()
    ran = cut_short(5, "video", clip, "-o", "clip_lit.mp4", *SAME)
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert "name another file with -o" in ran.err
    assert clip.read_bytes() == before


def test_nothing_lies_beside_the_parts(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the clip is put together too: what a crash leaves there goes with the parts when it is whole."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(12))
    there: list[list[str]] = []
    interleave = mux._interleave

    def seen(*args: Any) -> None:
        there.append(sorted(path.name for path in folder.iterdir()))
        interleave(*args)

    monkeypatch.setattr(mux, "_interleave", seen)
    assert lowlight("video", clip, *SAME).code == 0
    assert there == [[".lowlight-clip_lit.mp4.parts", "clip.mp4"]]
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mp4", "clip_lit.mp4"]


@pytest.mark.parametrize("start", ["0", "0.4"])
def test_the_sound_of_what_is_done_ends_with_its_picture(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], start: str
) -> None:
    import av

    ticks = [40 * at for at in range(60)]
    kit.write(Path("in.mp4"), kit.pictures(60), base=Fraction(1, 1000), ticks=ticks, sound="aac")
    assert cut_short(20, "video", "in.mp4", "--start", start, *SAME).code == 130
    with av.open("in_lit.partial.mp4") as left:
        lengths = [float(each.duration * each.time_base) for each in left.streams]
    assert max(lengths) - min(lengths) < 0.1, lengths
    assert lowlight("video", "in.mp4", "--start", start, *SAME, "--resume").code == 0
    with av.open("in_lit.mp4") as whole:
        assert min(float(each.duration * each.time_base) for each in whole.streams) > 1.9


SHOT = """
import itertools, os, signal, sys
from lowlight_cli.cli.app import main
from lowlight_cli.video import stills

real, calls, fatal = os.fsync, itertools.count(1), int(sys.argv.pop())

def fsync(handle):
    if next(calls) == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    real(handle)

os.fsync, stills.EVERY = fsync, 0
main()
"""
"""`lowlight`, killed while it writes its file number `fatal`: the mark of a row of pictures and these, in turn."""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL as POSIX has it")
@pytest.mark.parametrize("fatal", [1, 2, 3, 4])
def test_a_kill_leaves_nothing_beside_pictures(folder: Path, lowlight: Lowlight, fatal: int) -> None:
    Path("in").mkdir()
    for number, picture in enumerate(kit.pictures(4), 1):
        write(Path("in", f"{number}.png"), Photo(picture.astype(np.float32) / 255))
    words = ("video", "in", *SAME)
    assert subprocess.run([sys.executable, "-c", SHOT, *words, str(fatal)], check=False).returncode == -signal.SIGKILL
    assert any(path.name.startswith(".lowlight") for path in Path("in_lit").iterdir())
    assert lowlight(*words, "--resume").code == 0
    assert sorted(path.name for path in Path("in_lit").iterdir()) == ["1.png", "2.png", "3.png", "4.png"]
