"""Clips among the commands: what `enhance` and `batch` do with them, and which options they have not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from PIL import Image
from test_video_streams import SAME, lit, made

from lowlight_cli.video.formats import MAJOR

ROOT = Path(__file__).parents[1]
Lowlight = Callable[..., Ran]


def test_enhance_takes_clips(folder: Path, lowlight: Lowlight) -> None:
    """The network runs, and the result is brighter; pictures and clips do not mix."""
    clip = made("h264.mp4")
    ran = lowlight("enhance", clip, "--json", "--precision", "fp32")
    assert ran.code == 0, ran.err
    event, summary = (json.loads(line) for line in ran.out.splitlines())
    assert (event["event"], event["frames"], event["status"]) == ("clip", 12, "done")
    assert event["luma"]["after"] > 2 * event["luma"]["before"]
    assert (summary["event"], summary["done"], summary["exit_code"]) == ("summary", 1, 0)
    assert np.mean(kit.shown(lit(clip))) > 2 * np.mean(kit.shown(clip))
    again = lowlight("enhance", clip)
    assert (again.code, "exists" in again.err) == (4, True)
    Path("photo.jpg").write_bytes(b"")
    assert lowlight("enhance", clip, "photo.jpg").code == 2


def test_options_that_clips_have_not(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left to believe that a clip's place is gone; what is set once for all pictures does no harm."""
    clip = made("h264.mp4")
    for words in (("--format", "png"), ("--quality", "80"), ("--strip-gps",)):
        ran = lowlight("enhance", clip, *words)
        assert (ran.code, len(ran.lines)) == (2, 1)
        assert f"{words[0]} is for pictures" in ran.err
    monkeypatch.setenv("LOWLIGHT_FORMAT", "png")
    assert lowlight("enhance", clip, "--dry-run").out == "h264.mp4 -> h264_lit.mp4\n"
    monkeypatch.setenv("LOWLIGHT_STRIP_GPS", "1")
    ran = lowlight("enhance", clip)
    assert (ran.code, "LOWLIGHT_STRIP_GPS is for pictures" in ran.err) == (2, True)


