"""Try everything that is installed, and report whether it works: the checks of `lowlight doctor`.

A check is one line. Something optional that is missing here (a GPU, bf16) is no fault; something installed that does
not work is one, and carries the exit code that `lowlight enhance` would end with.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

import lowlight_cli
from lowlight_cli import disk, engines
from lowlight_cli.engines import hardware
from lowlight_cli.errors import DeviceError, LowlightError, OutputError, WeightsError, first_line
from lowlight_cli.weights import fetch
from lowlight_cli.weights.catalog import Checkpoint, catalog

if TYPE_CHECKING:
    from lowlight_cli.engines import Engine
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["Check", "checks"]

Picture = NDArray[np.float32]

HEIGHT: Final = 61
WIDTH: Final = 83
"""Size of the test picture: odd, as a photograph's may be, because some devices refuse sizes that nothing divides."""

TOLERANCE: Final = 2.0
"""Largest mean difference from the CPU's float32 for a device or precision, in grey levels of 255. Half precision stays
below 0.5 on every network (tests/test_networks.py); a device that computes wrongly is off by tens."""

PACKAGES: Final = ("torch", "numpy", "PIL", "cv2", "safetensors", "huggingface_hub")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        found: what was found, or what went wrong.
        exit_code: 0, or the error's.
    """

    name: str
    found: str
    exit_code: int = 0


def checks(*, offline: bool = False) -> Iterator[Check]:
    """Run all checks, quick ones first. Never uses the network.

    Args:
        offline: whether `--offline` was given; only reported.
    """
    yield Check("lowlight", lowlight_cli.__version__)
    yield Check("python", f"{platform.python_version()} on {platform.platform(terse=True)}, {os.cpu_count()} CPUs")
    packages = hardware.versions(*PACKAGES)
    yield Check("packages", ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items()))
    yield _cache()
    yield Check("network", f"not used: {reason}" if (reason := fetch.offline_reason(offline)) else "may be used")
    yield from _weights()


def _weights() -> Iterator[Check]:
    """Try each shipped checkpoint on the CPU, then the default model's on every device and engine."""
    from lowlight_cli.engines import pytorch  # a slow import; the earlier checks are already on the screen

    devices = pytorch.devices()
    yield Check("devices", ", ".join(devices))
    yield Check("bf16 on the CPU", "computed in hardware" if pytorch.cpu_bf16() else "not in hardware, float32 is used")
    try:
        shipped = [checkpoint for checkpoint in catalog() if checkpoint.file]
    except LowlightError as error:
        yield Check("weights", str(error), error.exit_code)
        return
    if not shipped:
        yield Check("weights", "none are shipped with this installation", WeightsError.exit_code)
    picture = _picture()
    ran: dict[str, tuple[Checkpoint, Resolved, Picture]] = {}
    for checkpoint in shipped:
        try:
            resolved = fetch.resolve(checkpoint.network, checkpoint.tag, offline=True)
            bright = _tried(engines.load(checkpoint.network, resolved, device="cpu", precision="fp32"), picture)
        except LowlightError as error:
            yield Check(checkpoint.name, str(error), error.exit_code)
        else:
            yield Check(checkpoint.name, f"loads and runs {WIDTH}x{HEIGHT}")
            ran.setdefault(checkpoint.network, (checkpoint, resolved, bright))
    if not ran:
        return
    checkpoint, resolved, expected = ran.get(lowlight_cli.DEFAULT_MODEL) or next(iter(ran.values()))
    for device in devices:
        name = f"{checkpoint.name} on {device}"
        try:
            engine = engines.load(checkpoint.network, resolved, device=device)
            check = _judged(name, engine, picture, expected, "the CPU's fp32")
        except LowlightError as error:
            check = Check(name, str(error), error.exit_code)
        except RuntimeError as error:  # the device accepts the network but fails on the picture
            check = Check(name, f"it does not work ({first_line(error)}), do not use it", DeviceError.exit_code)
        yield check
    for engine_name in engines.NEEDED:
        yield from _engine(engine_name, checkpoint, resolved, picture, expected)


def _engine(
    name: str, checkpoint: Checkpoint, resolved: Resolved, picture: Picture, expected: Picture
) -> Iterator[Check]:
    """Try a runtime on each of its devices: with the checkpoint's graph if one is cached, else a one-node graph."""
    lacking = [package for package in engines.NEEDED[name] if not hardware.installed(package)]
    if lacking:
        yield Check(f"engine {name}", f"not installed ({', '.join(lacking)}): pip install 'lowlight-cli[cpu]'")
        return
    module = engines.prepare(name)
    for device in module.devices():
        told = f"engine {name} on {device}"
        try:
            module.attempt(device)
            if not engines.has_graph(checkpoint.network, name, resolved.sha256):
                yield Check(told, f"runs; `lowlight export -m {checkpoint.network}` makes the graph that it needs")
                continue
            engine = engines.load(checkpoint.network, resolved, engine=name, device=device)
            check = _judged(told, engine, picture, expected, "torch's fp32")
        except LowlightError as error:
            check = Check(told, str(error), error.exit_code if device == "cpu" else 0)  # a GPU is optional
        yield check


def _judged(name: str, engine: Engine, picture: Picture, expected: Picture, reference: str) -> Check:
    """Compare an engine's result with the expected one; beyond `TOLERANCE` the engine computes wrongly."""
    bright = _tried(engine, picture)
    if engine.device.startswith("cuda"):  # from the second picture of a size on, torch replays a recorded CUDA graph
        bright = _tried(engine, picture)
    off = float(np.abs(bright - expected).mean() * 255)
    told = f"{engine.precision}, {off:.2f} grey levels from {reference}"
    if off > TOLERANCE:
        return Check(name, f"{told}: it computes wrongly, do not use it", DeviceError.exit_code)
    return Check(name, told)


def _tried(engine: Engine, picture: Picture) -> Picture:
    """Run the engine on the picture; raise WeightsError if the result is not a picture."""
    bright = engine.run(picture)
    if bright.shape != picture.shape or not np.isfinite(bright).all() or float(np.ptp(bright)) == 0:
        raise WeightsError(f"{engine.device} gives no picture with these weights")
    return bright


def _picture() -> Picture:
    """A dim gradient with noise, always the same: (1, HEIGHT, WIDTH, 3)."""
    slope = np.linspace(0.02, 0.3, WIDTH, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 0.01, (1, HEIGHT, WIDTH, 3)).astype(np.float32)
    picture: Picture = np.clip(slope[None, None, :, None] + noise, 0, 1)
    return picture


def _cache() -> Check:
    """Whether fetched weights can be kept."""
    folder = fetch.cache_folder()
    if disk.takes_files(folder):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return Check("cache", f"{folder} ({size / 1e6:.1f} MB)")
    return Check("cache", f"{folder} cannot be written to: set LOWLIGHT_CACHE", OutputError.exit_code)
