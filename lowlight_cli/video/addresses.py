"""Clips that are no files: addresses that FFmpeg opens, and cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from lowlight_cli.errors import UsageError

__all__ = ["PATIENCE", "Address", "address", "option"]

PATIENCE: Final = (15.0, 30.0)
"""Seconds to wait for an address to open, and for more of it: a camera that is switched off must not hang a night."""

_CAMERA: Final = re.compile(r"/dev/video\d+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_STORED: Final = ("http", "https", "file", "ftp", "sftp")
"""Schemes of what may be a whole file; all else plays as it comes, once."""


@dataclass(frozen=True)
class Address:
    """Where a clip comes from, if not from a file.

    Attributes:
        url: as FFmpeg takes it.
        options: what FFmpeg is told.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Without a password, which messages must not show; it may have an @ of its own."""
        return re.sub(r"(?<=://)[^/]*@", "", self.url)

    @property
    def name(self) -> str:
        """The last part of the path; empty where there is none."""
        return unquote(PurePosixPath(urlsplit(self.url).path).name)

    @property
    def format(self) -> str | None:
        """FFmpeg's name of what reads a camera; None elsewhere."""
        return "v4l2" if _CAMERA.fullmatch(self.url) else None

    @property
    def stored(self) -> bool:
        """Whether it may be a whole file, which can be read twice."""
        return urlsplit(self.url).scheme.lower() in _STORED

    @property
    def settings(self) -> dict[str, str]:
        """All that FFmpeg is told: packets in order over TCP, which loses none, unless the user says otherwise."""
        usual = {"rtsp_transport": "tcp"} if self.url.lower().startswith("rtsp") else {}
        return {**usual, **self.options}


def address(text: str, options: Mapping[str, str]) -> Address | None:
    """What the user named, where it is an address or a camera; else None.

    Raises:
        UsageError: options for what is a file.
    """
    if _SCHEME.match(text) or _CAMERA.fullmatch(text):
        return Address(text, options)
    if options:
        raise UsageError(f"--input-option is for addresses and cameras, and {text} is none")
    return None


def option(text: str) -> tuple[str, str]:
    """`KEY=VALUE` in two.

    Raises:
        UsageError: it is none.
    """
    key, sign, value = text.partition("=")
    if not (sign and key):
        raise UsageError(f"--input-option {text!r} is not KEY=VALUE; write it as rtsp_transport=udp")
    return key, value
