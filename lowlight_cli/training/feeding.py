"""From sources to a run's batches: what to train on, what to look at, crops prepared ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.training import data
from lowlight_cli.training.run import Run

__all__ = ["Feed", "batches", "read"]


@dataclass(frozen=True)
class Feed:
    """What a run sees.

    Attributes:
        pools: each source's pairs to train on.
        weights: each one's share of the batches, summing to 1.
        unpaired: photographs without partners, where the recipe asks for such and a source has them.
        validation: whole pictures to look at; those with untouched noise first.
    """

    pools: list[list[data.Pair]]
    weights: data.Floats
    unpaired: list[data.Pair]
    validation: list[data.Pair]
    _smalls: dict[int, data.Floats] = field(default_factory=dict)

    def small(self, pair: data.Pair, whole: data.Bytes) -> data.Floats:
        """`data.small`, taken once of a picture that stays the same: it costs more than the crop."""
        if whole is not pair.low:
            return data.small(whole)
        if (known := self._smalls.get(id(pair))) is None:
            known = self._smalls[id(pair)] = data.small(whole)
        return known


def read(run: Run) -> Feed:
    """Decode every source.

    Raises:
        UsageError: no pairs to train on, or a source that the recipe has no use for or lacks.
        InputError: a picture is missing, unreadable, of another size than its partner or smaller than a crop.
    """
    wanted = run.recipe.unpaired
    pools, held, weights, unpaired = [], [], [], []
    for source in run.sources:
        if source.kind == wanted:
            unpaired += data.read_source(source, run.cache)
            continue
        if source.kind == "dark":
            raise UsageError(f"--data dark: is of no use to {run.model} with --recipe {run.recipe.kind}: leave it out")
        pairs = data.read_source(source, run.cache)
        pools.append([pair for pair in pairs if not pair.validation])
        held.append([pair for pair in pairs if pair.validation and pair.low is not None and not pair.cleaned])
        weights.append(source.weight)
        if not pools[-1]:
            raise UsageError(f"{source.paths[0]}: no pair is left to train on")
    if not pools:
        raise UsageError("nothing to train on: give --data, for example --data lol:PATH")
    if wanted == "dark" and not unpaired:
        raise UsageError(
            f"the paper's {run.model} learns from real nights too: give --data dark:PATH, photographs of them"
        )
    for crop in {run.recipe.crop, run.recipe.crop_end} - {0}:
        _large_enough([pair for pool in pools for pair in pool if pair.low is not None], crop)
    longest = max(len(group) for group in held)
    in_turn = [group[i] for i in range(longest) for group in held if i < len(group)]
    shares = np.array(weights)
    return Feed(pools, shares / shares.sum(), unpaired, in_turn[: run.validate])


def batches(run: Run, feed: Feed, first: int, share: Callable[[int], float]) -> Generator[data.Batch, None, None]:
    """Batches in order, prepared ahead by threads; batch k depends on seed and k alone: a resumed run goes on."""
    recipe = run.recipe
    pinned = run.device.startswith("cuda")

    def prepare(step: int, late: bool) -> data.Batch:
        random = np.random.default_rng((run.seed, step))
        crop = recipe.crop_end if late and recipe.crop_end else recipe.crop
        size = recipe.batch_end if late and recipe.batch_end else recipe.batch
        chosen = random.choice(len(feed.pools), size, p=feed.weights)
        pairs, samples = [], []
        for k in chosen:
            pairs.append(feed.pools[k][random.integers(len(feed.pools[k]))])
            samples.append(data.cut(pairs[-1], crop, random))
        others = None
        if feed.unpaired:
            picked = random.integers(len(feed.unpaired), size=size)
            others = [data.alone(feed.unpaired[k], crop, recipe.unpaired == "bright", random) for k in picked]
        smalls = [feed.small(pair, sample[2]) for pair, sample in zip(pairs, samples, strict=True)]
        batch = data.batch_of(samples, recipe.input == "exposed", random, smalls=smalls, unpaired=others)
        return batch.pinned() if pinned else batch

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


def _large_enough(pairs: list[data.Pair], crop: int) -> None:
    """Crops of a batch are stacked: all must be of one size, if need be that of pictures smaller than the crop."""
    sides = {min(crop, *pair.high.shape[:2]) for pair in pairs}
    if len(sides) > 1:
        small = [pair.stem for pair in pairs if min(pair.high.shape[:2]) < crop]
        raise InputError(
            f"{len(small)} pictures are smaller than the crop of {crop}, first {', '.join(small[:5])}: leave them out, "
            f"or lower crop and crop_end with --set crop={min(sides)}"
        )
