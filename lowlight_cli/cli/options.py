"""The options that commands share, each defined once: names, help, range, environment variable, panel.

Each is also read from LOWLIGHT_NAME. `-q`, `-v` and `--debug` set the level of `report` while the command line is
parsed; a command only has to declare them.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Annotated, Any, Final, Literal

import typer

from lowlight_cli.cli import report
from lowlight_cli.engines import SMALLEST_SIDE
from lowlight_cli.networks import NETWORKS

__all__ = [
    "BitDepth", "Compare", "Compile", "Debug", "Device", "Engine", "Exist", "Exposure", "Format", "Gate", "Json",
    "MaxPixels", "Memory", "Model", "Offline", "Precision", "ProtectHighlights", "Provenance", "Quality", "Quiet",
    "ReplaceChoice", "SelfEnsemble", "Strength", "StripGps", "StripMetadata", "Tile", "Verbose", "Weights",
]  # fmt: skip

# The panels of --help, which group related options.
MODEL: Final = "Model"
LOOK: Final = "Look"
FILES: Final = "Files"
MACHINE: Final = "Machine"
MESSAGES: Final = "Messages"


# The variable names would clutter the panels; the help of a command states the naming rule in one line.
_option = functools.partial(typer.Option, show_envvar=False)

# ----------------------------------------------------------------------------------------------------------- model


def _complete_model(incomplete: str) -> list[tuple[str, str]]:
    """Return names and strengths for shell completion, without importing torch."""
    return [(d.name, d.good_at) for d in NETWORKS.values() if d.name.startswith(incomplete)]


Model = Annotated[
    str,
    _option(
        "-m", "--model", metavar="NAME", envvar="LOWLIGHT_MODEL", autocompletion=_complete_model, rich_help_panel=MODEL,
        help="Which network; `lowlight models` tells them apart.",
    ),
]  # fmt: skip
Weights = Annotated[
    str | None,
    _option(
        "-w", "--weights", metavar="TAG|FILE|hf://...|https://...", envvar="LOWLIGHT_WEIGHTS", rich_help_panel=MODEL,
        help="Other weights than the model's own: a tag of `lowlight weights list`, a file, "
        "hf://org/repo/file@revision, https://...#sha256=HASH.",
    ),
]  # fmt: skip
Offline = Annotated[
    bool,
    _option(
        "--offline", envvar=["LOWLIGHT_OFFLINE", "HF_HUB_OFFLINE"], rich_help_panel=MODEL,
        help="Never use the network, not even for weights that were asked for.",
    ),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------------------ look

Strength = Annotated[
    float,
    _option(
        "--strength", min=0.0, max=1.0, metavar="0..1", envvar="LOWLIGHT_STRENGTH", rich_help_panel=LOOK,
        help="How much of the change to keep: 0 is the input, 1 the whole of it.",
    ),
]  # fmt: skip


def _exposure(text: str) -> float | str | None:
    """Parse --exposure: `auto` stays, `off` becomes None, else the wanted mean."""
    if text in ("auto", "off"):
        return "auto" if text == "auto" else None
    return _number(text, 0.2, 0.8, "auto, off")


def _gate(text: str) -> float | None:
    """Parse --gate: `off` becomes None, else the threshold."""
    return None if text == "off" else _number(text, 0.0, 1.0, "off")


def _number(text: str, low: float, high: float, word: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise typer.BadParameter(f"{text!r} is neither {word} nor a number from {low:g} to {high:g}")
    return value


Exposure = Annotated[
    Any,  # typer does not support unions
    _option(
        "--exposure", metavar="auto|off|0.2..0.8", parser=_exposure, envvar="LOWLIGHT_EXPOSURE", show_default="off",
        rich_help_panel=LOOK,
        help="Mean brightness of the result; off leaves it to the model, auto corrects what is too dark or bright.",
    ),
]  # fmt: skip
Gate = Annotated[
    float | None,
    _option(
        "--gate", metavar="off|0..1", parser=_gate, envvar="LOWLIGHT_GATE", show_default="off", rich_help_panel=LOOK,
        help="Do not brighten pictures that are already this bright on average.",
    ),
]  # fmt: skip
ProtectHighlights = Annotated[
    bool,
    _option(
        "--protect-highlights/--no-protect-highlights", envvar="LOWLIGHT_PROTECT_HIGHLIGHTS", rich_help_panel=LOOK,
        help="Keep detail that would turn white or pale, such as skies, windows and signs.",
    ),
]  # fmt: skip
SelfEnsemble = Annotated[
    bool,
    _option(
        "--self-ensemble", envvar="LOWLIGHT_SELF_ENSEMBLE", rich_help_panel=LOOK,
        help="Take the mean over eight flips and turns: a little better, eight times the work.",
    ),
]  # fmt: skip
Compare = Annotated[
    bool,
    _option(
        "--compare", envvar="LOWLIGHT_COMPARE", rich_help_panel=LOOK,
        help="Write input and result side by side, with labels, in place of the result.",
    ),
]  # fmt: skip

# ----------------------------------------------------------------------------------------------------------- files

ReplaceChoice = Literal["error", "skip", "overwrite"]
"""What to do if the output of a command exists, for outputs that cannot be numbered; `Exist` for the others."""

Exist = Annotated[
    Literal["error", "skip", "overwrite", "number"],  # targets.EXIST
    _option(
        "--exist",
        envvar="LOWLIGHT_EXIST",
        rich_help_panel=FILES,
        help="What to do if the output already exists.",
    ),
]
Format = Annotated[
    str,
    _option(
        "--format", metavar="keep|jpg|png|webp|tiff|bmp|avif", envvar="LOWLIGHT_FORMAT", rich_help_panel=FILES,
        help="The kind of file to write; keep follows the input, or the suffix of -o.",
    ),
]  # fmt: skip
Quality = Annotated[
    int | None,
    _option(
        "--quality", min=1, max=100, metavar="1..100", envvar="LOWLIGHT_QUALITY", rich_help_panel=FILES,
        show_default="the input's", help="Quality of JPEG, WebP and AVIF files.",
    ),
]  # fmt: skip
BitDepth = Annotated[
    Literal["keep", "8", "16"],
    _option("--bit-depth", envvar="LOWLIGHT_BIT_DEPTH", rich_help_panel=FILES, help="Bits per sample."),
]
StripMetadata = Annotated[
    bool,
    _option(
        "--strip-metadata", envvar="LOWLIGHT_STRIP_METADATA", rich_help_panel=FILES,
        help="Write no EXIF, XMP or text; the colour profile stays.",
    ),
]  # fmt: skip
StripGps = Annotated[
    bool,
    _option(
        "--strip-gps",
        envvar="LOWLIGHT_STRIP_GPS",
        rich_help_panel=FILES,
        help="Remove the location from the metadata; keep the rest.",
    ),
]
Provenance = Annotated[
    bool,
    _option(
        "--no-provenance", envvar="LOWLIGHT_NO_PROVENANCE", rich_help_panel=FILES,
        help="Do not record in the file which model enhanced it.",
    ),
]  # fmt: skip
MaxPixels = Annotated[
    float,
    _option(
        "--max-pixels", min=1, max=1e12, metavar="N", show_default="500e6", envvar="LOWLIGHT_MAX_PIXELS",
        rich_help_panel=FILES, help="Refuse a picture of more pixels before it is decoded.",
    ),
]  # fmt: skip

# --------------------------------------------------------------------------------------------------------- machine

Device = Annotated[
    str,
    _option(
        "--device", metavar="auto|cpu|cuda[:N[,M]]|mps|tensorrt[:N]", envvar="LOWLIGHT_DEVICE", rich_help_panel=MACHINE,
        help="Where to compute. A device that is named and missing is an error, not a slow surprise.",
    ),
]  # fmt: skip
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],  # engines.PRECISIONS
    _option(
        "--precision", envvar="LOWLIGHT_PRECISION", rich_help_panel=MACHINE,
        help="What to compute in; auto is the fastest that is safe.",
    ),
]  # fmt: skip
Engine = Annotated[
    str,
    _option(
        "--engine", metavar="auto|torch|onnx|openvino", envvar="LOWLIGHT_ENGINE", rich_help_panel=MACHINE,
        help="What runs the network; auto is the fastest that is installed and ready.",
    ),
]  # fmt: skip
Compile = Annotated[
    bool,
    _option(
        "--compile", envvar="LOWLIGHT_COMPILE", rich_help_panel=MACHINE,
        help="On an NVIDIA GPU, compile for sizes that come again: half a minute each, then up to twice as fast.",
    ),
]  # fmt: skip


def _tile(text: str) -> int | None:
    """Parse --tile: `auto` becomes None, `off` becomes 0, else pixels."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not text.isdecimal() or int(text) < SMALLEST_SIDE:
        raise typer.BadParameter(f"{text!r} is neither auto, off nor a number from {SMALLEST_SIDE}")
    return int(text)


