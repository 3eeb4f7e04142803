"""Turn what a user types for `--weights` into a checked file on this machine.

    None                                   the network's first checkpoint in weights.toml
    TAG, NETWORK.TAG                       another of its checkpoints
    FILE                                   a local safetensors file
    hf://ORG/REPO/FILE@REVISION            a file on a hub; without a revision the newest, with a warning
    https://...#sha256=HEX                 a file on any server; without the hash it is refused

Nothing enters the cache unchecked, nothing is fetched without being announced, and nothing at all with `offline`,
LOWLIGHT_OFFLINE or HF_HUB_OFFLINE. Downloads are kept in LOWLIGHT_CACHE, or in the platform's cache folder, and are
named by their hash; files from a hub stay in the hub's own cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowlight_cli import disk, networks
from lowlight_cli.errors import LowlightError, OutputError, WeightsError, disk_full, unwritten
from lowlight_cli.weights import files, header, hub, web
from lowlight_cli.weights.catalog import Checkpoint, bundled, catalog, find, of
from lowlight_cli.weights.hub import Progress, Reference

__all__ = [
    "Message", "Progress", "Resolved", "cache_folder", "clear", "decoded_folder", "local", "offline_reason", "remove",
    "resolve",
]  # fmt: skip

_STEM: Final = r".+-[0-9a-f]{12}"
_HASH: Final = r"[0-9a-f]{64}\.safetensors"
_OURS: Final = rf"({_STEM}-)?{_HASH}(\.lock)?|{_STEM}\.lock|\.part-({_HASH}|{_STEM})"
"""Names of the files in our cache: see `_from_web`, `_from_authors`, `_made`."""

_DECODED: Final = r"[0-9a-f]{16}\.(u8|json)"
"""Names of decoded data sets: see `training.decoded`."""

Message = Callable[[str], None]
"""Called with one line before anything is fetched, and with each warning."""


@dataclass(frozen=True)
class Resolved:
    """A file of weights on this machine.

    Attributes:
        path: the file.
        sha256: its hash.
        checkpoint: its block in weights.toml; None for files that are not listed there.
    """

    path: Path
    sha256: str
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class _Way:
    """The settings of one `resolve`: the network, what forbids fetching (empty if nothing), and the callbacks."""

    network: str
    offline: str
    on_progress: Progress | None
    on_message: Message | None
    known: Callable[[str], bool]

    def say(self, line: str) -> None:
        if self.on_message:
            self.on_message(line)

    def announce(self, what: str, place: str, size: int | None, damaged: Path | None) -> None:
        """Announce a download and the reason for it, or raise WeightsError if offline."""
        why = f"{what}: its copy {damaged} is damaged" if damaged and damaged.is_file() else ""
        if self.offline:
            why = why or f"{what} is not on this machine"
            raise WeightsError(f"{why}, and {self.offline} keeps it from being fetched")
        if why:
            self.say(why)
        self.say(f"fetching {what} from {place}" + (f" ({size / 1e6:.1f} MB)" if size else ""))


def resolve(
    network: str,
    weights: str | None = None,
    *,
    offline: bool = False,
    on_progress: Progress | None = None,
    on_message: Message | None = None,
    known: Callable[[str], bool] = lambda _: False,
) -> Resolved:
    """Find, and if need be fetch, weights for `network`.

    Args:
        network: a name of the table of networks.
        weights: what the user typed; None for the network's default.
        offline: never fetch anything.
        on_progress: called as bytes arrive.
        on_message: called with a line before anything is fetched, and with what the user should know.
        known: whether a file with this sha256 has been compared with the network before; comparing imports torch.

    Raises:
        UsageError: no such network.
        WeightsError: the weights are missing, wrong, unreachable or foreign; nothing is cached then.
        ResourceError: the disk is full.
    """
    networks.known(network)
    way = _Way(network, offline_reason(offline), on_progress, on_message, known)
    if weights is None:
        return _from_catalog(find(network), way)
    if weights.startswith("hf://"):
        return _from_hub(weights, None, way)
    if "://" in weights:
        return _from_web(weights, None, way)
    named = {name: c for c in of(network) for name in (c.tag, c.name)}
    if weights in named:
        return _from_catalog(named[weights], way)
    if other := next((c for c in catalog() if c.name == weights), None):
        raise WeightsError(f"{weights} is for {other.network}, not for {network}: use `--model {other.network}`")
    path = _expanded(weights)
    if os.path.isfile(path) or path.suffix or len(path.parts) > 1:  # noqa: PTH113 (False for impossible names, too)
        # Checked here, so that a wrong file stops the run before any picture is read.
        return Resolved(path, _checked(path, str(path), way), None)
    return _from_catalog(find(network, weights), way)


def local(checkpoint: Checkpoint) -> Path | None:
    """Where `checkpoint` is on this machine, unchecked; None if it would have to be fetched."""
    if checkpoint.file:
        path = bundled(checkpoint)
    elif checkpoint.sources:
        path = next(cache_folder().glob(f"{_stem(checkpoint)}-*.safetensors"), None)
    elif checkpoint.url and checkpoint.url.startswith("hf://"):
        path = hub.cached(hub.parse(checkpoint.url))
    else:
        path = cache_folder() / f"{checkpoint.sha256}.safetensors"
    return path if path and path.is_file() else None


def remove(checkpoint: Checkpoint) -> Path | None:
    """Delete the fetched copy of `checkpoint`; None if there is none.

    Raises:
        WeightsError: it is shipped with the program.
        OutputError: it cannot be deleted.
    """
    if checkpoint.file:
        raise WeightsError(f"{checkpoint.name} is shipped with lowlight and is not removed")
    path = local(checkpoint)
    try:
        if path and checkpoint.url and checkpoint.url.startswith("hf://"):
            hub.forget(path)
        elif path:
            path.unlink()
    except OSError as error:
        raise OutputError(f"cannot delete {path}: {error.strerror or error}") from error
    return path


def clear() -> int:
    """Delete what was fetched into our own cache and the data sets decoded for training; return the bytes deleted.

    Other files in these folders stay.

    Raises:
        OutputError: a file cannot be deleted.
    """
    return disk.delete(cache_folder(), _OURS) + disk.delete(decoded_folder(), _DECODED)


def cache_folder() -> Path:
    """The folder `weights` in LOWLIGHT_CACHE, or else in the platform's cache folder; it need not exist.

    For a user without a home it lies below os.devnull, where nothing can be kept.

    Raises:
        WeightsError: LOWLIGHT_CACHE begins with `~` or `~USER`, and there is no such home.
    """
    if chosen := os.environ.get("LOWLIGHT_CACHE"):
        return _expanded(chosen) / "weights"
    from platformdirs import user_cache_path

    try:
        found = user_cache_path("lowlight", appauthor=False)
    except RuntimeError:
        found = Path("~")  # for a user without a home, as in a container; older versions return such a path
    return (found if found.is_absolute() else Path(os.devnull, "lowlight")) / "weights"


def decoded_folder() -> Path:
    """The folder in which training keeps decoded data sets; it need not exist."""
    return cache_folder().with_name("decoded")


def offline_reason(offline: bool = False) -> str:
    """What forbids fetching, as messages name it: a variable or "offline mode"; empty if nothing does."""
    names = ("LOWLIGHT_OFFLINE", "HF_HUB_OFFLINE")
    told = (name for name in names if os.environ.get(name, "").lower() in ("1", "on", "yes", "true"))
    return next(told, "offline mode" if offline else "")


# ----------------------------------------------------------------------------------------------------------- places


def _from_catalog(checkpoint: Checkpoint, way: _Way) -> Resolved:
    if checkpoint.sources:
        return _from_authors(checkpoint, way)
    if checkpoint.url:
        place = _from_hub if checkpoint.url.startswith("hf://") else _from_web
        return place(checkpoint.url, checkpoint, way)
    if (path := local(checkpoint)) is None:
        raise WeightsError(f"{bundled(checkpoint)} is missing: install lowlight-cli again")
    if (found := disk.sha256(path)) != checkpoint.sha256:
        looks = header.sniff(path) or f"sha256 {found}, wanted {checkpoint.sha256}"
        raise WeightsError(f"{path} is damaged or was changed ({looks}): install lowlight-cli again")
    return Resolved(path, found, checkpoint)


def _from_hub(address: str, checkpoint: Checkpoint | None, way: _Way) -> Resolved:
    """Fetch through the hub's own cache. A new download that fails a check is removed from it again."""
    reference = hub.parse(address)
    if Path(reference.file).suffix != ".safetensors":
        raise WeightsError(
            f"{reference} is not a .safetensors file: `lowlight weights convert` reads others, from a disk"
        )
    wanted = checkpoint.sha256 if checkpoint else reference.sha256
    name = f"{checkpoint.name} ({reference})" if checkpoint else str(reference)
    known = hub.cached(reference)
    damaged = known if known and wanted and disk.sha256(known) != wanted else None
    if known and not damaged and (reference.pinned or way.offline):
        return Resolved(known, _checked(known, str(reference), way), checkpoint)
    way.announce(name, hub.endpoint() or "huggingface.co", checkpoint.bytes if checkpoint else None, damaged)
    try:
        got = hub.download(reference, again=damaged is not None, on_progress=way.on_progress)
    except WeightsError as error:
        if known is None or damaged:
            raise
        way.say(f"{error}; the copy on this machine is used")
        return Resolved(known, _checked(known, str(reference), way), checkpoint)
    try:
        web.verified(got.path, str(reference), sha256=wanted)
        found = _checked(got.path, str(reference), way)
    except LowlightError:
        if got.fresh:
            hub.forget(got.path)
        raise
    if not reference.pinned:
        pinned = Reference(reference.repo, reference.file, got.commit)
        way.say(f"{reference} may change, which this file does not: {pinned}")
    return Resolved(got.path, found, checkpoint)


