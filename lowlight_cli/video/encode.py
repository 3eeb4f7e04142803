"""Encode pictures to packets: choice of encoder, pixel format and options. Each part of a clip has its own encoder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import av.codec.codec
import av.error
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import DeviceError, OutputError, UsageError
from lowlight_cli.sheets import labelled
from lowlight_cli.video.colour import FULL, UNSAID, Colours, Converter, depth, is_rgb, upright
from lowlight_cli.video.formats import CODECS, NAMED, NICKNAMES, ORDERED, Y4M, Codec, Encoding, codec_for, kin
from lowlight_cli.video.pace import Packed, steady_rate

if TYPE_CHECKING:
    from lowlight_cli.video.series import Film

__all__ = ["Encoder", "Plan", "planned"]

TURNS: Final = ("mp4", "mov", "3gp", "matroska", "webm")
"""Containers that store a rotation; for others the pictures themselves are rotated."""

_MPEG4: Final = 2**16 - 1
"""Most ticks per second that MPEG-4 can represent."""


@dataclass(frozen=True)
class Plan:
    """How the video is encoded.

    Attributes:
        name: FFmpeg's name of the encoder.
        options: of the encoder.
        bitrate: bits per second; 0 for constant quality.
        quantiser: fixed quantiser, for encoders without another constant-quality mode; 0 for others.
        width, height: of the frames as written.
        pixel_format: FFmpeg's name.
        colours: what frames are converted to and tagged with.
        aspect: pixel aspect ratio, width over height; None if unspecified.
        fields: field order, as FFmpeg numbers it.
        base: time base, in seconds per tick.
        clock: the encoder's time base; if it is not `base`, the encoder counts frames.
        rate: average frames per second.
        turn: degrees by which pictures are rotated first, counter-clockwise; 0 if the container stores the rotation.
        matrix: the display matrix to write, or None.
        container: FFmpeg's name.
        lead: seconds that the clip's clock shows at its beginning, subtracted from every timestamp if another kind of
            container would take them for a gap; else 0.
        notes: what could not be kept, one line each.
        even: the container is AVI, and all frames are shown at multiples of 1 / `rate`; known when all are encoded.
    """

    name: str
    options: dict[str, str]
    bitrate: int
    quantiser: int
    width: int
    height: int
    pixel_format: str
    colours: Colours
    aspect: Fraction | None
    fields: int
    base: Fraction
    clock: Fraction
    rate: Fraction
    turn: int
    matrix: tuple[int, ...] | None
    container: str
    lead: Fraction = Fraction(0)
    notes: tuple[str, ...] = ()
    even: bool = False

    @property
    def shaped(self) -> bool:
        """Whether pixels are not square in a container that needs `aspect.say_aspect`."""
        return self.container in ("matroska", "webm") and self.aspect not in (None, 0, 1)

    @property
    def counted(self) -> bool:
        """Whether the encoder gets the frame's number as its timestamp, rather than the time when it is shown."""
        return self.clock != self.base

    @property
    def constant(self) -> bool:
        """Whether the container supports only a constant frame rate."""
        return self.container == Y4M

    @property
    def tick(self) -> Fraction:
        """Seconds per tick of the video in the container."""
        return 1 / self.rate if self.constant or self.even else self.base

    def configure(self, to: Any) -> None:
        """Apply the plan to an encoder, or to the stream that owns one."""
        to.width, to.height, to.pix_fmt = self.width, self.height, self.pixel_format
        to.time_base, to.framerate = self.clock, 1 / self.clock if self.counted else self.rate
        to.color_range, to.colorspace = self.colours.range, self.colours.matrix
        to.color_primaries, to.color_trc = self.colours.primaries, self.colours.transfer
        to.bit_rate = self.bitrate
        if self.fields == 1:
            to.field_order = 1
        if self.aspect:
            to.sample_aspect_ratio = self.aspect
        if self.quantiser:
            to.qmin = to.qmax = self.quantiser
            to.bit_rate = 200_000_000
        to.options = dict(self.options)

    def open(self, context: Any) -> None:
        """Open a configured encoder.

        Raises:
            DeviceError: the encoder does not work here, or not with these options.
        """
        with _explained(self.name):
            context.open()