def _memory(text: str) -> int | None:
    """Parse --memory: `auto` becomes None; `4GB`, `512MB`, `4GiB` or a plain number (small ones are refused) bytes."""
    if text == "auto":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(i?)b?|b)?", text.strip(), re.IGNORECASE)
    unit = (1024 if found[3] else 1000) ** " kmgt".index((found[2] or " ").lower()) if found else 0
    if not found or (size := int(float(found[1]) * unit)) < 1:
        raise typer.BadParameter(f"{text!r} is neither auto nor a size such as 4GB, 512MB or 4GiB")
    if not found[2] and size < 1e6:
        raise typer.BadParameter(f"{text} is {size} bytes: did you mean {found[1]}{'GB' if size < 128 else 'MB'}?")
    return size


Tile = Annotated[
    int | None,
    _option(
        "--tile", metavar="auto|off|N", parser=_tile, envvar="LOWLIGHT_TILE", show_default="auto",
        rich_help_panel=MACHINE,
        help="Cut pictures into tiles: auto if memory is short, off never, N at most N pixels a side, 384 or more.",
    ),
]  # fmt: skip
Memory = Annotated[
    int | None,
    _option(
        "--memory", metavar="auto|SIZE", parser=_memory, envvar="LOWLIGHT_MEMORY", show_default="what is free",
        rich_help_panel=MACHINE, help="Most memory to use in total, such as 4GB; on a GPU, of the GPU's memory.",
    ),
]  # fmt: skip

