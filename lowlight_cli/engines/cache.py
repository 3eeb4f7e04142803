"""Cache exported graphs by the hash of their weights, so that torch is needed only once. Does not import torch.

A graph's file name contains its network, the hashes of its weights and of the code that made it, and that of its own
content: a damaged file is not found, and made again. Next to it are the compiled models of runtimes on this machine.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Final

from lowlight_cli import __version__, disk, networks
from lowlight_cli.errors import OutputError, ResourceError, WeightsError
from lowlight_cli.weights import fetch

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
"""The version that ONNX Runtime reads from 1.20 on."""


def folder() -> Path:
    """The folder of cached graphs; it need not exist."""
    return fetch.cache_folder().with_name("graphs")


def refuse_unwritable() -> None:
    """Raise OutputError if no graph can be cached, before the work of making one."""
    if not disk.takes_files(folder()):
        raise OutputError(f"no graph can be kept in {folder()}: set LOWLIGHT_CACHE to a folder that can be written to")


def find(network: str, weights: str, precision: str = "fp32") -> Path | None:
    """Find the cached graph of these weights; None if there is none, or only a damaged one.

    Args:
        network: the network's name.
        weights: sha256 of the weights.
        precision: the precision that the graph computes in.
    """
    with contextlib.suppress(OSError):  # an unreadable folder counts as empty
        for path in sorted(folder().glob(f"{_stem(network, weights, precision)}-*.onnx")):
            if path.stem.endswith(disk.sha256(path)):
                return path
    return None


def keep(data: bytes, network: str, weights: str, precision: str = "fp32") -> Path:
    """Cache a graph for `find`, atomically; older graphs of the same weights are deleted.

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
    """A runtime's cached compiled model of a graph; None if there is none, or only a damaged one.

    Args:
        graph: a path from `find` or `keep`.
        machine: everything else that it depends on: runtime, processor, settings.
    """
    with contextlib.suppress(OSError):
        for path in folder().glob(f"{_compiled_stem(graph, machine)}-*.blob"):
            data = path.read_bytes()
            if path.stem.endswith(hashlib.sha256(data).hexdigest()):
                return data
    return None


def keep_compiled(data: bytes, graph: Path, machine: str) -> None:
    """Cache a compiled model for `compiled`; it is skipped if the disk is full or cannot be written to."""
    stem = _compiled_stem(graph, machine)
    target = folder() / f"{stem}-{hashlib.sha256(data).hexdigest()}.blob"
    with contextlib.suppress(OutputError, ResourceError), disk.replaced(target) as part:
        part.write_bytes(data)
        _drop(f"{stem}-*.blob", but=target)


def engines(graph: Path | bytes, machine: str) -> Path | None:
    """A folder for the engines that TensorRT builds from a graph in minutes; None if it cannot be created.

    Args:
        graph: a file or its bytes; the folder is named by its hash, as TensorRT does not compare weights itself.
        machine: everything else that the engines depend on.
    """
    with contextlib.suppress(OSError):
        content = hashlib.sha256(graph).hexdigest() if isinstance(graph, bytes) else disk.sha256(graph)
        place = folder() / f"tensorrt-{hashlib.sha256(machine.encode()).hexdigest()[:12]}-{content}.engines"
        place.mkdir(parents=True, exist_ok=True)
        return place
    return None


def clear() -> int:
    """Delete all cached graphs and everything compiled from them; returns the number of bytes freed.

    Raises:
        OutputError: a file cannot be deleted.
    """
    return disk.delete(folder(), r".+-[0-9a-f]{12}-[0-9a-f]{64}\.(onnx|blob|engines)")


def _drop(pattern: str, but: Path) -> None:
    """Delete files that match, except `but`; errors are ignored, as for files in use."""
    with contextlib.suppress(OSError):
        for path in folder().glob(pattern):
            if path != but:
                path.unlink(missing_ok=True)


def _compiled_stem(graph: Path, machine: str) -> str:
    """The graph's name with half of its content hash, and a hash of `machine`."""
    return f"{graph.stem[:-32]}-{hashlib.sha256(machine.encode()).hexdigest()[:12]}"


def parts(path: Path) -> tuple[bytes, bytes]:
    """Split a graph into two at its statistics.

    Returns:
        measure: `input` to the statistics; replay: `input` and the statistics to `output`.

    Raises:
        WeightsError: the file does not exist or cannot be read.
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
    """A graph of one node, to test a runtime with."""
    from onnx import parser

    head = f'<ir_version: {IR_VERSION}, opset_import: ["" : 18]>'
    body = "smallest (float[N, 3, H, W] input) => (float[N, 3, H, W] output) { output = Relu (input) }"
    data: bytes = parser.parse_model(head + body).SerializeToString()
    return data


def _stem(network: str, weights: str, precision: str) -> str:
    """`network-precision-weights-code`: a change of the network's code gives another name."""
    return f"{network}-{precision}-{weights[:24]}-{_code(network)}"


@functools.cache
def _code(network: str) -> str:
    """A hash of the source files that determine what a graph computes; without them, of the version."""
    room, here = Path(networks.__file__).parent, Path(__file__).parent
    module = networks.descriptor(network).factory.partition(":")[0]
    common = (room / "layers.py", room / "statistics.py", room / "fusing.py", here / "export.py", here / "padded.py")
    digest = hashlib.sha256()
    try:
        for source in (room / f"{module}.py", *common):
            digest.update(source.read_bytes())
    except OSError:
        digest.update(__version__.encode())
    return digest.hexdigest()[:12]