def _from_web(address: str, checkpoint: Checkpoint | None, way: _Way) -> Resolved:
    """Fetch over https into our cache, where the file's name is its hash."""
    url, wanted = web.split(address)
    size = checkpoint.bytes if checkpoint else None
    name = f"{checkpoint.name} ({url})" if checkpoint else url
    target = cache_folder() / f"{wanted}.safetensors"

    def find() -> Path | None:
        return target if target.is_file() and disk.sha256(target) == wanted else None

    def make(folder: Path) -> Path:
        part = folder / target.name
        web.download(url, part, expected=size, on_progress=way.on_progress)
        web.verified(part, url, sha256=wanted)
        _checked(part, url, way)
        return disk.settle(part, target)

    if path := find():
        return Resolved(path, wanted if checkpoint else _checked(path, url, way), checkpoint)
    way.announce(name, web.host(url), size, target)
    return Resolved(_made(target, find, make, way), wanted, checkpoint)


def _from_authors(checkpoint: Checkpoint, way: _Way) -> Resolved:
    """Fetch the authors' files, check each, and convert them; the originals are not kept."""
    sizes = [source.bytes for source in checkpoint.sources]
    total = sum(size for size in sizes if size) if all(sizes) else None

    def find() -> Path | None:
        path = local(checkpoint)
        return path if path and path.stem.endswith(disk.sha256(path)) else None

    def make(folder: Path) -> Path:
        parts = [folder / f"{number}.pth" for number in range(len(checkpoint.sources))]
        for source, part in zip(checkpoint.sources, parts, strict=True):
            web.download(source.url, part, expected=source.bytes, on_progress=way.on_progress)
            web.verified(part, source.url, git_blob=source.git_blob)
        converted = folder / "converted.safetensors"
        about = {
            "tag": checkpoint.tag,
            "input": checkpoint.input,
            "licence": checkpoint.licence,
            "data": checkpoint.training_data,
            "recipe": checkpoint.recipe,
        }
        with header.called(folder, checkpoint.name):
            files.convert(parts, checkpoint.network, converted, about)
        if old := local(checkpoint):
            old.unlink()
        return disk.settle(converted, cache_folder() / f"{_stem(checkpoint)}-{disk.sha256(converted)}.safetensors")

    if (path := find()) is None:
        way.announce(checkpoint.name, web.host(checkpoint.sources[0].url), total, local(checkpoint))
        way.say(f"{checkpoint.name}: licence {checkpoint.licence}")
        path = _made(cache_folder() / _stem(checkpoint), find, make, way)
    return Resolved(path, path.stem[-64:], checkpoint)


