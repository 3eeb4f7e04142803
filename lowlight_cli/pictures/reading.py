"""Read a file into a Photo: the content, not the name, decides the format; the pixels are upright, sRGB and float."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from PIL import GifImagePlugin

from lowlight_cli.errors import DeviceError, InputError, LowlightError, ResourceError
from lowlight_cli.exposure import bands
from lowlight_cli.pictures import colour, metadata, xmp
from lowlight_cli.pictures.decode import DECODERS
from lowlight_cli.pictures.formats import BECOMES, HEIC_SUFFIXES, KINDS, RAW_SUFFIXES, sniff
from lowlight_cli.pictures.found import Found
from lowlight_cli.pictures.photo import Codes, Photo, Pixels
from lowlight_cli.pictures.quiet import quiet
from lowlight_cli.unseen import filled

__all__ = ["MAX_PIXELS", "read"]

MAX_PIXELS: Final = 500_000_000


class SupportsRead(Protocol):
    """A file open for reading bytes."""

    def read(self) -> bytes: ...


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | SupportsRead

_PRIMARIES: Final = {9: ("Rec. 2020", colour.REC_2020), 12: ("Display P3", colour.DISPLAY_P3)}
_HDR: Final = {16: "PQ", 18: "HLG"}
"""Codes of ITU-T H.273."""

_READABLE: Final = ", ".join([*(kind.title for kind in KINDS.values()), "HEIC, RAW"])


def read(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a picture: upright, sRGB, float, with its metadata.

    Args:
        source: a file's path; its content, as bytes, bytearray or memoryview; or a file open for reading bytes, which
            is read from its current position to the end.
        name: its name in messages; by default the path, the name of the open file, or else "picture".
        max_pixels: a picture with more is refused before it is decoded.

    Raises:
        TypeError: `source` is none of these.
        InputError: the file is missing, unreadable, empty, damaged, not a picture, animated, or too large.
        DeviceError: HEIC or RAW without the package that reads it.
        ResourceError: there is not enough memory.
    """
    label = name or _name(source)
    try:
        data = _content(source)
        kind = _kind(data, Path(label).suffix.lower())
        with quiet():
            found = DECODERS[kind](data, max_pixels)
        return _photo(found, kind, label)
    except LowlightError as error:
        raise type(error)(f"{label}: {error}") from None
    except MemoryError as error:
        raise ResourceError(f"{label}: not enough memory to read it; make it smaller first") from error
    except Exception as error:  # decoders raise anything on damage, from OSError to ZeroDivisionError
        told = isinstance(error, (OSError, ValueError, SyntaxError, RuntimeError, Warning)) and str(error)
        found_out = " ".join(told.split())[:120] if told else "its structure makes no sense"
        raise InputError(f"{label}: damaged or incomplete ({found_out}); copy or export it anew") from error


