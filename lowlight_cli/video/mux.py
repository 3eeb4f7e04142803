"""Mux the result: the new video replaces the old, and all other streams are copied packet by packet, in time order."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
from av.stream import Disposition

from lowlight_cli.disk import settle
from lowlight_cli.errors import OutputError
from lowlight_cli.video.aspect import say_aspect
from lowlight_cli.video.layout import ALL, SURPLUS, Original, begun
from lowlight_cli.video.opening import onward, read, sequential, zero
from lowlight_cli.video.pace import at_rate
from lowlight_cli.video.parts import Parts, explained

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

    from lowlight_cli.video.addresses import Address
    from lowlight_cli.video.encode import Plan
    from lowlight_cli.video.streams import Span

__all__ = ["assemble", "decoding_ticks", "rehearse"]

_REFUSALS: Final = (av.error.ArgumentError, av.error.InvalidDataError, av.error.PatchWelcomeError)
"""Errors by which a container refuses packets that it cannot hold; any other error is the disk's."""

_EARLIER: Final = 10
"""Seconds before a part from which its packets are read: a subtitle may be showing already."""


def assemble(
    source: Path | Address | None, index: int, parts: Parts, plan: Plan, span: Span, target: Path
) -> list[str]:
    """Write the clip under a temporary name, sync it to the disk, and rename it atomically.

    Args:
        source: the clip, for its other streams; None if it cannot be read again.
        index: of the stream in it that is replaced.
        parts: the new video.
        plan: how it was encoded.
        span: which part of the clip.
        target: the file; an existing one is replaced.

    Returns:
        What could not be kept, one line each.

    Raises:
        OutputError: the clip cannot be written there, or the container refuses it.
        ResourceError: the disk is full.
    """
    part = parts.folder / f"clip{target.suffix}"  # if a crash leaves it, a later run deletes it with the parts
    try:
        with contextlib.ExitStack() as stack:
            clip = _original(source, index, plan, span, stack)
            notes = _write(clip, parts, plan, part)
        if plan.shaped and plan.aspect:
            say_aspect(part, plan.width, plan.height, plan.aspect)
        settle(part, target)
    except OSError as error:
        raise explained(target, error, resumable=parts.resumable) from error
    except av.error.FFmpegError as error:
        raise _refused(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    return notes


def rehearse(source: Path | Address | None, index: int, plan: Plan, span: Span, target: Path) -> None:
    """Write the header to the null device, so that what the container refuses is known before the first frame.

    The arguments are those of `assemble`.

    Raises:
        OutputError: the container refuses the video.
        DeviceError: the encoder does not work here, or not with these options.
    """
    try:
        with contextlib.ExitStack() as stack:
            clip = _original(source, index, plan, span, stack)
            out, *_ = begun(clip, plan, os.devnull)
            with contextlib.suppress(av.error.FFmpegError):  # because no frame was written
                out.close()
    except av.error.FFmpegError as error:
        raise _refused(target, error) from error


def decoding_ticks(pts: list[int]) -> list[int]:
    """Decoding times of the frames, rising and never later than they are shown; `pts` are in decoding order."""
    shown = sorted(pts)
    rank = {tick: position for position, tick in enumerate(shown)}
    delay = max((position - rank[tick] for position, tick in enumerate(pts)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    return [shown[at - delay] if at >= delay else shown[0] - (delay - at) * step for at in range(len(pts))]


def _original(
    source: Path | Address | None, index: int, plan: Plan, span: Span, stack: contextlib.ExitStack
) -> Original | None:
    """The clip, open until the stack is closed; None if there is nothing to copy."""
    if source is None:
        return None

    def container() -> InputContainer:
        return stack.enter_context(read(source, str(source)))

    return Original(container(), index, span, plan.lead, container)


def _refused(target: Path, error: av.error.FFmpegError) -> OutputError:
    return OutputError(f"{target}: cannot be written ({error.strerror}); choose another suffix or --codec")


def _write(clip: Original | None, parts: Parts, plan: Plan, part: Path) -> list[str]:
    """Mux all streams; if the container refuses the result, retry with fewer of them, at last with the video alone."""
    if plan.container == "avi":  # it states a tick as the length of a frame
        plan = replace(plan, even=_even([pts for done in parts.done for pts, *_ in done.frames], plan))
    for tries in (SURPLUS, SURPLUS[-1:], (ALL,)):
        try:
            out, video, copies, notes = begun(clip, plan, str(part.absolute()), tries)
            new = _steady(parts, plan, video, notes) if plan.constant else _new(parts, plan, video)
            with out:
                left = _interleave(out, new, _copied(clip, copies))
        except _REFUSALS:
            if clip is None or tries == (ALL,):
                raise
            clip = replace(clip, container=clip.again())
            continue
        if left:
            notes.append(f"{plan.container} refuses {left} packets beside the picture, which may be damaged: left out")
        return notes
    raise AssertionError("the last try raises or returns")


def _even(ticks: list[int], plan: Plan) -> bool:
    """Whether each frame, at `ticks` of the plan's base, is shown within a tenth of a frame of when a clock that counts
    frames says so.
    """
    counts = [float((tick - ticks[0]) * plan.base * plan.rate) for tick in ticks]
    whole = [round(count) for count in counts]
    near = all(abs(one - other) < 0.1 for one, other in zip(counts, whole, strict=True))
    return near and len(set(whole)) == len(whole)


def _new(parts: Parts, plan: Plan, video: Any) -> Iterator[Any]:
    """Yield the new video's packets; each lasts until the next is shown."""
    frames = [frame for part in parts.done for frame in part.frames]
    shown = sorted((pts, duration) for pts, duration, *_ in frames)
    lasts = {pts: then - pts for (pts, _), (then, _) in itertools.pairwise(shown)}
    ticks = decoding_ticks([pts for pts, *_ in frames])
    lead = round(plan.lead / plan.base)
    last: int | None = None
    for packed, dts in zip(parts.packets(), ticks, strict=True):
        packet = av.Packet(packed.data)
        packet.stream, packet.time_base = video, plan.base
        packet.pts, packet.dts = packed.pts - lead, dts - lead
        packet.duration = lasts.get(packed.pts, packed.duration) or round(1 / plan.rate / plan.base)
        packet.is_keyframe = packed.key
        if video.time_base > plan.base:
            last = _coarser(packet, video.time_base, last)
        yield packet


def _steady(parts: Parts, plan: Plan, video: Any, notes: list[str]) -> Iterator[Any]:
    """Yield the new video's packets at the plan's constant rate, and add what that changes to `notes`."""
    for number, data in enumerate(at_rate(parts.packets(), plan.base, plan.rate, notes)):
        packet = av.Packet(data)
        packet.stream, packet.time_base = video, 1 / plan.rate
        packet.pts = packet.dts = number
        yield packet


def _coarser(packet: Any, base: Fraction, last: int | None) -> int:
    """Convert a packet's times to a coarser clock, with distinct decoding times, and return its decoding time.

    Args:
        packet: changed in place: its ticks are rounded to those of `base`.
        base: seconds per tick.
        last: decoding time of the packet before, in ticks of `base`; None for the first.
    """
    ratio, half = packet.time_base / base, Fraction(1, 2)
    pts, dts, lasts = (math.floor(tick * ratio + half) for tick in (packet.pts, packet.dts, packet.duration))
    packet.dts = dts if last is None else max(dts, last + 1)
    packet.pts, packet.duration, packet.time_base = max(pts, packet.dts), lasts, base
    return int(packet.dts)


def _copied(clip: Original | None, copies: dict[int, Stream]) -> Iterator[Any]:
    """Yield the other streams' packets that lie within the part, with timestamps from its beginning."""
    if not clip or not copies:
        return
    container = clip.container
    begin, end = clip.span.bounds(zero(container))
    stop = None  # Matroska gives the last packet its full length, even if the clip ends within it
    if container.duration and "matroska" in container.format.name:
        stop = zero(container) + Fraction(container.duration, av.time_base)
    with contextlib.suppress(av.error.FFmpegError, IndexError):  # a truncated file ends there; a note says so already
        for packet in onward(_packets(clip, begin), clip.index):
            stream, base = packet.stream, packet.time_base
            if packet.size == 0 or stream.index not in copies:
                continue
            when = None if stream.disposition & Disposition.attached_pic else _shown(packet)  # a cover has no time
            if when is not None and stream.type == "subtitle" and packet.duration:
                when = _cut(packet, when, begin if clip.span.start else when, end)
            if when is not None and ((clip.span.start and when < begin) or (end is not None and when >= end)):
                continue
            if stop and when is not None and packet.duration and when < stop:
                packet.duration = min(packet.duration, round((stop - when) / base))
            shift = clip.shift(base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = copies[stream.index]
            yield packet


def _cut(packet: Any, when: Fraction, begin: Fraction, end: Fraction | None) -> Fraction:
    """Cut what a subtitle shows outside of the part, and return when it begins then."""
    until = when + packet.duration * packet.time_base
    if begin < until and (end is None or when < end):
        when, until = max(when, begin), until if end is None else min(until, end)
        packet.pts = packet.dts = round(when / packet.time_base)
        packet.duration = round((until - when) / packet.time_base)
    return when


def _packets(clip: Original, begin: Fraction) -> Iterator[Any]:
    """Packets of all streams from shortly before `begin` on; from the beginning if seeking fails."""
    if clip.span.start <= _EARLIER or sequential(clip.container):
        return clip.container.demux()
    with contextlib.suppress(av.error.FFmpegError):
        clip.container.seek(int((begin - _EARLIER) * av.time_base))
        packets = clip.container.demux()
        first = next(packets, None)
        when = _shown(first) if first else None
        if when is not None and when <= begin:  # a server that cannot seek back lands anywhere, without an error
            return itertools.chain([first], packets)
    return clip.again().demux()


def _shown(packet: Any) -> Fraction | None:
    tick = packet.pts if packet.pts is not None else packet.dts
    return None if tick is None else tick * packet.time_base


def _interleave(out: OutputContainer, video: Iterator[Any], copied: Iterable[Any]) -> int:
    """Mux the video's packets and the copied ones in the order of time, as players read them.

    Returns:
        Number of copied packets that the container refused; they are taken to be damaged and left out.
    """
    refused = 0
    coming = next(video, None)
    for packet in copied:
        when = _seconds(packet)
        while coming is not None and (when is None or _seconds(coming) <= when):  # type: ignore[operator]
            out.mux(coming)
            coming = next(video, None)
            if when is None:
                break
        try:
            out.mux(packet)
        except _REFUSALS:
            refused += 1
    while coming is not None:
        out.mux(coming)
        coming = next(video, None)
    return refused


def _seconds(packet: Any) -> Fraction | None:
    tick = packet.dts if packet.dts is not None else packet.pts
    return None if tick is None else tick * packet.time_base
