"""MPEG-4 writes times in ticks of the clock that its header states: another one, and nobody can read the frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

pytest.importorskip("av")

import video_kit as kit


@pytest.mark.parametrize("base", [Fraction(1, 30004), Fraction(1, 25), Fraction(1001, 30000)], ids=str)
def test_frames_of_a_fine_clock_can_be_read(tmp_path: Path, lowlight: Callable[..., Ran], base: Fraction) -> None:
    step = 1000 if base == Fraction(1, 30004) else 1
    ticks = [number * step for number in range(12)]
    clip = kit.write(tmp_path / "clip.mp4", codec="mpeg4", base=base, ticks=ticks)
    target = tmp_path / "lit.mp4"
    ran = lowlight("video", clip, "-o", target, "--strength", "0", "--temporal", "off")
    assert ran.code == 0, ran.err
    before, after = kit.shown(clip), kit.shown(target)
    assert len(after) == len(before) == 12
    for one, other in zip(before, after, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 4
