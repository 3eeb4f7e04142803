"""Fetch files from a Hugging Face hub through huggingface_hub: its cache, token and endpoint, but our errors.

HF_HOME, HF_TOKEN and HF_ENDPOINT are honoured. A cached file with a 40-digit revision costs no request.
huggingface_hub is imported inside the functions, because it takes a tenth of a second and most runs never need it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from lowlight_cli.errors import LowlightError, WeightsError, disk_full, first_line, unwritten

__all__ = [
    "LARGEST", "PATIENCE", "Download", "Progress", "Reference", "cached", "download", "endpoint", "explained", "forget",
    "parse",
]  # fmt: skip

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the total, which is None if unknown."""

LARGEST: Final = 1 << 30
"""No file above 1 GiB is fetched: the largest network's weights are 20 MB, so such a file is the wrong one."""

PATIENCE: Final = 15.0
"""Seconds without an answer after which a server counts as unreachable."""

_FORM: Final = re.compile(
    r"hf://(?:models/)?(?P<repo>[^/@#]+/[^/@#]+)(?:@(?P<early>[^/@#]+))?/(?P<file>[^@#]+)"
    r"(?:@(?P<late>[^@#]+))?(?:#sha256=(?P<sha256>[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """A file on the hub.

    Attributes:
        repo: `org/name`.
        file: its path in the repository.
        revision: a commit, a branch or a tag; None is the hub's `main`.
        sha256: the hash that the file must have; None if the user gave none.
    """

    repo: str
    file: str
    revision: str | None = None
    sha256: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(self.revision and re.fullmatch(r"[0-9a-f]{40}", self.revision))

    def __str__(self) -> str:
        return f"hf://{self.repo}/{self.file}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Download:
    """A file that the hub has delivered.

    Attributes:
        path: the file, in the hub's cache.
        commit: the commit that the revision stands for.
        fresh: whether it was fetched now; False if the cached file was still current.
    """

    path: Path
    commit: str
    fresh: bool


def parse(text: str) -> Reference:
    """Read `hf://org/repo/file@revision`, or the hub's own order `hf://org/repo@revision/file`, with or without a hash.

    Raises:
        WeightsError: the form is another, or it does not name a model repository.
    """
    match = _FORM.fullmatch(text)
    if not match or (match["early"] and match["late"]):
        raise WeightsError(f"{text} is not of the form hf://ORG/REPO/FILE@REVISION")
    if match["repo"].split("/")[0] in ("datasets", "spaces", "buckets", "kernels"):
        raise WeightsError(f"{text}: weights are looked for in model repositories only")
    return Reference(match["repo"], match["file"], match["early"] or match["late"], match["sha256"])


def endpoint() -> str | None:
    """The current HF_ENDPOINT (the client reads it only once, on import); None for the public hub."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def cached(reference: Reference) -> Path | None:
    """The file in the hub's cache on this machine, unchecked; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(reference.repo, reference.file, revision=reference.revision)
    except Exception as error:
        raise explained(error, str(reference)) from error
    return Path(found) if isinstance(found, str) else None


def download(reference: Reference, *, again: bool = False, on_progress: Progress | None = None) -> Download:
    """Fetch a file into the hub's cache, unchecked.

    Args:
        reference: what to fetch.
        again: fetch it even if it is cached, because the cached copy is damaged.
        on_progress: called as bytes arrive.

    Raises:
        WeightsError: the file is missing, forbidden, larger than `LARGEST` or truncated, or the hub is unreachable.
        ResourceError: the disk is full.
    """
    import huggingface_hub as hub

    try:
        # One request first: the download below would retry an unreachable hub for half a minute, and would accept a
        # file of any size.
        url = hub.hf_hub_url(reference.repo, reference.file, revision=reference.revision, endpoint=endpoint())
        found = hub.get_hf_file_metadata(url, timeout=PATIENCE)
        if found.size and found.size > LARGEST:
            raise WeightsError(f"{reference} has {found.size / 1e6:.0f} MB: that is not one of our files")
        commit = found.commit_hash or ""
        fresh = again or cached(Reference(reference.repo, reference.file, commit)) is None
        path = hub.hf_hub_download(
            reference.repo,
            reference.file,
            revision=reference.revision,
            endpoint=endpoint(),
            force_download=again,
            tqdm_class=cast("Any", _bar(found.size, on_progress)),
        )
    except LowlightError:
        raise
    except Exception as error:  # the client and its HTTP library raise a dozen kinds; each becomes one line
        raise explained(error, str(reference)) from error
    return Download(Path(path), commit, fresh)


def forget(path: Path) -> None:
    """Remove a file from the hub's cache, and its content too if no other revision points to it."""
    content = path.parent / path.readlink() if path.is_symlink() else None
    path.unlink(missing_ok=True)
    if content is None:
        return
    snapshots = next((folder for folder in path.parents if folder.name == "snapshots"), path.parent)
    if not any(other.is_symlink() and other.readlink().name == content.name for other in snapshots.rglob("*")):
        content.unlink(missing_ok=True)


def explained(error: Exception, what: str) -> LowlightError:
    """Turn an error from the hub's client into one of ours, with one line about `what`."""
    from huggingface_hub import errors

    if disk_full(error):
        return unwritten(what, error, full="make room and try again")
    transport = errors.HfHubHTTPError.__bases__[0]  # HTTPError of httpx, or of httpx2 since huggingface_hub 2
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    match cause:
        case errors.GatedRepoError():
            why = "its owner lets only people in who agreed to the terms: do so on the hub, then set HF_TOKEN"
        case errors.RepositoryNotFoundError():
            why = "there is no such repository, or it is private (set HF_TOKEN)"
        case errors.RevisionNotFoundError():
            why = "the repository has no such revision"
        case errors.EntryNotFoundError():
            why = "the repository has no such file at that revision"
        case errors.HfHubHTTPError():
            status = cause.response.status_code
            token = " (is HF_TOKEN right, and may it do this?)" if status in (401, 403) else ""
            why = f"the hub answers {status}{token}: {first_line(cause)}"
        case errors.FileMetadataError():
            why = f"{endpoint() or 'the server'} does not answer like a hub (is HF_ENDPOINT right? a proxy between?)"
        case errors.HFValidationError():
            why = f"that is not how the hub names things: {first_line(cause)}"
        case _ if isinstance(cause, (transport, ConnectionError)):
            why = f"cannot reach {endpoint() or 'the hub'} ({first_line(cause)}); check the connection"
        case _ if "Consistency check" in str(cause):
            why = "the file came cut off; try again"
        case OSError() if cause.strerror:
            why = f"{cause.strerror} ({cause.filename or 'the cache of the hub'})"
        case _:
            why = first_line(cause)
    return WeightsError(f"{what}: {why}")


def _bar(size: int | None, on_progress: Progress | None) -> type:
    """A stand-in for the client's progress bar that reports to `on_progress` and draws nothing."""

    class Bar:
        def __init__(self, *_: object, total: float | None = None, initial: float = 0, **__: object) -> None:
            self.done = initial
            self.counts = total == size  # a transfer may open a second bar, for the bytes on the wire

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, amount: float | None = 1) -> None:
            self.done += amount or 0
            if on_progress and self.counts:
                on_progress(int(self.done), size)

        def close(self, *_: object, **__: object) -> None:
            pass

        refresh = reset = set_description = set_postfix_str = close

    return Bar
