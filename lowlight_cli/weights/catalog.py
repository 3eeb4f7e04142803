"""The table of checkpoints: weights.toml, read once and validated.

A checkpoint is called `network.tag`; the first one listed for a network is its default. Its file has one of three
origins: `file`, shipped in `lowlight_cli/checkpoints/`; `url`, fetched from a hub or over https; `sources`, the
authors' own files, fetched, checked and converted on the user's machine because they may not be redistributed. A
`[[degradation]]` describes weights of a network that darkens (`networks.DEGRADATIONS`) in the same way. These are kept
apart: enhancing, measuring and publishing do not use them.
"""

from __future__ import annotations

import difflib
import functools
import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from lowlight_cli import disk, networks
from lowlight_cli.errors import UsageError, WeightsError
from lowlight_cli.weights.header import inspect

__all__ = [
    "Checkpoint", "Metric", "Published", "Source", "block", "bundled", "catalog", "catalog_path", "check_tag",
    "degradations", "find", "named", "of", "read", "stated",
]  # fmt: skip

PACKAGE: Final = Path(__file__).resolve().parent.parent

Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\r\n]+$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
BlobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*\.safetensors$")]
HubUrl = Annotated[str, StringConstraints(pattern=r"^hf://[\w.-]+/[\w.-]+/[\w./-]+@[0-9a-f]{40}$")]
WebUrl = Annotated[str, StringConstraints(pattern=r"^https://[^#\s]+#sha256=[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Table):
    """One of the authors' own files: its address and the git blob id of its content."""

    url: Annotated[str, StringConstraints(pattern=r"^https://\S+$")]
    git_blob: BlobId
    bytes: PositiveInt | None = None


class Metric(_Table):
    """What we measured, and how: PSNR in dB and SSIM from 0 to 1; mean luma and NIQE on sets without references."""

    protocol: Line
    dataset: Line
    psnr: float | None = None
    psnr_gt_mean: float | None = None
    ssim: float | None = None
    luma: float | None = None
    niqe: float | None = None
    niqe_own: float | None = None


class Published(_Table):
    """What a paper states for its own weights: not measured by us, and not for our files."""

    network: str
    dataset: Line
    split: Line
    psnr: float | None = None
    ssim: float | None = None


class Checkpoint(_Table):
    """One block of weights.toml.

    Attributes:
        network: the network it belongs to.
        tag: its name among that network's checkpoints.
        file: its file name inside `lowlight_cli/checkpoints/`.
        url: `hf://org/repo/file@REVISION` with 40 hex digits, or `https://...#sha256=...`.
        sources: the authors' files, which together hold the network.
        sha256: hash of the safetensors file; not for `sources`, which are checked one by one.
        bytes: size of that file; not for `sources`.
        parameters: number of trained values.
        licence: licence of these weights.
        training_data: what they were trained on.
        recipe: how they were trained, in a few words.
        input: whether the network expects the picture exposed first.
        metrics: what we measured.
        paper: authors, venue, year.
        paper_url: where the paper is.
        published: figures from the paper.
    """

    network: str
    tag: Tag
    file: FileName | None = None
    url: HubUrl | WebUrl | None = None
    sources: tuple[Source, ...] = ()
    sha256: Hash | None = None
    bytes: PositiveInt | None = None
    parameters: PositiveInt
    licence: Line
    training_data: Line
    recipe: Line
    input: Literal["exposed", "as-is"]
    metrics: tuple[Metric, ...] = ()
    paper: Line
    paper_url: Line
    published: tuple[Published, ...] = ()

    @property
    def name(self) -> str:
        """`network.tag`."""
        return f"{self.network}.{self.tag}"

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is not None) + (self.url is not None) + bool(self.sources) != 1:
            raise ValueError("exactly one of file, url and sources is wanted")
        if bool(self.sources) != (self.sha256 is None) or bool(self.sources) != (self.bytes is None):
            raise ValueError("file and url need sha256 and bytes; sources carry their own git_blob and bytes instead")
        if self.url and "#" in self.url and not self.url.endswith(f"#sha256={self.sha256}"):
            raise ValueError("the hash in url is not sha256")
        return self


class _Catalog(_Table):
    """The whole file."""

    checkpoint: tuple[Checkpoint, ...] = ()
    degradation: tuple[Checkpoint, ...] = ()
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for blocks, there in ((self.checkpoint, networks.NETWORKS), (self.degradation, networks.DEGRADATIONS)):
            if unknown := [each.network for each in blocks if each.network not in there]:
                raise ValueError(f"there is no network {unknown[0]!r}")
        for what in ("name", "file"):
            counts = Counter(getattr(checkpoint, what) for checkpoint in (*self.checkpoint, *self.degradation))
            if twice := [value for value, count in counts.items() if value is not None and count > 1]:
                raise ValueError(f"two checkpoints have the {what} {twice[0]!r}")
        return self


# ---------------------------------------------------------------------------------------------------------- looking


def catalog() -> tuple[Checkpoint, ...]:
    """All checkpoints in the order of weights.toml.

    Raises:
        WeightsError: the file is missing or does not fit its schema.
    """
    return read(catalog_path())


def degradations() -> tuple[Checkpoint, ...]:
    """The checkpoints of networks that darken, in the order of weights.toml. Raises as `catalog`."""
    return _whole(catalog_path()).degradation


def stated() -> tuple[Published, ...]:
    """The figures of papers, also for networks without weights, in the order of weights.toml. Raises as `catalog`."""
    return _whole(catalog_path()).published


def of(network: str) -> list[Checkpoint]:
    """The checkpoints of a network, or of a degradation, its default first. Raises as `catalog`."""
    table = degradations() if network in networks.DEGRADATIONS else catalog()
    return [checkpoint for checkpoint in table if checkpoint.network == network]


def check_tag(tag: str) -> None:
    """Check that `tag` can name a checkpoint: it becomes part of a file name and of weights.toml.

    Raises:
        UsageError: it cannot.
    """
    try:
        TypeAdapter(Tag).validate_python(tag)
    except ValidationError as error:
        raise UsageError(
            f"--tag {tag!r}: small letters, digits, - and _ make a tag, and it begins with a letter or digit"
        ) from error


def find(network: str, tag: str | None = None) -> Checkpoint:
    """The checkpoint `network.tag`, or the first of `network`.

    Raises:
        UsageError: no such network.
        WeightsError: no such checkpoint; the message names the nearest.
    """
    networks.known(network)
    tags = {checkpoint.tag: checkpoint for checkpoint in of(network)}
    if not tags:
        raise WeightsError(f"there are no weights for {network} yet; `lowlight train --model {network}` makes some")
    if tag is None:
        return next(iter(tags.values()))
    if tag not in tags:
        near = difflib.get_close_matches(tag, tags, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(tags)}"
        raise WeightsError(f"no weights {tag!r} for {network}: {hint} (a file is written ./{tag})")
    return tags[tag]


def named(name: str) -> Checkpoint:
    """The checkpoint called `network.tag`, or the default one of `network`.

    Raises:
        UsageError: no such network.
        WeightsError: no such checkpoint.
    """
    network, _, tag = name.partition(".")
    return find(network, tag or None)


def bundled(checkpoint: Checkpoint) -> Path | None:
    """Where a shipped checkpoint's file belongs; None if the checkpoint is not shipped."""
    return PACKAGE / "checkpoints" / checkpoint.file if checkpoint.file else None


def catalog_path() -> Path:
    """weights.toml: beside the modules in a wheel, at the top of the repository in an editable checkout."""
    inside = PACKAGE / "weights.toml"
    return inside if inside.is_file() else PACKAGE.parent / "weights.toml"


@functools.cache
def read(path: Path) -> tuple[Checkpoint, ...]:
    """The checkpoints of a file like weights.toml, each with the figures published for its network.

    Raises:
        WeightsError: it is missing, not TOML, or does not fit the schema; the message names the block and the field.
    """
    whole = _whole(path)
    stated: dict[str, list[Published]] = {}
    for figure in whole.published:
        stated.setdefault(figure.network, []).append(figure)
    return tuple(
        checkpoint.model_copy(update={"published": (*checkpoint.published, *stated.get(checkpoint.network, ()))})
        for checkpoint in whole.checkpoint
    )


def _whole(path: Path) -> _Catalog:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        return _Catalog.model_validate(tables)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}; install lowlight-cli again") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise WeightsError(f"{path}: {where}: {first['msg']}") from error


