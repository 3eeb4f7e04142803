"""Frames to pixels and back: the matrix, the range and the depth that a stream has, kept to the code.

FFmpeg only brings the colour planes to full size and 16 bits, which is exact; the matrix is ours, in float32, so that
dark codes are not rounded before they are brightened. ITU-T H.273 numbers matrices, primaries and transfers.

A video's transfer (BT.709 and its kin) is read as sRGB's, as displays do, and so written. PQ and HLG are refused: their
numbers mean other light.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from lowlight_cli.errors import InputError
from lowlight_cli.exposure import LUMA

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["Colours", "Converter", "depth", "upright"]

Picture = NDArray[np.float32]

MATRICES: Final = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""H.273's number of a matrix to the shares of red and blue in luma; 10, constant luminance, is read as 9."""

UNSAID: Final = 2
HDR: Final = {16: "PQ", 18: "HLG"}
FULL: Final = 2

_WAY: Final = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class Colours:
    """What a stream says of its colours, in the numbers of H.273; range 1 is limited, 2 full, 0 unsaid."""

    matrix: int = UNSAID
    primaries: int = UNSAID
    transfer: int = UNSAID
    range: int = 0

    def shares(self, height: int, width: int) -> tuple[float, float]:
        """Red's and blue's part of luma. Where nothing is said, large pictures are BT.709, as players take them."""
        large = height >= 720 or width >= 1280
        return MATRICES[self.matrix if self.matrix in MATRICES else 1 if large else 6]

    def check(self, name: str) -> None:
        """Raise where the numbers are none that can be brightened.

        Raises:
            InputError: HDR, or a matrix that is not known.
        """
        if self.transfer in HDR:
            raise InputError(f"{name}: is HDR ({HDR[self.transfer]}), which is not night: convert it to SDR first")
        if self.matrix not in MATRICES and self.matrix not in (0, UNSAID):
            raise InputError(f"{name}: has the colour matrix {self.matrix}, which cannot be read: convert it to BT.709")


