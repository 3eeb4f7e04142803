"""What photographs of any size need: the highest resident memory and the seconds of `lowlight enhance`, of every model.

    python docs/measure_memory.py photo.jpg                      every model with shipped weights, 24 and 100 megapixels
    python docs/measure_memory.py photo.jpg -m dgaf --megapixels 0.1 1 10 100 --memory 4GB --device cpu

Each photograph is PHOTO brought to that size, a JPEG; each run is a process of its own, as its users start it. The
memory is `ru_maxrss`, all that the process ever held at once. A run above the budget or that fails makes it end with
1. The seconds are those of the whole command, and those of the network alone; for photographs below `SMALL`, of a
second one of that size, since a first one waits for libraries to choose their ways. Of several sizes it tells how the
network's seconds grow with the pixels: as their power of so much, by least squares of the logarithms.
Only where the system has wait4: Linux, macOS.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lowlight_cli import read
from lowlight_cli.cli.options import _memory as size
from lowlight_cli.networks import NETWORKS
from lowlight_cli.sheets import shipped

SMALL = 4.0
"""Megapixels below which two photographs are made."""


def made(photo: Path, megapixels: float, target: Path) -> tuple[int, int]:
    """As `enlarged`, in a process of its own: `ru_maxrss` counts what the process held that a command came from."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(enlarged, (photo, megapixels, target))


def enlarged(photo: Path, megapixels: float, target: Path) -> tuple[int, int]:
    """Write the photograph with so many megapixels; its width and height."""
    pixels = read(photo).pixels
    scale = (megapixels * 1e6 / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    codes = cv2.resize((pixels * 255).round().astype("uint8"), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    Image.fromarray(codes).save(target, quality=92)
    return int(codes.shape[1]), int(codes.shape[0])


def run(arguments: list[str]) -> tuple[int, float, float, dict[str, Any]]:
    """Exit code, seconds, resident MiB at most, and what was told of the last file."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        code = "from lowlight_cli.cli.app import main; main()"
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=told)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        lines = [line for line in map(json.loads, told.read().splitlines()) if line["event"] == "file"]
    seconds = time.perf_counter() - start
    kibibyte = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return process.returncode, seconds, usage.ru_maxrss * kibibyte / 2**20, lines[-1] if lines else {}


def put(line: str) -> None:
    """Show a line at once."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("-m", "--model", choices=NETWORKS, action="append")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[24, 100])
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    budget, good = (size(args.memory) or 0) / 2**20, True
    put("| model | picture | tiles | resident at most | of the budget | seconds | of the network |")
    put("|---|---|---|---|---|---|---|")
    grown: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in args.megapixels:
            photos, lit = [Path(folder, "photo.jpg")], Path(folder, "lit")
            width, height = made(args.photo, megapixels, photos[0])
            if megapixels < SMALL:
                photos.append(Path(shutil.copy(photos[0], Path(folder, "again.jpg"))))
            for model in args.model or [each.network for each in shipped()[0]]:
                options = ["-m", model, "--memory", args.memory, "--device", args.device, "--exist", "overwrite"]
                code, seconds, peak, told = run(
                    ["enhance", *map(str, photos), "-o", str(lit), "--json", "-q", *options]
                )
                good = good and code == 0 and peak <= budget
                tiles = told.get("tiles", f"exit {code}")
                alone = told["seconds"]["run"] if code == 0 else np.nan
                grown.setdefault(model, []).append((width * height, alone))
                row = f"{width}x{height} | {tiles} | {peak / 1024:.2f} GiB | {peak / budget:.0%}"
                put(f"| `{model}` | {row} | {seconds:.1f} | {alone:.2f} |")
    for model, points in grown.items():
        if len(points) > 1:
            pixels, times = np.log(points).T
            power, _ = np.polyfit(pixels, times, 1)
            put(f"{model}: seconds of the network grow as the pixels to the power of {power:.3f}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
