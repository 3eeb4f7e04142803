"""What the terminal sees: data on stdout, everything else on stderr; the only file that knows rich.

stdout carries paths, JSON Lines and tables that were asked for. Messages, progress and errors go to stderr, as plain
lines where it is no terminal. rich reads NO_COLOR, FORCE_COLOR and TERM itself, and is imported only to draw.
"""

from __future__ import annotations

import contextlib
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
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from lowlight_cli.training.loop import Progress

__all__ = [
    "EVERY", "SCHEMA", "Level", "ReaderGone", "bold", "data", "detail", "drawn", "error", "event", "flush",
    "frames", "hung_up", "let_go", "level", "note", "path", "progress", "raw", "set_level", "shown", "table",
    "time_left", "training", "transfer", "warning",
]  # fmt: skip

SCHEMA: Final = "lowlight-1"
"""The `schema` of every JSON line; it changes when a field changes its meaning or goes away."""

EVERY: Final = 30.0
"""Seconds between two lines of progress where stderr is no terminal: a night's log stays readable."""


class Level(IntEnum):
    """How much is told."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2
    DEBUG = 3


_CONTROL: Final = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]|[\udc80-\udcff]+")
"""Control characters but tabs and line ends; the last are bytes of a file's name, which a terminal may take for C1."""

GAP: Final = 2
"""Letters between two columns of a table."""

_level = Level.NORMAL

_live: Console | None = None
"""The console of a bar that is being drawn; what else is said on the terminal has to go through it."""


def level() -> Level:
    """How much is told now."""
    return _level


def set_level(new: Level) -> None:
    """Tell as much as `new` from here on (`-q`, `-v`, `--debug`)."""
    global _level
    _level = new


