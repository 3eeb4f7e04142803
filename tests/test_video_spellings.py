"""Numbered frames on disks that take upper and lower case for the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from test_video_frames import SAME, frames

from lowlight_cli.video import numbered
from lowlight_cli.video.numbered import pattern

Lowlight = Callable[..., Ran]


@pytest.mark.parametrize("exist", [(), ("--exist", "overwrite")])
@pytest.mark.parametrize("target", ["in/%05d.png", "IN/%05d.png", "in/1%04d.png"])
def test_no_frame_is_replaced_by_a_result(
    folder: Path, lowlight: Lowlight, target: str, exist: tuple[str, ...]
) -> None:
    """Disks that take upper and lower case for the same have two names of a file, as hard links are."""
    frames("in", [1, 10001], "%05d.PNG")
    if target == "IN/%05d.png":
        Path("IN").symlink_to("in")
    for path in list(Path("in").iterdir()):
        path.with_suffix(".png").hardlink_to(path)
    before = {path.name: path.read_bytes() for path in Path("in").iterdir()}
    ran = lowlight("video", "in/%05d.PNG", "-o", target, *SAME, *exist)
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert f"output {Path(target)} is its own input: give another name or folder with -o" in ran.err
    assert {path.name: path.read_bytes() for path in Path("in").iterdir()} == before


def test_frames_are_found_as_the_disk_finds_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where upper and lower case are the same, 00001.JPG is what 00001.jpg opens, and in the way of it."""
    frames("in", [1, 2], "%05d.JPG")
    row = pattern(Path("in/%05d.jpg"))
    assert row is not None
    assert row.found() == {}
    there = sorted(Path("in").iterdir())
    Path("in/00001.jpg").hardlink_to("in/00001.JPG")
    monkeypatch.setattr(numbered, "_files", lambda _: there)
    assert row.found() == {1: Path("in/00001.JPG")}
