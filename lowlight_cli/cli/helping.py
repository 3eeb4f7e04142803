"""`--help`: every option by its whole name with what it takes, then what it is for, panel by panel.

typer's own panels have columns, which cut long names on terminals of 80 letters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from lowlight_cli.cli import report

__all__ = ["Command", "Group"]

TYPES: Final = {"int": "N", "int range": "N", "float": "N", "float range": "N", "path": "PATH", "str": "TEXT"}
"""typer's names of what an option takes, and ours."""


class Command(TyperCommand):
    """A command with such a help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write it."""
        _write(self, ctx, formatter)


class Group(TyperGroup):
    """Several commands under one name, with such a help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write it."""
        _write(self, ctx, formatter)


def _write(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    panels: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    usage = ["[OPTIONS]"]
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if param.param_type_name == "argument":
            name = str(getattr(param, "metavar", None) or (param.name or "").upper())
            usage.append(name)
            panels["Arguments"].append((name, _told(record[1] if record else "")))
        elif record:
            panels[getattr(param, "rich_help_panel", None) or "Options"].append((_named(record[0]), _told(record[1])))
    if isinstance(command, TyperGroup):
        usage.append("COMMAND [ARGS]...")
        for name in command.list_commands(ctx):
            each = command.get_command(ctx, name)
            first = ((each.help if each else None) or "").partition("\n\n")[0]
            panels["Commands"].append((name, " ".join(first.split())))
    formatter.write_usage(ctx.command_path, " ".join(usage))
    command.format_help_text(ctx, formatter)
    for title, rows in panels.items():
        with formatter.section(report.bold(title)):
            formatter.write_dl([(report.bold(name), text) for name, text in rows])
    command.format_epilog(ctx, formatter)


def _named(text: str) -> str:
    """`--exist <error|skip>` as `--exist error|skip`, `--steps <int range>` as `--steps N`."""
    return re.sub(r"<([^<>]*)>", lambda found: TYPES.get(found[1], found[1]), text)


def _told(text: str) -> str:
    """The lines of an option without what is told by what it takes: `[default: (0); 0<=x<=9]` as `[default: 0]`."""
    text = re.sub(r"default: \((.*)\)(?=[;\]])", r"default: \1", text)
    text = re.sub(r"(?:; |  (?=\[))?(\[?)[\d.e+]+<=x<=[\d.e+]+(\]?)", lambda found: found[2] * (not found[1]), text)
    return re.sub(r"\bx>=([\d.]+)", r"at least \1", text)
