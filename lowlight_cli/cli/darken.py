"""`lowlight darken`: pairs to train on, out of well-lit photographs."""

from __future__ import annotations

import contextlib
import itertools
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lowlight_cli.cli import report
from lowlight_cli.cli.options import Debug, Json, Quiet, ReplaceChoice, Verbose
from lowlight_cli.cli.ready import exit_code
from lowlight_cli.errors import UsageError

__all__ = ["darken"]


class MethodChoice(StrEnum):
    """How: `synthesis.METHODS`."""

    physical = "physical"
    drgn = "drgn"
    dgaf = "dgaf"


def _range(text: str) -> tuple[float, float]:
    """`LOW,HIGH` as two numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--strength {text!r} is not LOW,HIGH; write it as 0.01,0.1") from None
    return low, high


def darken(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", readable=False, help="Well-lit photographs, in subfolders too.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Gets low/, high/ and manifest.jsonl.")
    ],
    method: Annotated[
        MethodChoice,
        typer.Option(
            help="physical: one scene at two exposures, with lamps, sensor noise, black level, JPEG. drgn: as the "
            "dark photographs of --like are, by DRGN's learnt degradation. dgaf: by DGAF's Darkening network."
        ),
    ] = MethodChoice.physical,
    like: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="drgn: real dark photographs to take the degradation from.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "-w", "--weights", metavar="TAG|FILE|hf://...|https://...", show_default="what comes with the program",
            help="drgn, dgaf: another learnt degradation; `lowlight train --recipe paper` makes them.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and name, same picture.")] = 0,
    strength: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", show_default="0.004,0.15 and some hardly dark; what was learnt, halved to doubled",
            help="Least and largest share of the light that is left.",
        ),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Write the reference of each dark picture into high/ too.")
    ] = False,
    per_picture: Annotated[int, typer.Option(min=1, metavar="N", help="Dark pictures a photograph.")] = 1,
    side: Annotated[
        int | None, typer.Option(min=16, metavar="N", help="Reduce to N pixels of the longer side first.")
    ] = None,
    format: Annotated[
        str, typer.Option(metavar="png|jpg|webp|tiff|bmp|avif", help="Of the files; PNG, TIFF and BMP lose nothing.")
    ] = "png",
    exist: Annotated[
        ReplaceChoice, typer.Option(help="Where OUT has a manifest; skip makes what is missing or was made otherwise.")
    ] = ReplaceChoice.error,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Make dark pictures out of well-lit photographs, and the references that go with them.

    Prints the path of the manifest. With --pairs, `lowlight train --data pairs:OUT/low,OUT/high` takes the result.
    """
    from lowlight_cli.training.synthesis import MANIFEST, Wish, synthesise

    between = _range(strength) if strength else None
    wish = Wish(method.value, seed, between, pairs, per_picture, side, format, weights, like)
    made, skipped, errors = 0, 0, []
    with contextlib.ExitStack() as stack:
        with report.transfer(f"weights for {method.value}") as moved:
            every = synthesise(folder, output, wish, exist=exist.value, on_message=report.note, on_progress=moved)
            stack.enter_context(contextlib.closing(every))  # an interrupted one still tidies its manifest
            first = next(every)  # fetches weights, whose bar is gone before the other is drawn
        advance = stack.enter_context(report.progress("darken", None))
        for each in itertools.chain((first,), every):
            if each.error:
                errors.append(each.error)
                report.error(str(each.error))
            elif each.skipped:
                skipped += 1
            else:
                made += len(each.lines)
            if json:
                for line in each.lines:
                    report.event("darkened", {**line, "schema": report.SCHEMA, "skipped": each.skipped})
            report.detail(f"{each.path}: {', '.join(line['low'] for line in each.lines) or 'failed'}")
            advance(1)
    if not json:
        report.path(output / MANIFEST)
    told = [f"{made} dark pictures"]
    told += [f"{skipped} photographs skipped"] if skipped else []
    told += [f"{len(errors)} failed"] if errors else []
    report.note(", ".join(told))
    if errors:
        raise typer.Exit(exit_code({error.exit_code for error in errors}, not made and not skipped))
