"""Estimate how much memory a network needs per pixel, and how much is free: larger pictures are cut into tiles."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["affordable", "available", "left", "needed", "resident"]

PER_PIXEL: Final = {
    "dgaf": (240, 250),
    "neid": (450, 290),
    "lw-drgn": (630, 450),
    "frlie": (700, 760),
    "drgn": (1800, 1050),
    "jcrnet": (2850, 1450),
}
"""Bytes of activations per pixel, (float32, half): the highest peaks of torch's CPU build at 1024x1024, plus 5 %. They
are lower at larger sizes, and in half precision on CPUs without matrix units."""

ON_GPU: Final = {
    "dgaf": (140, 90),
    "neid": (540, 220),
    "lw-drgn": (780, 300),
    "frlie": (910, 490),
    "drgn": (1500, 980),
    "jcrnet": (3810, 1430),
}
"""The same for torch on a GPU, cuDNN's workspaces included."""

BESIDE_TORCH: Final = {"torch": (1.0, 1.0), "onnx": (1.7, 1.7), "openvino": (1.3, 1.45)}
"""Memory of each engine relative to torch, (float32, half): the highest ratio of peaks at 1024x1024 over networks."""

UNKNOWN: Final = (4000, 3000)
"""Bytes per pixel for a network that was not measured: more than the largest above."""

RESERVE: Final = 256 * 2**20
"""Bytes left for the rest of the process and the system."""

COMMON: Final = 768 * 2**20
"""Bytes of a typical process: the interpreter with torch, weights and a 24-megapixel photograph."""

CGROUPS: Final = Path("/sys/fs/cgroup")

LISTING: Final = Path("/proc/self/cgroup")
"""This process's cgroups, one a line: a number, controllers, path; version 2's has no controllers (`man 7 cgroups`)."""

LIMITS: Final = {
    "": ("", "memory.max", "memory.current"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""By controller, for versions 2 and 1: the folder in `CGROUPS`, and a cgroup's files with its limit and its use."""


def affordable(network: str, precision: str, free: int | None, engine: str = "torch") -> int:
    """Number of pixels that `network` can process at once in `free` bytes; unlimited if `free` is None (unknown).

    Args:
        network: its name.
        precision: what it runs in.
        free: bytes.
        engine: the name of the engine, or `cuda` for torch on a GPU.
    """
    if free is None:
        return sys.maxsize
    return max(0, free - RESERVE) // _per_pixel(network, precision, engine)


def needed(network: str, precision: str, pixels: int, engine: str = "torch") -> int:
    """Number of bytes that must be free to process `pixels` at once."""
    return pixels * _per_pixel(network, precision, engine) + RESERVE


def _per_pixel(network: str, precision: str, engine: str) -> int:
    half = precision != "fp32"
    if engine == "cuda":
        return ON_GPU.get(network, UNKNOWN)[half]
    return round(PER_PIXEL.get(network, UNKNOWN)[half] * BESIDE_TORCH[engine][half])


def left(budget: int | None, taken: int = 0, at_once: int = 1) -> int | None:
    """Bytes of main memory that may still be used: what is free, limited by the rest of `budget`; None if unknown.

    Args:
        budget: bytes for the whole process; None means no limit but the system's.
        taken: bytes that will be used first for something else.
        at_once: number of threads that share the memory.
    """
    free = available()
    if budget is not None:
        rest = budget - resident()
        free = rest if free is None else min(free, rest)
    return None if free is None else max(0, free // at_once - taken)


def resident() -> int:
    """Bytes of main memory that this process uses now; `COMMON` if the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return COMMON


def available() -> int | None:
    """Bytes of main memory free for this process; None if the system does not say."""
    free = [room for room in (_system(), *_groups()) if room is not None]
    return min(free, default=None)


def _system() -> int | None:
    """Bytes of memory that the machine has available; its total memory if that is all it tells; None if unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return _windows()
    try:  # macOS reports only the total; memory held by its caches is handed out on demand
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _windows() -> int | None:
    """Bytes of memory available on Windows: `ullAvailPhys` of GlobalMemoryStatusEx."""
    import ctypes

    words = (ctypes.c_ulonglong * 8)()  # two 32-bit fields, then seven of 64 bits
    ctypes.cast(words, ctypes.POINTER(ctypes.c_ulong))[0] = ctypes.sizeof(words)
    told = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(words))  # type: ignore[attr-defined,unused-ignore]
    return int(words[2]) if told else None


def _groups() -> Iterator[int | None]:
    """Yield the bytes left below the limits of this process's cgroup and of those around it; None without a limit."""
    try:
        lines = os.fsdecode(LISTING.read_bytes()).splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for kind in LIMITS.keys() & set(controllers.split(",")):
            top, *files = LIMITS[kind]
            inner = PurePosixPath(path)
            for group in (inner, *inner.parents):
                yield _container(CGROUPS.joinpath(top, *group.parts[1:]), *files)


def _container(group: Path, limit: str, used: str) -> int | None:
    """Bytes left below a cgroup's limit, counting reclaimable file cache as free; None without a limit."""
    try:
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # version 2 counts the cgroups inside this one anyway, version 1 only in its totals
        cached = statistics.get("total_inactive_file", statistics.get("inactive_file", "0"))
        return max(0, int((group / limit).read_text()) - int((group / used).read_text()) + int(cached))
    except (OSError, ValueError):  # no container, or "max"
        return None