# ---------------------------------------------------------------------------------------------------------- adding


def block(path: Path) -> str:
    """A block for weights.toml that describes the file `path`, ready to paste, with empty metrics.

    Network, tag, input, recipe, steps, data and licence come from the file's metadata. Imports torch, to compare the
    file with its network.

    Raises:
        WeightsError: the file is not a complete lowlight checkpoint.
    """
    from lowlight_cli.weights import files

    metadata = inspect(path).metadata
    network = metadata.get("network", "")
    header = files.check(path, network)
    descriptor = networks.known(network)
    steps = metadata.get("steps")
    fields: dict[str, str | int] = {
        "network": network,
        "tag": metadata.get("tag") or path.stem.removeprefix(f"{network}."),
        "file": path.name,
        "sha256": disk.sha256(path),
        "bytes": header.bytes,
        "parameters": files.parameters(network),
        "licence": metadata.get("licence") or "unknown",
        "training_data": metadata.get("data") or "unknown",
        "recipe": (metadata.get("recipe") or "unknown") + (f", {steps} steps" if steps else ""),
        "input": metadata["input"],
        "paper": descriptor.paper,
        "paper_url": descriptor.url,
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    kind = "degradation" if network in networks.DEGRADATIONS else "checkpoint"
    return "\n".join([f"[[{kind}]]", *lines, "metrics = []"])
