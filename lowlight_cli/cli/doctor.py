"""`lowlight doctor`: check that everything installed works by trying it."""

from __future__ import annotations

import typer

from lowlight_cli.cli import report
from lowlight_cli.cli.options import Debug, Json, Offline, Quiet, Verbose

__all__ = ["doctor"]


def doctor(
    offline: Offline = False, json: Json = False, quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False
) -> None:
    """Check the installation: devices, engines, weights, cache.

    Each shipped checkpoint is loaded and run on a small picture; nothing is fetched. The exit code is
    that of the first problem, or 0. With -q only problems are shown.
    """
    from lowlight_cli.doctor import checks

    code = 0
    for check in checks(offline=offline):
        code = code or check.exit_code
        if json:
            report.event("check", {"name": check.name, "ok": not check.exit_code, "found": check.found})
        elif check.exit_code:
            report.error(f"{check.name}: {check.found}")
        elif not quiet:
            report.data(f"{check.name}: {check.found}")
    if json:
        report.event("summary", {"ok": not code, "exit_code": code})
    if code:
        raise typer.Exit(code)
