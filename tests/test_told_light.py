"""What is told of a picture's light: how much of it is white or black."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli import Enhancer
from lowlight_cli.files import enhance_files
from lowlight_cli.targets import Job

Lowlight = Callable[..., Ran]


def room(window: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A dark room of 240x320, a fifth of it a window of one colour; its walls are no flat border."""
    picture = np.random.default_rng(0).integers(12, 29, (240, 320, 3), np.uint8)
    picture[40:140, 90:250] = window
    return picture


@pytest.mark.parametrize("command", ["enhance", "batch"])
def test_blown_results_are_found_by_their_light(folder: Path, lowlight: Lowlight, command: str) -> None:
    """Networks stop a few levels below 255; what is blown counts as white all the same."""
    Path("in").mkdir()
    Image.fromarray(room((180, 200, 220))).save("in/room.png")
    ran = lowlight(command, "in", "--weights", "real", "--no-protect-highlights", "--json")
    assert ran.code == 0, ran.err
    told = next(event for line in ran.out.splitlines() if (event := json.loads(line))["event"] == "file")
    if command == "batch":
        told = json.loads(Path("in_lit/lowlight-manifest.jsonl").read_text().splitlines()[0])
    assert told["clipped"]["before"]["white"] == 0 and told["clipped"]["after"]["white"] > 0.15


@pytest.mark.parametrize(("level", "white", "black"), [(249, 0, 0), (250, 1, 0), (255, 1, 0), (0, 0, 1), (1, 0, 0)])
def test_what_counts_as_white_and_black(folder: Path, level: int, white: int, black: int) -> None:
    """White from 250 on; black at 0 alone, since a dark picture's lowest levels still hold light."""
    Image.new("RGB", (8, 6), (level,) * 3).save("flat.png")
    jobs = [Job(Path("flat.png"), Path("lit.png"))]
    (done,) = enhance_files(Enhancer(strength=0), jobs, measure=True)
    assert done.before == done.after and done.before
    assert (done.before.white, done.before.black) == (white, black)
