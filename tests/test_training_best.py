"""The weights of the best validation, kept beside the result; and the note that names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran

from lowlight_cli.training import loop
from lowlight_cli.training.checkpoint import State
from lowlight_cli.training.run import Run, Scores
from lowlight_cli.weights import files

Train = Callable[..., Ran]
BEST = Path("run/dgaf.own.best.safetensors")
NOTE = "warning: validation was better at step 4 (24.00 dB against 21.00): run/dgaf.own.best.safetensors"


@pytest.fixture
def train(train: Train, pairs: Path) -> Train:
    """The command with its data, validating after every second step."""

    def command(*words: object) -> Ran:
        return train("--data", f"pairs:{pairs}/low,{pairs}/high", "--every", 2, "--precision", "fp32", *words)

    return command


@pytest.fixture
def averages(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, torch.Tensor]]:
    """Validations of known PSNR, best at step 4; and the averages that they saw, by step."""
    seen: dict[int, dict[str, torch.Tensor]] = {}
    right = loop.validate

    def validate(run: Run, state: State, *more: Any) -> Scores:
        seen[state.step] = {key: value.clone() for key, value in state.average.items()}
        return replace(right(run, state, *more), psnr=24.0 - 0.1875 * (state.step - 4) ** 2)

    monkeypatch.setattr(loop, "validate", validate)
    return seen


def steps() -> str:
    """The step of the best weights, which `lowlight enhance -w` would take."""
    return files.load(BEST, "dgaf")[1]["steps"]


def test_the_best_weights_are_kept_and_named(
    train: Train, averages: dict[int, dict[str, torch.Tensor]], lowlight: Callable[..., Ran], photo: Path
) -> None:
    """As the moving average was then; the result is the last one all the same."""
    ran = train("--steps", 8, "--seed", 3)
    assert ran.code == 0 and ran.err.count(f"{NOTE} has those weights") == 1
    there, about = files.load(BEST, "dgaf")
    assert sorted(averages) == [2, 4, 6, 8]
    for key, value in averages[4].items():
        assert torch.equal(there[key], value.half().float()), key
    last = files.load("run/dgaf.own.safetensors", "dgaf")[1]
    assert about == last | {"steps": "4"} and last["steps"] == "8"
    assert lowlight("enhance", photo, "-m", "dgaf", "-w", BEST).code == 0


def test_nothing_is_said_where_the_last_is_the_best(train: Train, averages: object) -> None:
    ran = train("--steps", 4)
    assert ran.code == 0 and steps() == "4" and "better" not in ran.err
    assert train("--steps", 2, "--validate", 0, "--exist", "overwrite").code == 0
    assert not BEST.exists()


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_run_knows_what_was_best(train: Train, averages: object, lost: bool) -> None:
    """Also where a kill came between the state and the weights, which are those of the state."""
    assert train("--steps", 4).code == 0
    before = files.load(BEST, "dgaf")[0]
    if lost:
        BEST.unlink()
    ran = train("--steps", 8, "--resume")
    assert ran.code == 0 and NOTE in ran.err
    assert all(torch.equal(value, before[key]) for key, value in files.load(BEST, "dgaf")[0].items())


def test_a_validation_that_was_interrupted_may_be_the_best(
    train: Train, averages: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = loop.validate

    def interrupted(run: Run, state: State, *more: Any) -> Scores:
        if state.step == 4:
            raise KeyboardInterrupt
        return right(run, state, *more)

    with monkeypatch.context() as once:
        once.setattr(loop, "validate", interrupted)
        assert train("--steps", 8).code == 130
    assert steps() == "2"
    with monkeypatch.context() as once:
        once.setattr(loop, "_update", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train("--steps", 8, "--resume").code == 130
    assert steps() == "4"
    assert NOTE in train("--steps", 8, "--resume").err


def test_scores_of_other_pictures_do_not_compare(train: Train, averages: object) -> None:
    assert train("--steps", 4).code == 0
    ran = train("--steps", 8, "--resume", "--validate", 1)
    assert "better at step 6 (23.25 dB against 21.00)" in ran.err and steps() == "6"


def test_weights_that_were_taken_away_are_not_named(train: Train, averages: object) -> None:
    assert train("--steps", 6).code == 0
    BEST.unlink()
    ran = train("--steps", 8, "--resume")
    assert "better at step 4 (24.00 dB against 21.00)\n" in ran.err and not BEST.exists()
    BEST.write_bytes(b"of a run before")
    for name in ("state.safetensors", "dgaf.own.safetensors"):
        Path("run", name).unlink()
    assert train("--steps", 1).code == 4 and BEST.read_bytes() == b"of a run before"
