"""The results of a run: the checkpoint, with what its metadata say about the run; and that of the best validation."""

from __future__ import annotations

from pathlib import Path

from lowlight_cli.errors import WeightsError
from lowlight_cli.training.checkpoint import State
from lowlight_cli.training.run import Run
from lowlight_cli.weights import files

__all__ = ["keep_best", "passed_over", "write", "written"]


def write(run: Run, state: State) -> None:
    """Write the checkpoint, and the darkening networks of a paper's recipe."""
    about = _metadata(run, state.step)
    files.save(run.checkpoint, state.average, about)
    for name, module in state.plan.degradations.items():
        path = run.output / f"{name}.{run.tag}.safetensors"
        files.save(path, module.state_dict(), about | {"network": name, "input": "as-is"})


def keep_best(run: Run, state: State) -> None:
    """Write the weights of the best validation if that is the one of this step, unless they are there already.

    Called after the state was saved, which says which step that is, and again when a run is resumed: after a kill
    between the two, the file is made up for.
    """
    if state.best and state.best[0] == state.step and not written(run.best, run.model, state.step):
        files.save(run.best, state.average, _metadata(run, state.step))


def passed_over(run: Run, state: State, latest: float) -> str:
    """Return a note if an earlier validation was better than the last one, of PSNR `latest`; else nothing."""
    if not state.best or round(state.best[1], 2) <= round(latest, 2):
        return ""
    step, psnr = state.best
    there = f": {run.best} has those weights" if written(run.best, run.model, step) else ""
    return f"validation was better at step {step} ({psnr:.2f} dB against {latest:.2f}){there}"


def written(path: Path, model: str, step: int) -> bool:
    """Return whether `path` has the weights of this step: the run may have been killed before they were written."""
    try:
        return files.check(path, model).metadata.get("steps") == str(step)
    except WeightsError:
        return False


def _metadata(run: Run, step: int) -> dict[str, str]:
    """Return a checkpoint's metadata: all numbers of the run but no paths, since it may be published."""
    recipe = run.model if run.recipe.kind == "best" else f"{run.model} {run.recipe.kind}"
    allowed = "what the training data allow"
    about = {
        "network": run.model,
        "tag": run.tag,
        "input": run.recipe.input,
        "recipe": recipe,
        "data": run.data(),
        "licence": f"not stated: {allowed}",
        "steps": str(step),
        "numbers": run.numbers(),
        "config": run.config(),
    }
    if start := run.origin:
        terms = start.licence if start.licence.endswith(allowed) else f"{start.licence}, and {allowed}"
        about |= {"recipe": f"{recipe}, from {start.name}", "licence": terms}
        about |= {"init": f"{start.name} (sha256 {start.sha256})"}
    return about
