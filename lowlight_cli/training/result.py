"""The result of a run: the checkpoint, with what its metadata say about the run."""

from __future__ import annotations

from lowlight_cli.errors import WeightsError
from lowlight_cli.training.checkpoint import State
from lowlight_cli.training.run import Run
from lowlight_cli.weights import files

__all__ = ["write", "written"]


def write(run: Run, state: State) -> None:
    """Write the checkpoint, and the darkening networks of a paper's recipe."""
    about = _metadata(run, state.step)
    files.save(run.checkpoint, state.average, about)
    for name, module in state.plan.degradations.items():
        path = run.output / f"{name}.{run.tag}.safetensors"
        files.save(path, module.state_dict(), about | {"network": name, "input": "as-is"})


def written(run: Run, step: int) -> bool:
    """Return whether the checkpoint of this step is there: the run may have been killed before it was written."""
    try:
        return files.check(run.checkpoint, run.model).metadata.get("steps") == str(step)
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
