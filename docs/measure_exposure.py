"""What `--exposure auto` does: the table of models.md.

    python docs/measure_exposure.py --root sets                  held-out scenes of LOL and SICE
    python docs/measure_exposure.py --root sets photos nights    and how many pictures of folders it moves

- error: how far the mean luma is from the reference's, off and auto, the mean over pictures
- PSNR: in dB, off and auto, the mean over pictures
- moved: how many pictures auto changes, and how far the mean luma of these moves
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import Enhancer, LowlightError, read
from lowlight_cli.look import Look, exposing_gain, finish, mean_luma
from lowlight_cli.metrics.psnr import psnr
from lowlight_cli.pictures import suffixes
from lowlight_cli.training.sources import READERS, Source

Picture = NDArray[np.float32]
AUTO = Look(exposure="auto", protect_highlights=False)


def measured(enhancer: Enhancer, pairs: Iterable[tuple[Path, Path | None]]) -> list[list[float]]:
    """Of each picture: mean luma off and auto, and where there is a reference its own, and PSNR off and auto."""
    rows = []
    for low, high in pairs:
        try:
            before = read(low).pixels
        except LowlightError:
            continue
        off = enhancer.enhance_picture(before)
        gain = exposing_gain(before, off, AUTO)
        auto = off if gain == 1 else finish(before, off.copy(), AUTO, gain)
        row = [mean_luma(off), mean_luma(auto)]
        if high is not None:
            wanted = read(high).pixels
            row += [mean_luma(wanted), psnr(off, wanted), psnr(auto, wanted)]
        rows.append(row)
    return rows


def told(name: str, rows: list[list[float]]) -> str:
    """A row of the table."""
    off, auto, *reference = np.array(rows).T
    moved = np.abs(auto - off)[np.abs(auto - off) > 1e-3]
    errors = ["-"] * 4
    if reference:
        wanted, psnr_off, psnr_auto = reference
        errors = [f"{np.abs(level - wanted).mean():.3f}" for level in (off, auto)]
        errors += [f"{psnr_off.mean():.2f}", f"{psnr_auto.mean():.2f}"]
    by = f"{len(moved)} by {moved.mean():.3f}" if len(moved) else "0"
    return f"| {name} | {len(rows)} | {errors[0]} | {errors[1]} | {errors[2]} | {errors[3]} | {by} |"


def held_out(kind: str, root: Path) -> list[tuple[Path, Path | None]]:
    """The pairs that training keeps for validation, whatever their low picture is kept as."""
    rows = READERS[kind](Source(kind, (root / kind,)))
    return [(row.low, row.high) for row in rows if row.validation and row.low is not None]


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description="what --exposure auto does")
    parser.add_argument("folders", nargs="*", type=Path, help="pictures without references")
    parser.add_argument("--root", type=Path, default=Path("sets"), help="the folder above lol/ and sice/")
    parser.add_argument("-m", "--model", default="dgaf")
    given = parser.parse_args()
    enhancer = Enhancer(given.model, protect_highlights=False, offline=True)
    say("| set | pictures | error, off | auto | PSNR, off | auto | moved |\n|---|---|---|---|---|---|---|")
    for kind in ("lol", "sice"):
        say(told(f"{kind}, held out", measured(enhancer, held_out(kind, given.root))))
    for folder in given.folders:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes())
        say(told(folder.name, measured(enhancer, [(path, None) for path in files])))


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
