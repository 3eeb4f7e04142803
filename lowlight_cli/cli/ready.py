"""Code that commands share besides their options: Enhancer and Saving from them, describing what ran, exit codes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lowlight_cli.cli import options, report
from lowlight_cli.errors import LowlightError, OutputError
from lowlight_cli.targets import exists, occupied

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.files import Saving

__all__ = ["Ended", "exit_code", "left_alone", "lit_by", "ran", "ready", "saving"]

DEPTHS: Final[dict[str, Literal["keep", 8, 16]]] = {"keep": "keep", "8": 8, "16": 16}
"""What `--bit-depth` means."""


class Ended(Exception):
    """Raised when Ctrl-C ends `batch --watch` and the totals were reported already; not an error."""


@contextlib.contextmanager
def ready(given: Mapping[str, Any]) -> Iterator[Enhancer]:
    """Yield an Enhancer made from the model, look and machine options; downloads are shown while the block runs.

    Args:
        given: the parameters of the command by name, as in `typer.Context.params`.

    Raises:
        UsageError: the model, engine or device is unknown, or a number is out of range.
    """
    from lowlight_cli.enhancer import Enhancer

    with report.transfer(f"weights of {given['model']}") as moved:
        yield Enhancer(
            given["model"],
            given["weights"],
            device=given["device"],
            precision=given["precision"],
            engine=given["engine"],
            strength=given["strength"],
            exposure=given["exposure"],
            protect_highlights=given["protect_highlights"],
            gate=given["gate"],
            self_ensemble=given["self_ensemble"],
            compiled=given["compiled"],
            tile=given["tile"],
            memory=given["memory"],
            offline=given["offline"],
            on_message=report.note,
            on_progress=moved,
        )


def saving(given: Mapping[str, Any]) -> Saving:
    """Return how results are written, by the options for files.

    Args:
        given: as for `ready`.

    Raises:
        UsageError: the format cannot hold that many bits, or is unknown.
    """
    from lowlight_cli.files import Saving

    return Saving(
        format=given["format"],
        quality=given["quality"],
        depth=DEPTHS[given["bit_depth"]],
        strip_metadata=given["strip_metadata"],
        strip_gps=given["strip_gps"],
        provenance=not given["no_provenance"],
        compare=given["compare"],
    )


def ran(enhancer: Enhancer) -> dict[str, str]:
    """Return the JSON fields that say what ran: the sha256 of the weights, and the engine."""
    engine, resolved = enhancer.load()
    return {
        "weights": resolved.sha256,
        "engine": engine.name,
        "provider": engine.provider,
        "device": engine.device,
        "precision": engine.precision,
    }


def lit_by(enhancer: Enhancer) -> str:
    """Return what ran and why: `dgaf.real on cpu in bf16 (no GPU found)`. The engine is named unless it is PyTorch."""
    engine, resolved = enhancer.load()
    name = resolved.checkpoint.name if resolved.checkpoint else f"{enhancer.settings.model} ({resolved.path})"
    by = "" if engine.name == "torch" else f" by {engine.name}"
    why = f" ({engine.why})" if engine.why else ""
    return f"{name}{by} on {engine.device} in {engine.precision}{why}"


def left_alone(output: Path, exist: options.ReplaceChoice, kind: str, json: bool) -> bool:
    """Whether the only output of a command exists and `--exist skip` leaves it; reports that it was skipped.

    Args:
        output: the file to write.
        exist: the value of `--exist`.
        kind: the event name of the JSON line.
        json: whether to print a JSON line.

    Raises:
        OutputError: the file exists, and `exist` is `error`.
    """
    if exist == "overwrite" or not occupied(output):
        return False
    if exist == "error":
        found = "exists" if exists(output) else "is a link to nothing"
        raise OutputError(f"{output} {found}: choose --exist skip or overwrite")
    report.note(f"{output} exists: skipped")
    if json:
        report.event(kind, {"status": "skipped", "output": output})
    return True


def exit_code(codes: Set[int], everything: bool) -> int:
    """Return 0 if nothing failed, the common code of the errors if everything failed alike, else 1.

    Args:
        codes: the exit codes of the errors.
        everything: whether everything failed.
    """
    if not codes:
        return 0
    return min(codes) if everything and len(codes) == 1 else LowlightError.exit_code
