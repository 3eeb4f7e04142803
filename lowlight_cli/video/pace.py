"""Bring frames to the constant rate that YUV4MPEG2 has: frames are repeated to fill gaps, and at worst left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from lowlight_cli.video.opening import ticks
from lowlight_cli.video.series import Series

if TYPE_CHECKING:
    from lowlight_cli.video.series import Film
    from lowlight_cli.video.streams import Clip

__all__ = ["Packed", "at_rate", "steady_rate"]

USUAL: Final = (24, 25, 30, 50, 60, 100, 120, 200, 240)
"""Rates that are tried where frames would be left out, in frames per second."""

FINEST: Final = USUAL[-1]
"""Most frames per second that FFmpeg may find in the timestamps of a variable frame rate; what is finer are ticks of a
clock, at which each frame would be written many times."""

COARSEST: Final = Fraction(25)
"""Least frames per second where the timestamps are only ticks, so that frames that come in a burst are kept."""

ALIKE: Final = Fraction(1, 10_000)
"""Relative difference up to which FFmpeg's guess is the average rate, rounded."""

LONGEST: Final = 60
"""Seconds for which a frame is repeated, at most: an hour of standstill would be hundreds of gigabytes."""

_LATE: Final = Fraction(3, 4)
_MOVED: Final = Fraction(1, 4)
"""Slots by which a frame may be late before one is filled, and moved before a note says so."""


@dataclass(frozen=True)
class Packed:
    """One encoded frame; `pts` and `duration` are in ticks of the plan's base."""

    data: bytes
    pts: int
    duration: int
    key: bool


def steady_rate(clip: Film) -> Fraction:
    """The constant rate at which a clip is written, in frames per second.

    It is what FFmpeg guesses from the header and the first frames, unless that would leave frames of a file out: then
    it is the lowest of `USUAL` that leaves out the fewest.
    """
    if isinstance(clip, Series):
        return clip.rate
    rate = _guessed(clip)
    if clip.again is None or clip.fields > 1 or "://" in str(clip.container.name):
        return rate
    begin, end = clip.span.bounds(clip.zero)
    times = ((tick, tick * clip.base) for tick in ticks(clip.again(), clip.name, end))
    shown = [tick for tick, time in times if begin <= time and (end is None or time < end)]
    best, most = rate, len(_kept(shown, clip.base, rate))
    for finer in USUAL:
        if finer > rate and most < len(shown) and (kept := len(_kept(shown, clip.base, Fraction(finer)))) > most:
            best, most = Fraction(finer), kept
    return best


def _guessed(clip: Clip) -> Fraction:
    average, finest = clip.stream.average_rate, clip.stream.base_rate or clip.rate
    if finest > max(FINEST, 2 * (average or 0)):
        return max(average or COARSEST, COARSEST)
    guessed = clip.stream.guessed_rate or clip.rate  # other than the finest, it takes fields for what they are
    return clip.rate if abs(guessed / clip.rate - 1) < ALIKE else guessed


def _kept(shown: Sequence[int], base: Fraction, rate: Fraction) -> set[bytes]:
    """The frames of those ticks that `at_rate` writes."""
    frames = (Packed(str(tick).encode(), tick, 0, True) for tick in shown)
    return set(at_rate(frames, base, rate, []))


def at_rate(frames: Iterable[Packed], base: Fraction, rate: Fraction, notes: list[str]) -> Iterator[bytes]:
    """Yield one frame for each slot of a constant rate, so that each is shown as near as possible to its time.

    A frame is written as it comes if it is less than a slot early or late, so that a constant rate with a jitter keeps
    its frames. Before one that is later, the frame before is repeated; one that is a whole slot behind is left out.

    Args:
        frames: in the order in which they are shown.
        base: seconds per tick of their times.
        rate: slots per second.
        notes: what could not be kept is added at the end, one line each.
    """
    longest = LONGEST * rate
    slots = seen = left_out = 0
    moved = cut = place = lasts = Fraction(0)
    first: int | None = None
    before = b""
    for frame in frames:
        first = frame.pts if first is None else first
        place, lasts = (frame.pts - first) * base * rate - cut, frame.duration * base * rate
        seen += 1
        if place > slots + longest:
            cut, place = cut + place - slots - longest, slots + longest
        if place <= slots - 1:
            left_out, before = left_out + 1, frame.data
            continue
        if place > slots + _LATE:
            yield from itertools.repeat(before, round(place) - slots)
            slots = round(place)
        yield frame.data
        moved, slots, before = max(moved, abs(place - slots)), slots + 1, frame.data
    end = place + lasts
    if slots != seen and end > slots + _LATE:  # at a constant rate, headers often state another length of the last
        yield from itertools.repeat(before, round(min(end - slots, longest)))
        cut += max(Fraction(0), end - slots - longest)
    if left_out or moved > _MOVED:
        lost = f", and {left_out} that came faster are left out" if left_out else ""
        notes.append(
            f"YUV4MPEG2 has a constant rate, here of {float(rate):.5g} frames/s: frames are shown up to "
            f"{float(max(moved, _MOVED) / rate * 1000):.0f} ms early or late{lost}"
        )
    if cut:
        notes.append(
            f"pauses of more than {LONGEST} s are shortened to that, by {float(cut / rate):.0f} s in all: sound would "
            "be out of step"
        )
