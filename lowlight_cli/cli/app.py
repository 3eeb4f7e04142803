"""`lowlight`: find and run a command, and turn every outcome into an exit code and at most one error line.

The module of a command is imported when the command is used. Each keeps its own imports light (numpy, torch and cv2
are imported inside functions), because `lowlight --help` imports all of them for the first lines of their help.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import gc
import importlib
import inspect
import io
import itertools
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

import lowlight_cli
from lowlight_cli import heap
from lowlight_cli.cli import helping, report
from lowlight_cli.cli.ready import Ended
from lowlight_cli.errors import LowlightError, ResourceError, UsageError, disk_full, exhausted
from lowlight_cli.signals import ENDING
from lowlight_cli.targets import exists

__all__ = ["COMMANDS", "app", "main", "run"]

COMMANDS: Final = {
    "enhance": "enhance:enhance",
    "batch": "batch:batch",
    "video": "video:video",
    "compare": "compare:compare",
    "models": "models:models",
    "weights": "weights:app",
    "darken": "darken:darken",
    "train": "train:train",
    "export": "export:export",
    "bench": "bench:bench",
    "doctor": "doctor:doctor",
}
"""Maps a command to `module:name` in this package, in the order of the help: a function, or a Typer of subcommands."""

LIBRARY: Final = (
    (r"Value error, ", ""),
    (r"Input should be a valid integer", "must be a whole number"),
    (r"Input should be (a )?(?:valid )?", r"must be \1"),
    (r", unable to (?:parse|interpret).*", ""),
)
"""Patterns in the messages of the option parser, and the plainer words that replace them."""

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

ECHO: Final = 1.0
"""Seconds in which further signals are the same wish: `timeout` and a closing terminal send theirs twice."""


class Command(helping.Command):
    """A command whose `--ray` may be given without a value, which typer does not support."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, but insert `auto` after a `--ray` that no address follows. Addresses contain a colon."""
        whole: list[str] = []
        for arg, following in itertools.pairwise([*args, ""]):
            whole.append(arg)
            if arg == "--ray" and following not in ("auto", "local") and (":" not in following or following[0] == "-"):
                whole.append("auto")
        return super().parse_args(ctx, whole)


class Commands(helping.Group):
    """The commands in `COMMANDS`, each imported on first use."""

    listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the program. It needs only the first line of each command, so no options are built."""
        self.listing = True
        super().format_help(ctx, formatter)
        self.listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(f"lowlight_cli.cli.{module}"), attribute)
        if self.listing:
            several = isinstance(found, typer.Typer) and found.registered_callback
            return TyperCommand(cmd_name, help=inspect.getdoc(several.callback if several else found))
        alone = typer.Typer(add_completion=False)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=cmd_name)
            return typer.main.get_group(alone).get_command(ctx, cmd_name)
        alone.command(cmd_name, cls=Command)(found)
        return typer.main.get_command(alone)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve as usual, but suggest the nearest name for an unknown command."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
            if Path(name).exists():
                hint = f"did you mean `lowlight enhance {name}`?"
            raise UsageError(f"no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)


HELP: Final = """Make dark photographs visible: offline, on this machine.

\b
  lowlight enhance photo.jpg                  writes photo_lit.jpg
  lowlight enhance holiday/ -o lit            a folder, mirrored into lit/
  lowlight enhance night.mp4                  a clip, without flicker
"""

app = typer.Typer(
    cls=Commands,
    name="lowlight",
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 some of several failed, 2 usage, 3 input, 4 output, 5 weights, 6 device or extra, "
    "7 memory or disk, 129 hung up, 130 interrupted, 141 output no longer read, 143 terminated.",
)


def _version(wanted: bool) -> None:
    if wanted:
        report.data(f"lowlight {lowlight_cli.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """The options of the program itself."""


def run(args: Sequence[str]) -> int:
    """Run a command line, given without the name of the program, and return its exit code."""
    report.set_level(report.Level.NORMAL)
    given = list(args) or ["--help"]
    try:
        if "" in given:  # as a path it would mean the current folder
            raise UsageError("one of the arguments is empty: a variable that is not set, perhaps")
        # In standalone mode typer would draw boxes around its errors and choose their exit codes.
        code = typer.main.get_command(app).main(args=given, prog_name="lowlight", standalone_mode=False)
        report.flush()
    except (report.ReaderGone, BrokenPipeError):  # the reader of stdout has closed it: end quietly
        report.let_go()
        return BROKEN_PIPE
    except Ended:
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        return _explain(error, given)
    if code == INTERRUPTED:
        report.error("interrupted; nothing is left half-written")
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the program `lowlight`."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup and a shell's & ignore signals on purpose
            signal.signal(number, _stop)
    _mend_streams()
    heap.allow()
    if "--debug" not in sys.argv:
        warnings.simplefilter("ignore")  # those of libraries; ours are printed as messages
        _part_stderr()
    code = run(sys.argv[1:])
    gc.freeze()  # else the interpreter searches torch's objects for cycles on exit, which costs 0.4 s
    sys.exit(code)


def _mend_streams() -> None:
    """Replace streams that were closed at start by /dev/null, and make unencodable characters printable."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # open until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # drawings keep their width; data bypasses this as bytes
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=_escape(sys.stderr.encoding))


