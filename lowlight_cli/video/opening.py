"""Open a clip's container for reading: a file, a file object, an address or a camera."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error

from lowlight_cli.errors import InputError
from lowlight_cli.video import addresses
from lowlight_cli.video.addresses import Address

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["read", "zero"]


def read(source: Path | Address | Any, name: str) -> InputContainer:
    """Open a container; arguments and errors are those of `streams.opened`."""
    av.logging.set_level(None)  # we report problems in our own words
    if isinstance(source, Address):
        return _reached(source)
    try:
        return av.open(str(source.absolute()) if isinstance(source, Path) else source, "r", metadata_errors="replace")
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name}: is not a clip that can be read ({_reason(error)})") from error


def _reached(source: Address) -> InputContainer:
    try:
        return av.open(
            source.url,
            "r",
            format=source.format,
            options=source.settings,
            timeout=addresses.PATIENCE,
            metadata_errors="replace",
        )  # fmt: skip
    except (av.error.ExitError, TimeoutError) as error:
        raise InputError(f"{source}: does not answer; is it switched on, and the address right?") from error
    except av.error.ProtocolNotFoundError as error:
        raise InputError(
            f"{source}: FFmpeg here does not know this kind of address; save it as a file first"
        ) from error
    except av.error.InvalidDataError as error:
        raise InputError(f"{source}: is not a clip that can be read; does it need a player or a login?") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be opened ({_reason(error)}); check the address") from error


def zero(container: InputContainer) -> Fraction:
    """Start time of a clip, in seconds of its own clock."""
    return Fraction(container.start_time or 0, av.time_base)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
