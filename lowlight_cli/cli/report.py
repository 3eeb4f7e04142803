"""Terminal output: data to stdout, everything else to stderr. The only module that uses rich.

stdout carries the requested paths, JSON Lines and tables. Messages, progress and errors go to stderr, as plain lines
if it is not a terminal. rich reads NO_COLOR, FORCE_COLOR and TERM itself, and is imported only to draw.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from stat import S_ISCHR
from typing import TYPE_CHECKING, Any, Final, TextIO

from lowlight_cli.errors import reader_gone

if TYPE_CHECKING:
    from rich.console import Console

    from lowlight_cli.training.loop import Progress

__all__ = [
    "EVERY", "SCHEMA", "Level", "ReaderGone", "bold", "data", "detail", "drawn", "error", "event", "flush",
    "frames", "hung_up", "let_go", "level", "note", "path", "progress", "raw", "set_level", "shown", "table",
    "time_left", "training", "transfer", "warning",
]  # fmt: skip

SCHEMA: Final = "lowlight-1"
"""The `schema` of every JSON line; it changes when a field changes its meaning or is removed."""

EVERY: Final = 30.0
"""Seconds between two progress lines if stderr is not a terminal, so that the log of a night stays readable."""


class Level(IntEnum):
    """How much is reported."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2
    DEBUG = 3


_CONTROL: Final = re.compile(r"[\0-\x08\n-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|[\udc80-\udcff]+")
"""Control characters except tab, line breaks and what turns text around; undecodable bytes, which may be C1 ones."""

GAP: Final = 2
"""Characters between two columns of a table."""

_level = Level.NORMAL

_live: Console | None = None
"""The console of the bar being drawn, if any; all other terminal output has to go through it."""


def level() -> Level:
    """Return the current level."""
    return _level


def set_level(new: Level) -> None:
    """Set the level (`-q`, `-v`, `--debug`)."""
    global _level
    _level = new


