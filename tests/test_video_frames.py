"""Numbered frames in and out: what the names mean, order and gaps, depth and metadata, time, resuming."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran, environment, program
from PIL import Image

from lowlight_cli import read
from lowlight_cli.errors import InputError
from lowlight_cli.pictures import Photo, write
from lowlight_cli.video import stills
from lowlight_cli.video.numbered import gaps, in_folder, pattern

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")


def frames(folder: str, numbers: range | list[int], name: str = "%05d.png", depth: int = 8) -> Path:
    """Pictures in a folder, each with its number in it as a level."""
    Path(folder).mkdir(exist_ok=True)
    for number, picture in zip(numbers, kit.pictures(len(numbers)), strict=True):
        pixels = picture.astype(np.float32) / 255
        if depth == 16:
            pixels = (pixels + number / 65535).astype(np.float32)
        write(Path(folder, name % number), Photo(pixels, depth=depth, name=name))  # type: ignore[arg-type]
    return Path(folder)


def numbers(folder: str, suffix: str = ".png") -> list[int]:
    return [int(path.stem) for path in sorted(Path(folder).glob(f"*{suffix}"))]


@pytest.mark.parametrize(
    ("name", "path"), [("%05d.png", "00007.png"), ("a_%d.tif", "a_7.tif"), ("x%03dy.jpg", "x007y.jpg")]
)
def test_a_pattern_names_pictures(folder: Path, name: str, path: str) -> None:
    row = pattern(Path("in", name))
    assert row is not None
    assert row.path(7) == Path("in", path)
    assert str(row) == str(Path("in", name))
    for number in (7, 12, 123456):
        Path("in").mkdir(exist_ok=True)
        row.path(number).touch()
    for other in ("7.png", "b_7.tif", "x7y.jpg", "a_07.tif"):
        Path("in", other).touch()
    assert list(row.found()) == [7, 12, 123456]
    assert gaps(row.found(), row) == [f"{row.path(8).name} to {row.path(11).name}", f"{row.path(13).name} to "
                                      f"{row.path(123455).name}"]  # fmt: skip


def test_what_is_no_pattern() -> None:
    assert pattern(Path("night.mp4")) is None
    assert pattern(Path("100%.png")) is None
    assert pattern(Path("%d_%d.png")) is None


def test_a_folder_is_one_row(folder: Path) -> None:
    frames("in", range(8, 12), "shot_%d.png")
    Path("in/.hidden").touch()
    Path("in/notes.txt").touch()
    row = in_folder(Path("in"), {".png", ".jpg"})
    assert (row.name, list(row.found())) == ("shot_%d.png", [8, 9, 10, 11])
    frames("in", [1], "take_%d.png")
    with pytest.raises(InputError, match=r"holds 2 rows of frames, shot_%d.png and take_%d.png: name one"):
        in_folder(Path("in"), {".png"})
    frames("other", [1], "cover%d.png")
    Path("other/cover1.png").rename("other/cover.png")
    with pytest.raises(InputError, match=r"cover.png has no number"):
        in_folder(Path("other"), {".png"})


def test_frames_to_a_clip(folder: Path, lowlight: Lowlight) -> None:
    """At the rate that is said, in order of their numbers, in what every player shows, with their colours."""
    frames("in", range(98, 104), "%d.png")
    ran = lowlight("video", "in/%d.png", "-o", "out.mp4", "--fps", "24000/1001", *SAME, "--crf", "1")
    assert ran.code == 0, ran.err
    with av.open("out.mp4") as clip:
        video = clip.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert video.average_rate == Fraction(24000, 1001)
        assert video.codec_context.colorspace == 1
        shown = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video)]
    assert len(shown) == 6
    for one, other in zip(kit.pictures(6), shown, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 2
    assert lowlight("video", "in", "-o", "whole.mkv", "--codec", "ffv1", *SAME).code == 0
    for one, other in zip(kit.pictures(6), kit.shown(Path("whole.mkv")), strict=True):
        assert np.array_equal(one, other)


def test_sixteen_bits_to_a_clip(folder: Path, lowlight: Lowlight) -> None:
    """Ten bits, in a codec that plays with ten."""
    frames("in", range(3), depth=16)
    assert lowlight("video", "in", "-o", "out.mp4", *SAME).code == 0
    with av.open("out.mp4") as clip:
        context = clip.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("hevc", "yuv420p10le")


def test_frames_to_frames(folder: Path, lowlight: Lowlight) -> None:
    """Numbers, sixteen bits, transparency and the profile stay; what lies beside is left alone."""
    frames("in", range(7, 10), depth=16)
    deep = read(Path("in/00008.png"))
    alpha = np.full((deep.height, deep.width), 40_000, np.uint16)
    write(Path("in/00008.png"), Photo(deep.pixels, depth=16, alpha=alpha, text=(("Comment", "night"),)))
    ran = lowlight("video", "in", *SAME)
    assert ran.code == 0, ran.err
    assert ran.out.split() == [str(Path("in_lit", "%05d.png"))]
    assert sorted(each.name for each in Path("in_lit").iterdir()) == ["00007.png", "00008.png", "00009.png"]
    for number in (7, 8, 9):
        one, other = (read(Path(where, f"{number:05d}.png")) for where in ("in", "in_lit"))
        assert other.depth == 16
        assert np.array_equal(one.pixels, other.pixels)
    assert other.alpha is None
    lit = read(Path("in_lit/00008.png"))
    assert lit.alpha is not None
    assert np.array_equal(lit.alpha, alpha)
    assert ("Comment", "night") in lit.text


def test_frames_may_begin_with_zero(folder: Path, lowlight: Lowlight) -> None:
    frames("in", range(3))
    assert lowlight("video", "in", *SAME).code == 0
    assert numbers("in_lit") == [0, 1, 2]
    for name in ("00000.png", "00001.png", "00002.png"):
        assert np.array_equal(read(Path("in", name)).pixels, read(Path("in_lit", name)).pixels)


def test_a_clip_to_frames(folder: Path, lowlight: Lowlight) -> None:
    """From 1 on, turned upright, with sixteen bits where the clip has ten; a part of it counts from 1 too."""
    clip = kit.write(Path("clip.mp4"), kit.pictures(6), matrix=kit.turned(90), codec="libx264")
    ran = lowlight("video", clip, "-o", "lit/%03d.png", *SAME)
    assert ran.code == 0, ran.err
    assert numbers("lit") == [1, 2, 3, 4, 5, 6]
    with Image.open("lit/001.png") as first:
        assert first.size == (36, 64)
        upright = np.asarray(first, int)
    assert np.abs(np.rot90(kit.shown(clip)[0]).astype(int) - upright).mean() < 2
    ten = kit.write(Path("ten.mkv"), kit.pictures(3), codec="ffv1", pixels="yuv420p10le")
    assert lowlight("video", ten, "-o", "ten/%d.png", "--end", "0.08", *SAME).code == 0
    assert numbers("ten") == [1, 2]
    assert read(Path("ten/1.png")).depth == 16


def test_the_network_runs_and_time_counts(folder: Path, lowlight: Lowlight) -> None:
    frames("in", range(1, 9))
    ran = lowlight("video", "in", "-o", "out/%d.jpg", "--start", "0.2", "--end", "0.4", "--fps", "10", "--json",
                   "--precision", "fp32")  # fmt: skip
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["codec"], event["output"]) == (2, "jpeg", str(Path("out/%d.jpg")))
    assert event["luma"]["after"] > 2 * event["luma"]["before"]
    assert numbers("out", ".jpg") == [3, 4]


def test_gaps_are_told(folder: Path, lowlight: Lowlight) -> None:
    """In a clip the frame before stays as long; written as frames, the gap stays a gap."""
    frames("in", [1, 2, 5, 6])
    ran = lowlight("video", "in", "-o", "out.mkv", *SAME)
    assert ran.code == 0, ran.err
    assert "00003.png to 00004.png missing: the frame before stays in their place" in ran.err
    assert [float(tick) for tick in kit.known(Path("out.mkv")).ticks] == pytest.approx([0, 0.04, 0.16, 0.2])
    assert lowlight("video", "in", *SAME).code == 0
    assert numbers("in_lit") == [1, 2, 5, 6]


def test_frames_that_are_odd(folder: Path, lowlight: Lowlight) -> None:
    frames("in", range(1, 5))
    Path("in/00003.png").write_bytes(b"no picture")
    ran = lowlight("video", "in", *SAME)
    assert ran.code == 0, ran.err
    assert "1 damaged frames could not be read: the frame before is shown again" in ran.err
    assert numbers("in_lit") == [1, 2, 3, 4]
    write(Path("in/00003.png"), Photo(np.zeros((8, 8, 3), np.float32)))
    ran = lowlight("video", "in", "-o", "other", *SAME)
    assert (ran.code, len(ran.lines)) == (3, 1)
    assert "00003.png: is 8x8, the frames before are 64x36: all frames have one size" in ran.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("nowhere/%05d.png",), 3, "nowhere: no such folder"),
        (("in/%d.jpg",), 3, "no such frames"),
        (("empty",), 3, "no frames in folder empty"),
        (("in", "-o", "lit.png"), 2, "-o lit.png names one picture: name a clip, such as lit.mp4"),
        (("clip.mkv", "-o", "lit.png"), 2, "also writes frames (-o %05d.png) or a sheet of some (--preview 8)"),
        (("in", "-o", "lit.txt"), 2, "cannot write lit.txt: no clip has that suffix"),
        (("in", "-o", "in"), 2, "is its own input"),
        (("in", "-o", "out/%d.mp4"), 2, "frames are pictures"),
        (("in", "-o", "out.mp4", "--fps", "0"), 2, "'0' is not a frame rate; write it as 24, 23.976 or 24000/1001"),
        (("clip.mkv", "--fps", "24"), 2, "--fps is for numbered frames, and clip.mkv has a rate of its own"),
        (("in", "-o", "old/%05d.png"), 4, "00002.png exists: choose --exist skip or overwrite"),
        (
            ("in", "-o", "old/%05d.png", "--resume"),
            4,
            "00002.png exists, and no run was cut short there: choose --exist skip or overwrite",
        ),
        (("in", "--start", "9"), 3, "no frame from 9 s on; the frames end before"),
        (("clip.mkv", "--input-option", "a=b"), 2, "--input-option is for addresses and cameras"),
    ],
    ids=str,
)
def test_what_is_wrong_is_a_line(
    folder: Path, lowlight: Lowlight, words: tuple[str, ...], code: int, told: str
) -> None:
    frames("in", [1, 2])
    frames("old", [2])
    Path("empty").mkdir()
    kit.write(Path("clip.mkv"), kit.pictures(2))
    ran = lowlight("video", *words, *SAME)
    assert (ran.code, len(ran.lines)) == (code, 1), ran.err
    assert told in ran.err.replace("\\", "/")


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_full_disk(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, interrupted: bool) -> None:
    """The pictures are what is told of, not the mark that cannot be written either; nor does that hide Ctrl-C."""
    frames("in", range(1, 13))
    safe, left = os.fsync, [4]  # the first mark, and three pictures

    def full(descriptor: int) -> None:
        if left[0] < 0 or (not left[0] and not interrupted):
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        safe(descriptor)

    monkeypatch.setattr(stills, "EVERY", 1000.0)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        ran = lowlight("video", "in", *SAME)
    if interrupted:
        assert ran.code == 130, ran.err
    else:
        told = f"error: {Path('in_lit/%05d.png')}: the disk is full; make room, then --resume goes on\n"
        assert (ran.code, ran.err) == (7, told)
    assert numbers("in_lit") == [1, 2, 3]
    ran = lowlight("video", "in", *SAME, "--resume")
    assert ran.code == 0, ran.err
    assert numbers("in_lit") == list(range(1, 13))


def test_frames_whole_on_the_disk_are_not_done_again(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut short after some, a later run does the rest, with brightness as if nothing had been."""
    frames("in", range(1, 13))
    words = ("video", "in", "--precision", "fp32")
    assert lowlight(*words, "-o", "whole").code == 0
    put, left = stills.place, [7]

    def stop(target: Path, data: bytes, beside: Path) -> None:
        if target.suffix == ".png":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        put(target, data, beside=beside)

    with monkeypatch.context() as cut:
        cut.setattr(stills, "place", stop)
        ran = lowlight(*words)
    assert ran.code == 130
    assert "the same command with --resume goes on" in ran.err
    assert numbers("in_lit") == [1, 2, 3, 4, 5, 6, 7]
    before = {path.name: path.stat().st_ino for path in Path("in_lit").glob("*.png")}
    ran = lowlight(*words, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert [json.loads(ran.out.splitlines()[0])[key] for key in ("frames", "resumed")] == [12, 7]
    assert {name: Path("in_lit", name).stat().st_ino for name in before} == before
    assert sorted(path.name for path in Path("in_lit").iterdir()) == [f"{number:05d}.png" for number in range(1, 13)]
    for number in range(1, 13):
        one, other = (read(Path(where, f"{number:05d}.png")).pixels for where in ("whole", "in_lit"))
        assert np.abs(one - other).max() <= 1.01 / 255
    # all is done: there is nothing to go on with
    ran = lowlight(*words, "--resume")
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert "00001.png exists, and no run was cut short there: choose --exist skip or overwrite" in ran.err
    ran = lowlight(*words, "--resume", "--exist", "skip")
    assert (ran.code, "exists: skipped" in ran.err) == (0, True), ran.err
    ran = lowlight(*words, "--resume", "--exist", "overwrite", "--json")
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[0])
    assert (event["frames"], event["resumed"], event["notes"]) == (12, 0, [])


