"""Encoders in hardware: which could be taken here, with pixels that they take."""

from __future__ import annotations

import av
import numpy as np
import pytest

from lowlight_cli.video.colour import Colours, Converter
from lowlight_cli.video.encode import _pixel_format, _works
from lowlight_cli.video.formats import CODECS

PICTURE = np.full((36, 64, 3), 0.5, np.float32)


@pytest.mark.parametrize(
    ("name", "works"), [("libx264", True), ("prores_ks", True), ("gif", True), ("h264_nosuch", False)]
)
def test_an_encoder_is_tried_with_pixels_that_it_takes(name: str, works: bool) -> None:
    """Neither of the second and the third takes what most do, nor does Quick Sync."""
    assert _works(name) == works


def test_frames_are_made_for_encoders_in_hardware() -> None:
    """Each that FFmpeg has here gets pixels that lie in memory, of a kind that it takes."""
    known = [name for codec in CODECS.values() for name in codec.hardware if name in av.codecs_available]
    assert {name.partition("_")[2] for name in known} >= {"nvenc"} or not known
    converter = Converter(Colours(1, 1, 1, 1), 64, 36)
    for name in known:
        for source in ("yuv420p", "yuv420p10le"):
            chosen, _ = _pixel_format(name, source, 64, 36)
            assert chosen in {each.name for each in av.Codec(name, "w").video_formats or ()}
            assert converter.frame(PICTURE, chosen).to_ndarray(format="gray").mean() == pytest.approx(126, abs=3)