class Converter:
    """One stream's frames to pictures and back. Not for several threads at once.

    Args:
        colours: of the stream.
        width: of the pictures; frames of another size are scaled to it.
        height: as `width`.
    """

    def __init__(self, colours: Colours, width: int, height: int) -> None:
        self.colours, self.width, self.height = colours, width, height
        self._scaler = VideoReformatter()
        # kept from frame to frame: memory that is new each time costs as much as the work in it
        self._planes = np.empty((height, width, 3), np.float32)
        self._codes = np.empty((height, width, 3), np.uint16)

    def picture(self, frame: VideoFrame) -> Picture:
        """(H, W, 3) float32 RGB in [0, 1], in the stream's own primaries and transfer."""
        if len(frame.format.components) < 3:
            return self._grey(frame)
        if frame.format.is_rgb:
            return self._rgb(frame)
        full = FULL if self._full(frame.format.name) else 1
        codes = self._scaled(frame, "yuv444p16le", FULL if frame.format.name.startswith("yuvj") else 1)
        forward, offset, _ = _matrix(self._shares, full == FULL, frame.format.components[0].bits)
        np.copyto(self._planes, codes)
        affine = np.hstack([forward, (-forward @ offset)[:, None]]).astype(np.float32)
        picture: Picture = np.asarray(cv2.transform(self._planes, affine), np.float32)
        return np.clip(picture, 0, 1, out=picture)

    def frame(self, picture: Picture, pixel_format: str) -> VideoFrame:
        """A frame of the stream's colours in FFmpeg's `pixel_format`; (H, W, 3) in [0, 1]."""
        kind = av.VideoFormat(pixel_format, self.width, self.height)
        bits = kind.components[0].bits
        if len(kind.components) < 3:
            codes = np.rint(picture @ LUMA * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
            out = av.VideoFrame.from_ndarray(codes, pixel_format)
        elif kind.is_rgb:
            codes = np.rint(picture * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
            deep = bits > 8
            made = av.VideoFrame.from_ndarray(codes << (16 - bits) if deep else codes, "rgb48le" if deep else "rgb24")
            out = self._scaler.reformat(made, format=pixel_format, interpolation=_WAY, threads=1)
        else:
            forward, offset, step = _matrix(self._shares, self._full(pixel_format), bits)
            backward = np.linalg.inv(forward)
            affine = np.hstack([backward, offset[:, None]]).astype(np.float32)
            planes: Picture = np.asarray(cv2.transform(picture, affine, self._planes), np.float32)
            # rounded here, all but chroma that is yet to be averaged: FFmpeg would dither, or cut off
            small = (kind.components[1].width, kind.components[1].height) != (self.width, self.height)
            kept = planes[..., :1] if small else planes
            kept *= np.float32(1 / step)  # a power of two: exact
            np.rint(kept, out=kept)
            kept *= np.float32(step)
            np.copyto(self._codes, np.clip(planes, 0, 65535, out=planes), casting="unsafe")
            made = av.VideoFrame.from_ndarray(self._codes, "yuv444p16le", channel_last=True)
            out = self._scaled_frame(made, pixel_format, FULL if pixel_format.startswith("yuvj") else 1)
            out.colorspace = self.colours.matrix
            out.color_range = self.colours.range
        out.color_primaries = self.colours.primaries
        out.color_trc = self.colours.transfer
        return out

    @property
    def _shares(self) -> tuple[float, float]:
        return self.colours.shares(self.height, self.width)

    def _full(self, pixel_format: str) -> bool:
        return self.colours.range == FULL or pixel_format.startswith("yuvj")

    def _scaled_frame(self, frame: VideoFrame, pixel_format: str, span: int) -> VideoFrame:
        """The same codes in another arrangement: neither the matrix nor the range is touched."""
        said, frame.colorspace = frame.colorspace, UNSAID
        try:
            return self._scaler.reformat(
                frame, self.width, self.height, pixel_format, interpolation=_WAY, src_color_range=span,
                dst_color_range=span, threads=1,
            )  # fmt: skip
        finally:
            frame.colorspace = said

    def _scaled(self, frame: VideoFrame, pixel_format: str, span: int) -> NDArray[np.uint16]:
        return np.asarray(self._scaled_frame(frame, pixel_format, span).to_ndarray(), np.uint16)

    def _rgb(self, frame: VideoFrame) -> Picture:
        """(H, W, 3) in [0, 1] of an RGB frame. FFmpeg is not asked to widen eight bits: it shifts them, and white falls
        short of 1.
        """
        packed, white = ("rgb48le", 65535) if frame.format.components[0].bits > 8 else ("rgb24", 255)
        out = self._scaler.reformat(frame, self.width, self.height, packed, interpolation=_WAY, threads=1)
        return np.asarray(out.to_ndarray(), np.float32) / np.float32(white)

    def _grey(self, frame: VideoFrame) -> Picture:
        out = self._scaler.reformat(frame, self.width, self.height, "gray16le", interpolation=_WAY, threads=1)
        return np.repeat(out.to_ndarray().astype(np.float32)[..., None] / np.float32(65535), 3, axis=2)


def depth(pixel_format: str) -> int:
    """Bits a sample."""
    return av.VideoFormat(pixel_format, 16, 16).components[0].bits


def upright(picture: Picture, rotation: int) -> Picture:
    """The picture as a player shows it; `rotation` is counter-clockwise, in degrees."""
    return np.rot90(picture, round(rotation / 90) % 4)


@functools.lru_cache(maxsize=8)
def _matrix(
    shares: tuple[float, float], full: bool, bits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """YCbCr codes of 16 bits to RGB in [0, 1]: the matrix, what is taken off first, and one code of `bits` bits.

    ITU-T H.273, equations 38 to 43 and 50; FFmpeg shifts codes of fewer bits to the upper end of 16.
    """
    red, blue = shares
    green = 1 - red - blue
    step = 2.0 ** (16 - bits)
    unit = 2.0 ** (bits - 8) * step
    luma, chroma = ((2**bits - 1) * step,) * 2 if full else (219 * unit, 224 * unit)
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    forward = np.array(
        [
            [1 / luma, 0, to_red / chroma],
            [1 / luma, -blue * to_blue / green / chroma, -red * to_red / green / chroma],
            [1 / luma, to_blue / chroma, 0],
        ]
    )
    return forward, np.array([0 if full else 16 * unit, 128 * unit, 128 * unit]), step
