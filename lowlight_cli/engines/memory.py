"""How much memory a network needs a pixel and how much there is: what does not fit whole is cut into tiles."""

from __future__ import annotations

import os
import sys
from pathlib import Path
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
"""Bytes of activations a pixel, (float32, half): the highest peaks that torch's CPU build reached at 1024x1024, and
5 % more; at larger sizes they are lower, and in half precision on CPUs without matrix units, too."""

BESIDE_TORCH: Final = {"torch": (1.0, 1.0), "onnx": (1.7, 1.7), "openvino": (1.3, 1.45)}
"""What another engine takes beside torch, (float32, half): the highest ratio of peaks at 1024x1024 over networks."""

UNKNOWN: Final = (3000, 3000)
"""For a network that was not measured: as much as the hungriest."""

RESERVE: Final = 256 * 2**20
"""What the rest of the process and the system may need meanwhile, in bytes."""

COMMON: Final = 768 * 2**20
"""Bytes of an interpreter with torch, weights and a photograph of 24 megapixels."""

CGROUPS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
"""Limit, use and statistics of a container's memory, versions 2 and 1."""


def affordable(network: str, precision: str, free: int | None, engine: str = "torch") -> int:
    """How many pixels `network` can take at once in `free` bytes; as many as there are where nobody knows `free`."""
    if free is None:
        return sys.maxsize
    return max(0, free - RESERVE) // _per_pixel(network, precision, engine)


def needed(network: str, precision: str, pixels: int, engine: str = "torch") -> int:
    """How many bytes have to be free for `pixels` at once."""
    return pixels * _per_pixel(network, precision, engine) + RESERVE


def _per_pixel(network: str, precision: str, engine: str) -> int:
    half = precision != "fp32"
    return round(PER_PIXEL.get(network, UNKNOWN)[half] * BESIDE_TORCH[engine][half])


def left(budget: int | None, taken: int = 0, at_once: int = 1) -> int | None:
    """Bytes of main memory that may still be taken: what is free, within `budget` in all where there is one.

    Args:
        budget: bytes for the whole process; None is what the system has.
        taken: bytes that something else is going to take first.
        at_once: among how many it is shared.
    """
    free = available()
    if budget is not None:
        rest = budget - resident()
        free = rest if free is None else min(free, rest)
    return None if free is None else max(0, free // at_once - taken)


def resident() -> int:
    """Bytes of main memory that this process holds now; where the system does not say, what it commonly is."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return COMMON


def available() -> int | None:
    """Bytes of main memory that this process may still use; None where the system does not say."""
    free = [room for room in (_system(), *map(_container, CGROUPS)) if room is not None]
    return min(free, default=None)


def _system() -> int | None:
    """What the machine has left."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return _windows()
    try:  # macOS says only how much is built in; it hands out what caches hold
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _windows() -> int | None:
    """`ullAvailPhys` of GlobalMemoryStatusEx."""
    import ctypes

    words = (ctypes.c_ulonglong * 8)()  # two 32-bit fields, then seven of 64 bits
    ctypes.cast(words, ctypes.POINTER(ctypes.c_ulong))[0] = ctypes.sizeof(words)
    told = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(words))  # type: ignore[attr-defined,unused-ignore]
    return int(words[2]) if told else None


def _container(files: tuple[str, str, str]) -> int | None:
    """What a container's limit leaves; file caches that the kernel would give up count as left."""
    try:
        limit, used, statistics = (Path(file).read_text() for file in files)
        cached = dict(line.split() for line in statistics.splitlines()).get("inactive_file", "0")
        return max(0, int(limit) - int(used) + int(cached))
    except (OSError, ValueError):  # no container, or "max"
        return None
