"""The training loop: from sources of pairs to a checkpoint, for every network and every recipe.

From top to bottom: read the sources; in each step take a batch, compute the stage's losses, update the weights and
their moving average; validate on whole pictures of scenes that training never saw; write the result. The saved state
suffices to resume exactly. The loop waits for a GPU only when it writes a line of the log.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lowlight_cli.engines.tiling import out_of_memory
from lowlight_cli.errors import DeviceError, LowlightError, ResourceError, first_line
from lowlight_cli.networks import build
from lowlight_cli.training import feeding, recipes, result
from lowlight_cli.training.board import board, writer
from lowlight_cli.training.checkpoint import State, unbroken
from lowlight_cli.training.data import Batch
from lowlight_cli.training.plan import Losses, Mixed
from lowlight_cli.training.ranks import Ranks, joined, place, together
from lowlight_cli.training.resume import alike, taken_over
from lowlight_cli.training.run import Progress, Run, Scores, begin, clear, log_to, logged, writing
from lowlight_cli.training.timing import Watch
from lowlight_cli.training.validation import validate
from lowlight_cli.weights import files

__all__ = ["Progress", "Run", "Scores", "train"]

TOLD = 20
"""Steps between two lines of the log."""
PATIENCE = 20
"""After this many consecutive steps with a non-finite gradient, the run goes back to the last good state."""
LOWERINGS = 5
"""How often the rate is halved on going back, before the run gives up."""
STARVED, SETTLED = 0.1, 100
"""If more than this share of the time goes into waiting for batches, say so once, after this many steps."""


def train(run: Run, report: Callable[[Progress], None], warn: Callable[[str], None] = lambda _: None) -> Path:
    """Train a network and return the path of its checkpoint for shipping (the moving average, in half precision).

    Under torchrun, several processes train one network; the first one reports and writes.
    If a paper's recipe trains a darkening network, its final weights are written beside the checkpoint.

    Args:
        run: what to train.
        report: called with each measurement.
        warn: called, before the first step, with each oddity of the pictures or of the resumed run; and at the end if
            an earlier validation was better than the last one.

    Raises:
        UsageError: there is no source, no pair to train on, or no unpaired source that the recipe needs; the batch does
            not divide evenly among the processes; a run is to be resumed with other numbers or from other weights; or
            the initial weights were trained on another `input`.
        InputError: sources cannot be read.
        OutputError: the folder cannot be written, or has a run that is to be neither resumed nor overwritten.
        DeviceError: TensorBoard or a compiler is requested but missing, or there are fewer GPUs than processes.
        ResourceError: the disk is full, or memory does not suffice; the last good state is still there.
        LowlightError: the loss is not finite even at reduced rates, or another process is gone.
    """
    device = place(run.device)
    with joined(device) as ranks, _enough_memory(run, device):
        return _train(replace(run, device=device, processes=ranks.count), ranks, report, warn)


@contextlib.contextmanager
def _enough_memory(run: Run, device: str) -> Iterator[None]:
    """Turn out-of-memory errors into one that says which numbers of the run to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeErrors, recognisable by their text
        if not out_of_memory(error):
            raise
        recipe = run.recipe
        batch, crop = max(recipe.batch, recipe.batch_end), max(recipe.crop, recipe.crop_end)
        raise ResourceError(
            f"{device} has not the memory to train {run.model}: start anew with less than --set batch={batch} "
            f"or --set crop={crop}, batch_end and crop_end likewise; --validate 0 looks at no whole picture"
        ) from error


