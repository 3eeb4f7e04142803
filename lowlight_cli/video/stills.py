"""Frames out as numbered pictures, each whole or not there, and where to go on if that is cut short."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import OutputError
from lowlight_cli.pictures import Photo, encode, format_of, place
from lowlight_cli.targets import is_dir
from lowlight_cli.video.colour import depth, upright
from lowlight_cli.video.deblock import Deblock
from lowlight_cli.video.making import Course, Lit, Made, Making, Tally
from lowlight_cli.video.numbered import Pattern
from lowlight_cli.video.run import compared, identity, prepared, results
from lowlight_cli.video.series import Film, Source, film
from lowlight_cli.video.temporal import Smoothing

__all__ = ["enhance_to_pictures"]

EVERY: Final = 1.0
"""Seconds between two marks: what a crash costs."""


def enhance_to_pictures(
    enhancer: Enhancer,
    source: Source,
    target: Pattern,
    making: Making,
    on_frame: Callable[[Course], None] | None = None,
) -> Made:
    """Enhance a clip or a row of pictures into a row of pictures.

    Pictures keep their numbers, depth, profile, transparency and metadata, as far as the format of the target does;
    frames of a clip are numbered from 1, turned upright, and have 16 bits where the clip has more than 8 and the format
    holds them.

    Args:
        enhancer: what brightens; its weights are loaded.
        source: what to read.
        target: the pictures to write; those that exist are replaced.
        making: how; the encoding means nothing here.
        on_frame: told after each frame.

    Raises:
        InputError: no clip, no frames, nothing that can be read.
        OutputError: a picture cannot be written, or to resume, what is there is of another job.
        ResourceError: memory or disk is used up.
    """
    tally, told = Tally(making.measure), on_frame or (lambda _: None)
    with film(source, making.span, making.rate) as clip:
        notes = prepared(enhancer, clip, making)
        mark = _Mark(target, identity(enhancer, source, making))
        smoothing, deblock = Smoothing(making.temporal), Deblock(making.deblock)
        known = mark.found() if making.resume else None
        if known:
            smoothing.restore(known["state"])
            deblock.restore(known["state"])
        elif making.resume and is_dir(target.folder) and target.found():
            raise OutputError(f"{target}: what is there is of another job: choose another place, or --exist overwrite")
        done = resumed = known["frames"] if known else 0
        with _writing(target):
            target.folder.mkdir(parents=True, exist_ok=True)
        width, height, deep = clip.width, clip.height, False
        after = known["pts"] if known else None
        frames = results(enhancer, clip, smoothing, deblock, tally, told, after, resumed)
        try:
            with contextlib.closing(frames):
                for lit in frames:
                    with tally.timed("encode"):
                        photo = _photo(lit, clip, compare=making.compare)
                        width, height, deep = photo.width, photo.height, photo.depth == 16
                        path = target.path(lit.frame.number or done + 1)
                        place(path, encode(photo, format=format_of(target.suffix)))
                    done += 1
                    mark.see(done, lit)
        except BaseException:
            mark.write()
            raise
        mark.drop()
        return Made(
            done, resumed, clip.repeated, smoothing.cuts, deblock.share, (width, height), format_of(target.suffix),
            "rgb48" if deep else "rgb24", float(clip.rate), tally.seconds, tally.luma, tally.jitter,
            (*notes, *clip.notes),
        )  # fmt: skip


def _photo(lit: Lit, clip: Film, *, compare: bool) -> Photo:
    """The picture to write."""
    if compare:
        pixels = compared(lit.frame.picture, lit.picture, clip.rotation)
        return Photo(pixels, depth=lit.frame.photo.depth if lit.frame.photo else 8, name="the frame")
    if lit.frame.photo:
        return lit.frame.photo.with_pixels(lit.picture)
    pixels = np.ascontiguousarray(upright(lit.picture, clip.rotation))
    return Photo(pixels, depth=16 if depth(clip.pixel_format) > 8 else 8, name="the frame")


@dataclass
class _Mark:
    """How far a row has come, in a hidden file beside it, written now and then and where the work is cut short."""

    target: Pattern
    job: Mapping[str, Any]
    before: dict[str, Any] = field(default_factory=dict)
    written: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The file."""
        return self.target.folder / f".lowlight-{self.target.name}.json"

    def see(self, done: int, lit: Lit) -> None:
        """One more picture is on the disk."""
        self.before = {"job": self.job, "frames": done, "pts": lit.frame.pts, "state": lit.state}
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        """Put it on the disk."""
        if self.before:
            with contextlib.suppress(OSError, OutputError):  # the work goes on, or has failed already
                place(self.path, json.dumps(self.before, default=np.ndarray.tolist).encode())
            self.written = time.monotonic()

    def found(self) -> dict[str, Any] | None:
        """What an earlier run of the same job has left, where all its pictures are still there."""
        try:
            left = json.loads(self.path.read_bytes())
            same = left["job"] == json.loads(json.dumps(self.job)) and len(self.target.found()) >= left["frames"]
        except (OSError, ValueError, KeyError):
            return None
        return left if same else None

    def drop(self) -> None:
        """All is done."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(target: Pattern) -> Any:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{target}: cannot make its folder ({error.strerror}); choose another place") from error
