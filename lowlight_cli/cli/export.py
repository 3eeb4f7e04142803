"""`lowlight export`: write a network with its weights as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options, report
from lowlight_cli.cli.options import ReplaceChoice
from lowlight_cli.cli.ready import left_alone
from lowlight_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["export"]


SIDE: Final = 512
"""Largest width and height of the crop taken from each picture of --pictures."""


def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE.onnx", show_default="where --engine looks",
            help="The file to write; by default the graph is stored where --engine onnx and openvino find it.",
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    weights: options.Weights = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Export in half precision, for GPUs.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Export in 8 bits, calibrated on --pictures.")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", show_default=False, help="Dark pictures to calibrate --int8 and to compare with torch."
        ),
    ] = None,
    exist: Annotated[ReplaceChoice, typer.Option(help="What to do if the file already exists.")] = "error",
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Write a network with its weights as one ONNX file, for any runtime.

    Its input takes any number of pictures of any size, (N, 3, H, W), RGB in 0 to 1. The file is compared with torch at
    five odd sizes before it is written; one that differs is refused. Prints the path of the file.

    \b
      lowlight export -m dgaf                       for `lowlight enhance --engine onnx`
      lowlight export -m frlie -o frlie.onnx
      lowlight export -m dgaf -w mine.safetensors -o mine.onnx --fp16
    """  # noqa: D301  # the backspace keeps typer from filling the lines
    if fp16 and int8:
        raise UsageError("--fp16 and --int8 exclude each other")
    if int8 and not pictures:
        raise UsageError("--int8 is calibrated on pictures: name a folder of dark ones with --pictures")
    if (fp16 or int8) and not output:
        raise UsageError("name the file with -o FILE.onnx: engines on a CPU use graphs in fp32")
    if output and output.suffix.lower() != ".onnx":
        raise UsageError(f"{output} is not a name for an ONNX file: end it with .onnx")
    if output and left_alone(output, exist, "exported", json):
        return
    from lowlight_cli import disk, files
    from lowlight_cli.engines import cache
    from lowlight_cli.engines import export as exporting
    from lowlight_cli.weights import fetch

    if output is None:
        cache.refuse_unwritable()
    elif output.is_dir():
        raise OutputError(f"{output} is a folder; choose another name")
    else:
        files.refuse_unwritable(output)
    precision = "fp16" if fp16 else "int8" if int8 else "fp32"
    with report.transfer(f"weights of {model}") as moved:
        resolved = fetch.resolve(model, weights, offline=offline, on_message=report.note, on_progress=moved)
    seen = _read(pictures) if pictures else []
    made = exporting.exported(model, resolved, precision, seen)
    if output is None:
        output = cache.keep(made.data, model, resolved.sha256, precision)
    else:
        with disk.replaced(output) as part:
            part.write_bytes(made.data)
    off = made.difference
    if json:
        told = {"status": "done", "output": output, "model": model, "weights": resolved.sha256, "precision": precision}
        levels = {"largest": off.largest, "mean": off.mean, "sizes": len(exporting.SIZES), "pictures": len(seen)}
        report.event("exported", {**told, "bytes": len(made.data), "difference": levels})
    else:
        report.path(output)
    tried = f"at {len(exporting.SIZES)} sizes" + (f" and {len(seen)} of --pictures" if seen else "")
    report.note(
        f"{precision}, {len(made.data) / 1e6:.1f} MB; from torch's fp32 {tried}: {off.largest:.4f} grey levels "
        f"at most, {off.mean:.4f} on average"
    )


def _read(folder: Path) -> list[NDArray[np.float32]]:
    """Read centre crops of the first `PICTURES` pictures in a folder and its subfolders."""
    from lowlight_cli.engines.export import PICTURES
    from lowlight_cli.folders.search import chosen
    from lowlight_cli.pictures import FORMATS, read

    if not folder.is_dir():
        raise UsageError(f"--pictures {folder} is not a folder")
    found = sorted(chosen()(folder, FORMATS, folder))
    if not found:
        raise UsageError(f"--pictures {folder} holds no picture")
    return [_middle(read(path).pixels) for path in found[:PICTURES]]


def _middle(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crop the centre to at most `SIDE` pixels a side, because torch and the graph run it whole, in float32."""
    top, left = (max(0, length - SIDE) // 2 for length in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]
