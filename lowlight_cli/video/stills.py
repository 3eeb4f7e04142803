"""Write frames as an image sequence, each picture atomically, and record where to resume after an interruption."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import LowlightError, OutputError, ResourceError, UsageError, disk_full, unwritten
from lowlight_cli.pictures import Photo, encode, format_of, place
from lowlight_cli.pictures.placing import part
from lowlight_cli.targets import is_dir
from lowlight_cli.video.colour import depth, upright
from lowlight_cli.video.lighting import Lighting
from lowlight_cli.video.making import Course, Lit, Made, Making, Tally, made
from lowlight_cli.video.numbered import Pattern
from lowlight_cli.video.run import compared, identity, prepared, results, why_not_resumable
from lowlight_cli.video.series import Film, Source, film

__all__ = ["enhance_to_pictures"]

EVERY: Final = 1.0
"""Seconds between two writes of the mark: the work that a crash loses."""


def enhance_to_pictures(
    enhancer: Enhancer,
    source: Source,
    target: Pattern,
    making: Making,
    on_frame: Callable[[Course], None] | None = None,
) -> Made:
    """Enhance a clip or an image sequence into an image sequence.

    Pictures keep their numbers, depth, profile, transparency and metadata, as far as the target format allows. Frames
    of a clip are numbered from 1 and turned upright, and have 16 bits if the clip has more than 8 and the format holds
    them.

    Args:
        enhancer: its weights are loaded.
        source: what to read.
        target: the pictures to write; existing ones are replaced.
        making: settings; `encoding` is ignored.
        on_frame: called after each frame.

    Raises:
        InputError: not a clip, no frames, or nothing that can be read.
        OutputError: a picture cannot be written, or what is to be resumed is of another job.
        UsageError: the source cannot be resumed.
        ResourceError: out of memory or disk.
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
                        place(path, encode(photo, format=format_of(target.suffix)), beside=part(path))
                    done += 1
                    mark.see(done, lit)
        except BaseException as error:
            if done or known:
                mark.write()
            else:
                mark.drop()  # there is nothing to resume
            if isinstance(error, ResourceError) and disk_full(error) and target.mark.exists():
                raise unwritten(target, error, full="make room, then --resume goes on") from error
            raise
        mark.drop()
        return made(
            clip,
            lighting,
            tally,
            frames=done,
            resumed=resumed,
            size=(width, height),
            codec=format_of(target.suffix),
            pixel_format="rgb48" if deep else "rgb24",
            notes=(*notes, *clip.notes),
        )


def _known(mark: _Mark, making: Making) -> tuple[dict[str, Any] | None, list[str]]:
    """What an earlier run left to resume, or None with notes on why there is nothing.

    Raises:
        OutputError: the pictures are of another job and would be replaced.
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
    """Progress of an image sequence, in a hidden file beside it, written now and then and on an interruption.

    It is not `wanted`, and never written, if no run could resume.
    """

    target: Pattern
    job: Mapping[str, Any]
    wanted: bool
    before: dict[str, Any] = field(default_factory=dict)
    written: float = field(default_factory=time.monotonic)

    def begin(self, state: Mapping[str, Any]) -> None:
        """Write that nothing is done yet, so that pictures before the next mark are not taken for a finished run."""
        self.before = {"job": self.job, "frames": 0, "pts": None, "state": state}
        self.write()

    def see(self, done: int, lit: Lit) -> None:
        """Record one more picture on the disk."""
        self.before = {"job": self.job, "frames": done, "pts": lit.frame.pts, "state": lit.state}
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        """Write the mark to the disk."""
        if self.before and self.wanted:
            with contextlib.suppress(OSError, LowlightError):  # it must not stop the work, or hide why that failed
                told = json.dumps(self.before, default=np.ndarray.tolist).encode()
                place(self.target.mark, told, beside=part(self.target.mark))
            self.written = time.monotonic()

    def found(self) -> dict[str, Any]:
        """What an earlier run left, of whatever job; empty if there is nothing, or it is damaged."""
        try:
            left = json.loads(self.target.mark.read_bytes())
            return {key: left[key] for key in ("job", "frames", "pts", "state")}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def drop(self) -> None:
        """Delete the mark: all is done, or begins anew."""
        for path in (self.target.mark, part(self.target.mark)):  # a kill may have left the second
            path.unlink(missing_ok=True)
