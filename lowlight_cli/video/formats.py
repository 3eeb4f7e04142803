"""Tables of containers and codecs: the container for a suffix, the encoder for a codec. PyAV is not needed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lowlight_cli.errors import DeviceError, UsageError

__all__ = [
    "CODECS", "CONTAINERS", "JOINED", "NAMED", "NICKNAMES", "ORDERED", "PLAIN", "Y4M", "Codec", "Encoding",
    "codec_for", "is_clip", "kin", "need_av",
]  # fmt: skip

MAJOR: Final = "18"
"""The PyAV that this is written for: 19 opens clips and counts time in other ways."""

Y4M: Final = "yuv4mpegpipe"

ORDERED: Final = ("avi", "asf")
"""Containers that store only decoding times, so that FFmpeg guesses when reordered frames are shown."""

JOINED: Final = ("mpegts", "mpeg")
"""Containers of recordings that may be joined end to end, each with its own clock: a seek finds any of the moments."""

CONTAINERS: Final = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
    ".mts": "mpegts",
    ".mpg": "mpeg",
    ".mpeg": "mpeg",
    ".3gp": "3gp",
    ".flv": "flv",
    ".wmv": "asf",
    ".y4m": Y4M,
}
"""Suffix to FFmpeg's name of the container."""

_PICTURES: Final = (
    "bmp", "dpx", "exr", "gif", "hdr", "j2k", "jpeg", "jpegls", "jpegxl", "pam", "pbm", "pcx", "pgm", "pgmyuv", "png",
    "ppm", "qoi", "sgi", "sunrast", "tiff", "webp",
)  # fmt: skip

PLAIN: Final = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "live_flv", "kux", "asf", Y4M,
    "ogg", "nut", "ivf", "mxf", "gxf", "dv", "rm", "ivr", "swf", "nsv", "nuv", "wtv", "ty", "pva", "vivo",
    "gif", "apng", "jpegxl_anim", "cine", "mlv", "r3d", "ser", "flic", "smk", "bink", "roq", "film_cpk", "fits",
    "dhav", "hxvs", "ifv", "iv8", "lmlm4", "luodat", "lvf", "lxf", "mpjpeg", "mxg", "smjpeg",
    "h261", "h263", "h264", "hevc", "vvc", "evc", "apv", "av1", "obu", "m4v", "mpegvideo", "mjpeg", "mjpeg_2000",
    "vc1", "vc1test", "dirac", "dnxhd", "cavsvideo", "avs2", "avs3", "ipu",
    *(f"{kind}_pipe" for kind in _PICTURES),
)  # fmt: skip
"""What FFmpeg may read from a file or a pipe: it holds all its pictures itself. Others, such as playlists, may name
other files and addresses, or are texts that FFmpeg would draw; a clip from a stranger must not show what is private."""


@dataclass(frozen=True)
class Codec:
    """How a codec is written.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        quality: the encoder's option for constant quality; empty if it has none.
        level: default of `quality`: losses are hard to see beside the clip.
        span: range of `quality`.
        preset: the encoder's option for speed; empty if it has none.
        speed: default of `preset`: takes about a tenth of the time of the fastest network.
        more: further options of the encoder.
        hardware: hardware encoders of the same codec; the first that works is used if hardware is wanted.
    """

    encoder: str
    quality: str = ""
    level: int | None = None
    span: tuple[int, int] = (0, 51)
    preset: str = ""
    speed: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    hardware: tuple[str, ...] = ()


def _hardware(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{maker}" for maker in ("nvenc", "videotoolbox", "qsv", "amf"))


CODECS: Final = {
    "h264": Codec("libx264", "crf", 18, preset="preset", speed="veryfast", hardware=_hardware("h264")),
    "hevc": Codec(
        "libx265", "crf", 20, preset="preset", speed="superfast", more={"x265-params": "log-level=none"},
        hardware=_hardware("hevc"),
    ),
    "av1": Codec("libsvtav1", "crf", 26, (1, 63), "preset", "9", hardware=_hardware("av1")),
    "vp9": Codec(
        "libvpx-vp9", "crf", 24, (0, 63), "cpu-used", "6", more={"deadline": "good", "row-mt": "1"},
    ),
    "prores": Codec("prores_ks"),
    "ffv1": Codec("ffv1", more={"level": "3"}),
    "mpeg4": Codec("mpeg4", "qscale", 3, (1, 31)),
    "mjpeg": Codec("mjpeg", "qscale", 2, (1, 31)),
    "mpeg2video": Codec("mpeg2video", "qscale", 3, (1, 31)),
}  # fmt: skip
"""How each codec is written, by FFmpeg's name; of a clip in any other, see `codec_for`."""

_LIKE: Final = {"vp8": "vp9", "msmpeg4v3": "mpeg4", "msmpeg4v2": "mpeg4", "mpeg1video": "mpeg2video", "mjpegb": "mjpeg"}
_ONLY: Final = {
    "webm": ("vp9", "av1"),
    "mpeg": ("mpeg2video",),
    "flv": ("h264",),
    "3gp": ("h264", "mpeg4"),
    "mpegts": ("h264", "hevc", "mpeg2video", "mpeg4"),
    "mp4": ("h264", "hevc", "av1", "vp9", "ffv1", "mpeg4", "mjpeg", "mpeg2video"),
    "mov": ("h264", "hevc", "prores", "mpeg4", "mjpeg", "mpeg2video"),
    "avi": ("h264", "av1", "vp9", "ffv1", "mpeg4", "mjpeg", "mpeg2video"),
    "asf": ("h264", "av1", "vp9", "ffv1", "mpeg4", "mjpeg", "mpeg2video"),
    Y4M: ("rawvideo",),
}
"""The codecs of a container that does not hold all; if the clip's own is not among them, see `codec_for`."""

NICKNAMES: Final = {"h265": "hevc", "x265": "hevc", "x264": "h264", "avc": "h264", "hvc1": "hevc", "avc1": "h264"}
"""Other names by which codecs are known, and the one in `CODECS`."""

NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "video": ("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4"),
    "audio": (
        "aac", "aac_latm", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "s302m", "pcm_bluray",
    ),
    "subtitle": ("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle"),
}  # fmt: skip
"""Codecs that MPEG-TS has a name for; FFmpeg silently writes any other as data that nobody can play."""


