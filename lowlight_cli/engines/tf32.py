"""Run convolutions in full float32 on an NVIDIA GPU: from Ampere on, torch rounds their inputs to TF32 by default.

Torch has only a process-wide setting: it is changed while passes are launched, and restored after the last of them.
Other threads that run convolutions meanwhile use full float32 too, which is slower but correct.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock

import torch

__all__ = ["off"]

_lock = Lock()

_before: list[str | bool] = []
"""The setting before each block that is entered; the first one is the caller's."""


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Convolutions inside the block do not use TF32. Several threads may be in such a block at once."""
    with _lock:
        _before.append(_setting())
        if len(_before) == 1:
            _set(False)
    try:
        yield
    finally:
        with _lock:
            if len(_before) == 1:
                _set(_before[0])
            _before.pop()


def _setting() -> str | bool:
    """The current setting; torch before 2.9 has only the older API, and mixing the two is an error."""
    new = getattr(torch.backends.cudnn, "conv", None)
    value: str | bool = torch.backends.cudnn.allow_tf32 if new is None else new.fp32_precision
    return value


def _set(value: str | bool) -> None:
    new = getattr(torch.backends.cudnn, "conv", None)
    if new is None:
        torch.backends.cudnn.allow_tf32 = bool(value)
    else:
        new.fp32_precision = value or "ieee"
