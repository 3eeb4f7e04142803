"""What the way of a folder costs beside the network: how much of the engine's rate `lowlight batch` keeps.

    python docs/measure_batch.py photo.jpg                       200 JPEGs of 600x400, by each engine that is installed
    python docs/measure_batch.py photo.jpg -m neid --pictures 60 --turns 3 --engine onnx
    python docs/measure_batch.py photo.jpg --engine torch --device cuda --size 1920x1080

PHOTO is reduced, and saved so many times with other noise. The same pictures go through the engine from memory, one
after the other on all cores, and through `lowlight batch`: read, exposed, enhanced, written, recorded. Both take turns;
the median of each counts, once the engine is loaded. Ends with 1 where the batch has less than `--least` of the
engine's rate.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lowlight_cli import DEFAULT_MODEL, Enhancer, heap, read
from lowlight_cli.engines import ENGINES, NEEDED, hardware
from lowlight_cli.folders.manifest import NAME


def photographs(photo: Path, count: int, size: tuple[int, int], folder: Path) -> list[Path]:
    """Write the pictures; their paths."""
    random = np.random.default_rng(0)
    codes = cv2.resize(read(photo).pixels, size, interpolation=cv2.INTER_AREA) * 255
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for path in paths:
        noisy = codes + random.normal(0, 2, codes.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return paths


def alone(model: str, engine: str, device: str, paths: list[Path]) -> float:
    """Seconds a picture of the engine, the pictures lying there."""
    ready, _ = Enhancer(model, engine=engine, device=device).load()
    pictures = [read(path).pixels[None] for path in paths]
    for picture in pictures[:2]:  # a GPU records the second of a size
        ready.run(picture)
    start = time.perf_counter()
    for picture in pictures:
        ready.run(picture)
    return (time.perf_counter() - start) / len(paths)


def batch(model: str, engine: str, device: str, folder: Path, output: Path) -> float:
    """Seconds a picture of the whole way, from the first that is done: what the manifest says."""
    shutil.rmtree(output, ignore_errors=True)
    command = ["batch", folder, "-o", output, "-m", model, "--engine", engine, "--device", device, "-q"]
    subprocess.run([sys.executable, "-m", "lowlight_cli", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (output / NAME).read_text().splitlines()]
    done = sorted(datetime.fromisoformat(line["time"]) for line in lines if not line["error"])
    return (done[-1] - done[0]).total_seconds() / (len(done) - 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("-m", "--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="600x400")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--least", type=float, default=0.9)
    args = parser.parse_args()
    heap.allow()  # as the command does
    names = args.engine or [name for name in ENGINES if hardware.installed(*NEEDED.get(name, ()))]
    print("| model | engine | pictures | engine alone, ms | batch, ms | of the rate |\n|---|---|---|---|---|---|")  # noqa: T201
    width, height = map(int, args.size.split("x"))
    kept = []
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as lit:
        paths = photographs(args.photo, args.pictures, (width, height), Path(made))
        for name in names:
            turns = [
                (
                    alone(args.model, name, args.device, paths),
                    batch(args.model, name, args.device, Path(made), Path(lit) / "lit"),
                )
                for _ in range(args.turns)
            ]
            one, whole = (statistics.median(column) * 1000 for column in zip(*turns, strict=True))
            kept.append(one / whole)
            figures = f"{one:.0f} | {whole:.0f} | {kept[-1]:.2f}"
            print(f"| `{args.model}` | {name} | {len(paths)} of {args.size} | {figures} |", flush=True)  # noqa: T201
    sys.exit(min(kept) < args.least)


if __name__ == "__main__":
    main()
