"""From sources to batches: select pairs for training and validation, and prepare crops ahead in threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.metrics.ssim import SMALLEST
from lowlight_cli.overlap import overlapped
from lowlight_cli.training import checks, data
from lowlight_cli.training.darken import codec_noise
from lowlight_cli.training.ranks import ALONE, Ranks
from lowlight_cli.training.recipe import Recipe, multiple
from lowlight_cli.training.run import Run
from lowlight_cli.training.sources import HELD_OUT, named, scenes_told

__all__ = ["Feed", "batches", "read"]

MIXED = (1.2, 1.2)
"""Parameters of the beta distribution of mixup shares: few are near 0 or 1, where hardly anything is blended."""


@dataclass(frozen=True)
class Feed:
    """The pictures that a run trains on and validates with.

    Attributes:
        pools: the training pairs of each source.
        weights: each source's share of the crops, summing to 1.
        unpaired: photographs without partners, if the recipe uses them and a source has them.
        validation: held-out pairs for validation on whole pictures; only low pictures with their original noise.
        notes: a line on each oddity of the pairs.
    """

    pools: list[list[data.Pair]]
    weights: data.Floats
    unpaired: list[data.Pair]
    validation: list[data.Pair]
    notes: list[str] = field(default_factory=list)
    _smalls: dict[int, data.Floats] = field(default_factory=dict)

    def small(self, pair: data.Pair, whole: data.Bytes) -> data.Floats:
        """Return `data.small(whole)`, cached for pictures of the pair itself: it costs more than the crop."""
        if whole is not pair.low and whole is not pair.high:
            return data.small(whole)
        if (known := self._smalls.get(id(whole))) is None:
            known = self._smalls[id(whole)] = data.small(whole)
        return known


def read(run: Run) -> Feed:
    """Decode every source.

    Raises:
        UsageError: there are no pairs to train on, the recipe has no use for a source or lacks one, or the batch does
            not divide evenly among the run's processes.
        InputError: pictures are missing, unreadable, differ in size from their partners, are too small for the crops
            or, if held out, to be measured; the message names the fault of each source.
    """
    _refuse_uneven(run)
    wanted = run.recipe.unpaired
    pools, held, weights, unpaired, faults, notes = [], [], [], [], [], []
    for source in run.sources:
        if source.kind == "dark" != wanted:
            raise UsageError(f"--data dark: is of no use to {run.model} with --recipe {run.recipe.kind}: leave it out")
        try:
            pairs = data.read_source(source, run.cache)
        except InputError as error:
            faults.append(str(error))
            continue
        if source.kind == wanted:
            unpaired += pairs
            continue
        if not scenes_told(source):
            count = len({pair.scene for pair in pairs})
            notes.append(
                f"{source.paths[0]}: no scenes.csv: by how alike their references look, {len(pairs)} pairs are {count} "
                "scenes; each is held out as a whole, or not at all"
            )
        if checks.swapped(pairs):
            notes.append(
                f"{source.paths[0]}: most dark pictures are brighter than their reference: are the two swapped?"
            )
        pools.append([pair for pair in pairs if not pair.validation])
        held.append([pair for pair in pairs if pair.validation and pair.low is not None and not pair.cleaned])
        weights.append(source.weight)
        if not pools[-1]:
            all_of = "the only one is" if len(pairs) == 1 else f"all {len(pairs)} are"
            raise UsageError(
                f"{source.paths[0]}: no pair is left to train on: {all_of} held out for validation, as about one scene "
                f"in {HELD_OUT} is by its name (sice: by its split); add pairs, or name the files otherwise"
            )
    if faults:
        raise InputError("; ".join(faults))
    if not pools:
        raise UsageError("nothing to train on: give --data, for example --data lol:PATH")
    if wanted == "dark" and not unpaired:
        raise UsageError(
            f"the paper's {run.model} learns from real nights too: give --data dark:PATH, photographs of them"
        )
    for crop in {run.recipe.crop, run.recipe.crop_end} - {0}:
        _large_enough([pair for pool in pools for pair in pool], crop, multiple(run.model, run.recipe.kind))
    leaked, odd = checks.look_at([pair for group in (*pools, unpaired, *held) for pair in group])
    looked_at = _looked_at(run, held, leaked)
    if run.validate and not looked_at:
        odd.append(
            "no scene is held out, or none that can be looked at, so nothing is validated: of pairs: and lol: about "
            f"one in {HELD_OUT} is, of bright: none; more scenes give some"
        )
    shares = np.array(weights)
    return Feed(pools, shares / shares.sum(), unpaired, looked_at, notes + odd)


def _refuse_uneven(run: Run) -> None:
    """Refuse uneven shares of a batch: the mean of the processes' means is the batch's mean only for equal parts."""
    for size in {run.recipe.batch, run.recipe.batch_end} - {0}:
        if size % run.processes:
            raise UsageError(
                f"a batch of {size} cannot be shared evenly by {run.processes} processes: choose multiples of it with "
                f"--set batch={size + -size % run.processes}, batch_end likewise"
            )


def _looked_at(run: Run, held: list[list[data.Pair]], leaked: list[data.Pair]) -> list[data.Pair]:
    """Select the validation pairs: from the held-out pairs of all sources in turn, without leaked ones."""
    known = {id(pair) for pair in leaked}
    held = [[pair for pair in group if id(pair) not in known] for group in held]
    in_turn = [pair for row in itertools.zip_longest(*held) for pair in row if pair is not None]
    looked_at = in_turn[: run.validate]
    if tiny := [pair.stem for pair in looked_at if min(pair.high.shape[:2]) < SMALLEST]:
        raise InputError(
            f"{len(tiny)} held-out pictures have less than {SMALLEST} pixels a side, which SSIM wants: "
            f"{named(tiny)}; leave them out, or validate nothing with --validate 0"
        )
    return looked_at


def batches(
    run: Run, feed: Feed, first: int, share: Callable[[int], float], ranks: Ranks = ALONE
) -> Generator[data.Batch, None, None]:
    """Yield this process's part of each batch, in order, prepared ahead in threads.

    Crop n of batch k depends only on the seed, k and n. So a resumed run continues exactly, and the parts of several
    processes make up the same batch.
    """
    recipe = run.recipe
    pinned = run.device.startswith("cuda")

    def prepare(at: tuple[int, bool]) -> data.Batch:
        step, late = at
        crop = recipe.crop_end if late and recipe.crop_end else recipe.crop
        size = recipe.batch_end if late and recipe.batch_end else recipe.batch
        mine = range(ranks.rank, size, ranks.count)
        crops = [_crop(recipe, feed, crop, np.random.default_rng((run.seed, step, number))) for number in mine]
        batch = data.batch_of(crops)
        return batch.pinned() if pinned else batch

    steps = ((step, share(step) >= recipe.crop_change) for step in itertools.count(first))
    yield from overlapped(prepare, steps, run.threads)


def _crop(recipe: Recipe, feed: Feed, crop: int, random: np.random.Generator) -> data.Crop:
    """Make one crop of a batch with all the augmentation of the recipe."""
    made = _cut(recipe, feed, crop, random)
    if recipe.mixup and random.random() < recipe.mixup:
        made = data.blended(made, _cut(recipe, feed, crop, random), random.beta(*MIXED))
    return made


def _cut(recipe: Recipe, feed: Feed, crop: int, random: np.random.Generator) -> data.Crop:
    pair = _drawn(feed, random)
    if recipe.lit and random.random() < recipe.lit:
        side = crop if pair.low is None else min(crop, *pair.high.shape[:2])
        piece = data.alone(pair, side, pair.low is None, random)
        sample = piece, piece, pair.high
    else:
        sample = data.cut(pair, crop, random)
        if recipe.noise and pair.low is not None and not pair.cleaned and random.random() < recipe.noise:
            sample = codec_noise(sample[0], random), *sample[1:]
    other, side = None, sample[0].shape[0]
    if feed.unpaired:
        beside = feed.unpaired[random.integers(len(feed.unpaired))]
        other = data.alone(beside, side, recipe.unpaired == "bright", random)
    elif recipe.unpaired:
        other = data.alone(_drawn(feed, random), side, False, random)
    means = feed.small(pair, sample[2])
    return data.seen(sample, recipe.input == "exposed", random, means=means, unpaired=other)


def _drawn(feed: Feed, random: np.random.Generator) -> data.Pair:
    """Draw a source by its share, then one of its pairs."""
    pool = feed.pools[random.choice(len(feed.pools), p=feed.weights)]
    return pool[random.integers(len(pool))]


def _large_enough(pairs: list[data.Pair], crop: int, step: int) -> None:
    """Check that all crops have one size, so that they stack: the crop's, or that of pictures all equally smaller.

    Photographs to be darkened are enlarged to the crop if needed, so they always fit.
    """
    sides = {crop if pair.low is None else min(crop, *pair.high.shape[:2]) for pair in pairs}
    fitting = min(sides) // step * step
    if sides == {fitting} and fitting >= SMALLEST:
        return
    small = [pair.stem for pair in pairs if pair.low is not None and min(pair.high.shape[:2]) < crop]
    way = f", or lower crop and crop_end with --set crop={fitting}"
    if fitting < SMALLEST:
        steps = f", in multiples of {step}" if step > 1 else ""
        way = f": a crop has at least {SMALLEST} pixels a side{steps}"
    raise InputError(f"{len(small)} pictures are smaller than the crop of {crop}: {named(small)}; leave them out{way}")