# ----------------------------------------------------------------------------------------------------------- inside


def _expanded(path: str) -> Path:
    """The path with `~` expanded. Raises WeightsError if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"{path} names a home that there is not") from error


def _checked(path: Path, name: str, way: _Way) -> str:
    """The sha256 of a file, whose header is compared with the network unless it is known; errors mention `name`."""
    if path.is_file() and way.known(found := disk.sha256(path)):
        return found
    with header.called(path, name):
        files.check(path, way.network)
    return disk.sha256(path)


def _stem(checkpoint: Checkpoint) -> str:
    """The start of the converted file's name; it depends on the sources, so that other sources give another file."""
    blobs = " ".join(source.git_blob for source in checkpoint.sources)
    return f"{checkpoint.name}-{hashlib.sha256(blobs.encode()).hexdigest()[:12]}"


def _made(target: Path, find: Callable[[], Path | None], make: Callable[[Path], Path], way: _Way) -> Path:
    """The file that `make` makes in a temporary folder beside `target`, or that another process made meanwhile."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, way):
            if path := find():
                return path
            folder = target.with_name(f".part-{target.name}")  # we hold the lock: an existing one is a killed run's
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                return make(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if disk_full(error):
            raise unwritten(target.parent, error, full="make room, or set LOWLIGHT_CACHE to another folder") from error
        why = error.strerror or error
        raise WeightsError(f"cannot write to {target.parent}: {why}; LOWLIGHT_CACHE names another folder") from error


@contextlib.contextmanager
def _alone(target: Path, way: _Way) -> Iterator[None]:
    """Only one process at a time fetches `target`; the others wait, and say so."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        way.say("another lowlight is fetching the same file: waiting for it")
        lock.acquire()
    except NotImplementedError as error:  # a file system without locks
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()
