"""`lowlight compare`: run one picture through every model and write all results on one sheet."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lowlight_cli.cli import options, report
from lowlight_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from lowlight_cli.targets import Job

__all__ = ["compare"]

SHAPE: Final = 1.4
"""Approximate aspect ratio of a sheet, width over height."""


def compare(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", readable=False, help="The picture.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="SHEET", show_default="photo_compare.jpg", help="The file to write, or a folder."
        ),
    ] = None,
    side: Annotated[
        int,
        typer.Option(
            min=16, metavar="N", help="First reduce the picture to N pixels on its longer side; large ones take long."
        ),
    ] = 1024,
    exist: options.Exist = "error",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Enhance one picture with every shipped model, and write all results on one sheet.

    The input comes first; each result has its model's name and seconds. Prints the path of the sheet.
    """
    from lowlight_cli.banding import debanded
    from lowlight_cli.files import make_folder, refuse_unwritable
    from lowlight_cli.pictures import FORMATS, Photo, encode, place, read
    from lowlight_cli.sheets import each_model, labelled, on_paper, opacity, reduced, shipped
    from lowlight_cli.targets import PIPE, is_dir, landed, plan

    if photo == PIPE:
        raise UsageError("`lowlight compare` does not read from stdin: name a picture")
    if output is not None and Path(output) == PIPE:
        raise UsageError("`lowlight compare` does not write to stdout: name a file with -o")
    if is_dir(photo):
        raise UsageError(
            f"{photo} is a folder: name one picture; `lowlight enhance {photo}` brightens all that are in it"
        )
    target = output or photo.with_name(f"{photo.stem}_compare.jpg")
    own = photo.suffix.lower()
    become = {} if own in FORMATS else {own: ".jpg"}  # HEIC and RAW cannot be written
    job = plan([photo], target, formats=FORMATS, become=become, exist=exist)[0]
    if job.error:
        raise job.error
    if job.skip:
        _tell_skipped(photo, job, json)
        return
    checkpoints, missing = shipped()
    if not checkpoints:
        raise WeightsError("no weights are shipped with this installation: there is nothing to compare")
    refuse_unwritable(job.target)
    whole = read(photo)
    for note in (*whole.notes, *(["only its first page is shown"] if whole.rest else [])):
        report.note(f"{photo}: {note}")
    pixels = debanded(whole.pixels) if whole.depth == 8 else whole.pixels  # reduced, bands stay
    picture, covers = reduced(pixels, side), opacity(whole)
    covers = None if covers is None else reduced(covers, side)
    height, width, _ = picture.shape
    shown = [(f"{photo.name}, {width}x{height}", on_paper(picture, covers))]
    with report.progress("compare", len(checkpoints)) as advance:
        for each in each_model(picture, checkpoints, device=device, precision=precision):
            shown.append((f"{each.name}, {each.seconds:.2f} s", on_paper(each.picture, covers)))
            report.detail(shown[-1][0])
            if json:
                report.event("model", {"name": each.name, "seconds": round(each.seconds, 4)})
            advance(1)
    columns = max(1, round(math.sqrt(len(shown) * SHAPE * height / width)))
    made = encode(Photo(labelled(shown, columns), name=job.target.name), format=FORMATS[job.target.suffix.lower()])
    make_folder(job.target)
    job = landed(job, lambda job: place(job.target, made, anew=job.anew))
    if job.skip:
        _tell_skipped(photo, job, json)
        return
    if missing:
        report.note(f"left out, no weights are shipped: {', '.join(missing)}")
    if json:
        told = {"status": "done", "width": width, "height": height}
        report.event("sheet", {"input": str(photo), "output": str(job.target), **told})
    else:
        report.path(job.target)


def _tell_skipped(photo: Path, job: Job, json: bool) -> None:
    report.note(f"{job.target} exists: skipped")
    if json:
        report.event("sheet", {"input": str(photo), "output": str(job.target), "status": "skipped"})