_KINDS: Final = (
    {"mp4", "mov", "3gp"},
    {"matroska", "webm"},
    {"mpegts", "mpeg", "hls"},
)  # fmt: skip
"""Groups of containers that are alike; any other container is like itself alone."""


@dataclass(frozen=True)
class Encoding:
    """What the user wants of the encoder.

    Attributes:
        codec: `auto`, a name of `CODECS`, or an encoder of FFmpeg, such as `h264_nvenc`.
        crf: constant quality on the encoder's own scale, lower is better; None is the codec's default.
        preset: the encoder's name for a trade-off of speed and size; None is the codec's default.
        bitrate: bits per second, instead of constant quality.
        hardware: use a hardware encoder if one works.

    Raises:
        UsageError: both a quality and a bit rate, or a bit rate that is too low.
    """

    codec: str = "auto"
    crf: int | None = None
    preset: str | None = None
    bitrate: int | None = None
    hardware: bool = False

    def __post_init__(self) -> None:
        if self.crf is not None and self.bitrate is not None:
            raise UsageError("--crf and --bitrate exclude each other: a constant quality, or a constant rate")
        if self.bitrate is not None and self.bitrate < 1000:
            raise UsageError(f"bitrate {self.bitrate} is out of range; choose bits a second, such as 4M")


def codec_for(source: str, container: str, wanted: str = "auto", *, deep: bool = False) -> tuple[str, Codec]:
    """Choose the codec to write, and how to write it.

    If it is up to us and the container does not hold the clip's own, it is H.264, or for more than 8 bits HEVC; if it
    does not hold these either, the first of its own.

    Args:
        source: the clip's codec, as FFmpeg calls it.
        container: FFmpeg's name of the container to write.
        wanted: see `Encoding.codec`.
        deep: whether the clip has more than 8 bits.

    Returns:
        The name in `CODECS`, or else that of the encoder, and the codec.
    """
    if wanted in CODECS:
        return wanted, CODECS[wanted]
    if wanted != "auto":
        family = next((name for name, each in CODECS.items() if wanted in (each.encoder, *each.hardware)), "")
        if family and wanted == CODECS[family].encoder:
            return family, CODECS[family]
        if wanted.endswith("_nvenc"):
            return wanted, Codec(wanted, "cq", 21, preset="preset", more={"rc": "vbr"})
        return wanted, Codec(wanted, preset="preset")
    name = _LIKE.get(source, source)
    holds = _ONLY.get(container, tuple(CODECS))
    if name not in holds:
        name = next((each for each in ("hevc", "h264")[not deep :] if each in holds), holds[0])
    return name, CODECS.get(name) or Codec(name)


def kin(source: str, container: str) -> bool:
    """Whether two containers are of one kind: they can hold the same data, and their clocks run alike.

    Args:
        source: FFmpeg's name of the container that is read, which may be several names.
        container: FFmpeg's name of the container that is written.
    """
    names = set(source.split(","))
    return container in names or any(container in kind and names & kind for kind in _KINDS)


def is_clip(path: Path) -> bool:
    """Whether a path has a clip's suffix; nothing is opened."""
    return path.suffix.lower() in CONTAINERS


def need_av() -> None:
    """Raise an error if no PyAV is installed, or one that this program does not know.

    Raises:
        DeviceError: there is none, or one of another kind.
    """
    from importlib import metadata
    from importlib.util import find_spec

    if find_spec("av") is None:
        raise DeviceError("video needs an extra: pip install 'lowlight-cli[video]'")
    with contextlib.suppress(metadata.PackageNotFoundError):
        if (version := metadata.version("av")).split(".")[0] != MAJOR:
            raise DeviceError(f"video needs PyAV {MAJOR}, not {version}: pip install 'lowlight-cli[video]'")