def _train(run: Run, ranks: Ranks, report: Callable[[Progress], None], warn: Callable[[str], None]) -> Path:
    if run.tensorboard:
        writer()
    run, notes = taken_over(run)
    begin(run)
    with ranks.in_turn():
        feed = feeding.read(run)
    with writing(run.output):
        run.output.mkdir(parents=True, exist_ok=True)
    for note in (*notes, *feed.notes):
        warn(note)
    torch.manual_seed(run.seed)
    mixed = _mixed(run)
    state = _state(run, mixed, ranks)
    started = time.perf_counter() - state.seconds
    worked = ranks.clock(state.seconds)  # all processes share one clock, read once a step, so all decide alike
    latest = math.inf  # PSNR of the last validation

    def share(of_step: int) -> float:
        return min(1.0, max(of_step / run.steps, worked / 60 / run.minutes))

    def due() -> bool:
        after = share(state.step)
        return after >= 1 or run.recipe.stage_at(after) > state.stage or state.step % run.every == 0

    def looked_at() -> Scores | None:
        nonlocal latest
        complete = state.stage == len(state.plan.stages) - 1  # earlier the network is not usable
        if not (complete and feed.validation and ranks.first):
            return None
        scores = validate(run, state, feed.validation, mixed)
        latest = scores.psnr
        if state.best is None or latest > state.best[1]:
            state.best = state.step, latest
        return scores

    run = replace(run, steps=max(run.steps, state.step))
    if ranks.first:
        result.keep_best(run, state)
    missed = ranks.first and state.step > 0 and due() and not logged(run.output / "log.jsonl", state.step)
    if share(state.step) >= 1 and not missed:
        warn(
            f"the run in {run.output} has taken {state.step} steps already: none is added; longer --steps or --minutes "
            "go on"
        )
        if ranks.first and not result.written(run.checkpoint, run.model, state.step):
            result.write(run, state)
        return run.checkpoint

    def save() -> None:
        state.seconds = time.perf_counter() - started
        if ranks.first:
            state.save(run.state, run.settings())
            result.keep_best(run, state)

    waited, streak, good = 0.0, 0, state.copy()
    steps: list[Tensor] = []
    with (
        contextlib.closing(feeding.batches(run, feed, state.step, share, ranks)) as made,
        contextlib.nullcontext(itertools.chain([next(made)], made)) as batches,  # may fail, so before opening the log
        _told(run, state.step, ranks, report) as tell,
        ranks.held(),
    ):
        if missed:  # interrupted between this step and its line; the losses are lost
            rate = run.recipe.rate_at(state.step - 1, share(state.step - 1)) * state.lowered
            pace, stage = state.seconds / state.step, state.plan.stages[state.stage].name
            left = min((run.steps - state.step) * pace, run.minutes * 60 - state.seconds)
            scores = looked_at()
            save()
            tell(Progress(state.step, math.nan, rate, 1 / pace, share(state.step), left, 0.0, scores, stage))
        since = time.perf_counter()
        watch, judged = Watch(run.device), float(state.step + SETTLED)
        try:
            while (done := share(state.step)) < 1:
                if run.recipe.stage_at(done) > state.stage:
                    state.enter(run.recipe.stage_at(done))
                    good = state.copy()
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                batch = batch.to(run.device)
                watch.lap("data")
                rate = run.recipe.rate_at(state.step, done) * state.lowered
                with unbroken(), _sizes_that_stay():
                    steps.append(_update(state, batch, rate, ranks, watch))
                worked = ranks.clock(time.perf_counter() - started)
                if ranks.count > 1:
                    watch.lap("exchange")
                looked = due()
                if not looked and state.step % TOLD:
                    continue

                measured = torch.stack(steps)
                ranks.average([measured])
                rows = measured.tolist()  # the only place that waits for a GPU
                now = time.perf_counter()
                kept = [losses for *losses, failed in rows if not failed]
                means = [sum(each) / len(kept) for each in zip(*kept, strict=True)] or [math.nan] * (len(rows[0]) - 1)
                for *_, failed in rows:
                    streak = streak + 1 if failed else 0
                note = ""
                if len(kept) < len(rows) and (streak >= PATIENCE or not state.sound()):
                    note = _go_back(run, state, good)
                    streak = 0
                try:
                    scores = looked_at() if looked else None
                except Exception:  # whole pictures are larger than crops and may exceed the device
                    save()
                    raise
                watch.lap("evaluation")
                times = watch.shares()
                if not note and times["data"] > STARVED and state.step >= judged:
                    note = f"{times['data']:.0%} of the time goes by without a batch: raise --threads {run.threads}"
                    judged = math.inf
                line = Progress(
                    state.step,
                    means[0],
                    rate,
                    len(rows) / (now - since),
                    share(state.step),
                    min((run.steps - state.step) * (now - since) / len(rows), run.minutes * 60 - now + started),
                    waited / (now - since),
                    scores,
                    state.plan.stages[state.stage].name,
                    note,
                    times,
                    means[1] if len(means) > 1 else None,
                )
                tell(line)
                if looked:
                    save()
                    good = state.copy()
                    watch.lap("saving")
                waited, steps, since = 0.0, [], time.perf_counter()
        except (KeyboardInterrupt, SystemExit):
            if state.sound():
                save()
            raise
    if ranks.first:
        result.write(run, state)
        if better := result.passed_over(run, state, latest):
            warn(better)
    return run.checkpoint


