"""SMPTE timecodes, `HH:MM:SS:FF`: the camera's count of a frame, by which editors find it again."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

__all__ = ["later"]

_FORM: Final = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")


def later(code: str, frames: int, rate: Fraction) -> str:
    """The timecode `frames` later, as SMPTE ST 12 counts; text that is not a timecode is returned unchanged.

    Args:
        code: `HH:MM:SS:FF`; `;` or `.` before the frames means drop-frame: the first numbers of each minute except
            every tenth are skipped, so that 29.97 frames per second keep to the clock.
        frames: 0 or more.
        rate: frames per second.
    """
    found = _FORM.fullmatch(code)
    second = round(rate)
    if not (found and frames and second):
        return code
    hours, minutes, seconds, sign, frame = found.groups()
    dropped = second // 15 if sign != ":" and second % 30 == 0 else 0
    minute = int(hours) * 60 + int(minutes)
    number = (minute * 60 + int(seconds)) * second + int(frame) - dropped * (minute - minute // 10) + frames
    tens, rest = divmod(number, 600 * second - 9 * dropped)
    number += dropped * (9 * tens + max(0, rest - dropped) // (60 * second - dropped))
    minute, frame_of_minute = divmod(number, 60 * second)
    return (
        f"{minute // 60 % 24:02d}:{minute % 60:02d}:{frame_of_minute // second:02d}{sign}{frame_of_minute % second:02d}"
    )