def _name(source: Source) -> str:
    """The name of a source in messages. Raises TypeError if it is not a source."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    if not isinstance(source, (bytes, bytearray, memoryview)) and not callable(getattr(source, "read", None)):
        kind = f"{type(source).__module__}.{type(source).__qualname__}"
        raise TypeError(f"wanted a path, bytes or a file that is open for reading bytes, got {kind}")
    return name if isinstance(name, str) and name else "picture"


def _content(source: Source) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    try:
        if isinstance(source, (str, os.PathLike)):
            return _file(Path(source))
        data = source.read()
    except FileNotFoundError:
        raise InputError("no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be read ({reason}); check its permissions and its disk") from None
    if not isinstance(data, bytes):
        raise InputError(
            f"its read() gives {type(data).__name__}, not bytes; open it in mode 'rb', or give its content"
        )
    return data


def _file(path: Path) -> bytes:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InputError("is a folder, a picture was wanted")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InputError("is not a file")
    return path.read_bytes()


def _kind(data: bytes, suffix: str) -> str:
    """The name in `DECODERS` for some content. Raises InputError or DeviceError if it cannot be read."""
    if not data:
        raise InputError("is empty; copy it anew")
    kind = sniff(data)
    if kind == "raw" or (kind == "tiff" and (suffix in RAW_SUFFIXES or _is_dng(data))):
        return _with("rawpy", "raw", "a RAW file")
    if kind == "heic" or (kind is None and suffix in HEIC_SUFFIXES):
        return _with("pi_heif", "heic", "HEIC")
    if kind is None and suffix in RAW_SUFFIXES and not _is_text(data[:512]):
        return _with("rawpy", "raw", "a RAW file")
    if kind == "gif":
        still = not GifImagePlugin.GifImageFile(io.BytesIO(data)).is_animated
        clip = "`lowlight video` makes a clip of it, with -o night.mp4; or take single pictures out of it as PNG"
        way = "convert it to PNG first" if still else clip
        raise InputError(f"is a{' ' if still else 'n animated '}GIF; {way}")
    if kind is None:
        text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{", b"#")) or _is_text(data[:512])
        what = "is text, not a picture" if text else "is not a picture that can be read"
        what = "is a PDF, not a picture" if data.startswith(b"%PDF-") else what
        raise InputError(f"{what}; wanted {_READABLE}")
    return kind


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in start)


def _is_dng(data: bytes) -> bool:
    try:
        return metadata.value(data, 50_706) is not None
    except ValueError:
        return False


def _with(package: str, extra: str, what: str) -> str:
    """The kind `extra`, if the optional package that reads it is installed. Raises DeviceError if not."""
    if find_spec(package) is None:
        raise DeviceError(f"{what} needs an extra: pip install 'lowlight-cli[{extra}]', or convert it to TIFF or JPEG")
    return extra


# -- Found to Photo: upright, sRGB, hidden colours filled


def _photo(found: Found, kind: str, label: str) -> Photo:
    notes = list(found.notes)
    exif, turn = found.exif, 1
    try:
        turn = found.turn or (metadata.orientation(exif) if exif else 1)
    except ValueError:
        exif = None
        notes.append("its EXIF is damaged and not kept")
    colours = _turned(found.colours, turn)
    alpha = None if found.alpha is None else _turned(found.alpha, turn)
    height, width = colours.shape[:2]
    icc, profile = _profile(found, notes)
    if exif:
        try:
            exif = metadata.tidy_exif(exif, height, width)
        except ValueError:
            exif = None
            notes.append("its EXIF is damaged and not kept")

    packet = found.xmp
    if packet and len(packet) > xmp.LONGEST:
        packet = None
        notes.append(f"its XMP is longer than {xmp.LONGEST // 2**20} MiB and not kept")
    rest = tuple(_photo(page, kind, label) for page in found.rest)
    hidden = alpha is not None and not alpha.all()
    pixels = _pixels(colours, profile)
    if alpha is not None and hidden:
        pixels = filled(pixels, alpha > 0)
    return Photo(
        pixels=pixels,
        depth=colours.dtype.itemsize * 8,
        format=BECOMES.get(kind, kind),
        name=label,
        alpha=alpha,
        grey=colours.ndim == 2,
        icc=icc,
        exif=exif,
        xmp=xmp.tidy(packet) if packet else None,
        text=found.text,
        dpi=found.dpi if turn < 5 or found.dpi is None else found.dpi[::-1],
        jpeg=found.jpeg,
        compression=found.compression,
        source=colours if hidden or profile is not None else None,
        notes=(*notes, *(note for page in rest for note in page.notes)),
        rest=rest,
    )


def _profile(found: Found, notes: list[str]) -> tuple[bytes | None, colour.Profile | None]:
    """The profile to keep for the file, and how to convert with it; None for sRGB."""
    primaries, transfer = found.cicp or (1, 13)
    if found.icc:
        primaries, transfer = 1, colour.hdr_transfer(found.icc) or transfer
    if transfer in _HDR:
        raise InputError(f"is an HDR picture ({_HDR[transfer]}), which is not read; export it as SDR first")
    icc = found.icc or None
    if found.icc is None and primaries in _PRIMARIES:
        icc = colour.make_profile(*_PRIMARIES[primaries])
    elif found.icc is None and found.exif and found.colours.ndim == 3:
        with contextlib.suppress(ValueError):  # damaged EXIF is ignored
            if metadata.adobe_rgb(found.exif):
                icc = colour.make_profile("Adobe RGB (1998) compatible", colour.ADOBE_RGB, 563 / 256)
    if icc is None:
        return None, None
    try:
        grey = found.colours.ndim == 2
        if icc[16:20] == b"GRAY" and not grey:
            raise ValueError("a profile for grey on a picture in colour")
        return icc, colour.profile_of(icc, grey=grey)
    except ValueError as error:
        notes.append(f"its colour profile cannot be used ({error}): read as sRGB, not kept")
        return None, None


def _pixels(colours: Codes, profile: colour.Profile | None) -> Pixels:
    height, width = colours.shape[:2]
    pixels = np.empty((height, width, 3), np.float32)
    for rows in bands(height, width):
        band = colours[rows] if colours.ndim == 3 else colours[rows, :, None]
        if profile is None:
            np.divide(band, np.float32(colour.top(band)), out=pixels[rows], dtype=np.float32)
        else:
            pixels[rows] = profile.forward(np.broadcast_to(band, (*band.shape[:2], 3)))
    return pixels


def _turned(samples: Codes, turn: int) -> Codes:
    """Apply an EXIF orientation: 2 to 4 mirror or rotate by 180 degrees, 5 to 8 also swap height and width."""
    if turn >= 5:
        samples = samples.swapaxes(0, 1)
    # after the swap: the direction of (rows, columns), -1 for reversed
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(turn, (1, 1))
    return np.ascontiguousarray(samples[::down, ::across])
