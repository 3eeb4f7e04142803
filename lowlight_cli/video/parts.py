"""A clip that is being written, in parts on the disk: what a crash leaves is whole, and a later run goes on from it.

.lowlight-clip_lit.mp4.parts/
  job.json       what the parts depend on
  00000.data     encoded frames, one after the other
  00000.json     each frame's ticks and bytes, and what lighting has to know; written last, so it stands for the part
  clip.mp4       the whole, while it is put together
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from lowlight_cli.errors import OutputError, ResourceError, disk_full
from lowlight_cli.video.encode import Packed

__all__ = ["LENGTH", "Part", "Parts", "explained"]

LENGTH: Final = 240
"""Frames in a part: what a crash costs, at most, and how often a key frame is forced."""


@dataclass(frozen=True)
class Part:
    """One that is complete; `state` is the lighting's after its last frame."""

    number: int
    frames: tuple[tuple[int, int, bool, int], ...]
    state: Mapping[str, Any]

    @property
    def last(self) -> int:
        """The tick of the frame that is shown last."""
        return max(pts for pts, *_ in self.frames)


class Parts:
    """The parts of one clip in their folder.

    Args:
        target: the clip to be.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".lowlight-{target.name}.parts"
        self.done: list[Part] = []
        self._file: BinaryIO | None = None
        self._frames: list[tuple[int, int, bool, int]] = []

    def of(self, job: Mapping[str, Any]) -> bool:
        """Whether what is there is of this job."""
        return bool(self._job() == _plain(job))

    def begin(self, job: Mapping[str, Any], *, resume: bool) -> bool:
        """Make the folder; with `resume`, take what is there of the same job.

        Returns:
            Whether what was there is of another job, and was dropped.
        """
        with self._explained():
            if resume and self.of(job):
                self.done = list(self._read())
                return False
            dropped = resume and self.folder.exists()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            _write(self.folder / "job.json", json.dumps(job).encode())
            return dropped

    def add(self, packet: Packed) -> None:
        """One more frame for the part that is open."""
        with self._explained():
            if self._file is None:
                self._file = self._data(len(self.done)).open("wb")
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
            part = Part(len(self.done), tuple(self._frames), state)
            index = {"frames": part.frames, "state": part.state}
            _write(self._index(part.number), json.dumps(index, default=np.ndarray.tolist).encode())
            self.done.append(part)

    def packets(self) -> Iterator[Packed]:
        """All complete parts' frames, as they were encoded."""
        with self._explained():
            for part in self.done:
                with self._data(part.number).open("rb") as file:
                    for pts, duration, key, size in part.frames:
                        yield Packed(file.read(size), pts, duration, key)

    def drop(self) -> None:
        """The clip is written: the parts are not needed any more."""
        with contextlib.suppress(OSError):  # a full disk takes nothing of it, and nobody needs it
            if self._file is not None:
                self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> Iterator[Part]:
        number = 0
        while (index := self._index(number)).exists():
            try:
                found = json.loads(index.read_bytes())
                frames = tuple((int(p), int(d), bool(k), int(s)) for p, d, k, s in found["frames"])
                whole = self._data(number).stat().st_size == sum(size for *_, size in frames)
            except (OSError, ValueError, KeyError, TypeError):
                return
            if not whole or not frames:
                return
            yield Part(number, frames, found["state"])
            number += 1

    def _job(self) -> Any:
        try:
            return json.loads((self.folder / "job.json").read_bytes())
        except (OSError, ValueError):
            return None

    def _data(self, number: int) -> Path:
        return self.folder / f"{number:05d}.data"

    def _index(self, number: int) -> Path:
        return self.folder / f"{number:05d}.json"

    def _explained(self) -> _Explained:
        return _Explained(self.target)


class _Explained:
    """What the system says, in our terms; a class, because a generator is left through it too."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            raise explained(self.target, error) from error


def explained(target: Path, error: OSError) -> OutputError | ResourceError:
    """Why a clip cannot be written, in one line."""
    if disk_full(error):
        return ResourceError(f"{target}: the disk is full; make room, then --resume goes on")
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
