"""Decode samples of more than 8 bits with OpenCV, where Pillow does not read them in full."""

from __future__ import annotations

import numpy as np

from lowlight_cli.pictures.photo import Codes

__all__ = ["decode"]


def decode(data: bytes) -> Codes | None:
    """(H, W) or (H, W, C) uint16, BGR; None if OpenCV cannot read the data or reads 8 bits. Nothing goes to stderr."""
    import cv2  # imported here because most files do not need it

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # callers report errors, or go on without OpenCV
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    return decoded.astype(np.uint16, copy=False) if decoded is not None and decoded.dtype == np.uint16 else None