def _escape(encoding: str) -> str:
    """Return the error handler for stderr: escapes; if the encoding lacks even é, the raw bytes of file names."""
    try:
        "é".encode(encoding)
    except UnicodeEncodeError:
        codecs.register_error("lowlight", _bytes_or_escape)
        return "lowlight"
    return "backslashreplace"


def _bytes_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode one character as the byte that it stands for in a file name (surrogateescape), or else as an escape."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _part_stderr() -> None:
    """Move our messages to a duplicate of descriptor 2, so that `pictures.quiet` can silence C libraries on 2."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.fileno() == 2:
            raw = os.fdopen(os.dup(2), "wb", 0)
            sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, sys.stderr.errors, write_through=True)


def _stop(number: int, _: FrameType | None) -> None:
    """Unwind on the first signal, so that half-written files are removed; exit at once on another after `ECHO`."""
    first = time.monotonic()

    def again(number: int, _: FrameType | None) -> None:
        if time.monotonic() - first > ECHO:
            os._exit(128 + number)

    for each in ENDING:
        if signal.getsignal(each) == _stop:
            signal.signal(each, again)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number != signal.SIGTERM:
        report.hung_up()
    raise SystemExit(128 + number)


def _explain(error: Exception, given: Sequence[str]) -> int:
    """Print what went wrong in one line, after a traceback with `--debug`, and return the exit code."""
    if report.level() == report.Level.DEBUG:
        sys.stderr.write("".join(traceback.format_exception(error)))
    if hasattr(error, "format_message"):  # from typer: an option that does not parse
        if message := _parsing(error, given):  # empty if the help was shown because there were no arguments
            report.error(message.rstrip(".") + "; see --help")
        return UsageError.exit_code
    known = _known(error)
    if known is not None:
        report.error(f"{known}{_set_by(known, given)}")
        return known.exit_code
    report.error(f"this is a bug in lowlight: {type(error).__name__}: {error}; --debug shows where: report it")
    return LowlightError.exit_code


def _parsing(error: Any, given: Sequence[str]) -> str:
    """Return typer's error message in plain words; for a value from the environment, with the name of the variable."""
    if hasattr(error, "option_name") and (file := next((a for a in given if a[:1] == "-" and exists(Path(a))), None)):
        return f"no option {file}: for the file of that name write ./{file}"
    param, context, message = getattr(error, "param", None), getattr(error, "ctx", None), error.format_message()
    source = context.get_parameter_source(param.name) if param and context else None
    if param and source and source.name == "ENVIRONMENT":
        names = [param.envvar] if isinstance(param.envvar, str) else param.envvar or ()
        if name := next((each for each in names if os.environ.get(each)), None):
            message = f"{name}={os.environ[name]}: {error.message}"
    for library, ours in LIBRARY:
        message = re.sub(library, ours, message)
    return str(message)


def _set_by(error: LowlightError, given: Sequence[str]) -> str:
    """Return a remark that names the LOWLIGHT_ variable whose value a usage error quotes, unless it was typed."""
    if not isinstance(error, UsageError):
        return ""
    for name, value in os.environ.items():
        if name.startswith("LOWLIGHT_") and repr(value) in str(error) and not any(value in each for each in given):
            return f"; {name} says {value}"
    return ""


def _known(error: Exception) -> LowlightError | None:
    """Convert an error to a LowlightError; None if it is unexpected."""
    if isinstance(error, LowlightError):
        return error
    if told := exhausted(error):
        return told
    if isinstance(error, OSError):
        return ResourceError("the disk is full") if disk_full(error) else LowlightError(str(error))
    return None
