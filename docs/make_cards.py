"""Make docs/models/: a card for each shipped checkpoint, its curve and its pictures.

    pip install -e '.[test]'
    python docs/make_cards.py                               # from weights.toml and the logs kept in docs/models/logs
    python docs/make_cards.py --runs runs                   # take the logs of runs/NAME.TAG first (and NAME.TAG.2, ...)
    python docs/make_cards.py --runs runs --hardware "..."  # which these ran on, where it is not this machine
    python docs/make_cards.py --text dgaf.real              # one card, its pictures left as they are

Figures are those of weights.toml, which `lowlight bench --verify` checks. To be run again when weights or figures
change; tests/test_cards.py fails where that was forgotten.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from cards import curve, log
from cards.scenes import CASES
from PIL import Image

from lowlight_cli import Enhancer, networks
from lowlight_cli.metrics import gt_mean, psnr
from lowlight_cli.sheets import labelled
from lowlight_cli.weights import card, header
from lowlight_cli.weights.catalog import Checkpoint, bundled, catalog

ROOT: Final = Path(__file__).resolve().parent.parent
MODELS: Final = ROOT / "docs" / "models"
SAMPLE: Final = ROOT / "samples" / "night.jpg"
QUALITY: Final = 74

AIMS: Final = {"jcrnet": 28.2, "drgn": 26.5, "lw-drgn": 25.0, "neid": 26.0, "frlie": 26.5, "dgaf": 25.5}
"""GT-mean PSNR on eval15 that each network was meant to reach, in dB."""
FARTHEST: Final = 10
"""Doublings beyond which a trend says nothing any more."""

KINDS: Final = {
    "lol": "pairs of LOL", "sice": "pairs of SICE", "pairs": "pairs of our own",
    "bright": "well-lit photographs, darkened on the way", "dark": "real dark photographs without reference",
}  # fmt: skip

FAILS: Final = {
    "jcrnet": "It paints strong noise over, and fine texture with it.",
    "drgn": "Strong noise becomes a fine pattern on skin and fur.",
    "lw-drgn": "Strong noise becomes a woven pattern on skin and fur.",
    "neid": "It works at half the size: fine texture is lost.",
    "frlie": "It is soft: texture and small print are lost.",
    "dgaf": "It smooths less than the others: what noise it does not recognise stays.",
}
"""What was seen of each on photographs that are not ours to show."""


def text(checkpoint: Checkpoint, legs: list[log.Leg]) -> str:
    """A card, from what weights.toml and the log say and nothing else."""
    network = networks.descriptor(checkpoint.network)
    name = checkpoint.name
    parts = [
        f"{card.front_matter([checkpoint])}\n# {name}\n",
        f"{network.title} ({checkpoint.paper}, <{checkpoint.paper_url}>), implemented anew and trained anew for "
        f"lowlight. Good at: {network.good_at}. Not so good at: {network.bad_at}.\n",
        f"```\nlowlight enhance photo.jpg -m {checkpoint.network} -w {checkpoint.tag}\n```\n",
        f"![The sample, and what {name} makes of it](images/{name}.jpg)\n",
        "## The file\n",
        card.files([checkpoint]),
        f"Licence: {checkpoint.licence}; what the owners of the training data ask is in [NOTICE](../../NOTICE).\n",
        "## Training\n",
        *_training(checkpoint, legs),
        "## Figures\n",
        *_figures(checkpoint),
        "## What it is bad at\n",
        f"{FAILS[checkpoint.network]} All models share these limits: the deepest shadows hold no colour to bring back, "
        "clipped lamps stay clipped, and what a result shows in either is a guess, not evidence.\n",
        f"![Failure cases of {name}: the dark picture, the result, the reference](images/{name}.failures.jpg)\n",
        "From left to right the dark picture, what came out with its PSNR / GT-mean PSNR in dB, and the reference:\n",
        "".join(f"- **{case.name}**: {case.said}.\n" for case in CASES),
        "The photographs are free (coffee by Rachel Michetti and cat by Stefan van der Walt, CC0; launch by SpaceX and "
        "astronaut by NASA, public domain), made dark by the model of `lowlight darken` in "
        "[scenes.py](../cards/scenes.py): each case is the same for every checkpoint.\n",
    ]
    return "\n".join(parts)


def _training(checkpoint: Checkpoint, legs: list[log.Leg]) -> list[str]:
    """Data, recipe, what the log says, and how much longer it would have to be."""
    parts = [f"- Data: {checkpoint.training_data}.\n- Recipe: {checkpoint.recipe}.\n"]
    if not legs:
        return [*parts, "Its log was not kept: there is no curve to show.\n"]
    ran = legs[-1].points[-1].step
    facts = f"- {ran:,} steps in {log.hours(legs):.1f} hours, not counting validation"
    parts[0] += facts + (f", in {len(legs)} legs.\n" if len(legs) > 1 else ".\n")
    parts[0] += "".join(_leg(leg, len(legs)) for leg in legs)
    parts.append(f"![Loss and held-out PSNR of {checkpoint.name} over its steps](curves/{checkpoint.name}.svg)\n")
    looked = [point.scores for leg in legs for point in leg.points if point.scores]
    if looked:
        parts.append(
            f"The curve's PSNR is of {looked[-1]['pictures']:.0f} whole pictures of scenes that training never saw, by "
            f"the moving average of the weights; it ended at {looked[-1]['psnr']:.2f} dB, "
            f"{looked[-1]['psnr_gt_mean']:.2f} dB GT-mean, SSIM {looked[-1]['ssim']:.3f}. No checkpoint was "
            "chosen by it: "
            "the last one is what is shipped.\n"
        )
    notes = [f"- step {point.step:,}: {point.note}\n" for leg in legs for point in leg.points if point.note]
    if notes:
        parts.append("Notes in the training log:\n\n" + "".join(notes))
    return [*parts, more(checkpoint, legs)]


def _leg(leg: log.Leg, count: int) -> str:
    """One line on how a leg was run."""
    setting = leg.setting
    total = sum(setting["sources"].values())
    mixed = ", ".join(
        f"{KINDS[kind]} {weight / total:.0%}" if len(setting["sources"]) > 1 else KINDS[kind]
        for kind, weight in setting["sources"].items()
    )
    recipe = setting["recipe"]
    begun = f", begun from {setting['init']}" if setting["init"] else ""
    which = f"Leg {setting['leg']}, {setting['steps']:,} steps" if count > 1 else "Run"
    return (
        f"- {which}{begun}: {mixed}; {recipe['optimiser']}, rate {recipe['rate']:g} ({recipe['schedule']}), "
        f"crops of {_span(recipe, 'crop')} pixels, batches of {_span(recipe, 'batch')}, moving average "
        f"{recipe['ema']:g}; on {setting['hardware']}{', bf16' if setting['bf16'] else ''}.\n"
    )


def _span(recipe: dict[str, Any], key: str) -> str:
    """A number and what it becomes late in the run, where that is another."""
    return f"{recipe[key]} to {recipe[f'{key}_end']}" if recipe[f"{key}_end"] else str(recipe[key])


def more(checkpoint: Checkpoint, legs: list[log.Leg]) -> str:
    """How many more steps the slope of the held-out GT-mean curve asks for, with its doubts."""
    curved = log.scored(legs, "psnr_gt_mean")
    trend = log.trend(curved) if curved else None
    if trend is None:
        last = [f"{value:.2f}" for _, value in curved[-2:]]
        went = f" Between the last two its GT-mean PSNR went from {last[0]} to {last[1]} dB." if len(last) == 2 else ""
        return f"How many more steps it wants cannot be told: the late curve has fewer than four measurements.{went}\n"
    before = " The steps before this log are not counted in it." if legs[0].setting["init"] else ""
    rate = f"{trend.slope:+.2f} ± {trend.error:.2f} dB a doubling of steps, from the last {trend.points} measurements"
    said = f"At its end the GT-mean curve rises by {rate}. "
    if not trend.rises:
        return said + "That is no rise beyond its own noise: more steps of the same kind are not what it lacks.\n"
    aim = AIMS[checkpoint.network]
    eval15 = next((m.psnr_gt_mean for m in checkpoint.metrics if m.dataset == "lol" and m.psnr_gt_mean), None)
    if eval15 is None:
        return said + "How far that is from its aim is not known: eval15 was not measured.\n"
    if eval15 >= aim:
        return said + f"The aim, {aim:g} dB on eval15, is reached with {eval15:.2f} dB.\n"
    doublings = (aim - eval15) / trend.slope
    ran = curved[-1][0]
    wanted = (
        f"{doublings:.1f} doublings, about {float(f'{ran * (2**doublings - 1):.2g}'):,.0f} more steps"
        if doublings <= FARTHEST
        else f"more than {FARTHEST} doublings: steps alone will not do it"
    )
    return (
        f"{said}From {eval15:.2f} dB on eval15 to the {aim:g} dB that it was meant to reach, that slope would take "
        f"{wanted}. Take it as an order of magnitude: a schedule that falls to zero steepens the end of every "
        "curve, a slope "
        f"flattens as it goes on, and held-out scenes are not eval15.{before}\n"
    )


def _figures(checkpoint: Checkpoint) -> list[str]:
    """Measured, then what the paper states, apart."""
    parts = [
        card.measured([checkpoint]),
        "`lol` is eval15, the fifteen published test pairs of LOL, fourteen of whose scenes are in its training set at "
        "other exposures; `lol-scenes` are scenes of LOL that training never saw; `sice` are SICE's "
        "validation scenes. GT-mean "
        "is PSNR after the result was scaled to its reference's mean, which takes knowledge of the reference. "
        "[measuring.md](../measuring.md) tells how to make them again.\n",
    ]
    if checkpoint.published:
        parts += ["### As published\n", card.published([checkpoint])]
    return parts


def pictures(checkpoint: Checkpoint) -> None:
    """The sample before and after, and the failure cases; both JPEG."""
    enhancer = Enhancer(checkpoint.network, checkpoint.tag, precision="fp32", device="cpu", offline=True)
    with Image.open(SAMPLE) as opened:
        dark = np.divide(opened.convert("RGB"), 255, dtype=np.float32)
    _save(labelled([("before", dark), ("after", enhancer.enhance_picture(dark))], 2), f"{checkpoint.name}.jpg")
    shown = []
    for case in CASES:
        low, high = (np.divide(picture, 255, dtype=np.float32) for picture in case.pair())
        lit = np.rint(np.clip(enhancer.enhance_picture(low), 0, 1) * 255).astype(np.float32) / 255
        figures = f"{psnr(lit, high):.1f} / {psnr(gt_mean(lit, high), high):.1f} dB"
        shown += [(case.name, low), (figures, lit), ("reference", high)]
    _save(labelled(shown, 3), f"{checkpoint.name}.failures.jpg")


def _save(sheet: np.ndarray, name: str) -> None:
    (MODELS / "images").mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.rint(sheet * 255).astype(np.uint8))
    picture.save(MODELS / "images" / name, "JPEG", quality=QUALITY, optimize=True)


def index(checkpoints: Sequence[Checkpoint]) -> str:
    """The page over the cards."""
    rows = [
        (f"[{c.name}]({c.name}.md)", networks.descriptor(c.network).title, c.training_data, c.licence)
        for c in checkpoints
    ]
    said = "One card for each shipped checkpoint; [models.md](../models.md) says which to take when.\n"
    return f"# Model cards\n\n{said}\n" + card.table(("weights", "network", "trained on", "licence"), rows)


def processor() -> str:
    """This machine's processor and its threads, as far as the platform tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text("utf-8").splitlines() if told.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} threads"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all cards, or those named."""
    parser = argparse.ArgumentParser(description="Make the model cards in docs/models/.")
    parser.add_argument("names", nargs="*", metavar="NAME.TAG", help="which; all shipped ones without it")
    parser.add_argument("--runs", type=Path, help="where the folders of the runs are, named NAME.TAG")
    parser.add_argument("--hardware", default="", help="what those ran on; without it, this machine's processor")
    parser.add_argument("--text", action="store_true", help="leave the pictures as they are")
    given = parser.parse_args(arguments)
    shipped = [checkpoint for checkpoint in catalog() if checkpoint.file]
    if unknown := set(given.names) - {checkpoint.name for checkpoint in shipped}:
        parser.error(f"not shipped: {', '.join(sorted(unknown))}")
    MODELS.mkdir(parents=True, exist_ok=True)
    for checkpoint in shipped:
        if given.names and checkpoint.name not in given.names:
            continue
        kept = MODELS / "logs" / f"{checkpoint.name}.jsonl"
        if given.runs and (folders := log.legs_of(given.runs, checkpoint.name)):
            found = log.read_runs(folders, given.hardware or processor())
            file = bundled(checkpoint)
            if file and header.inspect(file).metadata.get("config") == found[-1].setting["config"]:
                log.write(kept, found)
            else:
                sys.stderr.write(f"{folders[-1]} is not the run that made {checkpoint.file}: its log is left out\n")
        legs = log.read(kept)
        if legs:
            (MODELS / "curves").mkdir(exist_ok=True)
            (MODELS / "curves" / f"{checkpoint.name}.svg").write_text(curve.drawn(checkpoint.name, legs), "utf-8")
        (MODELS / f"{checkpoint.name}.md").write_text(text(checkpoint, legs), "utf-8")
        if not given.text:
            pictures(checkpoint)
    (MODELS / "README.md").write_text(index(shipped), "utf-8")


if __name__ == "__main__":
    main()