def test_frames_of_another_job_are_not_replaced_unasked(
    folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran]
) -> None:
    """What the message suggests works."""
    frames("in", range(1, 7))
    ran = cut_short(3, "video", "in", *SAME)
    assert (ran.code, "the same command with --resume goes on" in ran.err) == (130, True), ran.err
    assert "exists: choose --exist skip or overwrite, or --resume" in lowlight("video", "in", *SAME).err
    other = ("video", "in", "--strength", "0.5", "--resume")
    ran = lowlight(*other)
    assert (ran.code, len(ran.lines)) == (4, 1), ran.err
    assert "what an earlier run left there is of another job" in ran.err
    assert "choose another folder with -o, or --exist overwrite" in ran.err
    assert numbers("in_lit") == [1, 2, 3]
    ran = lowlight(*other, "--exist", "overwrite")
    assert ran.code == 0, ran.err
    assert "is of another job or clip: begun anew" in ran.err
    assert [path.name for path in sorted(Path("in_lit").iterdir())] == [f"{number:05d}.png" for number in range(1, 7)]


def test_frames_that_are_gone_are_made_again(folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran]) -> None:
    frames("in", range(1, 7))
    assert cut_short(3, "video", "in", *SAME).code == 130
    Path("in_lit/00002.png").unlink()
    ran = lowlight("video", "in", *SAME, "--resume")
    assert ran.code == 0, ran.err
    assert "pictures of the earlier run are gone: begun anew" in ran.err
    assert numbers("in_lit") == [1, 2, 3, 4, 5, 6]


