"""Which matrix is taken where a clip says none, and what of a colour is left in grey."""

from __future__ import annotations

import numpy as np
import pytest

from lowlight_cli.video.colour import Colours, Converter

BT_601, BT_709, BT_2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)


@pytest.mark.parametrize(
    ("matrix", "height", "width", "shares"),
    [
        (2, 576, 720, BT_601),
        (2, 719, 1279, BT_601),
        (2, 720, 480, BT_709),
        (2, 480, 1280, BT_709),
        (2, 2160, 3840, BT_709),
        (6, 2160, 3840, BT_601),
        (1, 144, 176, BT_709),
        (9, 144, 176, BT_2020),
    ],
)
def test_where_nothing_is_said_the_size_decides(
    matrix: int, height: int, width: int, shares: tuple[float, float]
) -> None:
    assert Colours(matrix).shares(height, width) == shares


@pytest.mark.parametrize(("size", "shares"), [((32, 48), BT_601), ((720, 32), BT_709)])
def test_a_frame_has_the_matrix_of_its_size(size: tuple[int, int], shares: tuple[float, float]) -> None:
    """Luma of red and of blue, in 219 steps from 16."""
    height, width = size
    for channel, share in zip((0, 2), shares, strict=True):
        picture = np.zeros((height, width, 3), np.float32)
        picture[..., channel] = 1
        frame = Converter(Colours(), width, height).frame(picture, "yuv444p")
        assert frame.to_ndarray()[0, 0, 0] == round(16 + 219 * share)


@pytest.mark.parametrize("pixels", ["gray", "gray10le"])
@pytest.mark.parametrize(("channel", "share"), [(0, 0.2126), (1, 0.7152), (2, 0.0722)])
def test_a_colour_in_grey_is_its_luma(pixels: str, channel: int, share: float) -> None:
    picture = np.zeros((16, 32, 3), np.float32)
    picture[..., channel] = 1
    white = 255 if pixels == "gray" else 1023
    assert Converter(Colours(), 32, 16).frame(picture, pixels).to_ndarray()[0, 0] == round(white * share)
