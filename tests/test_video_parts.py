"""The parts that a clip is kept in until it is whole: one run at a time, no more than is needed, nothing left over."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import video_kit as kit
from conftest import Ran

from lowlight_cli.cli import app, clips
from lowlight_cli.errors import OutputError
from lowlight_cli.video import run as runs
from lowlight_cli.video.encode import Packed
from lowlight_cli.video.parts import Parts

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")


def filled(target: Path, count: int, resume: bool = False) -> Parts:
    """So many parts of two frames, as a run makes them."""
    parts = Parts(target)
    parts.begin({"clip": "one"}, resume=resume)
    for number in range(count):
        for frame in range(2):
            parts.add(Packed(b"frame", 2 * number + frame, 1, True))
        parts.close({"light": np.full((72, 128, 3), number / 7, np.float32), "cuts": number})
    return parts


@pytest.mark.parametrize("words", [(), ("--resume",)])
def test_a_second_run_of_one_clip_is_refused(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """It would take the first one's parts from it, or write into them."""
    monkeypatch.setattr(runs, "LENGTH", 8)
    clip = kit.write(Path("clip.mp4"), kit.pictures(30))
    second: list[int] = []
    see = clips._Following.see

    def begun_again(self: Any, course: Any, show: Any) -> None:
        see(self, course, show)
        if course.done == 20 and not second:
            second.append(-1)
            second.append(app.run(["video", str(clip), *SAME, *words]))

    monkeypatch.setattr(clips._Following, "see", begun_again)
    ran = lowlight("video", clip, *SAME)
    assert (ran.code, second) == (0, [-1, 4]), ran.err
    assert "another run writes clip_lit.mp4: wait for it, or name another file with -o" in ran.err
    assert kit.known(Path("clip_lit.mp4")).ticks == kit.known(clip).ticks
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mp4", "clip_lit.mp4"]


def test_a_lock_that_cannot_be_opened_is_a_line(folder: Path, process: Callable[..., Ran]) -> None:
    """In a process of its own, which can be stopped if it does not end."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(3))
    Path(".lowlight-clip_lit.mp4.parts/lock").mkdir(parents=True)
    ran = process("video", clip, *SAME)
    assert (ran.code, len(ran.lines)) == (4, 1), ran.err
    assert "clip_lit.mp4: cannot be written" in ran.err


def test_a_part_that_is_short_is_no_clip(folder: Path) -> None:
    parts = Parts(Path("clip.mp4"))
    with parts.claimed():
        parts = filled(Path("clip.mp4"), 2)
        assert [each.data for each in parts.packets()] == [b"frame"] * 4
        data = parts.folder / "00001.data"
        data.write_bytes(data.read_bytes()[:-1])
        with pytest.raises(OutputError, match=r"clip\.mp4: .*00001\.data is cut short"):
            list(parts.packets())


def test_a_long_clip_needs_no_more_than_a_short_one(folder: Path) -> None:
    """What lighting has to know is that of the last frame, on the disk and in memory."""
    once = np.zeros((72, 128, 3), np.float32).nbytes
    with Parts(Path("clip.mp4")).claimed():
        parts = filled(Path("clip.mp4"), 40)
        assert sum(path.stat().st_size for path in parts.folder.iterdir()) < 8 * once
        tracemalloc.start()
        again = filled(Path("clip.mp4"), 0, resume=True)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (len(again.done), again.state["cuts"]) == (40, 39)
    assert np.array_equal(np.array(again.state["light"], np.float32), np.full((72, 128, 3), 39 / 7, np.float32))
    assert held < 20 * once  # lists of floats take more than arrays


@pytest.mark.parametrize("step", range(3))
def test_wherever_a_part_is_torn_the_one_before_is_gone_on_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A crash while a part is made safe: its data, what lighting has to know, its index."""
    with Parts(Path("clip.mp4")).claimed():
        parts = filled(Path("clip.mp4"), 2)
        safe, left = os.fsync, [step]

        def crash(descriptor: int) -> None:
            if not left[0]:
                raise OSError(errno.EIO, "Input/output error")
            left[0] -= 1
            safe(descriptor)

        parts.add(Packed(b"frame", 4, 1, True))
        with monkeypatch.context() as disk, pytest.raises(OutputError):
            disk.setattr(os, "fsync", crash)
            parts.close({"light": np.zeros(3, np.float32), "cuts": 2})
        again = filled(Path("clip.mp4"), 0, resume=True)
        assert (len(again.done), again.state["cuts"]) == (2, 1)
        assert not list(again.folder.glob("00002.*"))


