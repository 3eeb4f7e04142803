"""Fetch files from any https server: downloaded whole, then compared with a hash known beforehand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage, IncompleteRead, InvalidURL
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lowlight_cli import disk
from lowlight_cli.errors import WeightsError, disk_full, first_line, unwritten
from lowlight_cli.weights import header
from lowlight_cli.weights.hub import LARGEST, PATIENCE, Progress

__all__ = ["download", "host", "split", "verified"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""The only hosts for which plain http is accepted: what never leaves the machine cannot be intercepted."""

ACCEPT: Final[Mapping[str, str]] = {"api.github.com": "application/vnd.github.raw+json"}
"""With this header GitHub sends a blob's bytes instead of JSON (its REST documentation, "Get a blob")."""


def split(address: str) -> tuple[str, str]:
    """Split `https://...#sha256=HEX` into address and hash.

    Raises:
        WeightsError: another scheme, or no hash; the message shows the line to type.
    """
    _safe(address)
    url, _, fragment = address.partition("#")
    if not (match := re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)):
        raise WeightsError(
            f"{url}: say which file is meant by its hash, as in --weights '{url}#sha256=HEX' "
            "(64 hex digits; its publisher states them, `sha256sum FILE` prints them)"
        )
    return url, match[1].lower()


def host(url: str) -> str:
    """The server's name, for messages."""
    return urlsplit(url).netloc


def download(url: str, target: Path, *, expected: int | None = None, on_progress: Progress | None = None) -> None:
    """Fetch `url` into the file `target`, without checking its content.

    Args:
        url: https; http on this machine only.
        target: the file to write, as the bytes arrive.
        expected: the size in bytes, if known.
        on_progress: called as bytes arrive.

    Raises:
        WeightsError: the address is refused or unreachable, or the file is not found, truncated or too long.
        ResourceError: the disk is full.
    """
    _safe(url)
    request = Request(url, headers={"User-Agent": "lowlight", "Accept": ACCEPT.get(host(url), "*/*")})
    limit = expected or LARGEST
    done = 0
    try:
        with build_opener(_SafeRedirects).open(request, timeout=PATIENCE) as answer, target.open("wb") as file:
            length = int(answer.headers.get("Content-Length") or 0) or None
            while done <= limit and (chunk := answer.read(1 << 16)):
                done += file.write(chunk)
                if on_progress:
                    on_progress(done, length or expected)
    except HTTPError as error:
        error.close()
        raise WeightsError(f"{url}: the server answers {error.code} {error.reason}") from error
    except OSError as error:  # URLError, time-outs, refused and broken connections
        if disk_full(error):
            raise unwritten(url, error, full="make room and try again") from error
        reason = error.reason if isinstance(error, URLError) else error
        raise WeightsError(f"{url}: cannot be reached ({reason}); check the connection") from error
    except (InvalidURL, UnicodeError) as error:
        raise WeightsError(f"{url}: cannot be asked for ({error}); check its spelling") from error
    except IncompleteRead as error:
        raise WeightsError(f"{url}: it came cut off after {done} bytes; try again") from error
    except (HTTPException, ValueError) as error:  # lengths and redirects that make no sense are ValueErrors
        raise WeightsError(
            f"{url}: the server does not answer like a web server ({first_line(error)}); "
            "check the address, or try later"
        ) from error
    if done > limit:
        looks = header.sniff(target) or f"it is longer than the {limit} bytes that it should have"
        raise WeightsError(f"{url}: {looks}")
    if length is not None and done < length:
        raise WeightsError(f"{url}: it came cut off, {done} of {length} bytes; try again")


def verified(path: Path, name: str, *, sha256: str | None = None, git_blob: str | None = None) -> None:
    """Compare a fetched file with a hash known beforehand.

    Raises:
        WeightsError: it is another file; the message says what it looks like.
    """
    for kind, wanted, measured in (("sha256", sha256, disk.sha256), ("git blob id", git_blob, disk.git_blob_id)):
        if wanted is not None and (found := measured(path)) != wanted:
            looks = f"{looks}; " if (looks := header.sniff(path)) else ""
            raise WeightsError(f"{name} is not what was meant: {looks}its {kind} is {found}, wanted {wanted}")


def _safe(address: str) -> None:
    """Raise WeightsError if `address` is not https (nor http on this machine), or contains a name or password."""
    url = address.partition("#")[0]
    try:
        parts = urlsplit(address)
        login, _ = "@" in parts.netloc, parts.port  # reading the port validates it
    except ValueError as error:
        login = "@" in address  # a password may be what makes the address unreadable
        if not login:
            raise WeightsError(f"{url} is no address ({error}); wanted https://HOST/FILE#sha256=HEX") from None
    if login:
        raise WeightsError("the address of the weights holds a name or password, which is not taken: leave out ...@")
    if not (parts.scheme == "https" and parts.hostname) and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise WeightsError(f"{url}: weights are fetched by https:// or hf:// only")


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects, but never to an unencrypted address."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            _safe(newurl)
        except WeightsError as error:
            raise WeightsError(f"{req.full_url} leads elsewhere: {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except Exception:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
