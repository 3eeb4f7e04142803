"""The loop: learns, resumes to the bit, writes weights that load, says what is wrong."""

import contextlib
import json
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lowlight_cli.cli import report
from lowlight_cli.cli.app import run as command
from lowlight_cli.errors import DeviceError, InputError, UsageError
from lowlight_cli.networks import NETWORKS, build
from lowlight_cli.training import feeding, loop, plan, recipes
from lowlight_cli.training.checkpoint import State
from lowlight_cli.training.loop import Progress, Run, train
from lowlight_cli.training.recipe import Recipe, load
from lowlight_cli.training.sources import parse
from lowlight_cli.weights import files


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pairs")
    for side in ("low", "high"):
        (folder / side).mkdir()
    random = np.random.default_rng(0)
    for i in range(30):
        high = np.kron(random.uniform(60, 220, (3, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        low = np.clip(high * 0.1 + random.normal(0, 1, high.shape), 0, 255).astype(np.uint8)
        Image.fromarray(low).save(folder / "low" / f"{i}.png")
        Image.fromarray(high).save(folder / "high" / f"{i}.png")
    recipe = replace(load("neid"), crop=32, batch=2, crop_end=48, crop_change=0.5, batch_end=1, warmup=2)
    sources = (parse(f"pairs:{folder / 'low'},{folder / 'high'}"),)
    return Run("neid", sources, folder / "run", folder / "cache", recipe, steps=8, every=4, bf16=False, validate=2)


def lines(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.output / "log.jsonl").read_text().splitlines()]


def test_it_learns_and_its_weights_load(run: Run) -> None:
    run = replace(run, output=run.output / "learn", steps=60, every=30, recipe=replace(run.recipe, ema=0.9))
    seen: list[Progress] = []
    path = train(run, seen.append)
    assert path.name == "neid.own.safetensors"
    looked = [p.scores.psnr for p in seen if p.scores]
    assert len(looked) == 2 and seen[-1].share == 1 and seen[-1].step == 60
    assert looked[-1] > 18
    state, metadata = files.load(path, "neid")
    build("neid").load_state_dict(state)
    assert metadata["input"] == "exposed" and metadata["steps"] == "60"
    numbers = json.loads(metadata["numbers"])
    assert numbers["crop"] == 32 and numbers["ema"] == 0.9 and numbers["steps"] == 60 and numbers["minutes"] is None
    assert str(run.output) not in json.dumps(metadata)
    rates = [line["rate"] for line in lines(run)]
    assert rates == sorted(rates, reverse=True)


def test_where_the_time_goes(run: Run) -> None:
    run = replace(run, output=run.output / "times")
    train(run, lambda _: None)
    first, second = (line["times"] for line in lines(run))
    parts = {"data", "forward", "backward", "optimiser", "evaluation"}
    assert first.keys() == parts and second.keys() == parts | {"saving"}
    for times in (first, second):
        assert sum(times.values()) == pytest.approx(1, abs=1e-3) and min(times.values()) >= 0


def test_algorithms_are_tried_in_steps_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of validation are of any size; and the process may have set cuDNN otherwise, for what else it does."""
    seen: dict[str, set[bool]] = {"_update": set(), "validate": set()}

    def noting(name: str, right: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: [seen[name].add(torch.backends.cudnn.benchmark), right(*given)][1]

    for name in seen:
        monkeypatch.setattr(loop, name, noting(name, getattr(loop, name)))
    assert not torch.backends.cudnn.benchmark
    train(replace(run, output=run.output / "tried"), lambda _: None)
    assert seen == {"_update": {True}, "validate": {False}}
    assert not torch.backends.cudnn.benchmark


def test_what_compiling_fails_by_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it needs only where that is not there."""

    def failing(*_: object) -> None:
        warnings.warn("TensorFloat32 is not enabled", UserWarning, stacklevel=1)

    right = torch.compile
    monkeypatch.setattr(torch, "compile", lambda losses, **_: right(losses, backend=failing))
    losses = plan.compiled(lambda batch: (batch * 2,), run)
    with pytest.raises(DeviceError) as told:
        losses(torch.ones(3))
    assert str(told.value) == (
        "--compile does not work with neid here: leave it out (UserWarning: TensorFloat32 is not enabled)"
    )
    losses = plan.compiled(lambda batch: (batch * 3,), replace(run, device="cuda:0"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("CXX", "/nonexistent")
    with pytest.raises(DeviceError, match=r"--compile needs Triton and a C\+\+ compiler: leave it out \(UserWarning: "):
        losses(torch.ones(3))


def test_starving_is_told_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = feeding.data.batch_of
    monkeypatch.setattr(loop, "SETTLED", 4)
    monkeypatch.setattr(feeding.data, "batch_of", lambda crops: [time.sleep(0.3), right(crops)][1])
    seen: list[Progress] = []
    train(replace(run, output=run.output / "starved", threads=1, validate=0), seen.append)
    assert len(seen) == 2 and "raise --threads" in seen[0].note and not seen[1].note


def test_tensorboard_has_the_log(run: Run) -> None:
    run = replace(run, output=run.output / "board", tensorboard=True)
    train(replace(run, steps=4), lambda _: None)
    train(replace(run, resume=True), lambda _: None)
    found = EventAccumulator(str(run.output / "tensorboard")).Reload()
    for name, of in (("loss", lambda line: line["loss"]), ("validation/ssim", lambda line: line["scores"]["ssim"])):
        there = [(event.step, event.value) for event in found.Scalars(name)]
        assert there == [(line["step"], pytest.approx(of(line))) for line in lines(run)], name
    assert len(lines(run)) == 2 and found.Scalars("time/forward")


def test_a_judge_is_logged_where_there_is_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """LW-DRGN's two judges know nothing at first, which is a loss of four times log 2; its second stage has none."""
    recipe = replace(load("lw-drgn", ("shares=[0.5, 0.5]",), "paper"), crop=32, batch=2)
    run = replace(run, model="lw-drgn", recipe=recipe, every=2, validate=0, output=run.output / "judge")
    with report.training("lw-drgn") as show:
        train(replace(run, tensorboard=True), show)
    first, second, *rest = lines(run)
    assert [(line["stage"], line["judge"]) for line in rest] == [("refinement", None)] * 2
    assert [first["judge"], second["judge"]] == pytest.approx([4 * math.log(2)] * 2, rel=0.05)
    assert f"judge {first['judge']:.4f}" in (told := capsys.readouterr().err) and told.count("judge") == 2
    events = EventAccumulator(str(run.output / "tensorboard")).Reload().Scalars("judge")
    assert [(each.step, each.value) for each in events] == [
        (2, pytest.approx(first["judge"])),
        (4, pytest.approx(second["judge"])),
    ]


def test_without_tensorboard_it_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(DeviceError, match=r"pip install 'lowlight-cli\[train\]'") as error:
        train(replace(run, output=run.output / "none", tensorboard=True), lambda _: None)
    assert error.value.exit_code == 6 and not (run.output / "none").exists()


def test_a_resumed_run_is_the_uninterrupted_one(run: Run) -> None:
    whole = replace(run, output=run.output / "whole")
    train(whole, lambda _: None)
    broken = replace(run, output=run.output / "broken")

    def interrupt(now: Progress) -> None:
        if now.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, interrupt)
    train(replace(broken, resume=True), lambda _: None)
    there, here = (files.load(r.output / "neid.own.safetensors", "neid") for r in (whole, broken))
    for key, value in there[0].items():
        assert torch.equal(value, here[0][key]), key
    assert lines(whole)[-1]["loss"] == lines(broken)[-1]["loss"]


@pytest.mark.parametrize(
    ("name", "kind", "every", "stop", "where"),
    [
        ("neid", "best", 4, 4, ("_update", "validate")),
        ("neid", "best", 4, 8, ("_update", "validate")),
        ("frlie", "paper", 8, 4, ("_update",)),  # the end of a stage
    ],
)
def test_an_interrupt_takes_no_validation(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, every: int, stop: int, where: tuple[str, ...]
) -> None:
    """Neither in the step before it, nor while it is made up for."""
    recipe = replace(load(name, (), kind), crop=32, batch=2, warmup=2)
    whole = replace(run, model=name, recipe=recipe, every=every, output=run.output / f"{name}-{stop}")
    broken = replace(whole, output=run.output / f"{name}-{stop}-broken")

    def interrupting(right: Callable[..., Any]) -> Callable[..., Any]:
        def act(*given: Any) -> Any:
            made = right(*given)
            if any(isinstance(each, State) and each.step == stop for each in given):
                signal.raise_signal(signal.SIGINT)
            return made

        return act

    train(whole, lambda _: None)
    for inside in where:
        with monkeypatch.context() as once, pytest.raises(KeyboardInterrupt):
            once.setattr(loop, inside, interrupting(getattr(loop, inside)))
            train(replace(broken, resume=broken.state.exists()), lambda _: None)
    train(replace(broken, resume=True), lambda _: None)
    there, here = lines(whole), lines(broken)
    for key in ("step", "rate", "share", "stage", "scores"):
        assert [line[key] for line in there] == [line[key] for line in here], key
    assert [line["loss"] for line in here] == [None if line["step"] == stop else line["loss"] for line in there]
    shown = [{each.name: each.read_bytes() for each in (r.output / "validation").iterdir()} for r in (whole, broken)]
    assert shown[0] == shown[1]
    assert whole.checkpoint.read_bytes() == broken.checkpoint.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="has no /proc")
def test_a_resumed_run_lets_go_of_the_file(run: Run) -> None:
    """Where files that are mapped cannot be replaced, as on Windows, the first save would fail."""
    run = replace(run, output=run.output / "mapped", steps=4)
    train(run, lambda _: None)
    held: list[bool] = []

    def look(_: Progress) -> None:
        held.append(str(run.state) in Path("/proc/self/maps").read_text())

    train(replace(run, steps=8, resume=True), look)
    assert held == [False]


def test_what_is_good_stays_as_it_was(run: Run) -> None:
    """A state that was gone back to can be gone back to again: the steps after it do not count in it."""
    network = build("neid")
    state = State(network, recipes.plan("neid", network, run.recipe, contextlib.nullcontext), run.recipe)
    state.enter(0)

    def step() -> None:
        for optimiser in state.optimisers:
            for group in optimiser.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
            optimiser.step()

    step()
    good = state.copy()
    before = {key: value.clone() for key, value in good.items()}
    state.restore(good)
    step()
    assert all(torch.equal(value, before[key]) for key, value in good.items())


def test_minutes_end_a_run_and_its_cosine(run: Run) -> None:
    seen: list[Progress] = []
    train(replace(run, output=run.output / "timed", steps=10**6, minutes=0.04, every=10**6), seen.append)
    assert seen[-1].share == 1 and seen[-1].step < 10**6
    assert seen[-1].rate < 0.1 * run.recipe.rate


def test_it_starts_from_given_weights(run: Run) -> None:
    network = build("neid")
    files.save(run.cache / "init.safetensors", network.state_dict(), {
        "network": "neid", "tag": "x", "input": "exposed", "recipe": "", "data": "", "licence": "MIT", "config": "",
        "steps": "0",
    })  # fmt: skip
    still = replace(run.recipe, rate=0.0, warmup=1)
    path = train(
        replace(run, output=run.output / "init", steps=2, recipe=still, init=run.cache / "init.safetensors"),
        lambda _: None,
    )
    for key, value in files.load(path, "neid")[0].items():
        assert torch.allclose(value, network.state_dict()[key].float(), atol=2e-3), key


def test_nothing_to_resume(run: Run) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        train(replace(run, output=run.output / "empty", resume=True), lambda _: None)


def test_no_data(run: Run) -> None:
    with pytest.raises(UsageError, match="--data"):
        train(replace(run, sources=()), lambda _: None)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_recipe(name: str) -> None:
    recipe = load(name)
    assert recipe.input == ("as-is" if name == "dgaf" else "exposed")
    assert recipe.crop % 4 == 0 and math.isfinite(recipe.rate)


def test_recipe_overrides() -> None:
    assert load("frlie", ("rate=1e-5", "betas=[0.5, 0.9]", "batch=3")) == replace(
        load("frlie"), rate=1e-5, betas=(0.5, 0.9), batch=3
    )
    for wrong in ("rat=1", "rate='fast'", "rate", "betas=[1]"):
        with pytest.raises(UsageError):
            load("frlie", (wrong,))
    assert Recipe().optimiser == "adamw"


def test_the_command_trains_by_a_papers_recipe(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(run.cache))
    low, high = run.sources[0].paths
    words = [
        "train",
        "-m",
        "neid",
        "--data",
        f"pairs:{low},{high}",
        "--steps",
        "1",
        "--validate",
        "0",
        "--device",
        "cpu",
    ]
    words += ["-o", str(run.output / "command"), "--set", "crop=32", "--set", "batch=1"]
    assert command([*words, "--recipe", "paper"]) == 0
    _, metadata = files.load(capsys.readouterr().out.strip(), "neid")
    assert metadata["recipe"] == "neid paper" and metadata["input"] == "as-is"
    assert json.loads((run.output / "command" / "run.json").read_text())["recipe"]["weights"]["delta"] == 0.1
    words[words.index("-o") + 1] += "-again"
    assert command([*words, "--recipe", "paper", "--json", "--tag", "again"]) == 0
    *measured, trained = map(json.loads, capsys.readouterr().out.splitlines())
    assert [each["event"] for each in measured] == ["measured"] and measured[0]["step"] == 1
    assert trained["event"] == "trained" and trained["output"].endswith("neid.again.safetensors")
    assert command([*words, "--recipe", "worst"]) == 2
    assert "neid has best and paper" in capsys.readouterr().err