def shown(text: str) -> str:
    """Text from elsewhere as a terminal may see it: a file's name could clear the screen otherwise, or forge a line."""
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    """As it is where bytes are letters in UTF-8, which terminals know where the locale does not."""
    if found[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape").isprintable():
        return found[0]
    return "".join(each if each >= "\udca0" else f"\\x{ord(each) & 0xFF:02x}" for each in found[0])


# ---------------------------------------------------------------------------------------------------------- stderr


def error(message: str) -> None:
    """Say what ended the work. Never hidden."""
    _say("error", "bold red", message)


def warning(message: str) -> None:
    """Say what the user should know although the work goes on."""
    if _level >= Level.NORMAL:
        _say("warning", "yellow", message)


def note(message: str) -> None:
    """Say what is done; `-q` hides it."""
    if _level >= Level.NORMAL:
        _say("", "", message)


def detail(message: str) -> None:
    """Say what only `-v` asks for."""
    if _level >= Level.VERBOSE:
        _say("", "dim", message)


def _say(label: str, style: str, message: str) -> None:
    """One line to stderr; a message of several lines is folded, so that one thing said is one line."""
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
    """Whoever read our stdout has closed it. Not an OSError: typer would end with a code of its own."""


def raw(content: bytes) -> None:
    """Bytes to stdout, seen at once by whoever reads the pipe.

    Raises:
        ReaderGone: nobody does.
        OSError: the disk behind it is full.
    """
    with _for_a_reader():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def flush() -> None:
    """All that was written to stdout leaves; the errors are those of `raw`."""
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
    """What is left for stdout leads nowhere from now on: the interpreter's own last flush would fail, and say so."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def hung_up() -> None:
    """The terminal is gone: what would be shown there leads nowhere, as each attempt would fail; files get it still."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if S_ISCHR(os.fstat(stream.fileno()).st_mode):  # it is no terminal any more, as far as `isatty` knows
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def data(line: str) -> None:
    """One line of data to stdout: a file's name leaves as the bytes that it is on disk, on a terminal as `shown`."""
    on_terminal = sys.stdout.isatty()
    line = shown(line) if on_terminal else line
    if _live is not None and on_terminal:
        _live.print(line, soft_wrap=True)
    else:
        raw(os.fsencode(line) + os.linesep.encode())


def path(where: Path) -> None:
    """A written file's path to stdout."""
    data(str(where))


def event(kind: str, fields: Mapping[str, Any]) -> None:
    """One JSON line to stdout: `schema`, `event`, then the fields."""
    data(json.dumps({"schema": SCHEMA, "event": kind, **fields}, default=str))


def bold(text: str) -> str:
    """A heading on stdout, where that is a terminal."""
    return f"\x1b[1m{text}\x1b[0m" if drawn(sys.stdout) and not os.environ.get("NO_COLOR") else text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, piped: Collection[str] = ()) -> None:
    """Columns with a heading to stdout: drawn on a terminal, separated by tabs in a pipe.

    Where a terminal is too narrow for the longest words of all columns, each row is a block of lines; `piped` are
    columns for which it has no room at all.
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
    widths = [max(console.measure(cell).minimum for cell in column) for column in cells]  # of the longest words
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
    """Widths of columns with what is to spare, given letter by letter to the one with the most folded cells."""
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
    """How long something still takes, in a few words."""
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


@contextlib.contextmanager
def progress(label: str, total: float | None, *, unit: str = "") -> Iterator[Callable[[float], None]]:
    """A bar on stderr while the block runs; nothing where stderr is no terminal, or with `-q`.

    Args:
        label: what is going on.
        total: how much there is to do; None where nobody knows.
        unit: `B` shows bytes and their rate; anything else shows `3/10`.

    Yields:
        A function that takes how much more is done.
    """
    if not _draws_bars():
        yield lambda _: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = (DownloadColumn(), TransferSpeedColumn()) if unit == "B" else (MofNCompleteColumn(),)
    with _bar(TextColumn("{task.description}", markup=False), BarColumn(), *counts, TimeRemainingColumn()) as bar:
        task = bar.add_task(shown(label), total=total)
        yield lambda amount: bar.advance(task, amount)


@contextlib.contextmanager
def frames(label: str) -> Iterator[Callable[[int, int | None, str], bool]]:
    """A bar on stderr that counts a clip's frames and says how fast they go; nothing where no bar is drawn.

    Yields:
        A function that takes how many are done, of how many, and a few words; it says whether a bar is drawn.
    """
    if not _draws_bars():
        yield lambda *_: False
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    words = TextColumn("{task.fields[words]}", markup=False)
    with _bar(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), words) as bar:
        task = bar.add_task(shown(label), total=None, words="")

        def show(done: int, total: int | None, told: str) -> bool:
            bar.update(task, completed=done, total=total, words=told)
            return True

        yield show


@contextlib.contextmanager
def transfer(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar that appears with the first bytes of a download, and starts anew with the next file.

    Yields:
        A function that takes how many bytes of how many are there.
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
    """Follow a training run on stderr: a bar on a terminal, a plain line a measurement elsewhere, nothing with `-q`.

    Yields:
        A function that takes each measurement.
    """

    def told(seen: Progress) -> str:
        parts = [f"step {seen.step}", f"loss {seen.loss:.4f}", f"{seen.steps_per_second:.2f} it/s"]
        if seen.scores:
            parts.append(f"PSNR {seen.scores.psnr:.2f} / GT-mean {seen.scores.psnr_gt_mean:.2f} dB")
        return "  ".join(parts)

    if _level == Level.QUIET:
        yield lambda _: None
    elif not _draws_bars():
        yield lambda seen: note(f"{model}  {told(seen)}  {max(seen.left, 0) / 60:.0f} min left")
    else:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        left = TextColumn("{task.fields[left]}", markup=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        with _bar(*columns, TimeElapsedColumn(), left, transient=False) as bar:
            task = bar.add_task(model, total=1.0, left="")

            def show(seen: Progress) -> None:
                if seen.scores:
                    bar.console.print(f"{model}  {told(seen)}")
                left = f"{max(seen.left, 0) / 60:.0f} min left"
                bar.update(task, completed=seen.share, description=f"{model}  {told(seen)}", left=left)

            yield show


@contextlib.contextmanager
def _bar(*columns: ProgressColumn, transient: bool = True) -> Iterator[Bar]:
    """Draw a bar and let all that is said meanwhile stand above it; a transient one is gone when it is done."""
    global _live
    from rich.progress import Progress as Bar

    with Bar(*columns, console=_console(sys.stderr), transient=transient, redirect_stdout=False) as bar:
        _live = bar.console
        try:
            yield bar
        finally:
            _live = None


def _draws_bars() -> bool:
    """Whether bars are wanted, and something shows them."""
    return _level > Level.QUIET and drawn(sys.stderr) and os.environ.get("TERM") != "dumb"


def drawn(stream: TextIO) -> bool:
    """Whether `stream` shows colours and boxes: a terminal, or FORCE_COLOR."""
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _console(stream: TextIO) -> Console:
    """A rich console on `stream`, made anew so that a redirected stream is honoured; the bar's while one is drawn.

    It shows every text as it is: a file may be called `a:heart:b[red].jpg`.
    """
    if _live is not None and stream.isatty():
        return _live
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)
