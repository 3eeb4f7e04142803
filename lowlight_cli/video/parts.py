"""A clip that is being written, in parts on the disk: what a crash leaves is whole, and a later run goes on from it.

.lowlight-clip_lit.mp4.parts/
  job.json       what the parts depend on
  00000.data     encoded frames, one after the other
  00000.json     each frame's ticks and bytes; written last, so it stands for the part
  00000.state    what lighting has to know to go on; of the last part alone
  shown          what is done lies beside the target as a clip, which goes when the whole is there
  clip.mp4       the whole, while it is put together
  lock           of the run that writes here: there is one at a time
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from lowlight_cli import claims
from lowlight_cli.errors import OutputError, ResourceError, disk_full
from lowlight_cli.video.encode import Packed

__all__ = ["LENGTH", "Part", "Parts", "explained"]

LENGTH: Final = 240
"""Frames in a part: what a crash costs, at most, and how often a key frame is forced."""

_LOCK, _JOB, _SHOWN = "lock", "job.json", "shown"


@dataclass(frozen=True)
class Part:
    """One that is complete: of each frame its tick, its length, whether it is a key frame, and its bytes."""

    number: int
    frames: tuple[tuple[int, int, bool, int], ...]

    @property
    def last(self) -> int:
        """The tick of the frame that is shown last."""
        return max(pts for pts, *_ in self.frames)


class Parts:
    """The parts of one clip in their folder, which has to be `claimed` for all but looking.

    Args:
        target: the clip to be.

    Attributes:
        done: those that are complete.
        state: the lighting's after the last frame of them.
        shown: whether an earlier run has put what it had done beside the target.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".lowlight-{target.name}.parts"
        self.done: list[Part] = []
        self.state: Mapping[str, Any] = {}
        self.shown = False
        self._file: BinaryIO | None = None
        self._frames: list[tuple[int, int, bool, int]] = []

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep every other run out for a while; what is empty in the end is removed.

        Raises:
            OutputError: another run writes this clip, or nobody can.
            ResourceError: the disk is full.
        """
        busy = f"another run writes {self.target}: wait for it, or name another file with -o"
        with contextlib.ExitStack() as stack:
            with self._explained():
                stack.enter_context(claims.claimed(self.folder, _LOCK, busy))
            stack.callback(self._let_go)
            yield

    def of(self, job: Mapping[str, Any]) -> bool:
        """Whether what is there is of this job."""
        return bool(self._job() == _plain(job))

    def begin(self, job: Mapping[str, Any], *, resume: bool) -> str:
        """Take what is there of the same job, with `resume`, and drop all else.

        Returns:
            Why what is there was not taken, where it should have been; empty where it was, or nothing is there.
        """
        with self._explained():
            self.shown, why = (self.folder / _SHOWN).exists(), ""
            if resume and self.of(job):
                self._take()
                why = "is damaged" if self._path(0, "json").exists() and not self.done else ""
            elif resume and (self.folder / _JOB).exists():
                why = "is of another job or clip"
            kept = [self._path(part.number, kind) for part in self.done for kind in ("data", "json")]
            kept += [self._path(part.number, "state") for part in self.done[-1:]]
            self._clear({_LOCK, _JOB, _SHOWN, *(path.name for path in kept)})
            if not self.done:
                _write(self.folder / _JOB, json.dumps(job).encode())
            return why

    def add(self, packet: Packed) -> None:
        """One more frame for the part that is open."""
        with self._explained():
            if self._file is None:
                self._file = self._path(len(self.done), "data").open("wb")
                self._frames = []
            self._file.write(packet.data)
            self._frames.append((packet.pts, packet.duration, packet.key, len(packet.data)))

    def close(self, state: Mapping[str, Any]) -> None:
        """The part that is open is complete."""
        data, self._file = self._file, None
        if data is None:
            return
        with self._explained():
            with data:
                data.truncate(sum(size for *_, size in self._frames))  # an interruption may lie between two lines
                data.flush()
                os.fsync(data.fileno())
            number = len(self.done)
            _write(self._path(number, "state"), json.dumps(state, default=np.ndarray.tolist).encode())
            _write(self._path(number, "json"), json.dumps({"frames": self._frames}).encode())
            self.done.append(Part(number, tuple(self._frames)))
            self.state = state
            if number:
                with contextlib.suppress(OSError):  # it is large, and nobody goes on from there any more
                    self._path(number - 1, "state").unlink()

    def packets(self) -> Iterator[Packed]:
        """All complete parts' frames, as they were encoded.

        Raises:
            OutputError: what is on the disk cannot be read, or is not all of it.
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
        """What is done lies beside the target."""
        with contextlib.suppress(OSError):
            (self.folder / _SHOWN).touch()

    def drop(self) -> None:
        """The clip is written: the parts are not needed any more."""
        self._let_go()
        with contextlib.suppress(OSError):
            self._clear({_LOCK})

    def _let_go(self) -> None:
        """The part that is open will never be complete."""
        data, self._file = self._file, None
        if data is not None:
            with contextlib.suppress(OSError):  # a full disk takes nothing of it, and nobody needs it
                data.close()

    def _clear(self, kept: Collection[str]) -> None:
        """Remove what has none of these names."""
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def _take(self) -> None:
        """What is whole, up to where it can be gone on from."""
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
            return json.loads((self.folder / "job.json").read_bytes())
        except (OSError, ValueError):
            return None

    def _path(self, number: int, kind: str) -> Path:
        return self.folder / f"{number:05d}.{kind}"

    def _explained(self) -> _Explained:
        return _Explained(self)


class _Explained:
    """What the system says, in our terms; a class, because a generator is left through it too."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            raise explained(self.parts.target, error, begun=bool(self.parts.done)) from error


def explained(target: Path, error: OSError, *, begun: bool = True) -> OutputError | ResourceError:
    """Why a clip cannot be written, in one line; where it is `begun`, a part of it is on the disk."""
    if disk_full(error):
        then = "--resume goes on" if begun else "begin again"
        return ResourceError(f"{target}: the disk is full; make room, then {then}")
    return OutputError(f"{target}: cannot be written ({error.strerror or error}); choose another place")


def _write(path: Path, content: bytes) -> None:
    """A small file, whole or not at all."""
    part = path.with_suffix(".tmp")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _plain(job: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(job))
