"""How near tiles come to the whole picture: the table of development.md.

    python docs/measure_tiles.py photo.jpg                       every model with shipped weights
    python docs/measure_tiles.py photo.jpg -m dgaf -w FILE --tile 1024 --megapixels 2

The picture is brought to so many megapixels, run whole and in tiles, in float32, and compared:

- dB: PSNR of the tiled result against the whole one
- seam: how much more the difference of the two jumps across a seam than beside it, in grey levels, at the worst seam

What statistics of the whole are taken on has no more pixels than a tile, as when memory is short.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli import Enhancer, read, tiles
from lowlight_cli.engines import tiling
from lowlight_cli.networks import NETWORKS
from lowlight_cli.sheets import shipped

Picture = NDArray[np.float32]
BESIDE = 16
"""Rows or columns on either side of a seam that it is compared with."""


def sized(picture: Picture, megapixels: float) -> Picture:
    """The picture with so many megapixels."""
    scale = math.sqrt(megapixels * 1e6 / (picture.shape[0] * picture.shape[1]))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.clip(np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how), np.float32), 0, 1)


def worst_seam(difference: Picture, seams: list[int], axis: int) -> float:
    """The largest jump across a seam less the mean jump beside it, in grey levels."""
    jumps = np.abs(np.diff(difference, axis=axis)).mean((1 - axis, 2)) * 255
    worst = 0.0
    for seam in seams:
        near = [*range(seam - 1 - BESIDE, seam - 1), *range(seam, seam + BESIDE)]
        worst = max(worst, float(jumps[seam - 1] - np.mean([jumps[at] for at in near if 0 <= at < len(jumps)])))
    return worst


def measured(picture: Picture, model: str, weights: str | None, side: int) -> str:
    """One row of the table."""
    plain = functools.partial(Enhancer, model, weights, device="cpu", precision="fp32", protect_highlights=False)
    whole = plain(tile=0).enhance_picture(picture)
    cut: list[int] = []
    start = time.perf_counter()
    tiled = plain(tile=side).enhance_picture(picture, cut.append)
    taken = time.perf_counter() - start
    plan = tiles.plan(*picture.shape[:2], side, tiling.overlap(model), NETWORKS[model].stride)
    difference = tiled - whole
    decibel = -10 * math.log10(float((difference**2).mean()) + 1e-12)
    rows, columns = sorted({t.rows.start for t in plan} - {0}), sorted({t.columns.start for t in plan} - {0})
    seam = max(worst_seam(difference, rows, 0), worst_seam(difference, columns, 1))
    largest = float(np.abs(difference).max()) * 255
    return f"| `{model}` | {cut[-1]} | {decibel:.1f} dB | {seam:.3f} | {largest:.1f} | {taken:.0f} s |"


def put(line: str) -> None:
    """Show a line at once."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("-m", "--model", choices=NETWORKS)
    parser.add_argument("-w", "--weights", help="a tag or a file, for --model")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--megapixels", type=float, default=2)
    args = parser.parse_args()
    picture = sized(read(args.photo).pixels, args.megapixels)
    tiling.MEASURED = 0
    put(f"{picture.shape[1]}x{picture.shape[0]}, tiles of at most {args.tile}\n")
    put("| model | tiles | against the whole | worst seam | largest difference | time |")
    put("|---|---|---|---|---|---|")
    wanted = [(args.model, args.weights)] if args.model else [(each.network, each.tag) for each in shipped()[0]]
    for model, weights in wanted:
        put(measured(picture, model, weights, args.tile))


if __name__ == "__main__":
    main()