def test_cut_short_before_the_first_frame(folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran]) -> None:
    """There is nothing to go on with, and nobody says so; nor does what an older run left count any more."""
    frames("in", range(1, 7))
    assert cut_short(3, "video", "in", *SAME).code == 130
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(stills, "place", _interrupted)
        ran = lowlight("video", "in", "--strength", "0.5", "--exist", "overwrite")
    assert (ran.code, "--resume" in ran.err) == (130, False), ran.err


def killed(folder: Path, weights: Path, *words: str) -> None:
    """A command that is killed as soon as there are three pictures."""
    run = subprocess.Popen(program(words), env=environment(weights), stderr=subprocess.DEVNULL)
    while len(list(folder.glob("*.png"))) < 3:
        assert run.poll() is None
        time.sleep(0.002)
    run.kill()
    run.wait()


@pytest.mark.parametrize("words", [("--resume",), ("--exist", "skip")])
def test_killed_soon(folder: Path, lowlight: Lowlight, dgaf_weights: Path, words: tuple[str, ...]) -> None:
    """Within the first second too, it is known that there is more to do."""
    frames("in", range(1, 400))
    killed(Path("in_lit"), dgaf_weights, "video", "in", *SAME)
    assert 3 <= len(numbers("in_lit")) < 399
    ran = lowlight("video", "in", *SAME, *words)
    assert ran.code == 0, ran.err
    assert "skipped" not in ran.err
    assert numbers("in_lit") == list(range(1, 400))
    assert not list(Path("in_lit").glob("*.json"))


