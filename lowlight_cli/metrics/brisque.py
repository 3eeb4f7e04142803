"""BRISQUE: how distorted a picture looks, without a reference, by the package of that name. Less is better.

Mittal, Moorthy, Bovik: No-reference image quality assessment in the spatial domain, TIP 2012. The package carries the
model, trained on people's opinions of compressed, blurred and noisy photographs.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import DeviceError

__all__ = ["HINT", "brisque", "here"]

HINT: Final = "pip install brisque, which compiles a part of itself"


def brisque(x: NDArray[np.floating]) -> float:
    """Of (H, W, 3) in [0, 1]; about 0, good, to 100, bad.

    Raises:
        DeviceError: the package is not installed.
    """
    return float(_model().score(np.rint(x * 255).astype(np.uint8)))


def here() -> bool:
    """Whether the package and the library that it stands on are installed."""
    return all(importlib.util.find_spec(name) for name in ("brisque", "libsvm", "requests"))


@functools.cache
def _model() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that SciPy is about to move
            from brisque import BRISQUE

            return BRISQUE(url=False)
    except ImportError as error:
        raise DeviceError(f"BRISQUE is not available: {HINT}") from error
