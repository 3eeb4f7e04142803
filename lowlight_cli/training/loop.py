"""The training loop: from sources of pairs to a checkpoint, for every network and every recipe.

From top to bottom: read the sources; in each step take a batch, compute the stage's losses, update the weights and
their moving average; validate on whole pictures of scenes that training never saw; write the result. The saved state
suffices to resume exactly. The loop waits for a GPU only when it writes a line of the log.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lowlight_cli.engines.tiling import out_of_memory
from lowlight_cli.errors import LowlightError, ResourceError
from lowlight_cli.networks import build
from lowlight_cli.training import feeding, recipes, result
from lowlight_cli.training.board import told, writer
from lowlight_cli.training.checkpoint import State, unbroken
from lowlight_cli.training.data import Batch
from lowlight_cli.training.plan import Mixed, compiled
from lowlight_cli.training.ranks import Ranks, joined, place, together
from lowlight_cli.training.resume import alike, taken_over
from lowlight_cli.training.run import Progress, Run, Scores, begin, logged, writing
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
    trainer = _Trainer(run, ranks, feed)
    run, state = trainer.run, trainer.state
    if ranks.first:
        result.keep_best(run, state)
    missed = ranks.first and state.step > 0 and trainer.due() and not logged(run.output / "log.jsonl", state.step)
    if trainer.share(state.step) >= 1 and not missed:
        warn(
            f"the run in {run.output} has taken {state.step} steps already: none is added; longer --steps or --minutes "
            "go on"
        )
        if ranks.first and not result.written(run.checkpoint, run.model, state.step):
            result.write(run, state)
        return run.checkpoint
    with (
        contextlib.closing(feeding.batches(run, feed, state.step, trainer.share, ranks)) as made,
        contextlib.nullcontext(itertools.chain([next(made)], made)) as batches,  # may fail, so before opening the log
        told(run, state.step, ranks, report) as tell,
        ranks.held(),
    ):
        if missed:
            tell(trainer.made_up())
        trainer.go(batches, tell)
    if ranks.first:
        result.write(run, state)
        if better := result.passed_over(run, state, trainer.latest):
            warn(better)
    return run.checkpoint


class _Trainer:
    """A run on its way: its state, how much of it is done, and what was measured since the last line of the log."""

    def __init__(self, run: Run, ranks: Ranks, feed: feeding.Feed) -> None:
        self.ranks, self.feed, self.mixed = ranks, feed, _mixed(run)
        self.state = _state(run, self.mixed, ranks)
        self.run = replace(run, steps=max(run.steps, self.state.step))
        self.started = time.perf_counter() - self.state.seconds
        self.worked = ranks.clock(self.state.seconds)  # one clock for all, read once a step, so that all decide alike
        self.latest = math.inf  # PSNR of the last validation
        self.good, self.streak = self.state.copy(), 0  # what to go back to, after too many failed steps in a row
        self.settled = float(self.state.step + SETTLED)  # from here on starving is told, once

    def start_line(self) -> None:
        """Begin the next line of the log."""
        self.losses: list[Tensor] = []
        self.waited, self.since = 0.0, time.perf_counter()

    def share(self, step: int) -> float:
        """Return the share of the run that is done at a step, by steps or by time, whichever is further."""
        return min(1.0, max(step / self.run.steps, self.worked / 60 / self.run.minutes))

    def due(self) -> bool:
        """Return whether to validate and save after this step: every few, and at the end of each stage."""
        done = self.share(self.state.step)
        return done >= 1 or self.run.recipe.stage_at(done) > self.state.stage or self.state.step % self.run.every == 0

    def made_up(self) -> Progress:
        """Make up for the line that an interrupt prevented: validate, save and return it; its losses are lost."""
        state, before = self.state, self.state.step - 1
        rate = self.run.recipe.rate_at(before, self.share(before)) * state.lowered
        pace, stage = state.seconds / state.step, state.plan.stages[state.stage].name
        left = min((self.run.steps - state.step) * pace, self.run.minutes * 60 - state.seconds)
        scores = self.validated()
        self.save()
        return Progress(state.step, math.nan, rate, 1 / pace, self.share(state.step), left, 0.0, scores, stage)

    def go(self, batches: Iterator[Batch], tell: Callable[[Progress], None]) -> None:
        """Take steps until the run is done, telling each line of the log; save after validations and if interrupted."""
        self.watch = Watch(self.run.device)
        self.start_line()
        try:
            while self.share(self.state.step) < 1:
                self.step(batches)
                due = self.due()
                if due or self.state.step % TOLD == 0:
                    tell(self.measured(due))
                    if due:
                        self.save()
                        self.good = self.state.copy()
                        self.watch.lap("saving")
                    self.start_line()
        except (KeyboardInterrupt, SystemExit):
            if self.state.sound():
                self.save()
            raise

    def step(self, batches: Iterator[Batch]) -> None:
        """Take a step on the next batch, in the stage whose turn it is."""
        done = self.share(self.state.step)
        if (stage := self.run.recipe.stage_at(done)) > self.state.stage:
            self.state.enter(stage)
            self.good = self.state.copy()
        asked = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - asked
        batch = batch.to(self.run.device)
        self.watch.lap("data")
        self.rate = self.run.recipe.rate_at(self.state.step, done) * self.state.lowered
        with unbroken(), _sizes_that_stay():
            self.losses.append(_update(self.state, batch, self.rate, self.ranks, self.watch))
        self.worked = self.ranks.clock(time.perf_counter() - self.started)
        if self.ranks.count > 1:
            self.watch.lap("exchange")

    def measured(self, due: bool) -> Progress:
        """Sum up the steps since the last line, go back if too many failed, and validate if `due`."""
        stacked = torch.stack(self.losses)
        self.ranks.average([stacked])
        rows = stacked.tolist()  # the only place that waits for a GPU
        run, state, now = self.run, self.state, time.perf_counter()
        pace, waiting = (now - self.since) / len(rows), self.waited / (now - self.since)
        left = min((run.steps - state.step) * pace, run.minutes * 60 - now + self.started)
        done, stage = self.share(state.step), state.plan.stages[state.stage].name
        kept = [losses for *losses, failed in rows if not failed]
        means = [sum(each) / len(kept) for each in zip(*kept, strict=True)] or [math.nan] * (len(rows[0]) - 1)
        loss, judge = means[0], means[1] if len(means) > 1 else None
        note = self.went_back([bool(failed) for *_, failed in rows])
        try:
            scores = self.validated() if due else None
        except Exception:  # whole pictures are larger than crops and may exceed the device
            self.save()
            raise
        self.watch.lap("evaluation")
        times = self.watch.shares()
        if not note and times["data"] > STARVED and state.step >= self.settled:
            note = f"{times['data']:.0%} of the time goes by without a batch: raise --threads {run.threads}"
            self.settled = math.inf
        return Progress(state.step, loss, self.rate, 1 / pace, done, left, waiting, scores, stage, note, times, judge)

    def went_back(self, failed: list[bool]) -> str:
        """Restore the last good state at half the rate if too many steps failed; return a note if so, else nothing."""
        run, state = self.run, self.state
        for each in failed:
            self.streak = self.streak + 1 if each else 0
        if not any(failed) or (self.streak < PATIENCE and state.sound()):
            return ""
        if state.lowered <= 0.5**LOWERINGS:
            raise LowlightError(
                f"{run.model}: the loss is no number at step {state.step}, even at {state.lowered:.3g} of the rate; "
                f"look at the pictures, or lower it with --set rate=...; what was good is still in {run.output}"
            )
        self.streak = 0
        state.lowered /= 2
        state.restore(self.good)
        slower = f"at {state.lowered:g} of the rate"
        return f"the loss was no number until step {state.step}: back to the last good state, {slower}"

    def validated(self) -> Scores | None:
        """Return the scores on the held-out pictures, if any; in the first process and the last stage only."""
        complete = self.state.stage == len(self.state.plan.stages) - 1  # earlier the network is not usable
        if not (complete and self.feed.validation and self.ranks.first):
            return None
        scores = validate(self.run, self.state, self.feed.validation, self.mixed)
        self.latest = scores.psnr
        if self.state.best is None or self.latest > self.state.best[1]:
            self.state.best = self.state.step, self.latest
        return scores

    def save(self) -> None:
        """Write the state, and the weights if they are the best so far."""
        self.state.seconds = time.perf_counter() - self.started
        if self.ranks.first:
            self.state.save(self.run.state, self.run.settings())
            result.keep_best(self.run, self.state)


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
        plan = replace(plan, stages=tuple(replace(stage, losses=compiled(stage.losses, run)) for stage in plan.stages))
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


def _mixed(run: Run) -> Mixed:
    """Return a context factory for networks: bfloat16 autocast if the run uses it."""
    device = run.device.partition(":")[0]
    return lambda: torch.autocast(device, torch.bfloat16, enabled=run.bf16)
