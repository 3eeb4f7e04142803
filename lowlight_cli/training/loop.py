"""The training loop: from sources of pairs to a checkpoint, for every network.

One page, top to bottom: read the sources, then step by step cut a batch, compare, update, average; validate on whole
pictures of scenes that training never saw; write what came out. The state on disk is enough to go on exactly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lowlight_cli.errors import LowlightError, UsageError
from lowlight_cli.exposure import apply_gain, auto_gain
from lowlight_cli.metrics import gt_mean, psnr, ssim
from lowlight_cli.networks import build
from lowlight_cli.networks.layers import Network
from lowlight_cli.training import data, losses
from lowlight_cli.training.checkpoint import load_state, save_state
from lowlight_cli.training.recipe import Recipe
from lowlight_cli.weights import files

__all__ = ["Progress", "Run", "Scores", "train"]


@dataclass(frozen=True)
class Run:
    """What to train, from what, for how long, and where to.

    `steps` or `minutes` ends the run, whichever comes first; the cosine ends with it. `init` is a checkpoint to start
    from, `resume` goes on with the state in `output`. `threads` prepare batches. `validate` whole pictures are looked
    at every `every` steps and at the end.
    """

    model: str
    sources: tuple[data.Source, ...]
    output: Path
    cache: Path
    recipe: Recipe
    steps: int = 10_000
    minutes: float = math.inf
    tag: str = "own"
    seed: int = 0
    device: str = "cpu"
    bf16: bool = True
    init: Path | None = None
    resume: bool = False
    threads: int = 2
    every: int = 500
    validate: int = 8


@dataclass(frozen=True)
class Scores:
    """Means over validation pictures, in dB and as a share."""

    psnr: float
    psnr_gt_mean: float
    ssim: float
    pictures: int


@dataclass(frozen=True)
class Progress:
    """One line of the log. `share` of the run done, `left` in seconds, `waiting` the share of time without data."""

    step: int
    loss: float
    rate: float
    steps_per_second: float
    share: float
    left: float
    waiting: float
    scores: Scores | None = None


def train(run: Run, report: Callable[[Progress], None]) -> Path:
    """Train and give the path of the shipped-form checkpoint (the moving average, half precision).

    Raises:
        UsageError: no source, or sources without a pair to train on.
        InputError: a source that cannot be read.
        LowlightError: the loss is no number for twenty steps on end.
    """
    run.output.mkdir(parents=True, exist_ok=True)
    pools, validation = _read(run)
    torch.manual_seed(run.seed)
    network = build(run.model)
    if run.init:
        network.load_state_dict(files.load(run.init, run.model)[0])
    network = network.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {key: value.clone() for key, value in network.state_dict().items()}
    recipe = run.recipe
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    optimiser = kind(network.parameters(), recipe.rate, recipe.betas, weight_decay=recipe.decay, fused=True)
    step, before, bad = 0, 0.0, 0
    if run.resume:
        numbers = load_state(run.output / "state.safetensors", network, average, optimiser)
        step, before = int(numbers["step"]), float(numbers["seconds"])
    started = time.perf_counter()
    waited = recent_loss = recent = 0.0
    since = started

    def seconds() -> float:
        return before + time.perf_counter() - started

    def share(of_step: int) -> float:
        return min(1.0, max(of_step / run.steps, seconds() / 60 / run.minutes))

    def save() -> None:
        save_state(run.output / "state.safetensors", network, average, optimiser, {"step": step, "seconds": seconds()})

    (run.output / "run.json").write_text(_described(run))
    with (run.output / "log.jsonl").open("a" if run.resume else "w", buffering=1) as log:
        batches = _batches(run, pools, step, share)
        try:
            while (done := share(step)) < 1:
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                rate = _rate(recipe, step, done)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                network.train()
                loss = _loss(network, batch, run)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                norm = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
                if torch.isfinite(norm):
                    optimiser.step()
                    _follow(average, network, min(recipe.ema, (1 + step) / (10 + step)))
                    bad = 0
                else:
                    bad += 1
                    if bad == 20:
                        raise LowlightError(
                            f"{run.model}: the loss is no number since step {step - 19}; lower it with --set rate=…"
                        )
                step += 1
                recent_loss += float(loss.detach())
                recent += 1
                last = share(step) >= 1
                looked = last or step % run.every == 0
                if looked or step % 20 == 0:
                    now = time.perf_counter()
                    speed = recent / (now - since)
                    left = min((run.steps - step) / speed, run.minutes * 60 - seconds())
                    scores = _validate(run, average, validation) if looked and validation else None
                    line = Progress(
                        step, recent_loss / recent, rate, speed, share(step), left, waited / (now - since), scores
                    )
                    log.write(json.dumps(dataclasses.asdict(line)) + "\n")
                    report(line)
                    waited = recent_loss = recent = 0.0
                    since = time.perf_counter()
                if looked:
                    save()
        except KeyboardInterrupt:
            save()
            raise
        finally:
            batches.close()
    target = run.output / f"{run.model}.{run.tag}.safetensors"
    files.save(target, average, _metadata(run, step))
    return target


def _read(run: Run) -> tuple[list[list[data.Pair]], list[data.Pair]]:
    """Each source's pairs to train on, and the validation pictures of all: those with untouched noise first."""
    if not run.sources:
        raise UsageError("nothing to train on: give --data, for example --data lol:PATH")
    pools, held = [], []
    for source in run.sources:
        pairs = data.read_source(source, run.cache)
        pools.append([pair for pair in pairs if not pair.validation])
        held.append([pair for pair in pairs if pair.validation and pair.low is not None and not pair.cleaned])
        if not pools[-1]:
            raise UsageError(f"{source.paths[0]}: no pair is left to train on")
    longest = max(len(group) for group in held)
    in_turn = [group[i] for i in range(longest) for group in held if i < len(group)]
    return pools, in_turn[: run.validate]


