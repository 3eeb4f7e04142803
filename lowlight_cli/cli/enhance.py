"""`lowlight enhance`: brighten pictures, folders of pictures, and clips."""

from __future__ import annotations

import glob
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options
from lowlight_cli.cli.ready import ready, saving
from lowlight_cli.cli.totals import Totals, tell_plan
from lowlight_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lowlight_cli.targets import Job

__all__ = ["enhance"]


def enhance(
    context: typer.Context,
    # readable=False disables typer's check: an unreadable file is one failed file of several, not a usage error
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", readable=False, show_default=False, help="Pictures, folders, clips, or - for stdin."
        ),
    ],
    output: Annotated[
        str | None,  # a Path would lose the trailing slash that marks a folder
        typer.Option(
            "-o", "--output", metavar="OUT", show_default="photo_lit.jpg, FOLDER_lit/",
            help="A file, a folder (inputs keep their names in it), or - for stdout.",
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    weights: options.Weights = None,
    offline: options.Offline = False,
    strength: options.Strength = 1.0,
    exposure: options.Exposure = None,
    protect_highlights: options.ProtectHighlights = True,
    gate: options.Gate = None,
    self_ensemble: options.SelfEnsemble = False,
    compare: options.Compare = False,
    exist: options.Exist = "error",
    format: options.Format = "keep",
    quality: options.Quality = None,
    bit_depth: options.BitDepth = "keep",
    strip_metadata: options.StripMetadata = False,
    strip_gps: options.StripGps = False,
    no_provenance: options.Provenance = False,
    max_pixels: options.MaxPixels = 500e6,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=options.FILES, help="Say what would be written; do nothing.")
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    compiled: options.Compile = False,
    tile: options.Tile = None,
    memory: options.Memory = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Brighten pictures: JPEG, PNG, WebP, TIFF, BMP, AVIF; HEIC, RAW and clips with an extra.

    Depth, colour profile, transparency and metadata are kept. stdout has the written paths, stderr all else.
    Options are read from the environment too: LOWLIGHT_MODEL, LOWLIGHT_DEVICE and so on.

    \b
      lowlight enhance photo.jpg                    writes photo_lit.jpg
      lowlight enhance *.jpg -o lit --exist skip    goes on where it stopped
      lowlight enhance - --format png < dark.jpg > lit.png
    """  # noqa: D301  # the backspace keeps typer from filling the lines
    start = time.perf_counter()
    from lowlight_cli.cli.clips import LeftOut, make_clips, refuse_for_clips
    from lowlight_cli.files import enhance_files
    from lowlight_cli.folders.search import chosen
    from lowlight_cli.pictures import FORMATS, READ_ONLY, suffix_of
    from lowlight_cli.targets import plan
    from lowlight_cli.video.formats import CONTAINERS, need_av

    inputs = [path for each in inputs for path in _meant(each)]
    if clips := _clips(inputs):
        refuse_for_clips(context)
        need_av()
        from lowlight_cli.video.jobs import refuse_picture

        if output and not output.endswith("/"):
            refuse_picture(Path(output))
    imported = time.perf_counter() - start
    suffix = None if format == "keep" or clips else suffix_of(format)
    formats, become = (CONTAINERS, {}) if clips else (FORMATS, READ_ONLY)
    search = chosen(on_other=(left_out := LeftOut()))
    jobs = plan(inputs, output, formats=formats, become=become, suffix=suffix, exist=exist, search=search)
    left_out.tell()
    way = saving(context.params)
    with ready(context.params) as enhancer:
        if dry_run:
            code = tell_plan(jobs, json)
        elif clips:
            from lowlight_cli.video.making import Making

            code = make_clips(enhancer, jobs, Making(compare=compare, measure=json), json, start)
        else:
            stdin = _pipes(jobs, json)
            enhancer.expect(len(jobs))
            outcomes = enhance_files(enhancer, jobs, way, stdin=stdin, max_pixels=int(max_pixels), measure=json)
            totals = Totals(enhancer, len(jobs), json, start, imported)
            totals.follow(outcomes)
            code = totals.exit_code
    if code:
        raise typer.Exit(code)


def _meant(path: Path) -> list[Path]:
    """Return the files that an input means: if there is no such file, expand `*` and `?` in it.

    The shells of Windows leave that to the program. Brackets are literal, because they occur in file names.
    """
    from lowlight_cli.targets import exists

    pattern = str(path).replace("[", "[[]")
    if exists(path) or not set(pattern) & set("*?"):
        return [path]
    return [Path(name) for name in sorted(glob.glob(pattern))] or [path]  # noqa: PTH207  # hidden files are passed


def _clips(inputs: Sequence[Path]) -> bool:
    """Whether the inputs are clips, judged by their names.

    Raises:
        UsageError: only some of them are.
    """
    from lowlight_cli.targets import is_dir
    from lowlight_cli.video.formats import is_clip

    clips = [path for path in inputs if is_clip(path) and not is_dir(path)]
    if clips and len(clips) < len(inputs):
        raise UsageError(f"{clips[0]} is a clip, other inputs are not: give clips a command of their own")
    return bool(clips)


def _pipes(jobs: Sequence[Job], json: bool) -> bytes | None:
    """Read stdin if a job needs it, after checking that stdin and stdout suit the jobs."""
    from lowlight_cli.targets import PIPE

    if jobs[0].target == PIPE:
        if json:
            raise UsageError("--json and the picture cannot share stdout: name a file with -o")
        if sys.stdout.isatty():
            raise UsageError("the picture's bytes would go to the terminal: name a file with -o, or redirect stdout")
    if jobs[0].source != PIPE:
        return None
    if sys.stdin.isatty():
        raise UsageError("- reads a picture from stdin, which is the terminal: pipe one in, or name a file")
    return sys.stdin.buffer.read()
