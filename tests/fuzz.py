"""Mutated files of every format through `read` and `encode`, in a process of its own: what tests/test_fuzz.py runs.

    python tests/fuzz.py COUNT [FIRST [KIND ...]]

COUNT mutations of each kind, made from the numbers FIRST on, so that a number names its file for good. A mutation that
hangs, or needs too much memory, ends the process; each that is met with anything but a picture or one line is told.
"""

from __future__ import annotations

import faulthandler
import random
import resource
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pictures_kit import noise, photo_of, saved, smooth, tiff
from PIL import Image

from lowlight_cli.errors import LowlightError
from lowlight_cli.pictures import encode, read

MAX_PIXELS = 1_000_000
SECONDS = 10
MEBIBYTES = 700
"""Resident at most: the interpreter with its libraries has 100, a picture of MAX_PIXELS with all its copies 200."""


def wholes() -> dict[str, tuple[str, bytes]]:
    """Kind to a suffix and a whole file."""
    from test_pictures_heic_raw import HEIC, dng
    from test_pictures_metadata import XMP, camera_exif
    from test_pictures_pages import booklet

    dark, clear = smooth() // 4, np.dstack([smooth(), smooth()[..., 0]])
    exif = b"Exif\0\0" + camera_exif(6)
    pages = [Image.fromarray(dark), Image.fromarray(smooth())]
    palette = Image.fromarray(dark).quantize(20)
    made = {
        "jpeg": (".jpg", saved(dark, "JPEG", quality=90, exif=exif, xmp=XMP, comment=b"night")),
        "progressive": (".jpg", saved(dark, "JPEG", progressive=True)),
        "cmyk": (".jpg", saved(Image.fromarray(dark).convert("CMYK"), "JPEG")),
        "mpo": (".jpg", saved(pages[0], "MPO", save_all=True, append_images=pages[1:])),
        "png": (".png", saved(clear, "PNG", exif=exif)),
        "palette": (".png", saved(palette, "PNG", transparency=3)),
        "png16": (".png", encode(photo_of(noise(20, 30, 4, np.uint16)), format="png")),
        "apng": (".png", saved(pages[0], "PNG", save_all=True, append_images=pages[1:])),
        "webp": (".webp", saved(clear, "WEBP", exif=exif[6:])),
        "webp lossless": (".webp", saved(dark, "WEBP", lossless=True)),
        "webp moving": (".webp", saved(pages[0], "WEBP", save_all=True, append_images=pages[1:])),
        "tiff": (".tif", saved(dark, "TIFF")),
        "tiff lzw": (".tif", saved(dark, "TIFF", compression="tiff_lzw")),
        "tiff jpeg": (".tif", saved(dark, "TIFF", compression="jpeg")),
        "tiff cmyk": (".tif", saved(Image.fromarray(dark).convert("CMYK"), "TIFF")),
        "tiff palette": (".tif", saved(palette, "TIFF")),
        "tiff16": (".tif", tiff(noise(20, 30, 3, np.uint16), photometric="rgb", compression="zlib", predictor=True)),
        "pages": (".tif", booklet(dark, smooth(20, 30))),
        "bigtiff": (".tif", tiff(dark, photometric="rgb", bigtiff=True, byteorder=">")),
        "bmp": (".bmp", saved(dark, "BMP")),
        "bmp palette": (".bmp", saved(palette, "BMP")),
        "avif": (".avif", saved(clear, "AVIF", exif=exif[6:])),
        "avif deep": (".avif", encode(photo_of(noise(20, 30, 4, np.uint16)), format="avif")),
        "gif": (".gif", saved(palette, "GIF")),
        "heic": (".heic", (HEIC / "turned.heic").read_bytes()),
        "heic deep": (".heic", (HEIC / "deep.heic").read_bytes()),
        "raw": (".dng", dng(np.broadcast_to(np.linspace(0.001, 0.05, 48), (32, 48)))),
    }
    missing = {each for each, package in (("heic", "pi_heif"), ("raw", "rawpy")) if not _has(package)}
    return {kind: file for kind, file in made.items() if kind.split()[0] not in missing}


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def mutated(whole: bytes, other: bytes, seed: int) -> bytes:
    """One to four changes of a file, always the same for a seed; `other` is spliced in now and then."""
    chance = random.Random(seed)
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not data:
            break
        # half of all changes fall where sizes and directories stand
        at = chance.randrange(min(len(data), 200) if chance.random() < 0.5 else len(data))
        length = chance.choice((1, 2, 4, 16, 64, 300))
        how = chance.randrange(7)
        if how == 0:
            data[at] = chance.randrange(256)
        elif how == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 2:  # the numbers that programs stumble over
            number = chance.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000))
            raw = struct.pack(chance.choice("<>") + "I", number)
            data[at : at + 4] = raw[: len(data[at : at + 4])]
        elif how == 3:
            del data[at : at + length]
        elif how == 4:
            data[at:at] = data[at : at + length]
        elif how == 5:
            data = data[: max(at, 4)]
        else:
            start = chance.randrange(len(other))
            data[at : at + length] = other[start : start + length]
    return _with_sums(data) if whole.startswith(b"\x89PNG") and chance.random() < 0.7 else bytes(data)


def _with_sums(png: bytearray) -> bytes:
    """A PNG whose chunks have right sums: else damage is found before it can do harm."""
    at = 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            break
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return bytes(png)


def faults(count: int, first: int = 0, kinds: tuple[str, ...] = ()) -> Iterator[str]:
    """What was wrong, one line each."""
    every = wholes()
    others = [data for _, data in every.values()]
    for kind, (suffix, whole) in every.items():
        if kinds and kind not in kinds:
            continue
        for seed in range(first, first + count):
            data = mutated(whole, others[seed % len(others)], seed)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            told = _fault(data, f"mutated{suffix}")
            faulthandler.cancel_dump_traceback_later()
            if told:
                yield f"{kind} {seed}: {told}"
            peak = _peak()
            if peak > MEBIBYTES:
                yield f"{kind} {seed}: {peak:.0f} MiB"
                return


def _peak() -> float:
    """The most memory that this program has had, in MiB. `ru_maxrss` would count what started it, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _fault(data: bytes, name: str) -> str:
    """What is wrong with how a file is met; empty where nothing is."""
    try:
        photo = read(data, name=name, max_pixels=MAX_PIXELS)
        if not np.isfinite(photo.pixels).all() or photo.pixels.min() < 0 or photo.pixels.max() > 1:
            return "pixels outside of [0, 1]"
        if (photo.alpha is None or photo.format not in ("jpeg", "bmp")) and len(photo.pixels):
            encode(photo)
    except LowlightError as error:
        lines = str(error)
        return "" if lines.startswith(f"{name}: ") and "\n" not in lines and len(lines) < 300 else lines
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    """See above."""
    warnings.simplefilter("error")  # as in the suite: nothing speaks to stderr behind our back
    count, first, *kinds = [*sys.argv[1:], "0"][: max(len(sys.argv) - 1, 2)]
    found = list(faults(int(count), int(first), tuple(kinds)))
    sys.stdout.write("".join(f"{line}\n" for line in found) + f"{len(found)} faults, {_peak():.0f} MiB at most\n")


if __name__ == "__main__":
    main()
