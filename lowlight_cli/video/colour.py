"""Convert frames to RGB pictures and back, with the stream's own matrix, range and depth, exact to the code.

FFmpeg only brings the chroma planes to full size and the samples to 16 bits, which is exact; the matrix is applied here
in float32, so that dark codes are not rounded before they are brightened. ITU-T H.273 numbers matrices, primaries and
transfer functions.

The transfer function of a video (BT.709 and similar) is treated as sRGB in both directions, as displays do. PQ and HLG
are refused: their codes stand for other amounts of light.
"""

from __future__ import annotations

import functools
import shlex
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

__all__ = ["Colours", "Converter", "depth", "is_rgb", "upright"]

Picture = NDArray[np.float32]

TONED: Final = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
    "format=yuv420p10le"
)
"""FFmpeg's filters that make SDR of HDR."""

MATRICES: Final = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""H.273's matrix number to the weights of red and blue in luma; 10 (constant luminance) is read as 9."""

UNSAID: Final = 2
HDR: Final = {16: "PQ", 18: "HLG"}
FULL: Final = 2

_WAY: Final = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class Colours:
    """A stream's colour metadata, in the numbers of H.273; range is 1 for limited, 2 for full, 0 for unspecified."""

    matrix: int = UNSAID
    primaries: int = UNSAID
    transfer: int = UNSAID
    range: int = 0

    def shares(self, height: int, width: int) -> tuple[float, float]:
        """Weights of red and blue in luma. If unspecified, large pictures are BT.709, others BT.601, as in players."""
        large = height >= 720 or width >= 1280
        return MATRICES[self.matrix if self.matrix in MATRICES else 1 if large else 6]

    def check(self, name: str) -> None:
        """Raise an error if frames with these colours cannot be enhanced.

        Raises:
            InputError: HDR, or an unknown matrix.
        """
        if self.transfer in HDR:
            raise InputError(
                f"{name}: is HDR ({HDR[self.transfer]}): make an SDR clip of it first, by "
                f"ffmpeg -i {shlex.quote(name)} -c:v libx265 -crf 16 -c:a copy -vf {TONED} sdr.mkv"
            )
        if self.matrix not in MATRICES and self.matrix not in (0, UNSAID):
            raise InputError(f"{name}: has the colour matrix {self.matrix}, which cannot be read: convert it to BT.709")


class Converter:
    """Converts one stream's frames to pictures and back. Not thread-safe.

    Args:
        colours: of the stream.
        width: of the pictures; frames of another size are scaled to it.
        height: as `width`.
    """

    def __init__(self, colours: Colours, width: int, height: int) -> None:
        self.colours, self.width, self.height = colours, width, height
        self._scaler = VideoReformatter()
        # reused for every frame: allocating them anew costs as much time as the conversion itself
        self._planes = np.empty((height, width, 3), np.float32)
        self._codes = np.empty((height, width, 3), np.uint16)

    def picture(self, frame: VideoFrame) -> Picture:
        """Convert a frame to (H, W, 3) float32 RGB in [0, 1], in the stream's own primaries and transfer function."""
        if is_rgb(frame.format.name):
            return self._rgb(frame)
        if len(frame.format.components) < 3:
            return self._grey(frame)
        full = FULL if self._full(frame.format.name) else 1
        codes = self._scaled(frame, "yuv444p16le", FULL if frame.format.name.startswith("yuvj") else 1)
        forward, offset, _ = _matrix(self._shares, full == FULL, frame.format.components[0].bits)
        np.copyto(self._planes, codes)
        affine = np.hstack([forward, (-forward @ offset)[:, None]]).astype(np.float32)
        picture: Picture = np.asarray(cv2.transform(self._planes, affine), np.float32)
        return np.clip(picture, 0, 1, out=picture)

    def frame(self, picture: Picture, pixel_format: str) -> VideoFrame:
        """Convert a picture, (H, W, 3) in [0, 1], to a frame in FFmpeg's `pixel_format` with the stream's colours."""
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
            # round here, because FFmpeg would dither or truncate; not chroma, though, that FFmpeg has yet to average
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
        """Convert to another pixel format and size; neither the matrix nor the range changes."""
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
        """Convert an RGB frame to (H, W, 3) in [0, 1]. Eight bits are not widened by FFmpeg, which shifts them, so that
        white falls short of 1.
        """
        packed, white = ("rgb48le", 65535) if frame.format.components[0].bits > 8 else ("rgb24", 255)
        out = self._scaler.reformat(frame, self.width, self.height, packed, interpolation=_WAY, threads=1)
        return np.asarray(out.to_ndarray(), np.float32) / np.float32(white)

    def _grey(self, frame: VideoFrame) -> Picture:
        out = self._scaler.reformat(frame, self.width, self.height, "gray16le", interpolation=_WAY, threads=1)
        return np.repeat(out.to_ndarray().astype(np.float32)[..., None] / np.float32(65535), 3, axis=2)


def depth(pixel_format: str) -> int:
    """Bits per sample."""
    return av.VideoFormat(pixel_format, 16, 16).components[0].bits


def is_rgb(pixel_format: str) -> bool:
    """Whether the samples are RGB, or numbers of such colours in a palette."""
    kind = av.VideoFormat(pixel_format, 16, 16)
    return kind.is_rgb or kind.has_palette


def upright(picture: Picture, rotation: int) -> Picture:
    """Rotate a picture to the way that a player shows it; `rotation` is counter-clockwise, in degrees."""
    return np.rot90(picture, round(rotation / 90) % 4)


@functools.lru_cache(maxsize=8)
def _matrix(
    shares: tuple[float, float], full: bool, bits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """16-bit YCbCr codes to RGB in [0, 1]: the matrix, the offset to subtract first, and the step of a `bits`-bit code.

    ITU-T H.273, equations 38 to 43 and 50; FFmpeg shifts codes of fewer bits to the upper end of the 16.
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
