"""`lowlight darken`: make training pairs from well-lit photographs."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Annotated, Literal

import typer

from lowlight_cli.cli import report
from lowlight_cli.cli.options import Debug, Json, Quiet, ReplaceChoice, Verbose
from lowlight_cli.cli.ready import exit_code
from lowlight_cli.errors import UsageError

__all__ = ["darken"]


def _range(text: str) -> tuple[float, float]:
    """Parse `LOW,HIGH` as two numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--strength {text!r} is not LOW,HIGH; write it as 0.01,0.1") from None
    return low, high


def darken(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", readable=False, help="Folder of well-lit photographs; subfolders are included."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Output folder for low/, high/ and manifest.jsonl.")
    ],
    method: Annotated[
        Literal["physical", "drgn", "dgaf"],  # synthesis.METHODS
        typer.Option(
            help="physical: simulate two exposures of the scene, with lamps, sensor noise, black level and JPEG. drgn: "
            "imitate the dark photographs in --like with DRGN's learnt degradation. dgaf: use DGAF's darkening network."
        ),
    ] = "physical",
    like: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="drgn: folder of real dark photographs to imitate.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "-w", "--weights", metavar="TAG|FILE|hf://...|https://...", show_default="the shipped one",
            help="drgn, dgaf: use another learnt degradation, from `lowlight train --recipe paper`.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed; the same seed and file name give the same picture.")
    ] = 0,
    strength: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            show_default="0.004,0.15 with 10 % at 0.3,1; drgn, dgaf: half to twice the learnt share",
            help="Smallest and largest share of the light to keep.",
        ),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also write the reference of each dark picture, to high/.")
    ] = False,
    per_picture: Annotated[int, typer.Option(min=1, metavar="N", help="Number of dark pictures per photograph.")] = 1,
    side: Annotated[
        int | None, typer.Option(min=16, metavar="N", help="First reduce photographs to N pixels on the longer side.")
    ] = None,
    format: Annotated[
        str, typer.Option(metavar="png|jpg|webp|tiff|bmp|avif", help="File format; PNG, TIFF and BMP are lossless.")
    ] = "png",
    exist: Annotated[
        ReplaceChoice,
        typer.Option(help="What to do if OUT has results; skip makes only what is missing or was made differently."),
    ] = "error",
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
    wish = Wish(method, seed, between, pairs, per_picture, side, format, weights, like)
    made, skipped, errors = 0, 0, []
    with contextlib.ExitStack() as stack:
        with report.transfer(f"weights for {method}") as moved:
            every = synthesise(folder, output, wish, exist=exist, on_message=report.note, on_progress=moved)
            stack.enter_context(contextlib.closing(every))  # closing it tidies the manifest, also when interrupted
            first = next(every)  # fetches weights here, so that their bar is gone before the next one is drawn
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