# -------------------------------------------------------------------------------------------------------- messages


def _quiet(on: bool) -> bool:
    if on:
        report.set_level(report.Level.QUIET)
    return on


def _verbose(on: bool) -> bool:
    if on:
        report.set_level(max(report.level(), report.Level.VERBOSE))
    return on


def _debug(on: bool) -> bool:
    if on:
        report.set_level(report.Level.DEBUG)
    return on


Json = Annotated[
    bool,
    _option(
        "--json",
        envvar="LOWLIGHT_JSON",
        rich_help_panel=MESSAGES,
        help="JSON on stdout instead of text.",
    ),
]
Quiet = Annotated[
    bool,
    _option(
        "-q",
        "--quiet",
        callback=_quiet,
        envvar="LOWLIGHT_QUIET",
        rich_help_panel=MESSAGES,
        help="Show errors only.",
    ),
]
Verbose = Annotated[
    bool,
    _option(
        "-v", "--verbose", callback=_verbose, envvar="LOWLIGHT_VERBOSE", rich_help_panel=MESSAGES,
        help="Also show what was chosen and where the time went.",
    ),
]  # fmt: skip
Debug = Annotated[
    bool,
    _option(
        "--debug", callback=_debug, envvar="LOWLIGHT_DEBUG", rich_help_panel=MESSAGES,
        help="As -v, with a traceback for errors.",
    ),
]  # fmt: skip
