"""Exported graphs on this machine: kept by the hash of their weights, so that torch is needed once. No torch here.

A graph's file is called after its network, its weights and the code that made it, and after its own content: what is
damaged is not found, and made again. Beside it lies what a runtime made of it for this machine, which saves that work.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Final

from lowlight_cli import networks
from lowlight_cli.errors import OutputError, ResourceError, WeightsError
from lowlight_cli.weights import disk, fetch

__all__ = [
    "FORMAT",
    "IR_VERSION",
    "clear",
    "compiled",
    "engines",
    "find",
    "folder",
    "keep",
    "keep_compiled",
    "parts",
    "refuse_unwritable",
    "smallest",
]

FORMAT: Final = "lowlight-graph-1"

IR_VERSION: Final = 10
"""What ONNX Runtime reads from 1.20 on."""


def folder() -> Path:
    """Where graphs are kept; it need not exist."""
    return fetch.cache_folder().with_name("graphs")


def refuse_unwritable() -> None:
    """Say that no graph can be kept, before the work of making one. Raises OutputError."""
    if not disk.takes_files(folder()):
        raise OutputError(f"no graph can be kept in {folder()}: set LOWLIGHT_CACHE to a folder that can be written to")


def find(network: str, weights: str, precision: str = "fp32") -> Path | None:
    """The graph that was made of these weights; None where there is none, or a damaged one.

    Args:
        network: its name.
        weights: their sha256.
        precision: what the graph computes in.
    """
    with contextlib.suppress(OSError):  # what may not be looked into has nothing for us
        for path in sorted(folder().glob(f"{_stem(network, weights, precision)}-*.onnx")):
            if path.stem.endswith(disk.sha256(path)):
                return path
    return None


def keep(data: bytes, network: str, weights: str, precision: str = "fp32") -> Path:
    """Put a graph where `find` finds it, whole or not at all; older ones of the same weights go.

    Raises:
        OutputError: the folder cannot be written.
        ResourceError: the disk is full.
    """
    stem = _stem(network, weights, precision)
    target = folder() / f"{stem}-{hashlib.sha256(data).hexdigest()}.onnx"
    with disk.replaced(target) as part:
        part.write_bytes(data)
    _drop(f"{stem.rpartition('-')[0]}-*", but=target)
    return target


def compiled(graph: Path, machine: str) -> bytes | None:
    """What a runtime once made of a kept graph; None where there is nothing, or something damaged.

    Args:
        graph: of `find` or `keep`.
        machine: all else that it depends on: runtime, processor, settings.
    """
    with contextlib.suppress(OSError):
        for path in folder().glob(f"{_compiled_stem(graph, machine)}-*.blob"):
            data = path.read_bytes()
            if path.stem.endswith(hashlib.sha256(data).hexdigest()):
                return data
    return None


def keep_compiled(data: bytes, graph: Path, machine: str) -> None:
    """Put it where `compiled` finds it; a disk without room for it is none the worse."""
    stem = _compiled_stem(graph, machine)
    target = folder() / f"{stem}-{hashlib.sha256(data).hexdigest()}.blob"
    with contextlib.suppress(OutputError, ResourceError), disk.replaced(target) as part:
        part.write_bytes(data)
        _drop(f"{stem}-*.blob", but=target)


def engines(graph: Path | bytes, machine: str) -> Path | None:
    """A folder for what TensorRT makes of a graph, which takes it minutes; None where none can be had.

    Args:
        graph: a file or its bytes; TensorRT itself does not look whether the weights are the same.
        machine: all else that it depends on.
    """
    with contextlib.suppress(OSError):
        content = hashlib.sha256(graph).hexdigest() if isinstance(graph, bytes) else disk.sha256(graph)
        place = folder() / f"tensorrt-{hashlib.sha256(machine.encode()).hexdigest()[:12]}-{content}.engines"
        place.mkdir(parents=True, exist_ok=True)
        return place
    return None


def clear() -> int:
    """Remove every graph that was kept, and what was made of them; the bytes that this frees.

    Raises:
        OutputError: it cannot be deleted.
    """
    return disk.delete(folder(), r".+-[0-9a-f]{12}-[0-9a-f]{64}\.(onnx|blob|engines)")


def _drop(pattern: str, but: Path) -> None:
    """Delete older files; what stays, in use perhaps, is not found any more."""
    with contextlib.suppress(OSError):
        for path in folder().glob(pattern):
            if path != but:
                path.unlink(missing_ok=True)


def _compiled_stem(graph: Path, machine: str) -> str:
    """A graph's name with the half of its hash, and a hash of the rest."""
    return f"{graph.stem[:-32]}-{hashlib.sha256(machine.encode()).hexdigest()[:12]}"


def parts(path: Path) -> tuple[bytes, bytes]:
    """Two graphs out of one, cut at its statistics.

    Returns:
        measure: `input` to the statistics; replay: `input` and the statistics to `output`.

    Raises:
        WeightsError: the file is gone, or cannot be read.
    """
    import onnx
    from onnx.utils import Extractor

    try:
        model = onnx.load(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    names = {entry.key: entry.value for entry in model.metadata_props}["statistics"].split()
    cut = Extractor(model)
    measure = cut.extract_model(["input"], names)
    replay = cut.extract_model(["input", *names], ["output"])
    return measure.SerializeToString(), replay.SerializeToString()


def smallest() -> bytes:
    """A graph of one node, to try a runtime with."""
    from onnx import parser

    head = f'<ir_version: {IR_VERSION}, opset_import: ["" : 18]>'
    body = "smallest (float[N, 3, H, W] input) => (float[N, 3, H, W] output) { output = Relu (input) }"
    data: bytes = parser.parse_model(head + body).SerializeToString()
    return data


def _stem(network: str, weights: str, precision: str) -> str:
    """`network-precision-weights-code`: another version of the network's code is another graph."""
    return f"{network}-{precision}-{weights[:24]}-{_code(network)}"


@functools.cache
def _code(network: str) -> str:
    """A hash over the sources that decide what a graph computes."""
    room, here = Path(networks.__file__).parent, Path(__file__).parent
    module = networks.descriptor(network).factory.partition(":")[0]
    common = (room / "layers.py", room / "statistics.py", room / "fusing.py", here / "export.py", here / "frame.py")
    digest = hashlib.sha256()
    for source in (room / f"{module}.py", *common):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
