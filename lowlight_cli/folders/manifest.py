"""The manifest of an output folder, one JSON line for each picture made or failed, and the lock on that folder.

A line is on the disk before the picture gets its final name. So whatever ends the program, each picture is in one of
three states that `--resume` can tell apart: it has no line (it is made), it has a line and its output is whole (it is
skipped), or it has a line and its output still has its temporary name (it is renamed).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

from lowlight_cli import claims
from lowlight_cli.disk import appended, refuse_link
from lowlight_cli.errors import OutputError, ResourceError, unwritten

__all__ = ["NAME", "Entry", "Manifest", "Record", "claimed", "followed"]

NAME: Final = "lowlight-manifest.jsonl"
LOCK: Final = ".lowlight-batch.lock"
SCHEMA: Final = "lowlight-manifest-1"


@dataclass(frozen=True)
class Entry:
    """A line of the manifest.

    Attributes:
        folder: the folder of the batch, absolute.
        input: the picture's path below it, with `/`.
        output: the result's path below the output folder, with `/`.
        input_sha256: of the input's content; None if it could not be read.
        weights: sha256 of the weights.
        settings: sha256 of all settings that the result depends on.
        device: where the network ran, as torch calls it.
        time: when the line was written, ISO 8601 in UTC.
        version: of lowlight.
        seconds: by stage: read, run, write.
        size: width and height in pixels.
        luma: mean luma, [0, 1], `before` and `after`.
        clipped: shares of pixels that are `black` and `white` by the definition in `light`, `before` and `after`.
        output_sha256: of the result's content.
        output_bytes: size of the result.
        error: `code` and `message`; None if there is a result.
    """

    folder: str
    input: str
    output: str
    input_sha256: str | None
    weights: str
    settings: str
    device: str
    time: str
    version: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    luma: Mapping[str, float] | None = None
    clipped: Mapping[str, Mapping[str, float]] | None = None
    output_sha256: str | None = None
    output_bytes: int | None = None
    error: Mapping[str, Any] | None = None


class Record(NamedTuple):
    """What a resumed batch needs to know of a picture that was made."""

    folder: str
    output: str
    input_sha256: str
    weights: str
    settings: str
    output_sha256: str
    output_bytes: int


class Manifest:
    """The manifest of one folder, open for appending; several threads may append at once."""

    def __init__(self, root: Path) -> None:
        """Open `root/lowlight-manifest.jsonl`, created if there is none; an incomplete last line is cut off.

        Raises:
            OutputError: it cannot be written, or is a link.
            ResourceError: the disk is full.
        """
        self.path = root / NAME
        self._lock = threading.Lock()
        try:
            self._file: BinaryIO = appended(self.path)
            _cut_torn(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, entry: Entry) -> None:
        """Append one line; it is on the disk when this returns.

        Raises:
            OutputError: it cannot be written; the batch must end, because it could not be resumed.
            ResourceError: the disk is full.
        """
        line = json.dumps({"schema": SCHEMA, **asdict(entry)}).encode() + b"\n"
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
                os.fsync(self._file.fileno())
            except (OSError, ValueError) as error:
                raise self._failed(error) from error

    def _failed(self, error: OSError | ValueError) -> OutputError | ResourceError:
        return unwritten(self.path, error, full="make room, and go on with --resume")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # all lines are on the disk already
            self._file.close()


def followed(root: Path) -> Iterator[dict[tuple[str, str], Record]]:
    """What was made last for each input and output, by `root`'s manifest; invalid lines are ignored.

    Yields:
        The same each time, with what was added meanwhile: only that is read, unless the manifest has become another
        file or shorter.

    Raises:
        OutputError: the manifest exists but cannot be read, or is a link.
    """
    path, found, end, mark = root / NAME, dict[tuple[str, str], Record](), 0, (0, 0)
    while True:
        refuse_link(path)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if mark != (status.st_dev, status.st_ino) or status.st_size < end:
                    found, end, mark = {}, 0, (status.st_dev, status.st_ino)
                file.seek(end)
                for line in file:
                    _add(found, line)
                    end += len(line) if line.endswith(b"\n") else 0  # a torn line is cut off, and others follow there
        except FileNotFoundError:
            found, end = {}, 0
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
        yield found


def _add(found: dict[tuple[str, str], Record], line: bytes) -> None:
    """Add what a line of the manifest says of a result."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        told = json.loads(line)
        if told["schema"] == SCHEMA and told["error"] is None:
            told |= {name: sys.intern(told[name]) for name in ("folder", "weights", "settings")}  # alike in most lines
            record = Record(*(told[name] for name in Record._fields))
            found[str(told["input"]), record.output] = record


@contextlib.contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Create `root` if needed, and lock it against other batches.

    A folder that was created here and stays empty is removed again.

    Raises:
        OutputError: another batch is writing there, or the folder cannot be written.
    """
    busy = f"another batch writes to {root}: wait for it, or name another folder with -o"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(claims.claimed(root, LOCK, busy, keep=root.exists()))
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"{root} cannot be written to ({reason}); name another folder with -o") from error
        yield


def _cut_torn(file: BinaryIO) -> None:
    """Cut off what follows the last newline: the line being written when the program was killed."""
    end = file.seek(0, os.SEEK_END)
    kept, step = end, 4096
    while kept:
        start = max(0, kept - step)
        file.seek(start)
        at = file.read(kept - start).rfind(b"\n")
        if at >= 0:
            kept = start + at + 1
            break
        kept = start
    if kept < end:
        file.truncate(kept)
