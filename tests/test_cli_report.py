"""What the terminal sees: levels, tables, bars."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lowlight_cli import errors
from lowlight_cli.cli import report
from lowlight_cli.training.loop import Progress, Scores


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr as a terminal."""
    screen = Terminal()
    monkeypatch.setattr(report, "sys", SimpleNamespace(stderr=screen, stdout=sys.stdout))  # pytest has the real ones
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for level in report.Level:
        report.set_level(level)
        for say in (report.error, report.warning, report.note, report.detail):
            say(say.__name__)
        told[level.name] = capsys.readouterr().err.split("\n")[:-1]
    assert told == {
        "QUIET": ["error: error"],
        "NORMAL": ["error: error", "warning: warning", "note"],
        "VERBOSE": ["error: error", "warning: warning", "note", "detail"],
        "DEBUG": ["error: error", "warning: warning", "note", "detail"],
    }


def test_one_thing_said_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report.error("first\nsecond")
    assert capsys.readouterr().err == "error: first second\n"


EVIL = "a\x1b[2J\x1b]0;title\x07\r\x9b31m\x7f夜\u202egnp\u2066\udc9b.png"
TAMED = r"a\x1b[2J\x1b]0;title\x07\x0d\x9b31m\x7f夜\u202egnp\u2066\x9b.png"


@pytest.mark.parametrize("say", [report.error, report.warning, report.note])
def test_a_name_cannot_command_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    say(EVIL)
    assert terminal.getvalue().removeprefix(f"{say.__name__}: ") == f"{TAMED}\n"


def test_nor_from_a_log_that_is_read_there(capsys: pytest.CaptureFixture[str]) -> None:
    report.error(EVIL)
    assert capsys.readouterr().err == f"error: {TAMED}\n"


@pytest.mark.parametrize("on_terminal", [True, False])
def test_paths_are_tamed_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, on_terminal: bool) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(stdout, "isatty", lambda: on_terminal)
    monkeypatch.setattr(report, "sys", SimpleNamespace(stdout=stdout, stderr=sys.stderr))
    report.path(Path(EVIL))
    report.data("a\tb\n/etc/forged.png")
    told = (TAMED.encode(), b"a\tb\\x0a/etc") if on_terminal else (os.fsencode(EVIL), b"a\tb\n/etc")
    assert stdout.buffer.getvalue() == told[0] + b"\n" + told[1] + b"/forged.png\n"


@pytest.mark.parametrize("drawn", ["1", ""])
def test_cells_are_tamed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], drawn: str) -> None:
    monkeypatch.setenv("FORCE_COLOR", drawn)
    monkeypatch.setenv("COLUMNS", "120")
    report.table(["licence"], [[EVIL]])
    seen = capsys.readouterr().out
    assert TAMED in seen and not {"\r", "\x07", "\x9b"} & set(seen) and "\x1b[2J" not in seen


def test_a_bar_tames_its_label(terminal: Terminal) -> None:
    with report.progress(EVIL, 3) as advance:
        advance(1)
    with report.frames(EVIL) as show:
        show(1, 3, "")
    assert terminal.getvalue().count(r"\x1b]0;title\x07") >= 2 and "\x1b]0;" not in terminal.getvalue()


def test_brackets_are_no_markup(terminal: Terminal) -> None:
    report.note("[red]photo[/red].jpg :smile:")
    assert terminal.getvalue() == "[red]photo[/red].jpg :smile:\n"


def test_names_above_a_bar_are_as_they_are(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.sys, "stdout", terminal)
    with report.progress("work", 3):
        report.path(Path("a:heart:b[red]_lit.jpg"))
        report.event("file", {"output": "a:heart:b[red]_lit.jpg"})
    assert terminal.getvalue().count("a:heart:b[red]_lit.jpg") == 2


def test_event(capsys: pytest.CaptureFixture[str]) -> None:
    report.event("file", {"input": Path("a.jpg"), "name": "夜"})
    line = capsys.readouterr().out
    assert json.loads(line) == {"schema": "lowlight-1", "event": "file", "input": "a.jpg", "name": "夜"}
    assert line.isascii()


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    report.table(("a", "b"), [("1", "[2]"), ("3", "")])
    assert capsys.readouterr().out == "a\tb\n1\t[2]\n3\t\n"


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with report.progress("work", 3) as advance, report.transfer("file") as moved:
        advance(1)
        moved(10, 100)
    assert capsys.readouterr() == ("", "")


def test_bar(terminal: Terminal) -> None:
    with report.progress("work", 3) as advance:
        advance(1)
        report.note("meanwhile")
        advance(2)
    seen = terminal.getvalue()
    assert "work" in seen and "3/3" in seen
    assert "meanwhile\n" in seen
    report.set_level(report.Level.QUIET)
    with report.progress("quiet", 3) as advance:
        advance(3)
    assert "quiet" not in terminal.getvalue()


class Gone(io.BytesIO):
    """A pipe of Windows whose reader has closed it."""

    def write(self, _: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize(("system", "error"), [("nt", report.ReaderGone), ("posix", OSError)])
@pytest.mark.parametrize("drawn", ["", "a table"])
def test_a_reader_that_is_gone_on_windows(
    monkeypatch: pytest.MonkeyPatch, system: str, error: type[Exception], drawn: str
) -> None:
    """It says so by an error that elsewhere means what it says."""
    monkeypatch.setattr(errors, "os", SimpleNamespace(name=system))
    monkeypatch.setattr(report, "let_go", lambda: None)  # stdout is pytest's
    stdout = io.TextIOWrapper(Gone(), "utf-8")
    monkeypatch.setattr(report, "sys", SimpleNamespace(stdout=stdout, stderr=sys.stderr))
    stdout.write(drawn)
    with pytest.raises(error):
        report.flush() if drawn else report.raw(b"photo_lit.jpg\n")


def test_transfer_counts_each_file(terminal: Terminal) -> None:
    with report.transfer("weights") as moved:
        for done in (500_000, 1_000_000):
            moved(done, 1_000_000)
        for done in (100_000, 2_000_000):
            moved(done, 2_000_000)
    seen = terminal.getvalue()
    assert "1.0/1.0 MB" in seen and "2.0/2.0 MB" in seen


SEEN = Progress(
    step=20, loss=0.1234, rate=1e-3, steps_per_second=2.5, share=0.5, left=600, waiting=0.1,
    scores=Scores(psnr=20.123, psnr_gt_mean=24.5, ssim=0.8, pictures=8),
)  # fmt: skip


def test_training_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with report.training("dgaf") as show:
        show(SEEN)
    err = capsys.readouterr().err
    assert err == "dgaf  step 20  loss 0.1234  2.50 it/s  PSNR 20.12 / GT-mean 24.50 dB  10 min left\n"


def test_training_on_a_terminal(terminal: Terminal) -> None:
    with report.training("dgaf") as show:
        show(SEEN)
    seen = terminal.getvalue()
    assert "PSNR 20.12" in seen and "50%" in seen and "10 min left" in seen
