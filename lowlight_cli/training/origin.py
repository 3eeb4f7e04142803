"""The checkpoint that a run starts from; its training data and licence carry over to the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lowlight_cli import disk
from lowlight_cli.weights import files
from lowlight_cli.weights.catalog import of

__all__ = ["Origin", "read"]


@dataclass(frozen=True)
class Origin:
    """A checkpoint to start from.

    Attributes:
        name: `network.tag`, or the file's name if it has no tag.
        sha256: hash of the file.
        input: "exposed" or "as-is": the input it was trained on.
        data: its training data.
        licence: its licence terms.
    """

    name: str
    sha256: str
    input: str
    data: str
    licence: str


def read(path: Path, network: str) -> Origin:
    """Describe a checkpoint file by its entry in weights.toml or, if it has none, by its own metadata.

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
