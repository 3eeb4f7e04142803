"""What OpenCV reads and Pillow does not: 16 bits a sample."""

from __future__ import annotations

import numpy as np

from lowlight_cli.pictures.photo import Codes

__all__ = ["decode"]


def decode(data: bytes) -> Codes | None:
    """(H, W) or (H, W, C) uint16, BGR; None where OpenCV reads nothing, or fewer bits. Nothing goes to stderr."""
    import cv2  # most files need it for nothing

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # callers say what is wrong, or go on
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    return decoded.astype(np.uint16, copy=False) if decoded is not None and decoded.dtype == np.uint16 else None
