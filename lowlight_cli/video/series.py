"""An image sequence with the interface of a clip, read picture by picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import Photo
from lowlight_cli.pictures import read as read_picture
from lowlight_cli.video.addresses import Address
from lowlight_cli.video.colour import Colours
from lowlight_cli.video.numbered import Pattern, gaps
from lowlight_cli.video.streams import Clip, Frame, Span, opened

__all__ = ["RATE", "Film", "Series", "Source", "film"]

RATE = Fraction(25)
"""Default frames per second of an image sequence."""


class Series:
    """An image sequence as a clip; use it as a context manager. The frame before a missing number lasts longer.

    Attributes:
        name, container_name, width, height, rotation, matrix, colours, aspect, fields, base, rate, zero, notes,
            repeated: as in `Clip`.
        files: the pictures, by number.
        deep: whether they have 16 bits per sample.
    """

    live = False
    container_name = ""
    zero = Fraction(0)
    rotation = 0
    matrix = None
    aspect = None
    fields = 1

    def __init__(self, row: Pattern, span: Span, rate: Fraction = RATE) -> None:
        self.name, self.span, self.rate, self.base = str(row), span, rate, 1 / rate
        self.files = row.found()
        if not self.files:
            raise InputError(f"{row}: no such frames")
        self.notes: list[str] = []
        self.repeated, self._pages = 0, 1
        self._begin = min(self.files)
        self._first = read_picture(self.files[self._begin])
        self.width, self.height, self.deep = self._first.width, self._first.height, self._first.depth == 16
        self.colours = Colours(1, 1, 1, 1)
        if missing := gaps(self.files, row):
            more = f" and {len(missing) - 3} more gaps" if len(missing) > 3 else ""
            self.notes.append(f"{', '.join(missing[:3])}{more} missing: the frame before stays in their place")

    def __enter__(self) -> Series:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def codec(self) -> str:
        """Codec of a clip made from the frames, if the user names none: HEVC for 16 bits, because hardly any player
        takes ten-bit H.264.
        """
        return "hevc" if self.deep else "h264"

    @property
    def transparent(self) -> bool:
        """Whether the pictures have transparency."""
        return self._first.alpha is not None

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the pictures' pixel format."""
        if self.transparent:
            return "rgba64le" if self.deep else "rgba"
        return "rgb48le" if self.deep else "rgb24"

    @property
    def seconds(self) -> float:
        """Length of the part to enhance, in seconds."""
        numbers = self._numbers()
        return float((numbers[-1] + 1 - numbers[0]) * self.base) if numbers else 0.0

    @property
    def count(self) -> int:
        """Number of frames in the part."""
        return len(self._numbers())

    def last(self) -> float:
        """When the part's last frame begins, in seconds from the beginning."""
        numbers = self._numbers()
        return float((numbers[-1] - self._begin) * self.base) if numbers else self.span.start

    def decoded(self, after: int | None = None) -> Iterator[Frame]:
        """Yield the frames of the part, in order.

        Args:
            after: timestamp, as in `Frame`, after which to continue.

        Raises:
            InputError: the part has no frames, the first cannot be read, or they differ in size.
        """
        shift = self._begin + self.span.shift(self.base)
        numbers = self._numbers()
        done = [] if after is None else [number for number in numbers if number - shift <= after]
        before = self._last(done)
        for number in numbers[len(done) :]:
            photo = self._read(number, before)
            yield Frame(photo.pixels, number - shift, 1, number=number, photo=photo)
            before = photo
        if before is None and after is None:
            raise InputError(f"{self.name}: no frame from {self.span.start:g} s on; the frames end before")
        if self.repeated:
            self.notes.append(f"{self.repeated} damaged frames could not be read: the frame before is shown again")
        if self._pages > 1:
            self.notes.append("frames of several pages: only the first is taken")

    def _numbers(self) -> list[int]:
        begin, end = self.span.bounds(self._begin * self.base)
        return [each for each in self.files if each * self.base >= begin and (end is None or each * self.base < end)]

    def _last(self, numbers: list[int]) -> Photo | None:
        """The last of these pictures that can be read; what stands in for a damaged one that follows."""
        for number in reversed(numbers):
            with contextlib.suppress(InputError):
                return self._read(number, None)
        return None

    def _read(self, number: int, before: Photo | None) -> Photo:
        path = self.files[number]
        try:
            photo = self._first if number == self._begin else read_picture(path)
        except InputError:
            if before is None:
                raise
            self.repeated += 1
            return before
        if (photo.width, photo.height) != (self.width, self.height):
            raise InputError(
                f"{path}: is {photo.width}x{photo.height}, the frames before are {self.width}x{self.height}: "
                "all frames have one size"
            )
        self._pages = max(self._pages, 1 + len(photo.rest))
        return replace(photo, rest=())


Film: TypeAlias = Clip | Series
"""What yields frames."""

Source: TypeAlias = Path | Pattern | Address | Any
"""A file, an image sequence, an address, or a binary file object."""


def film(source: Source, span: Span | None = None, rate: Fraction | None = None) -> Film:
    """Open a clip or an image sequence.

    Args:
        source: what to read.
        span: the part that is wanted.
        rate: frames per second of an image sequence; None is `RATE`.

    Raises:
        InputError: it does not exist or cannot be read.
    """
    if isinstance(source, Pattern):
        return Series(source, span or Span(), rate or RATE)
    return opened(source, str(source) if isinstance(source, Path | Address) else "standard input", span)
