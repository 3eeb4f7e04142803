"""Convolutions in full float32 on an NVIDIA GPU: from Ampere on, torch by itself rounds what they multiply to TF32.

The setting is the process's, and torch has no other: it is changed while passes are started, and restored after the
last. A thread beside them that convolves meanwhile does so in full float32 too, which is slower and not wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock

import torch

__all__ = ["off"]

_lock = Lock()

_before: list[str | bool] = []
"""What the setting was, for each block that is entered: the first one's is the caller's."""


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Inside the block, convolutions do not use TF32. Several threads may be in one."""
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
    """As torch has it; before 2.9 it has the older way alone, and mixing both is an error."""
    new = getattr(torch.backends.cudnn, "conv", None)
    value: str | bool = torch.backends.cudnn.allow_tf32 if new is None else new.fp32_precision
    return value


def _set(value: str | bool) -> None:
    new = getattr(torch.backends.cudnn, "conv", None)
    if new is None:
        torch.backends.cudnn.allow_tf32 = bool(value)
    else:
        new.fp32_precision = value or "ieee"
