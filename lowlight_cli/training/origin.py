"""The weights that a run starts from: what they have seen and whose terms apply goes on with what is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lowlight_cli.weights import disk, files
from lowlight_cli.weights.catalog import of

__all__ = ["Origin", "read"]


@dataclass(frozen=True)
class Origin:
    """A checkpoint to start from.

    Attributes:
        name: `network.tag`.
        sha256: of the file.
        input: "exposed" or "as-is", what it wants to see.
        data: what it has seen.
        licence: its terms.
    """

    name: str
    sha256: str
    input: str
    data: str
    licence: str


def read(path: Path, network: str) -> Origin:
    """What weights.toml says of a file, where it is one of those, else what the file says of itself.

    Raises:
        WeightsError: it holds no weights for `network`.
        LowlightError: weights.toml cannot be read.
    """
    about = files.check(path, network).metadata
    found = disk.sha256(path)
    if known := next((checkpoint for checkpoint in of(network) if checkpoint.sha256 == found), None):
        return Origin(known.name, found, known.input, known.training_data, known.licence)
    name = f"{network}.{about['tag']}" if about.get("tag") else path.name
    return Origin(name, found, about["input"], about.get("data") or "unknown", about.get("licence") or "unknown")