def test_parts_that_nobody_can_go_on_from_are_told(folder: Path) -> None:
    with Parts(Path("clip.mp4")).claimed():
        parts = filled(Path("clip.mp4"), 2)
        (parts.folder / "00001.state").write_bytes(b"[")
        assert Parts(Path("clip.mp4")).begin({"clip": "one"}, resume=True) == "is damaged"
        assert sorted(path.name for path in parts.folder.iterdir()) == ["job.json", "lock"]


def test_what_is_done_goes_when_the_clip_is_whole(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the run that makes it whole begins anew; what the user called so stays."""
    monkeypatch.setattr(runs, "LENGTH", 8)
    clip = kit.write(Path("clip.mp4"), kit.pictures(30))
    for words in ((), ("--resume", "--crf", "30"), ("--resume",)):
        assert cut_short(20, "video", clip, *SAME).code == 130
        assert Path("clip_lit.partial.mp4").exists()
        ran = lowlight("video", clip, *SAME, *words, "--json")
        assert ran.code == 0, ran.err
        event = json.loads(ran.out.splitlines()[0])
        assert (event["frames"], event["resumed"] > 0) == (30, words == ("--resume",))
        assert ("begun anew" in ran.err) == ("--crf" in words)
        assert sorted(path.name for path in folder.iterdir()) == ["clip.mp4", "clip_lit.mp4"]
        Path("clip_lit.mp4").unlink()
    Path("clip_lit.partial.mp4").write_bytes(b"mine")
    assert lowlight("video", clip, *SAME).code == 0
    assert Path("clip_lit.partial.mp4").read_bytes() == b"mine"


@pytest.mark.skipif(os.name != "posix", reason="has no links, or only for some users")
@pytest.mark.parametrize("words", [(), ("--resume",)])
def test_parts_are_not_kept_through_a_link(folder: Path, lowlight: Lowlight, words: tuple[str, ...]) -> None:
    """It may come with the clip, and lead to any folder."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(3))
    Path("thesis").mkdir()
    for name in ("thesis.txt", "00000.data"):
        Path("thesis", name).write_text("mine")
    Path(".lowlight-clip_lit.mp4.parts").symlink_to("thesis")
    ran = lowlight("video", clip, *SAME, *words)
    assert (ran.code, len(ran.lines)) == (4, 1), ran.err
    assert ".lowlight-clip_lit.mp4.parts: is a link" in ran.err and "delete it" in ran.err
    assert sorted(path.name for path in Path("thesis").iterdir()) == ["00000.data", "thesis.txt"]
    assert not Path("clip_lit.mp4").exists()


@pytest.mark.skipif(os.name != "posix", reason="has no links, or only for some users")
def test_nothing_is_written_through_a_link_among_the_parts(folder: Path) -> None:
    parts = Parts(Path("clip.mp4"))
    parts.folder.mkdir()
    names = ("job.json", "job.tmp", "00000.data", "00000.json", "00000.tmp", "00000.state", "shown", "clip.mp4")
    for name in names:
        Path(f"mine-{name}").write_text("mine")
        (parts.folder / name).symlink_to(f"../mine-{name}")
    (parts.folder / "shown").unlink()
    (parts.folder / "shown").symlink_to("../nowhere")
    with parts.claimed():
        filled(Path("clip.mp4"), 1).show()
    assert all(Path(f"mine-{name}").read_text() == "mine" for name in names)
    assert not Path("nowhere").exists()


def test_what_is_not_of_a_clip_in_its_folder_stays(folder: Path, lowlight: Lowlight) -> None:
    """And the clip is made all the same."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(3))
    parts = Parts(Path("clip_lit.mp4")).folder
    (parts / "album").mkdir(parents=True)
    mine = ["album", "clip", "notes.txt", "photo.data", "2024.json"]
    for name in [*mine[1:], "00007.data", "00007.tmp", "clip.mp4", "shown"]:
        (parts / name).write_text("mine")
    ran = lowlight("video", clip, *SAME)
    assert (ran.code, ran.out) == (0, "clip_lit.mp4\n"), ran.err
    assert kit.known(Path("clip_lit.mp4")).ticks == kit.known(clip).ticks
    assert sorted(path.name for path in parts.iterdir() if path.name != "lock") == sorted(mine)


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_a_clip_that_is_replaced_is_as_private_as_before(folder: Path, lowlight: Lowlight) -> None:
    clip, lit = kit.write(Path("clip.mp4"), kit.pictures(3)), Path("clip_lit.mp4")
    lit.write_bytes(b"old")
    lit.chmod(0o600)
    assert lowlight("video", clip, *SAME, "--exist", "overwrite").code == 0
    assert (lit.stat().st_mode & 0o777, kit.known(lit).ticks) == (0o600, kit.known(clip).ticks)
