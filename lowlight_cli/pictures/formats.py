"""The picture formats: their suffixes, what each can hold, and how to tell them by a file's first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lowlight_cli.errors import UsageError

__all__ = [
    "BECOMES",
    "FORMATS",
    "HEIC_SUFFIXES",
    "KINDS",
    "RAW_SUFFIXES",
    "READ_ONLY",
    "UNREAD",
    "Kind",
    "format_of",
    "sniff",
    "suffix_of",
    "suffixes",
]


@dataclass(frozen=True)
class Kind:
    """One format that is read and written.

    Attributes:
        name: its name in the code and for `--format`.
        title: its name in messages.
        suffixes: lower case, with the dot; new files get the first.
        deep: whether it holds 16 bits per sample.
        alpha: whether it holds transparency.
        profile: whether it holds an ICC profile.
        longest: the longest side that its encoder accepts, in pixels.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    deep: bool
    alpha: bool
    profile: bool
    longest: int


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("jpeg", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), False, False, True, 65_500),
        Kind("png", "PNG", (".png",), True, True, True, 2**31 - 1),
        Kind("webp", "WebP", (".webp",), False, True, True, 16_383),
        Kind("tiff", "TIFF", (".tif", ".tiff"), True, True, True, 2**31 - 1),
        Kind("bmp", "BMP", (".bmp", ".dib"), False, False, False, 2**31 - 1),
        Kind("avif", "AVIF", (".avif",), False, True, True, 65_535),
    )
}

FORMATS: Final[dict[str, str]] = {suffix: kind.name for kind in KINDS.values() for suffix in kind.suffixes}
"""Suffix (lower case, with the dot) to the name of a format in `KINDS`."""

HEIC_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})
RAW_SUFFIXES: Final = frozenset(
    {".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25"}
    | {".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"}
    | {".srw", ".x3f"}
)

BECOMES: Final = {"heic": "jpeg", "raw": "tiff"}
"""Read-only kinds, and the format written in their place: a RAW file needs the 16 bits of TIFF."""

READ_ONLY: Final[dict[str, str]] = {
    **{suffix: KINDS[BECOMES["heic"]].suffixes[0] for suffix in HEIC_SUFFIXES},
    **{suffix: KINDS[BECOMES["raw"]].suffixes[0] for suffix in RAW_SUFFIXES},
}
"""Suffix (lower case, with the dot) of a read-only kind, to the suffix of the format written in its place."""

UNREAD: Final = frozenset(
    {".gif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jxr", ".psd", ".psb", ".xcf", ".exr", ".hdr", ".tga", ".svg"}
    | {".ico", ".pcx", ".pbm", ".pgm", ".ppm", ".pnm"}
)
"""Suffixes of pictures in other formats: left out of folders, with a note."""

# First bytes and their format. BMP comes last: two letters are weak evidence.
_MAGIC: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF8", "gif"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"IIU\0", "raw"),
    (b"IIRO", "raw"),
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"BM", "bmp"),
)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})


def suffixes() -> frozenset[str]:
    """Suffixes, lower case with the dot, of the files that count as pictures in a folder."""
    return frozenset({*FORMATS, *READ_ONLY})


def format_of(name: str) -> str:
    """The name in `KINDS` for what a user may type: `jpg`, `JPEG`, `.tif`.

    Raises:
        UsageError: no format of that name can be written.
    """
    typed = name.lower().lstrip(".")
    found = typed if typed in KINDS else FORMATS.get(f".{typed}")
    if found is None:
        raise UsageError(f"format {name!r} is not known; choose one of {', '.join(KINDS)}")
    return found


def suffix_of(name: str) -> str:
    """The suffix that new files of a format get: `jpeg` or `jpg` to `.jpg`. Raises as `format_of`."""
    return KINDS[format_of(name)].suffixes[0]


def sniff(data: bytes) -> str | None:
    """The kind according to the first bytes: a name in `KINDS`, `gif`, `heic`, `raw`, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        # the major and the compatible brands: `mif1` alone may be AVIF or HEIC
        length = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}
        if data[8:12] == b"crx ":
            return "raw"
        if brands & _AVIF_BRANDS:
            return "avif"
        return "heic" if brands & _HEIC_BRANDS else None
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
