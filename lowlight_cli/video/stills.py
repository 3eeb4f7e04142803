"""Frames out as numbered pictures, each whole or not there, and where to go on if that is cut short."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import OutputError, UsageError
from lowlight_cli.pictures import Photo, encode, format_of, place
from lowlight_cli.targets import is_dir
from lowlight_cli.video.colour import depth, upright
from lowlight_cli.video.lighting import Lighting
from lowlight_cli.video.making import Course, Lit, Made, Making, Tally
from lowlight_cli.video.numbered import Pattern
from lowlight_cli.video.run import compared, identity, prepared, results, why_not_resumable
from lowlight_cli.video.series import Film, Source, film

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
        UsageError: nothing that can be resumed.
        ResourceError: memory or disk is used up.
    """
    tally, told = Tally(making.measure), on_frame or (lambda _: None)
    with film(source, making.span, making.rate) as clip:
        prepared(enhancer, clip)
        notes = list[str]()
        refused = why_not_resumable(source, clip)
        if refused and making.resume:
            raise UsageError(f"{clip.name}: {refused}: leave --resume out, and name another folder with -o")
        mark = _Mark(target, identity(enhancer, source, making), wanted=not refused)
        known, lost = _known(mark, making)
        notes += lost
        lighting = Lighting(enhancer, making)
        if known:
            lighting.restore(known["state"])
        done = resumed = known["frames"] if known else 0
        try:
            target.folder.mkdir(parents=True, exist_ok=True)
            if not known:
                mark.drop()
                mark.begin(lighting.state())
        except OSError as error:
            raise OutputError(f"{target}: cannot make its folder ({error.strerror}); choose another place") from error
        width, height, deep = clip.width, clip.height, False
        after = known["pts"] if known else None
        frames = results(lighting, clip, tally, told, after, resumed)
        try:
            with contextlib.closing(frames):
                for lit in frames:
                    with tally.timed("encode"):
                        photo = _photo(lit, clip, compare=making.compare)
                        width, height, deep = photo.width, photo.height, photo.depth == 16
                        number = lit.frame.number
                        path = target.path(done + 1 if number is None else number)
                        place(path, encode(photo, format=format_of(target.suffix)))
                    done += 1
                    mark.see(done, lit)
        except BaseException:
            if done or known:
                mark.write()
            else:
                mark.drop()  # there is nothing to go on with
            raise
        mark.drop()
        return Made(
            done, resumed, clip.repeated, lighting.cuts, lighting.deblocked, (width, height), format_of(target.suffix),
            "rgb48" if deep else "rgb24", float(clip.rate), tally.seconds, tally.luma, tally.jitter,
            (*notes, *clip.notes),
        )  # fmt: skip


def _known(mark: _Mark, making: Making) -> tuple[dict[str, Any] | None, list[str]]:
    """What an earlier run has left to go on with, and what there is to say where it is nothing.

    Raises:
        OutputError: it is of another job, whose pictures would be replaced.
    """
    target = mark.target
    there = target.found() if making.resume and is_dir(target.folder) else {}
    if not there:
        return None, []
    left = mark.found()
    if left.get("job") != json.loads(json.dumps(mark.job)):
        what = "is of another job or clip"
        if making.overwrite:
            return None, [f"what an earlier run left {what}: begun anew"] if left else []
        raise OutputError(
            f"{target}: what an earlier run left there {what}: choose another folder with -o, or --exist overwrite"
        )
    if len(there) < left["frames"]:
        return None, ["pictures of the earlier run are gone: begun anew"]
    return left, []


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
    """How far a row has come, in a hidden file beside it, written now and then and where the work is cut short.

    It is not `wanted` where no run could go on.
    """

    target: Pattern
    job: Mapping[str, Any]
    wanted: bool
    before: dict[str, Any] = field(default_factory=dict)
    written: float = field(default_factory=time.monotonic)

    def begin(self, state: Mapping[str, Any]) -> None:
        """No picture is on the disk yet: what comes before the next mark is not to be taken for all."""
        self.before = {"job": self.job, "frames": 0, "pts": None, "state": state}
        self.write()

    def see(self, done: int, lit: Lit) -> None:
        """One more picture is on the disk."""
        self.before = {"job": self.job, "frames": done, "pts": lit.frame.pts, "state": lit.state}
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        """Put it on the disk."""
        if self.before and self.wanted:
            with contextlib.suppress(OSError, OutputError):  # the work goes on, or has failed already
                place(self.target.mark, json.dumps(self.before, default=np.ndarray.tolist).encode())
            self.written = time.monotonic()

    def found(self) -> dict[str, Any]:
        """What an earlier run has left, of whatever job; nothing where there is none, or it is damaged."""
        try:
            left = json.loads(self.target.mark.read_bytes())
            return {key: left[key] for key in ("job", "frames", "pts", "state")}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def drop(self) -> None:
        """All is done, or begins anew."""
        self.target.mark.unlink(missing_ok=True)
