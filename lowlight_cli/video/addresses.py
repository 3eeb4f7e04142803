"""Clip sources that are not files: URLs that FFmpeg opens, and cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from lowlight_cli.errors import UsageError

__all__ = ["PATIENCE", "Address", "address", "local", "option"]

PATIENCE: Final = (15.0, 30.0)
"""Timeouts in seconds for opening an address and for reading more of it: a dead camera must not block a run forever."""

_CAMERA: Final = re.compile(r"/dev/video\d+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FILE: Final = re.compile(r"file://(?:localhost(?=/))?(?:/(?=[A-Za-z]:/))?", re.IGNORECASE)
_STORED: Final = ("http", "https", "ftp", "sftp")
"""URL schemes that may serve a whole file; any other plays live, once."""


@dataclass(frozen=True)
class Address:
    """A clip source other than a file.

    Attributes:
        url: in the form that FFmpeg takes, its scheme in lower case.
        options: FFmpeg options that the user gave.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The URL without user and password, which messages must not show; a password may itself contain an @."""
        return re.sub(r"(?<=://)[^/]*@", "", self.url)

    @property
    def name(self) -> str:
        """The last part of the path; empty if there is none."""
        return unquote(PurePosixPath(urlsplit(self.url).path).name)

    @property
    def format(self) -> str | None:
        """FFmpeg's input format for a camera; None for a URL."""
        return "v4l2" if _CAMERA.fullmatch(self.url) else None

    @property
    def stored(self) -> bool:
        """Whether it may be a whole file, which can be read twice."""
        return urlsplit(self.url).scheme in _STORED

    @property
    def settings(self) -> dict[str, str]:
        """All options for FFmpeg. RTSP runs over TCP, which loses no packets, unless the user says otherwise."""
        usual = {"rtsp_transport": "tcp"} if self.url.startswith("rtsp") else {}
        return {**usual, **self.options}


def local(text: str) -> str:
    """Return the path in a `file://` address, percent-decoded; any other text as it is."""
    if not (scheme := _FILE.match(text)):
        return text
    path = unquote(text[scheme.end() :])
    return path if path.startswith("/") or path[1:2] == ":" else f"//{path}"  # which begins with a server


def address(text: str, options: Mapping[str, str]) -> Address | None:
    """Return the address or camera that the user named; None if the text names a file.

    Raises:
        UsageError: options were given for a file.
    """
    if scheme := _SCHEME.match(text):
        return Address(scheme[0].lower() + text[scheme.end() :], options)  # FFmpeg knows them in lower case alone
    if _CAMERA.fullmatch(text):
        return Address(text, options)
    if options:
        raise UsageError(f"--input-option is for addresses and cameras, and {text} is none")
    return None


def option(text: str) -> tuple[str, str]:
    """Split `KEY=VALUE` in two.

    Raises:
        UsageError: the text is not `KEY=VALUE`.
    """
    key, sign, value = text.partition("=")
    if not (sign and key):
        raise UsageError(f"--input-option {text!r} is not KEY=VALUE; write it as rtsp_transport=udp")
    return key, value