def test_skipping_goes_on(folder: Path, lowlight: Lowlight, cut_short: Callable[..., Ran]) -> None:
    """Pictures that are there stay, and the row becomes whole; where they are of another job, nothing is done."""
    frames("in", range(1, 7))
    assert cut_short(3, "video", "in", *SAME).code == 130
    before = Path("in_lit/00001.png").stat().st_ino
    ran = lowlight("video", "in", "--strength", "0.5", "--exist", "skip")
    assert (ran.code, "is of another job" in ran.err) == (4, True), ran.err
    ran = lowlight("video", "in", *SAME, "--exist", "skip", "--json")
    assert ran.code == 0, ran.err
    assert [json.loads(ran.out.splitlines()[0])[key] for key in ("frames", "resumed")] == [6, 3]
    assert Path("in_lit/00001.png").stat().st_ino == before
    ran = lowlight("video", "in", *SAME, "--exist", "skip")
    assert (ran.code, "exists: skipped" in ran.err) == (0, True), ran.err


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("words", [("-o", "lit/%d.tif"), ("-o", "lit.mkv")])
def test_further_pages_are_left_out_and_that_is_said(folder: Path, lowlight: Lowlight, words: tuple[str, str]) -> None:
    """A frame is one picture: a second one would stay dark behind it."""
    pages = [Photo(picture.astype(np.float32) / 255, name="page") for picture in kit.pictures(2)]
    Path("in").mkdir()
    for number in (1, 2, 3):
        write(Path("in", f"{number}.tif"), replace(pages[0], rest=(pages[1],)) if number > 1 else pages[0])
    ran = lowlight("video", "in", *words, "--precision", "fp32")
    assert ran.code == 0, ran.err
    assert [line.replace("\\", "/") for line in ran.lines if "pages" in line] == [
        "in/%d.tif: frames of several pages: only the first is taken"
    ]
    assert all(read(path).rest == () for path in Path("lit").glob("*.tif"))


def test_preview_and_comparison(folder: Path, lowlight: Lowlight) -> None:
    frames("in", range(1, 6))
    ran = lowlight("video", "in", "--preview", "2", "--precision", "fp32")
    assert (ran.code, ran.out.split()) == (0, ["in_lit.jpg"]), ran.err
    assert lowlight("video", "in", "--compare", "--precision", "fp32").code == 0
    with Image.open("in_lit/00001.png") as sheet:
        assert sheet.width > 2 * 64