def _batches(
    run: Run, pools: list[list[data.Pair]], first: int, share: Callable[[int], float]
) -> Generator[data.Batch, None, None]:
    """Batches in order, prepared ahead by threads; batch k depends on seed and k alone: a resumed run goes on."""
    weights = np.array([source.weight for source in run.sources])
    recipe = run.recipe

    def prepare(step: int, late: bool) -> data.Batch:
        random = np.random.default_rng((run.seed, step))
        crop = recipe.crop_end if late and recipe.crop_end else recipe.crop
        size = recipe.batch_end if late and recipe.batch_end else recipe.batch
        chosen = random.choice(len(pools), size, p=weights / weights.sum())
        samples = [data.cut(pools[k][random.integers(len(pools[k]))], crop, random) for k in chosen]
        return data.batch_of(samples, recipe.input == "exposed", random)

    with ThreadPoolExecutor(run.threads) as pool:
        ahead: deque[Future[data.Batch]] = deque()
        step = first
        try:
            while True:
                while len(ahead) <= run.threads:
                    ahead.append(pool.submit(prepare, step, share(step) >= recipe.crop_change))
                    step += 1
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _rate(recipe: Recipe, step: int, share: float) -> float:
    cosine = recipe.last_rate + (recipe.rate - recipe.last_rate) * (1 + math.cos(math.pi * share)) / 2
    return cosine * min(1.0, (step + 1) / recipe.warmup)


def _loss(network: Network, batch: data.Batch, run: Run) -> Tensor:
    recipe = run.recipe
    low, high, thumbnail = (
        t.to(run.device, memory_format=torch.channels_last) for t in (batch.low, batch.high, batch.thumbnail)
    )
    with torch.autocast(run.device.partition(":")[0], torch.bfloat16, enabled=run.bf16):
        arguments = (low, thumbnail) if network.wants_thumbnail else (low,)
        outputs = {key: value.float() for key, value in network.training_outputs(*arguments).items()}
    loss = losses.supervised(outputs["output"], high, at_mean=recipe.at_mean, structure=recipe.structure)
    if "stage" in outputs:
        stage = losses.supervised(outputs["stage"], high, at_mean=recipe.at_mean, structure=recipe.structure)
        loss = loss + recipe.stage * stage
    if "detail" in outputs:
        loss = loss + recipe.detail * F.mse_loss(outputs["detail"], low)
    return loss


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: Network, decay: float) -> None:
    """Move the average towards the network; batch-norm statistics are averaged too, counters copied."""
    state = network.state_dict()
    floats = [key for key, value in state.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[key] for key in floats], [state[key] for key in floats], 1 - decay)
    for key in state.keys() - set(floats):
        average[key].copy_(state[key])


@torch.inference_mode()
def _validate(run: Run, average: dict[str, Tensor], pairs: list[data.Pair]) -> Scores:
    """Whole pictures through the averaged network."""
    network = build(run.model)
    network.load_state_dict(average)
    network = network.to(run.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    rows = []
    for pair in pairs:
        assert pair.low is not None
        low, high = (np.divide(picture, 255, dtype=np.float32) for picture in (pair.low, pair.high))
        if run.recipe.input == "exposed":
            low = apply_gain(low, auto_gain(low))
        x = torch.from_numpy(low).permute(2, 0, 1)[None].to(run.device, memory_format=torch.channels_last)
        with torch.autocast(run.device.partition(":")[0], torch.bfloat16, enabled=run.bf16):
            y = network(x)
        output = np.rint(y[0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255) / np.float32(255)
        rows.append((psnr(output, high), psnr(gt_mean(output, high), high), ssim(output, high)))
    means = np.mean(rows, 0)
    return Scores(float(means[0]), float(means[1]), float(means[2]), len(rows))


def _described(run: Run) -> str:
    """The run as JSON, paths and numbers alike."""
    return json.dumps(dataclasses.asdict(run), default=str, indent=2)


def _metadata(run: Run, step: int) -> dict[str, str]:
    return {
        "network": run.model,
        "tag": run.tag,
        "input": run.recipe.input,
        "recipe": run.model,
        "data": " ".join(f"{source.kind}@{source.weight:g}" for source in run.sources),
        "licence": "MIT",
        "steps": str(step),
        "config": hashlib.sha256(_described(run).encode()).hexdigest(),
    }
