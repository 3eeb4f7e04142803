"""The Enhancer that a command's shared options ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lowlight_cli.cli import options, report

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer

__all__ = ["ran", "ready"]


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