def planned(clip: Film, container: str, encoding: Encoding, *, wide: bool = False) -> Plan:
    """Decide how to write a clip.

    Args:
        clip: the source.
        container: FFmpeg's name of the output container.
        encoding: what the user wants.
        wide: each frame is shown beside its result, with labels: `--compare`.

    Raises:
        UsageError: unknown codec, or an option that it does not have.
        OutputError: the container cannot hold the codec, or the encoder cannot write odd sides.
    """
    deep = depth(clip.pixel_format) > 8
    name, codec = codec_for(clip.codec, container, encoding.codec, deep=deep)
    # hardly any player takes ten-bit H.264: it is kept, or asked for, but nothing becomes it
    shallow = deep and encoding.codec == "auto" and name == "h264" != clip.codec
    encoder, notes = _encoder(name, codec, encoding.hardware)
    if encoder != codec.encoder:
        name, codec = codec_for(clip.codec, container, encoder)
    _check_container(container, encoder)
    options, bitrate, quantiser = _told(codec, encoding, container)
    stated = container in TURNS and (clip.matrix or not clip.rotation)
    turn = 0 if stated and not wide else clip.rotation  # sheets show upright pictures
    width, height, aspect = clip.width, clip.height, clip.aspect
    if turn % 180:
        width, height, aspect = height, width, 1 / aspect if aspect else None
    if wide:
        blank = np.zeros((height, width, 3), np.float32)
        height, width, _ = labelled([("before", blank), ("after", blank)], 2).shape
        height, width = height + height % 2, width + width % 2
    pixels, more = _pixel_format(encoder, clip.pixel_format, width, height, shallow=shallow)
    colours = clip.colours
    if not is_rgb(pixels) and is_rgb(clip.pixel_format):
        primaries, transfer = (1 if each in (0, UNSAID) else each for each in (colours.primaries, colours.transfer))
        colours = Colours(1, primaries, transfer, 1)
    if container == Y4M or (not is_rgb(pixels) and colours.matrix == 0):
        colours = replace(colours, matrix=UNSAID)  # as YUV4MPEG2 is read, which cannot say it
    if name == "mjpeg":
        colours = replace(colours, matrix=5, range=FULL)  # JPEG has no other
    if clip.transparent:
        more.append("transparency is left out")
    if clip.fields > 1:
        more.append("is interlaced: combing will stay in the result; deinterlace it first, such as by ffmpeg -vf bwdif")
    return Plan(
        name=encoder,
        options=options,
        bitrate=bitrate,
        quantiser=quantiser,
        width=width,
        height=height,
        pixel_format=pixels,
        colours=colours,
        aspect=aspect,
        fields=clip.fields,
        base=clip.base,
        clock=_clock(encoder, clip.base, clip.rate),
        rate=steady_rate(clip) if container == Y4M else clip.rate,
        turn=0 if wide else turn,
        matrix=None if turn or wide else clip.matrix,
        container=container,
        lead=_lead(clip, container),
        notes=(*notes, *more),
    )


class Encoder:
    """One encoder from its first frame to its last.

    Raises:
        DeviceError: the encoder does not work here, or not with these options.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._converter = Converter(plan.colours, plan.width, plan.height)
        self._shown: dict[int, tuple[int, int]] = {}
        self._count = 0
        self._context: Any = av.CodecContext.create(plan.name, "w")
        plan.configure(self._context)
        if _global_header(plan.container):
            self._context.flags |= av.codec.context.Flags.global_header
        plan.open(self._context)

    def encode(self, picture: NDArray[np.float32], pts: int, duration: int) -> Iterator[Packed]:
        """Encode a picture, (H, W, 3) float32 in [0, 1], and yield the packets that are ready."""
        if self.plan.turn:
            picture = upright(picture, self.plan.turn)
        frame = self._converter.frame(np.ascontiguousarray(picture), self.plan.pixel_format)
        frame.pts, frame.time_base = self._count if self.plan.counted else pts, self.plan.clock
        self._shown[frame.pts] = pts, duration
        self._count += 1
        with _explained(self.plan.name):
            yield from self._packed(self._context.encode(frame))

    def flush(self) -> Iterator[Packed]:
        """Yield all packets that are still inside the encoder."""
        with _explained(self.plan.name):
            yield from self._packed(self._context.encode(None))

    def _packed(self, packets: list[Any]) -> Iterator[Packed]:
        for packet in packets:
            pts, duration = self._shown.pop(packet.pts, (packet.pts, 0))
            if not duration and not self.plan.counted:
                duration = packet.duration or 0
            yield Packed(bytes(packet), pts, duration, packet.is_keyframe)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(
            f"the encoder {name} does not work here ({reason}): choose another --codec, or other values of --preset, "
            "--crf, --bitrate"
        ) from error


def _encoder(name: str, codec: Codec, hardware: bool) -> tuple[str, list[str]]:
    """FFmpeg's name of the encoder, and notes for the user."""
    os.environ.setdefault("SVT_LOG", "1")  # else SVT-AV1 writes to stderr
    if hardware:
        for each in codec.hardware:
            if _works(each):
                return each, []
        return codec.encoder, [f"no hardware here encodes {name}: {codec.encoder} does"]
    try:
        av.Codec(codec.encoder, "w")
    except ValueError as error:  # av.codec.codec.UnknownCodecError
        known = NICKNAMES.get(codec.encoder.lower(), "")
        hint = f"did you mean {known!r}?" if known else f"there are {', '.join(CODECS)}"
        raise UsageError(f"no encoder {codec.encoder!r}: {hint}") from error
    return codec.encoder, []


