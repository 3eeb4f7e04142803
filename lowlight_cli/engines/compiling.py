"""Compile with torch.compile; what goes wrong in its many parts becomes one line that says what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import torch

from lowlight_cli.errors import DeviceError, first_line

__all__ = ["compiled", "lacking"]

LIMIT: Final = 64
"""How often the same code is compiled. Torch stops at 8 and goes on uncompiled, with a warning; but the networks share
`Network.forward`, and each size, precision and device counts."""

Given = ParamSpec("Given")
Made = TypeVar("Made")


def compiled(
    function: Callable[Given, Made], *, device: str, name: str, mode: str = "default"
) -> Callable[Given, Made]:
    """Compile a function, or a module, anew for each size that it is called with.

    Args:
        function: what to compile.
        device: where its tensors are.
        name: of the network, for the message.
        mode: torch.compile's.

    Raises:
        DeviceError: when called: the compiler or something that it needs is missing, or fails.
    """
    from torch._dynamo import config  # a slow import
    from torch._dynamo.exc import TorchDynamoException

    fused: Callable[Given, Made] = torch.compile(function, mode=mode, dynamic=False)

    def explained(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        try:
            with config.patch(recompile_limit=LIMIT):
                return fused(*args, **kwargs)
        except TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)  # the outer message only says that there is one
            told = f"({type(cause).__name__}: {first_line(cause)})"
            if missing := lacking(device):
                raise DeviceError(f"--compile needs {missing}: leave it out {told}") from error
            raise DeviceError(f"--compile does not work with {name} here: leave it out {told}") from error

    return explained


def lacking(device: str) -> str:
    """What torch.compile needs on the device and does not find; empty if nothing is missing."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "cl"]
    has = {
        "Triton": not device.startswith("cuda") or importlib.util.find_spec("triton") is not None,
        "a C++ compiler": any(map(shutil.which, compilers)),
    }
    return " and ".join(name for name, there in has.items() if not there)