@contextlib.contextmanager
def _told(
    run: Run, step: int, ranks: Ranks, report: Callable[[Progress], None]
) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that sends measurements to the log, TensorBoard (if enabled) and `report`.

    In processes other than the first it does nothing.
    """
    if not ranks.first:
        yield lambda _: None
        return
    if run.overwrite:
        clear(run)
    with writing(run.output / "run.json"):
        (run.output / "run.json").write_text(run.described())
    if run.tensorboard:
        with writing(run.output / "tensorboard"):
            (run.output / "tensorboard").mkdir(exist_ok=True)
    with (
        log_to(run.output / "log.jsonl", step if run.resume else -1) as log,
        board(run.output / "tensorboard", step) if run.tensorboard else contextlib.nullcontext() as events,
    ):

        def tell(line: Progress) -> None:
            log(line.line())
            if events:
                events(line)
            report(line)

        yield tell


def _state(run: Run, mixed: Mixed, ranks: Ranks) -> State:
    """Build the state of a new or resumed run, on its device."""
    network = build(run.model)
    plan = recipes.plan(run.model, network, run.recipe, mixed)
    if run.init and not run.resume:
        network.load_state_dict(files.load(run.init, run.model)[0])
    network = network.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan.helpers.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in (network, plan.helpers):
        together(module, ranks)
    if run.compiled:
        plan = replace(plan, stages=tuple(replace(stage, losses=_compiled(stage.losses, run)) for stage in plan.stages))
    state = State(network, plan, run.recipe)
    state.enter(0)
    if ranks.first:
        for part in run.output.glob(".state.safetensors.*.part"):  # left by a kill during a save
            part.unlink()
    if run.resume:
        state.load(run.state)
        if not alike(run):
            state.best = None
    return state


def _compiled(losses: Losses, run: Run) -> Losses:
    """Compile a stage's losses with fused operations; on a GPU as a CUDA graph, since crops keep their size."""
    from torch._dynamo.exc import TorchDynamoException  # a slow import

    mode = "reduce-overhead" if run.device.startswith("cuda") else "default"
    fused: Losses = torch.compile(losses, mode=mode, dynamic=False)

    def explained(batch: Batch) -> tuple[Tensor, ...]:
        try:
            return fused(batch)
        except TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)  # the outer message only says that there is one
            told = f"({type(cause).__name__}: {first_line(cause)})"
            if lacking := _lacking(run.device):
                raise DeviceError(f"--compile needs {lacking}: leave it out {told}") from error
            raise DeviceError(f"--compile does not work with {run.model} here: leave it out {told}") from error

    return explained


def _lacking(device: str) -> str:
    """Return what torch.compile needs on the device but is missing; empty if nothing is."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "cl"]
    has = {
        "Triton": not device.startswith("cuda") or importlib.util.find_spec("triton") is not None,
        "a C++ compiler": any(map(shutil.which, compilers)),
    }
    return " and ".join(name for name, there in has.items() if not there)


@contextlib.contextmanager
def _sizes_that_stay() -> Iterator[None]:
    """Let cuDNN benchmark its algorithms inside the block only: crops keep their size, validation pictures do not."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _update(state: State, batch: Batch, rate: float, ranks: Ranks, watch: Watch) -> Tensor:
    """Take one step; return the loss of each group, and 1 if the step was skipped, else 0.

    With a fused optimiser, a step with a non-finite gradient is skipped on the device itself (`found_inf`, as a
    gradient scaler does), without waiting for the device. Without one, the processor has to wait for the norms.
    """
    losses = state.plan.stages[state.stage].losses(batch)
    watch.lap("forward")
    norms = []
    for optimiser, loss in zip(state.optimisers, losses, strict=True):
        optimiser.zero_grad(set_to_none=True)  # also clears what an earlier group's loss left in an adversary
        loss.backward()  # type: ignore[no-untyped-call]
        watch.lap("backward")
        learnt = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        if ranks.count > 1:
            ranks.average([parameter.grad for parameter in learnt if parameter.grad is not None])
            watch.lap("exchange")
        norms.append(torch.nn.utils.clip_grad_norm_(learnt, state.recipe.clip))
    failed = 1 - torch.isfinite(torch.stack(norms)).all().float()
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
        if optimiser.defaults["fused"]:
            optimiser.found_inf = failed  # type: ignore[attr-defined]
        elif failed:
            continue
        optimiser.step()
    state.follow()
    state.step += 1
    watch.lap("optimiser")
    return torch.stack((*(loss.detach() for loss in losses), failed))


def _go_back(run: Run, state: State, good: dict[str, Tensor]) -> str:
    """Restore the last good state and halve the rate; return a note for the log."""
    if state.lowered <= 0.5**LOWERINGS:
        raise LowlightError(
            f"{run.model}: the loss is no number at step {state.step}, even at {state.lowered:.3g} of the rate; look "
            f"at the pictures, or lower it with --set rate=...; what was good is still in {run.output}"
        )
    state.lowered /= 2
    state.restore(good)
    return (
        f"the loss was no number until step {state.step}: back to the last good state, at {state.lowered:g} of the rate"
    )


def _mixed(run: Run) -> Mixed:
    """Return a context factory for networks: bfloat16 autocast if the run uses it."""
    device = run.device.partition(":")[0]
    return lambda: torch.autocast(device, torch.bfloat16, enabled=run.bf16)
