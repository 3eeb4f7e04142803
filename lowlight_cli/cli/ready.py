"""What commands share beside their options: the Enhancer that those ask for, what ran, how a command ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowlight_cli.cli import options, report
from lowlight_cli.errors import LowlightError, OutputError
from lowlight_cli.targets import exists, occupied

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer

__all__ = ["Ended", "exit_code", "left_alone", "lit_by", "ran", "ready"]


class Ended(Exception):
    """Whoever waited for more has ended that by Ctrl-C, and knows what was done: no error."""


@contextlib.contextmanager
def ready(given: Mapping[str, Any]) -> Iterator[Enhancer]:
    """What `options` has of model, look and machine, as an Enhancer; downloads are shown while the block runs.

    Args:
        given: the command's parameters by name, those of `typer.Context`.

    Raises:
        UsageError: no such model, engine or device, or a number out of its range.
    """
    from lowlight_cli.enhancer import Enhancer

    with report.transfer(f"weights of {given['model']}") as moved:
        yield Enhancer(
            given["model"],
            given["weights"],
            device=given["device"],
            precision=options.PrecisionChoice(given["precision"]).value,
            engine=given["engine"],
            strength=given["strength"],
            exposure=given["exposure"],
            protect_highlights=given["protect_highlights"],
            gate=given["gate"],
            self_ensemble=given["self_ensemble"],
            tile=given["tile"],
            memory=given["memory"],
            offline=given["offline"],
            on_message=report.note,
            on_progress=moved,
        )


def ran(enhancer: Enhancer) -> dict[str, str]:
    """What a JSON line says of what ran: weights, by their sha256, and the engine."""
    engine, resolved = enhancer.load()
    return {
        "weights": resolved.sha256,
        "engine": engine.name,
        "provider": engine.provider,
        "device": engine.device,
        "precision": engine.precision,
    }


def lit_by(enhancer: Enhancer) -> str:
    """`dgaf.real on cpu in bf16 (no GPU found)`: what ran and why, for a sentence; PyTorch is not named."""
    engine, resolved = enhancer.load()
    name = resolved.checkpoint.name if resolved.checkpoint else f"{enhancer.settings.model} ({resolved.path})"
    by = "" if engine.name == "torch" else f" by {engine.name}"
    why = f" ({engine.why})" if engine.why else ""
    return f"{name}{by} on {engine.device} in {engine.precision}{why}"


def left_alone(output: Path, exist: options.ReplaceChoice, kind: str, json: bool) -> bool:
    """Whether the one file that a command would write is there and to be left, which is then told.

    Args:
        output: the file.
        exist: what was chosen.
        kind: the name of the JSON line.
        json: whether there is one.

    Raises:
        OutputError: it is there, and nothing was chosen.
    """
    if exist is options.ReplaceChoice.overwrite or not occupied(output):
        return False
    if exist is options.ReplaceChoice.error:
        found = "exists" if exists(output) else "is a link to nothing"
        raise OutputError(f"{output} {found}: choose --exist skip or overwrite")
    report.note(f"{output} exists: skipped")
    if json:
        report.event(kind, {"status": "skipped", "output": output})
    return True


def exit_code(codes: Set[int], everything: bool) -> int:
    """0 where nothing failed; the errors' own code where everything failed, and alike; else 1.

    Args:
        codes: of the errors.
        everything: whether nothing else came about.
    """
    if not codes:
        return 0
    return min(codes) if everything and len(codes) == 1 else LowlightError.exit_code
