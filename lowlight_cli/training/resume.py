"""What a run inherits: from the checkpoint that it starts from, or from the run that it resumes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowlight_cli.errors import InputError, LowlightError, UsageError
from lowlight_cli.training import origin
from lowlight_cli.training.run import Run
from lowlight_cli.training.sources import Source
from lowlight_cli.weights.header import inspect

__all__ = ["alike", "settings", "taken_over"]


def settings(state: Path) -> dict[str, Any]:
    """Read `Run.settings` from a saved state, in the types of `Run`; empty if that fails (`State.load` says why)."""
    try:
        told = json.loads(inspect(state).metadata["numbers"])["settings"]
        return {
            **told,
            "recipe": {**told["recipe"]},
            "sources": _sources(told.get("sources", ())),
            "earlier": tuple(map(_sources, told.get("earlier", ()))),
            "init": Path(told["init"]) if told.get("init") else None,
            "origin": origin.Origin(**told["origin"]) if told.get("origin") else None,
        }
    except (LowlightError, LookupError, TypeError, ValueError):
        return {}


def taken_over(run: Run) -> tuple[Run, list[str]]:
    """Return the run with everything it inherits, and a line for each thing the user should know about that.

    Raises:
        UsageError: the initial weights were trained on another `input`; or the run to be resumed had other numbers or
            started from other weights.
        InputError: there is no run to resume, or it is one of another network or recipe.
        WeightsError: `init` holds no weights for its network.
    """
    start = origin.read(run.init, run.model) if run.init else None
    if not run.resume:
        if start and start.input != run.recipe.input:
            raise UsageError(
                f"--init: {start.name} wants its input {start.input}, which this recipe has {run.recipe.input}; that "
                f"would ruin it from the start: add --set 'input=\"{start.input}\"'"
            )
        return replace(run, origin=start), []
    if not run.state.is_file():
        raise InputError(f"{run.state}: no run to resume here; leave --resume out to start one")
    had = settings(run.state)
    if not had:
        return run, []  # `State.load` will report what is wrong
    if (of := (had.get("model"), had["recipe"].get("kind"))) != (run.model, run.recipe.kind):
        raise InputError(f"{run.state}: a run of -m {of[0]} --recipe {of[1]}: resume it with that")
    _refuse_changed(had, run)
    began = had["origin"]
    if start and (began is None or start.sha256 != began.sha256):
        raise UsageError(
            f"--resume goes on with the run in {run.output}, which started from {began.name if began else 'nothing'}: "
            "leave --init out, or start another run with another -o"
        )
    notes, earlier = [], had["earlier"]
    if had["sources"] and had["sources"] != _sources(run.settings()["sources"]):
        earlier = (*earlier, had["sources"])
        notes.append(
            f"--resume goes on with other data than the run in {run.output} had: {_typed(had['sources'])}; without "
            "--data it keeps them"
        )
    if had.get("bf16", run.bf16) != run.bf16:
        was, now = ("bf16" if each else "fp32" for each in (had["bf16"], run.bf16))
        notes.append(f"--resume goes on in {now}, the run in {run.output} had {was}; without --precision it keeps that")
    return replace(run, init=had["init"], origin=began, earlier=earlier), notes


def alike(run: Run) -> bool:
    """Return whether a resumed run validates on the pictures that it did before, so that its scores compare."""
    had = settings(run.state)
    return had.get("validate") == run.validate and had.get("sources") == _sources(run.settings()["sources"])


def _sources(told: Iterable[Mapping[str, Any]]) -> tuple[Source, ...]:
    return tuple(Source(each["kind"], tuple(map(Path, each["paths"])), float(each["weight"])) for each in told)


def _typed(sources: Iterable[Source]) -> str:
    """Format sources as for `--data`."""
    return " ".join(f"{each.kind}:{','.join(map(str, each.paths))}@{each.weight:g}" for each in sources)


def _refuse_changed(had: dict[str, Any], run: Run) -> None:
    """Refuse to resume a run with other numbers than it had."""
    before, now = _flat(had), _flat(json.loads(json.dumps(run.settings())))  # tuples become lists, as when saved
    if changed := [key for key in sorted(before.keys() & now.keys()) if before[key] != now[key]]:
        told = "; ".join(f"{key} was {before[key]}, and is to be {now[key]}" for key in changed)
        raise UsageError(
            f"--resume goes on by the numbers that the run in {run.output} had: {told}; leave that out, or start "
            "another run with another -o"
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers by their names in `--set`, and the seed."""
    recipe = settings["recipe"]
    weights = {f"weights.{name}": value for name, value in (recipe.get("weights") or {}).items()}
    return {"seed": settings.get("seed")} | {k: v for k, v in recipe.items() if k != "weights"} | weights
