"""Find out what this machine has without importing torch, so that choosing an engine is quick."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

__all__ = ["bf16", "cores", "every_core", "gpu", "installed", "versions"]


def bf16() -> bool | None:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); None if the system does not say."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return None
    return "avx512_bf16" in words or "amx_bf16" in words


def cores() -> int:
    """Number of CPU cores to use: OMP_NUM_THREADS if set, as the runtimes do, else `every_core`."""
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(threads):
        return int(threads)
    return every_core()


def every_core() -> int:
    """Number of cores that the system lets this process use, whatever OMP_NUM_THREADS says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu() -> bool:
    """Whether torch may find a GPU: on any Mac, with a CUDA driver if torch is built for CUDA, or if built for ROCm."""
    if sys.platform == "darwin":
        return True
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        told = Path(found.origin).with_name("version.py").read_text("utf-8")
        built = re.findall(r"^(cuda|hip)\b[^=]*= *['\"]", told, re.MULTILINE)
    except OSError:  # torch is bundled into an executable
        built = ["cuda"]
    if "hip" in built:
        return True
    if "cuda" not in built:
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def installed(*packages: str) -> bool:
    """Whether all of these packages can be found, without importing them."""
    return all(importlib.util.find_spec(package) for package in packages)


def versions(*modules: str) -> dict[str, str | None]:
    """Versions of the distributions that provide the given modules, by distribution name, such as `pillow` for `PIL`.

    The distribution is looked up because it may differ (`onnxruntime` also comes from `onnxruntime-gpu`). A module
    without a known distribution is listed under its own name, with None.
    """
    owners, found = packages_distributions(), dict[str, str | None]()
    for module in modules:
        for name in owners.get(module, ()):
            found[re.sub(r"[-_.]+", "-", name).lower()] = version(name)
        if module not in owners:
            found[module] = None
    return found
