"""The check that all metrics share: integers, and some other shapes, would give a number too, but a wrong one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["refuse_unfit"]


def refuse_unfit(*pictures: NDArray[Any]) -> None:
    """Check shapes and types; values are not checked, since that would take a pass over the pixels for each metric.

    Raises:
        ValueError: a picture is not (H, W, 3) of floats, or two differ in shape.

    Example:
        >>> refuse_unfit(np.zeros((4, 4, 3), np.uint8))
        Traceback (most recent call last):
        ValueError: pictures of (H, W, 3) floats in 0 to 1 are wanted, got (4, 4, 3) of uint8
    """
    for picture in pictures:
        if picture.ndim != 3 or picture.shape[2] != 3 or not np.issubdtype(picture.dtype, np.floating):
            got = f"{picture.shape} of {picture.dtype}"
            raise ValueError(f"pictures of (H, W, 3) floats in 0 to 1 are wanted, got {got}")
    if len({picture.shape for picture in pictures}) > 1:
        shapes = " and ".join(str(picture.shape) for picture in pictures)
        raise ValueError(f"two pictures of one shape are wanted, got {shapes}")
