"""Fit our own model of good photographs for NIQE: lowlight_cli/metrics/niqe_own.npz.

    python docs/fit_niqe.py sets/bright

FOLDER holds well-lit photographs. Each is brought to half its size first, which takes away most of what its codec did.
What is stored are 36 means and their covariances, nothing of a picture. The result is printed beside NIQE as "own fit".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from lowlight_cli.metrics import niqe
from lowlight_cli.pictures import FORMATS, read


def main() -> None:
    """Read, halve, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=niqe.OWN)
    given = parser.parse_args()
    files = [path for path in sorted(given.folder.iterdir()) if path.suffix.lower() in FORMATS]
    pictures = [cv2.resize(read(path).pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for path in files]
    model = niqe.fit(pictures)
    np.savez_compressed(given.output, mean=model.mean, covariance=model.covariance)
    sys.stdout.write(f"{len(files)} pictures: {given.output}, {given.output.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