def shown(text: str) -> str:
    """Make a line of foreign text safe for a terminal: a file name could otherwise clear the screen or forge a line."""
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    """Escape control bytes, but keep text that is printable as UTF-8, which terminals may show in any locale."""
    if found[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape").isprintable():
        return found[0]
    return "".join(c if c >= "\udca0" else f"\\u{ord(c) % 0xDC00:04x}" for c in found[0]).replace(r"\u00", r"\x")


# ---------------------------------------------------------------------------------------------------------- stderr


def error(message: str) -> None:
    """Report what ended the work. Never hidden."""
    _say("error", "bold red", message)


def warning(message: str) -> None:
    """Report a problem that does not stop the work; `-q` hides it."""
    if _level >= Level.NORMAL:
        _say("warning", "yellow", message)


def note(message: str) -> None:
    """Report what is done; `-q` hides it."""
    if _level >= Level.NORMAL:
        _say("", "", message)


def detail(message: str) -> None:
    """Report a detail, only with `-v`."""
    if _level >= Level.VERBOSE:
        _say("", "dim", message)


def _say(label: str, style: str, message: str) -> None:
    """Write one line to stderr; the lines of a longer message are joined, so that each message is one line."""
    line = shown(" ".join(message.split("\n")))
    if drawn(sys.stderr):
        from rich.text import Text

        style = "" if os.environ.get("NO_COLOR") else style  # rich would leave it bold
        text = Text.assemble((f"{label}: ", style), line) if label else Text(line, style)
        _console(sys.stderr).print(text, soft_wrap=True)
    else:
        sys.stderr.write(f"{label}: {line}\n" if label else f"{line}\n")
        sys.stderr.flush()


# ---------------------------------------------------------------------------------------------------------- stdout


class ReaderGone(Exception):
    """The reader of stdout has closed it. Not an OSError, for which typer would choose its own exit code."""


def raw(content: bytes) -> None:
    """Write bytes to stdout and flush, so that the reader of a pipe sees them at once.

    Raises:
        ReaderGone: the reader has closed the pipe.
        OSError: the disk behind it is full.
    """
    with _for_a_reader():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def flush() -> None:
    """Flush stdout. Raises as `raw`."""
    with _for_a_reader():
        sys.stdout.flush()


@contextlib.contextmanager
def _for_a_reader() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        let_go()
        if reader_gone(error):
            raise ReaderGone from error
        raise


def let_go() -> None:
    """Redirect stdout to /dev/null, because the final flush of the interpreter would fail and print an error."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def hung_up() -> None:
    """Redirect stdout and stderr to /dev/null if they go to the closed terminal, where every write would fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if S_ISCHR(os.fstat(stream.fileno()).st_mode):  # `isatty` is false by now
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def data(line: str) -> None:
    """Write one line of data to stdout: file names as their bytes on disk, but on a terminal made safe by `shown`."""
    on_terminal = sys.stdout.isatty()
    line = shown(line) if on_terminal else line
    if _live is not None and on_terminal:
        _live.print(line, soft_wrap=True)
        return
    try:
        encoded = os.fsencode(line)
    except UnicodeEncodeError:  # not a file name, and the locale knows ASCII alone
        encoded = line.encode("utf-8", "surrogateescape")
    raw(encoded + os.linesep.encode())


def path(where: Path) -> None:
    """Print the path of a written file to stdout."""
    data(str(where))


def event(kind: str, fields: Mapping[str, Any]) -> None:
    """Print one JSON line to stdout: `schema`, `event`, then the fields."""
    data(json.dumps({"schema": SCHEMA, "event": kind, **fields}, default=str))


def bold(text: str) -> str:
    """Return text in bold if stdout shows colours."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not drawn(sys.stdout) else f"\x1b[1m{text}\x1b[0m"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, piped: Collection[str] = ()) -> None:
    """Print columns with a heading to stdout: drawn on a terminal, separated by tabs in a pipe.

    If a terminal is too narrow for the longest words of all columns, each row becomes a block of lines. Columns in
    `piped` appear in pipes only.
    """
    rows = [[shown(cell) for cell in row] for row in rows]
    if not drawn(sys.stdout):
        for row in (columns, *rows):
            data("\t".join(row))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout)
    kept = [at for at, column in enumerate(columns) if column not in piped]
    cells = [[Text(line[at]) for line in (columns, *rows)] for at in kept]
    widths = [max(console.measure(cell).minimum for cell in column) for column in cells]  # longest words
    spare = console.width - sum(widths) - GAP * (len(kept) - 1)
    if spare >= 0:
        drawing = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
        wide = _widened(widths, [[*map(len, column)] for column in cells], spare)
        for column, width in zip(cells, wide, strict=True):
            drawing.add_column(column[0], overflow="fold", width=width)
        for row in zip(*(column[1:] for column in cells), strict=True):
            drawing.add_row(*row)
        console.print(drawing)
    elif len(kept) == 2:
        console.print(*(Text(": ".join(row[at] for at in kept)) for row in rows), sep="\n")
    else:
        blocks = ("".join(f"{columns[at]}: {row[at]}\n" for at in kept if row[at]) for row in rows)
        console.print(*map(Text, blocks), sep="\n", end="")


def _widened(widths: Sequence[int], lengths: Sequence[Sequence[int]], spare: int) -> list[int]:
    """Widen columns by `spare` characters in all, each given to the column whose cells are folded the most."""
    result = list(widths)
    for _ in range(spare):
        folded = [
            sum(length / width for length in column if length > width)
            for column, width in zip(lengths, result, strict=True)
        ]
        result[max(range(len(result)), key=folded.__getitem__)] += max(folded) > 0
    return result


# -------------------------------------------------------------------------------------------------------- progress


def time_left(seconds: float) -> str:
    """Return how long something will still take, in a few words."""
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


@contextlib.contextmanager
def progress(label: str, total: float | None, *, unit: str = "") -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr while the block runs; nothing if stderr is not a terminal, or with `-q`.

    Args:
        label: what is going on.
        total: the amount of work; None if unknown.
        unit: `B` shows bytes and their rate; anything else shows `3/10`.

    Yields:
        A function that takes the amount of work done since the last call.
    """
    counts = ("Download", "TransferSpeed") if unit == "B" else ("MofNComplete",)
    with _bar(label, total, *counts, "TimeRemaining") as update:
        yield lambda amount: update(advance=amount) if update else None


@contextlib.contextmanager
def frames(label: str) -> Iterator[Callable[[int, int | None, str], bool]]:
    """Show a bar on stderr that counts the frames of a clip; nothing if bars are not drawn.

    Yields:
        A function that takes the frames done, their total and a few words (the speed); returns whether a bar is drawn.
    """
    with _bar(label, None, "MofNComplete") as update:

        def show(done: int, total: int | None, words: str) -> bool:
            if update:
                update(completed=done, total=total, words=words)
            return update is not None

        yield show


@contextlib.contextmanager
def transfer(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar that appears with the first bytes of a download, and starts again with the next file.

    Yields:
        A function that takes the bytes received so far and their total.
    """
    with contextlib.ExitStack() as stack:
        advance: Callable[[float], None] | None = None
        before = 0

        def moved(done: int, total: int | None) -> None:
            nonlocal advance, before
            if advance is None or done < before:
                stack.close()
                advance, before = stack.enter_context(progress(label, total, unit="B")), 0
            advance(done - before)
            before = done

        yield moved


@contextlib.contextmanager
def training(model: str) -> Iterator[Callable[[Progress], None]]:
    """Follow a training run on stderr: a bar on a terminal, else one line per measurement; nothing with `-q`.

    Yields:
        A function that takes each measurement.
    """
    with _bar(model, 1.0, "TaskProgress", "TimeElapsed", transient=False) as update:

        def show(seen: Progress) -> None:
            judge = [] if seen.judge is None else [f"judge {seen.judge:.4f}"]
            pace = f"{seen.steps_per_second:.2f} it/s"
            parts = [model, f"step {seen.step}", f"loss {seen.loss:.4f}", *judge, pace]
            if seen.scores:
                parts.append(f"PSNR {seen.scores.psnr:.2f} / GT-mean {seen.scores.psnr_gt_mean:.2f} dB")
            told, left = "  ".join(parts), f"{max(seen.left, 0) / 60:.0f} min left"
            if not update:
                note(f"{told}  {left}")
                return
            if seen.scores:
                note(told)
            update(completed=seen.share, description=told, words=left)

        yield show


@contextlib.contextmanager
def _bar(
    label: str, total: float | None, *columns: str, transient: bool = True
) -> Iterator[Callable[..., None] | None]:
    """Draw a bar on stderr, with all messages above it, unless bars are not wanted or stderr cannot show them.

    Args:
        label: the text before the bar.
        total: the amount of work; None if unknown.
        columns: what follows the bar, as rich calls it; then come the `words` of an update.
        transient: whether the bar disappears at the end.

    Yields:
        rich's `Progress.update` for this bar; None if none is drawn.
    """
    global _live
    if _level == Level.QUIET or not drawn(sys.stderr) or os.environ.get("TERM") == "dumb":
        yield None
        return
    import rich.progress as bars

    before, after = (bars.TextColumn(f"{{task.{text}}}", markup=False) for text in ("description", "fields[words]"))
    inner = (bars.BarColumn(), *(getattr(bars, f"{name}Column")() for name in columns))
    console = _console(sys.stderr)
    with bars.Progress(before, *inner, after, console=console, transient=transient, redirect_stdout=False) as bar:
        _live = bar.console
        try:
            yield functools.partial(bar.update, bar.add_task(shown(label), total=total, words=""))
        finally:
            _live = None


def drawn(stream: TextIO) -> bool:
    """Whether `stream` shows colours and boxes: a terminal, or FORCE_COLOR."""
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _console(stream: TextIO) -> Console:
    """Return a rich console on `stream`: the bar's while one is drawn, else a new one, as streams may be redirected.

    Markup is off, so that text appears unchanged: a file may be called `a:heart:b[red].jpg`.
    """
    if _live is not None and stream.isatty():
        return _live
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)