def _works(name: str) -> bool:
    """Whether an encoder opens on this machine and takes frames from main memory."""
    try:
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = 640, 360, next(_formats(name), "yuv420p")
        context.time_base = Fraction(1, 25)
        context.open()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _formats(encoder: str) -> Iterator[str]:
    """The pixel formats that an encoder takes, except those in device memory, which have no components."""
    return (each.name for each in av.Codec(encoder, "w").video_formats or () if each.components)


def _check_container(container: str, encoder: str) -> None:
    with av.open(os.devnull, "w", format=container) as trial:
        try:
            trial.add_stream(encoder, rate=25)
            if container == "mpegts" and av.Codec(encoder, "w").canonical_name not in NAMED["video"]:
                raise ValueError
        except ValueError as error:
            raise OutputError(
                f"{container} cannot hold what {encoder} writes: choose another --codec or suffix"
            ) from error


def _lead(clip: Film, container: str) -> Fraction:
    return Fraction(0) if clip.live or kin(clip.container_name, container) else max(Fraction(0), clip.zero)


def _clock(encoder: str, base: Fraction, rate: Fraction) -> Fraction:
    """Seconds per tick of an encoder: the clip's, or about a frame if the codec cannot represent the clip's."""
    if encoder == "mpeg4":
        return base if base.denominator <= _MPEG4 else (1 / rate).limit_denominator(_MPEG4)
    rates = [Fraction(each.numerator, each.denominator) for each in av.Codec(encoder, "w").frame_rates or ()]
    if encoder == "mpeg1video":
        rates = [each for each in rates if each > 20]  # the standard has no lower ones
    return 1 / min(rates, key=lambda each: abs(each - rate)) if rates else base


def _told(codec: Codec, encoding: Encoding, container: str) -> tuple[dict[str, str], int, int]:
    """The encoder's options, bit rate and fixed quantiser."""
    options = dict(codec.more)
    if encoding.preset is not None and not codec.preset:
        raise UsageError(f"{codec.encoder} has no --preset")
    if codec.preset and (speed := encoding.preset or codec.speed):
        options[codec.preset] = speed
    if container in ORDERED and codec.encoder in ("libx264", "mpeg4"):
        options["bf"] = "0"
    if encoding.bitrate is not None:
        if not codec.quality and codec.encoder in ("ffv1", "prores_ks"):
            raise UsageError(f"{codec.encoder} has no --bitrate")
        return options, encoding.bitrate, 0
    level = codec.level if encoding.crf is None else encoding.crf
    if encoding.crf is not None:
        if not codec.quality:
            raise UsageError(f"{codec.encoder} has no --crf")
        low, high = codec.span
        if not low <= encoding.crf <= high:
            raise UsageError(f"--crf {encoding.crf} is out of range for {codec.encoder}; choose {low} to {high}")
    if codec.quality == "qscale":
        return options, 0, int(level or 0)
    if codec.quality and level is not None:
        options[codec.quality] = str(level)
    return options, 0, 0


def _pixel_format(
    encoder: str, source: str, width: int, height: int, *, shallow: bool = False
) -> tuple[str, list[str]]:
    """The encoder's pixel format that keeps most of the clip's, and notes on what it loses.

    RGB becomes 4:2:0, unless the encoder is there to lose nothing: all players show 4:2:0, few RGB or full-size chroma.

    Args:
        encoder: FFmpeg's name.
        source: FFmpeg's name of the clip's pixel format.
        width: of the frames as written.
        height: as `width`.
        shallow: 8 bits and 4:2:0, whatever the clip has.
    """
    plain = source.replace("yuvj", "yuv")
    if shallow:
        plain = "yuv420p"
    elif is_rgb(source) and (av.Codec(encoder, "w").lossy or encoder == "rawvideo"):
        plain = "yuv420p10le" if depth(source) > 8 else "yuv420p"
    formats = list(_formats(encoder))
    if encoder == "rawvideo":  # the formats that YUV4MPEG2 can name
        formats = [f"yuv{sampling}p{bits}" for bits in ("", "10le", "12le") for sampling in (420, 422, 444)]
        formats += ["gray", "gray10le"]
    if not formats or plain in formats:
        chosen = plain
    else:
        best, _ = av.codec.codec.find_best_pix_fmt_of_list(formats, plain)
        chosen = best.name if best else formats[0]
    notes = []
    odd = width % 2 or height % 2
    if odd and "420" in chosen and encoder in ("libx264", "libx265", "libsvtav1"):
        whole = chosen.replace("420", "444")
        if whole not in formats:
            raise OutputError(f"{encoder} cannot write odd sides such as {width}x{height}: choose --codec vp9 or h264")
        chosen = whole
        notes.append(f"{width}x{height} has an odd side, which needs colour at full size: written as {whole}")
    if depth(chosen) < depth(source):
        notes.append(f"{encoder} is given {depth(chosen)} bits a sample, the clip has {depth(source)}")
    return chosen.replace("yuva", "yuv").replace("ya8", "gray").replace("ya16", "gray16"), notes


def _global_header(container: str) -> bool:
    wants: Any = av.format.Flags.global_header.value
    return bool(av.ContainerFormat(container, "w").flags & wants)
