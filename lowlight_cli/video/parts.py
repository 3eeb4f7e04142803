"""A clip in progress, stored as parts on the disk, so that a crash loses at most one part and a later run can resume.

.lowlight-clip_lit.mp4.parts/
  job.json       what the parts depend on
  00000.data     encoded frames, one after the other
  00000.json     each frame's ticks and size; written last, so its presence means that the part is complete
  00000.state    lighting state needed to resume; of the last part only
  shown          present if a partial clip lies beside the target, which is deleted once the whole clip is written
  clip.mp4       the whole clip, while it is muxed
  lock           held by the run that writes here: one at a time
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from lowlight_cli import claims
from lowlight_cli.disk import refuse_link, settle
from lowlight_cli.errors import OutputError, ResourceError, unwritten
from lowlight_cli.video.pace import Packed

__all__ = ["LENGTH", "Part", "Parts", "explained"]

LENGTH: Final = 240
"""Frames per part: the most that a crash loses, and the distance of forced keyframes."""

_LOCK, _JOB, _SHOWN = "lock", "job.json", "shown"

_OURS: Final = re.compile(
    r"[0-9]{5,}\.(data|json|state|tmp)|job\.(json|tmp)|shown|clip\..+|\.DS_Store|Thumbs\.db|\._.*"
)
"""Names of the files in the folder that are deleted, with what systems leave; what else is there is somebody's."""


@dataclass(frozen=True)
class Part:
    """A complete part: for each frame its tick, its duration, whether it is a keyframe, and its size in bytes."""

    number: int
    frames: tuple[tuple[int, int, bool, int], ...]

    @property
    def last(self) -> int:
        """The tick of the frame that is shown last."""
        return max(pts for pts, *_ in self.frames)


