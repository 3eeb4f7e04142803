"""`--help` on a terminal of 80 letters, messages about options, and what tables do where it is narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Ran, dark_array
from PIL import Image
from test_cli_process import on_terminal, posix

from lowlight_cli.cli.app import COMMANDS, app

Lowlight = Callable[..., Ran]
Run = Callable[..., tuple[int, str, str]]


def commands() -> Iterator[list[str]]:
    """Every command and command of a command."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="lowlight")
    for name in COMMANDS:
        found = root.get_command(context, name)
        yield [name]
        yield from ([name, each] for each in getattr(found, "commands", ()))


def names(words: list[str]) -> set[str]:
    """The options of a command, as it knows them."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="lowlight")
    for word in words:
        command = command.get_command(context, word)
        context = command.context_class(command, info_name=word, parent=context)
    shown = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    return {name for param in shown for name in param.opts}


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
@pytest.mark.parametrize("colour", [False, True])
def test_no_name_is_cut(call: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], colour: bool) -> None:
    """Every option by its whole name, and nothing in the words of the library."""
    monkeypatch.setenv("COLUMNS", "80")
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, _ = call(*words, "--help")
    told = {word.strip(",") for word in out.replace("\x1b[1m", "").replace("\x1b[0m", "").split()}
    assert code == 0 and names(words) <= told
    assert not any(odd in out for odd in ("<bool", "<list[", "<=x<=", "<path", "…", "{", "default: ("))


@posix
@pytest.mark.parametrize(("env", "bold"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_bold(folder: Path, env: dict[str, str], bold: bool) -> None:
    code, seen = on_terminal(folder, ["enhance", "--help"], **env)
    assert (code, "\x1b" in seen) == (0, bold)


def test_what_options_take(call: Run) -> None:
    _, out, _ = call("enhance", "--help")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "Usage: lowlight enhance [OPTIONS] INPUT..." in lines
    assert any(line.startswith("--strength 0..1 How much") for line in lines)
    assert any(line.startswith("--dry-run Say") for line in lines)
    assert "--exist error|skip|overwrite|number" in lines
    assert "[default: 1.0]" in out and "[default: off]" in out
    train = call("train", "--help")[1]
    assert "at least 1]" in train and "--recipe best|paper" in train and "--precision bf16|fp32" in train


# -------------------------------------------------------------------------------------------------------- variables


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LOWLIGHT_STRENGTH", "7", "error: LOWLIGHT_STRENGTH=7: must be less than or equal to 1; see --help"),
        ("LOWLIGHT_EXPOSURE", "7", "error: LOWLIGHT_EXPOSURE=7: '7' is neither auto, off nor a number from 0.2 to 0.8"),
        ("LOWLIGHT_MODEL", "foo", "; LOWLIGHT_MODEL says foo"),
    ],
)
def test_a_variable_is_named(
    photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """Not the option, which nobody typed."""
    monkeypatch.setenv(name, value)
    ran = lowlight("enhance", photo)
    assert ran.code == 2 and told in ran.err and "Invalid value for" not in ran.err
    typed = lowlight("enhance", photo, f"--{name.removeprefix('LOWLIGHT_').lower()}", value)
    assert typed.code == 2 and name not in typed.err


# ----------------------------------------------------------------------------------------------------- other kinds


def test_pictures_that_are_not_read_are_counted(folder: Path, lowlight: Lowlight) -> None:
    """In a folder, once; files that are no pictures are no matter."""
    Path("in").mkdir()
    Image.fromarray(dark_array()).save("in/a.png")
    for name in ("b.gif", "c.GIF", "d.jp2", "note.txt"):
        Path("in", name).write_bytes(b"x")
    told = "3 files are of kinds that are not read: .gif, .jp2"
    assert lowlight("enhance", "in").lines.count(told) == 1
    assert lowlight("batch", "in", "-o", "out").lines.count(told) == 1
    Path("in/d.jp2").unlink()
    Path("in/c.GIF").unlink()
    assert "1 file is of a kind that is not read: .gif" in lowlight("enhance", "in", "--exist", "skip").lines


# ----------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("words", [("weights", "list"), ("models",), ("weights", "info", "dgaf")])
def test_no_word_of_a_table_is_broken(
    call: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], width: int
) -> None:
    """What a pipe gets stands on the terminal word by word, where a word is not longer than a line."""
    piped = call(*words)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    shown = call(*words)[1]
    rows = [dict(zip(piped.splitlines()[0].split("\t"), row.split("\t"), strict=True)) for row in piped.splitlines()]
    cells = [text for row in rows[1:] for name, text in row.items() if name not in ("trained on", "parameters")]
    seen = set(shown.replace(":", "").split())
    assert {word.replace(":", "") for text in cells for word in text.split() if 1 < len(word) <= width} <= seen
    assert all(len(line) <= width for line in shown.splitlines() if "\x1b" not in line)
    if words == ("weights", "list") and width == 80:
        assert len(shown.splitlines()) <= 3 * len(rows) + 2 and "trained on" not in shown
        assert "trained on" in piped