@pytest.mark.parametrize("name", ["LOWLIGHT_STRIP_GPS", "LOWLIGHT_STRIP_METADATA"])
def test_what_keeps_a_secret_is_refused(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The place in a clip's tags is copied, by `video` as by `enhance`: who wants it gone is told."""
    clip = made("h264.mp4", tags={"location": "+52.5200+013.4050/"})
    monkeypatch.setenv(name, "0")
    assert lowlight("video", clip, *SAME, "-o", "there.mp4").code == 0
    assert kit.known(Path("there.mp4")).tags["location"] == "+52.5200+013.4050/"
    monkeypatch.setenv(name, "1")
    for command in ("video", "enhance"):
        ran = lowlight(command, clip, *SAME)
        assert (ran.code, len(ran.lines)) == (2, 1), ran.err
        assert f"{name} is for pictures, a clip's tags are copied" in ran.err
    assert sorted(each.name for each in folder.iterdir()) == ["h264.mp4", "there.mp4"]


def test_batch_of_clips(folder: Path, lowlight: Lowlight) -> None:
    """One that fails does not stop the others."""
    made("a.mp4", shown=list(kit.pictures(2)))
    Path("b.mp4").write_bytes(b"no clip at all")
    ran = lowlight("enhance", "a.mp4", "b.mp4", "-o", "out", "--strength", "0")
    assert ran.code == 1
    assert [each.name for each in Path("out").iterdir()] == ["a.mp4"]


def test_the_extra_is_named(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    ran = lowlight("video", "night.mp4")
    assert (ran.code, ran.lines) == (6, ["error: video needs an extra: pip install 'lowlight-cli[video]'"])


def test_another_pyav_is_refused(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed by hand beside the package: its calls differ, which would end in a bug."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "19.0.2")
    ran = lowlight("video", "night.mp4")
    assert (ran.code, ran.lines) == (
        6,
        ["error: video needs PyAV 18, not 19.0.2: pip install 'lowlight-cli[video]'"],
    )


def test_the_installed_pyav_is_the_one_that_pip_takes() -> None:
    wanted = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("video = "))
    assert f"av>={MAJOR}." in wanted and f",<{int(MAJOR) + 1}" in wanted


def test_written_whole_or_not_at_all(folder: Path, lowlight: Lowlight) -> None:
    """An existing result stays until the new one is complete."""
    clip = made("h264.mp4")
    lit(clip).write_bytes(b"old")
    inode = lit(clip).stat().st_ino
    assert lowlight("video", clip, "--exist", "overwrite", *SAME).code == 0
    assert lit(clip).stat().st_ino != inode
    assert len(kit.shown(lit(clip))) == 12


def test_a_dry_run_tells_what_would_be_written(folder: Path, lowlight: Lowlight) -> None:
    clip = made("h264.mp4")
    before = sorted(folder.rglob("*"))
    for words, target in (
        ((), "h264_lit.mp4"),
        (("-o", "lit/%03d.png"), "lit/%03d.png"),
        (("--preview", "3"), "h264_lit.jpg"),
    ):
        ran = lowlight("video", clip, *words, "--dry-run")
        assert (ran.code, ran.out) == (0, f"h264.mp4 -> {target}\n"), ran.err
    assert sorted(folder.rglob("*")) == before
    Path("h264_lit.mp4").write_bytes(b"")
    ran = lowlight("video", clip, "--dry-run")
    assert (ran.code, "exists" in ran.err) == (4, True)
    ran = lowlight("video", clip, "--dry-run", "--exist", "skip", "--json")
    assert json.loads(ran.out)["status"] == "skipped"


@pytest.mark.skipif(os.name == "nt", reason="no file there has a colon in its name")
def test_a_colon_makes_no_address_of_a_name(folder: Path, lowlight: Lowlight) -> None:
    """FFmpeg would take what stands before it for a protocol."""
    made("h264.mp4").rename("12:30:05.mp4")
    for words, target in (((), "12:30:05_lit.mp4"), (("-o", "x:y.mp4"), "x:y.mp4")):
        ran = lowlight("video", "12:30:05.mp4", *words, *SAME)
        assert ran.code == 0, ran.err
        assert len(kit.shown(folder / target)) == 12


def test_animations_and_pictures_are_told_what_takes_them(folder: Path, lowlight: Lowlight) -> None:
    """Each command names the other only for what that one takes."""
    frames = [Image.fromarray(frame) for frame in kit.pictures(3)]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(name, save_all=True, append_images=frames[1:], duration=40)
    Image.effect_noise((400, 400), 90).save("x.jpg")
    for name in ("a.gif", "a.png"):
        assert "`lowlight video` makes a clip of it, with -o night.mp4" in lowlight("enhance", name).err
        assert lowlight("video", name, "-o", f"{name}.mp4", *SAME).code == 0
        assert len(kit.shown(Path(f"{name}.mp4"))) == 3
    for command, target in (("enhance", "b.png"), ("video", "b.mp4")):
        ran = lowlight(command, "a.webp", "-o", target)
        assert (ran.code, len(ran.lines)) == (3, 1), ran.err
        assert "number" in ran.err and "folder" in ran.err and "makes a clip" not in ran.err
    ran = lowlight("video", "x.jpg", "-o", "x.mp4")
    assert (ran.code, len(ran.lines)) == (3, 1)
    assert "is a picture, which `lowlight enhance` takes" in ran.err and "playlist" not in ran.err


@pytest.mark.parametrize(("name", "known"), [("h265", "hevc"), ("x265", "hevc"), ("x264", "h264"), ("AVC", "h264")])
def test_other_names_of_codecs(folder: Path, lowlight: Lowlight, name: str, known: str) -> None:
    ran = lowlight("video", made("h264.mp4"), "--codec", name)
    assert (ran.code, ran.lines) == (2, [f"error: no encoder {name!r}: did you mean {known!r}?"])


def test_suffixes_that_no_clip_has(folder: Path, lowlight: Lowlight) -> None:
    """Only one that is near is taken for a slip."""
    clip = made("h264.mp4")
    told = lowlight("video", clip, "-o", "x.apng").err
    assert "did you mean" not in told and "there are .3gp" in told
    assert "did you mean .webm?" in lowlight("video", clip, "-o", "x.webmm").err


def test_one_frame_is_one(folder: Path, lowlight: Lowlight) -> None:
    assert "\n1 frame lit with" in f"\n{lowlight('video', made('a.mp4', shown=list(kit.pictures(1))), *SAME).err}"