class Parts:
    """The parts of one clip in their folder; anything that writes must happen inside `claimed`.

    Args:
        target: the clip to write.

    Attributes:
        done: the complete parts.
        state: the lighting's after their last frame.
        shown: whether an earlier run put a partial clip beside the target.
        resumable: whether a later run can resume; it decides what a full disk's message advises.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".lowlight-{target.name}.parts"
        self.done: list[Part] = []
        self.state: Mapping[str, Any] = {}
        self.shown = False
        self.resumable = True
        self._file: BinaryIO | None = None
        self._frames: list[tuple[int, int, bool, int]] = []

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the folder against other runs; at the end, an empty folder is removed.

        Raises:
            OutputError: another run is writing this clip, or the folder cannot be written or is a link.
            ResourceError: the disk is full.
        """
        busy = f"another run writes {self.target}: wait for it, or name another file with -o"
        with contextlib.ExitStack() as stack:
            with self._explained():
                refuse_link(self.folder)
                stack.enter_context(claims.claimed(self.folder, _LOCK, busy))
            stack.callback(self._let_go)
            yield

    def of(self, job: Mapping[str, Any]) -> bool:
        """Whether the parts on the disk are of this job."""
        return bool(self._job() == _plain(job))

    def begin(self, job: Mapping[str, Any], *, resume: bool) -> str:
        """Load the parts on the disk if `resume` and they are of this job, and delete all others.

        Returns:
            Why parts that should be resumed were not loaded; empty if they were, or there are none.
        """
        with self._explained():
            self.done, self.state = [], {}
            self.shown, why = (self.folder / _SHOWN).exists(), ""
            if resume and self.of(job):
                self._take()
                why = "is damaged" if self._path(0, "json").exists() and not self.done else ""
            elif resume and (self.folder / _JOB).exists():
                why = "is of another job or clip"
            kept = [self._path(part.number, kind) for part in self.done for kind in ("data", "json")]
            kept += [self._path(part.number, "state") for part in self.done[-1:]]
            self._clear({_JOB, _SHOWN, *(path.name for path in kept)})
            if not self.done:
                _write(self.folder / _JOB, json.dumps(job).encode())
            return why

    def add(self, packet: Packed) -> None:
        """Append a frame to the open part."""
        with self._explained():
            if self._file is None:
                self._file = self._path(len(self.done), "data").open("wb")
                self._frames = []
            self._file.write(packet.data)
            self._frames.append((packet.pts, packet.duration, packet.key, len(packet.data)))

    def close(self, state: Mapping[str, Any]) -> None:
        """Complete the open part; `state` is the lighting's after it."""
        data, self._file = self._file, None
        if data is None:
            return
        with self._explained():
            with data:
                data.truncate(sum(size for *_, size in self._frames))  # an interruption may split `add`
                data.flush()
                os.fsync(data.fileno())
            number = len(self.done)
            _write(self._path(number, "state"), json.dumps(state, default=np.ndarray.tolist).encode())
            _write(self._path(number, "json"), json.dumps({"frames": self._frames}).encode())
            self.done.append(Part(number, tuple(self._frames)))
            self.state = state
            if number:
                with contextlib.suppress(OSError):  # it is large, and no run resumes from there
                    self._path(number - 1, "state").unlink()

    def packets(self) -> Iterator[Packed]:
        """Yield the frames of all complete parts, as they were encoded.

        Raises:
            OutputError: the data on the disk cannot be read, or is cut short.
        """
        with self._explained():
            for part in self.done:
                path = self._path(part.number, "data")
                with path.open("rb") as file:
                    for pts, duration, key, size in part.frames:
                        data = file.read(size)
                        if len(data) < size:
                            raise OutputError(f"{self.target}: {path} is cut short: begin again, without --resume")
                        yield Packed(data, pts, duration, key)

    def show(self) -> None:
        """Record that a partial clip lies beside the target."""
        with contextlib.suppress(OSError):
            (self.folder / _SHOWN).touch(exist_ok=False)  # a link is not followed then

    def drop(self) -> None:
        """Delete the parts: they are not needed any more."""
        self._let_go()
        with contextlib.suppress(OSError):
            self._clear(())

    def _let_go(self) -> None:
        """Abandon the open part, which will never be complete."""
        data, self._file = self._file, None
        if data is not None:
            with contextlib.suppress(OSError):  # closing fails on a full disk, but the data is not needed
                data.close()

    def _clear(self, kept: Collection[str]) -> None:
        """Delete every file of ours whose name is not in `kept`, but the lock."""
        for path in self.folder.iterdir():
            if path.name not in kept and _OURS.fullmatch(path.name):
                path.unlink()

    def _take(self) -> None:
        """Load the complete parts up to the last one that has a readable state."""
        self.done = list(self._read())
        while self.done:
            try:
                self.state = json.loads(self._path(self.done[-1].number, "state").read_bytes())
                return
            except (OSError, ValueError):
                self.done.pop()

    def _read(self) -> Iterator[Part]:
        number = 0
        while (index := self._path(number, "json")).exists():
            try:
                found = json.loads(index.read_bytes())
                frames = tuple((int(p), int(d), bool(k), int(s)) for p, d, k, s in found["frames"])
                whole = self._path(number, "data").stat().st_size == sum(size for *_, size in frames)
            except (OSError, ValueError, KeyError, TypeError):
                return
            if not whole or not frames:
                return
            yield Part(number, frames)
            number += 1

    def _job(self) -> Any:
        try:
            return json.loads((self.folder / _JOB).read_bytes())
        except (OSError, ValueError):
            return None

    def _path(self, number: int, kind: str) -> Path:
        return self.folder / f"{number:05d}.{kind}"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explained(self.target, error, begun=bool(self.done), resumable=self.resumable) from error


def explained(
    target: Path, error: OSError, *, begun: bool = True, resumable: bool = True
) -> OutputError | ResourceError:
    """The error to raise if a clip cannot be written.

    Args:
        target: the clip.
        error: why it cannot be written.
        begun: a part of it is on the disk.
        resumable: a later run can resume.
    """
    again = "--resume goes on" if begun and resumable else "begin again" + ("; what is done is kept" if begun else "")
    return unwritten(target, error, full=f"make room, then {again}")


def _write(path: Path, content: bytes) -> None:
    """Write a small file atomically."""
    part = path.with_suffix(".tmp")
    part.write_bytes(content)
    settle(part, path)


def _plain(job: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(job))
