"""`--help`: format each option with its full name, metavar and description, panel by panel.

typer's own panels have columns, which truncate long names on terminals of 80 characters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from lowlight_cli.cli import report

__all__ = ["Command", "Group"]

TYPES: Final = {"int": "N", "int range": "N", "float": "N", "float range": "N", "path": "PATH", "str": "TEXT"}
"""typer's names of option types, and ours."""


class Command(TyperCommand):
    """A command with this help format."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _write(self, ctx, formatter)


class Group(TyperGroup):
    """A group of subcommands with this help format."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
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
    """Turn `--exist <error|skip>` into `--exist error|skip`, and `--steps <int range>` into `--steps N`."""
    return re.sub(r"<([^<>]*)>", lambda found: TYPES.get(found[1], found[1]), text)


def _told(text: str) -> str:
    """Drop from a description the range that the metavar already shows: `[default: (0); 0<=x<=9]` to `[default: 0]`."""
    text = re.sub(r"default: \((.*)\)(?=[;\]])", r"default: \1", text)
    text = re.sub(r"(?:; |  (?=\[))?(\[?)[\d.e+]+<=x<=[\d.e+]+(\]?)", lambda found: found[2] * (not found[1]), text)
    return re.sub(r"\bx>=([\d.]+)", r"at least \1", text)
