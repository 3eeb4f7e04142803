"""What this machine has, found out without importing torch: so that choosing an engine costs nothing."""

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
    """Whether the CPU multiplies bfloat16 itself (AVX-512 BF16 or AMX); None where the system does not say."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return None
    return "avx512_bf16" in words or "amx_bf16" in words


def cores() -> int:
    """How many of the CPU's cores this process may use; OMP_NUM_THREADS is heeded, as the runtimes do."""
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(threads):
        return int(threads)
    return every_core()


def every_core() -> int:
    """How many cores the system lets this process use, whatever OMP_NUM_THREADS says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu() -> bool:
    """Whether torch may find a GPU here: Apple's, one with a driver for CUDA, or any where torch is built for ROCm."""
    if sys.platform == "darwin":
        return True
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        told = Path(found.origin).with_name("version.py").read_text("utf-8")
        built = re.findall(r"^(cuda|hip)\b[^=]*= *['\"]", told, re.MULTILINE)
    except OSError:  # packed into a program
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
    """Whether all of these can be imported, without doing so."""
    return all(importlib.util.find_spec(package) for package in packages)


def versions(*modules: str) -> dict[str, str | None]:
    """Versions of the distributions that modules come from, by name, such as `pillow` for `PIL`.

    Which distribution it is differs (`onnxruntime` comes from `onnxruntime-gpu`, too); a module that comes from none
    that is known stands there by its own name, with None.
    """
    owners, found = packages_distributions(), dict[str, str | None]()
    for module in modules:
        for name in owners.get(module, ()):
            found[re.sub(r"[-_.]+", "-", name).lower()] = version(name)
        if module not in owners:
            found[module] = None
    return found
