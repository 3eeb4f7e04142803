"""Make dark pictures visible.

>>> import numpy
>>> from lowlight_cli import Enhancer
>>> dark = numpy.full((32, 48, 3), 12, numpy.uint8)
>>> lit = Enhancer().enhance(dark)
>>> lit.shape, lit.dtype
((32, 48, 3), dtype('uint8'))

The names below are imported on first use: `import lowlight_cli` itself loads nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer, enhance
    from lowlight_cli.errors import LowlightError
    from lowlight_cli.pictures import read, write

__all__ = ["DEFAULT_MODEL", "Enhancer", "LowlightError", "__version__", "enhance", "read", "write"]

__version__: Final = "0.1.0"

DEFAULT_MODEL: Final = "dgaf"
"""The model used when none is named: the one that looks best on pictures unlike its training set."""

_HOME: Final = {
    "Enhancer": "lowlight_cli.enhancer",
    "enhance": "lowlight_cli.enhancer",
    "LowlightError": "lowlight_cli.errors",
    "read": "lowlight_cli.pictures",
    "write": "lowlight_cli.pictures",
}


if not TYPE_CHECKING:  # else every misspelt name would have a type

    def __getattr__(name: str) -> Any:
        """Import a public name from its home, once."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
