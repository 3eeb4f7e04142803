"""Which matrix is taken where a clip says none, what of a colour is left in grey, and clips of RGB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.video.colour import Colours, Converter
from lowlight_cli.video.streams import opened

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0", "--temporal", "off")
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


def patches(count: int = 4) -> Iterator[NDArray[np.uint8]]:
    """Four patches of dark colours."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:], picture[32:, :48], picture[32:, 48:] = (
        (90, 10, 20), (10, 70, 10), (15, 20, 120), (60, 60, 60),
    )  # fmt: skip
    for _ in range(count):
        yield picture.copy()


def seen(path: Path) -> NDArray[Any]:
    """The colours of the patches, (2, 2, 3), in levels of 255, as they are read."""
    with opened(path, str(path)) as clip:
        picture = next(clip.decoded()).picture
    return 255 * np.array([[picture[y, x] for x in (24, 72)] for y in (16, 48)])


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("clip.gif", "", ""),
        ("clip.png", "", ""),
        ("clip.mkv", "libx264rgb", "rgb24"),
        ("clip.avi", "utvideo", "gbrp"),
        ("clip.mov", "png", "rgb24"),
        ("deep.mov", "png", "rgb48be"),
    ],
)
@pytest.mark.parametrize("target", ["out.mp4", "out.y4m", "out.mkv"])
def test_rgb_becomes_what_players_show(
    folder: Path, lowlight: Lowlight, name: str, codec: str, pixels: str, target: str
) -> None:
    """4:2:0 in the limited range of BT.709, and in the same colours."""
    if codec:
        clip = kit.write(Path(name), patches(), codec=codec, pixels=pixels, base=Fraction(1, 25), ticks=range(4))
    else:
        first, *rest = map(Image.fromarray, patches())
        first.save(clip := Path(name), save_all=True, append_images=rest, duration=40)
    ran = lowlight("video", clip, "-o", target, *SAME)
    assert ran.code == 0, ran.err
    said = kit.known(Path(target)).said
    assert said["pixels"] == ("yuv420p10le" if name == "deep.mov" else "yuv420p")
    assert said["colours"] == ((2, 2, 2, 1) if target == "out.y4m" else (1, 1, 1, 1))
    assert np.abs(seen(Path(target)) - seen(clip)).max() < 2.5


@pytest.mark.parametrize(("codec", "name"), [("ffv1", "out.mkv"), ("utvideo", "out.avi"), ("png", "out.mov")])
def test_rgb_stays_if_nothing_is_to_be_lost(folder: Path, lowlight: Lowlight, codec: str, name: str) -> None:
    clip = kit.write(Path("clip.mov"), patches(), codec="png", pixels="rgb24")
    ran = lowlight("video", clip, "-o", name, "--codec", codec, *SAME)
    assert ran.code == 0, ran.err
    assert av.VideoFormat(kit.known(Path(name)).said["pixels"], 16, 16).is_rgb
    assert np.abs(seen(Path(name)) - seen(clip)).max() < 0.6


@pytest.mark.parametrize("target", ["out.avi", "out.mov", "out.y4m"])
def test_where_no_matrix_can_be_said(folder: Path, lowlight: Lowlight, target: str) -> None:
    """Motion JPEG and YUV4MPEG2 are written with the one that is read without a word."""
    clip = kit.write(Path("clip.mp4"), patches(), colours=(1, 1, 1, 1), options={"crf": "4"})
    words = () if target == "out.y4m" else ("--codec", "mjpeg")
    assert lowlight("video", clip, "-o", target, *words, *SAME).code == 0
    assert np.abs(seen(Path(target)) - seen(clip)).max() < 2.5


def test_a_palette_is_read_in_colour() -> None:
    palette = np.zeros((256, 4), np.uint8)
    palette[:2] = (255, 200, 10, 30), (255, 10, 40, 90)  # opacity, red, green, blue
    codes = np.zeros((16, 32), np.uint8)
    codes[:, 16:] = 1
    frame = av.VideoFrame.from_ndarray((codes, palette), "pal8")
    picture = Converter(Colours(), 32, 16).picture(frame) * 255
    assert np.allclose(picture[8, [4, 28]], [(200, 10, 30), (10, 40, 90)], atol=0.5)
