"""Read, write and convert weight files: safetensors with half-precision tensors and a few strings of metadata.

No tensor is read before the header has been compared with the network's own names and shapes. The project's only
`torch.load` is here, with `weights_only=True`: a pickle is read only to convert it.
"""

from __future__ import annotations

import functools
import json
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lowlight_cli import networks
from lowlight_cli.disk import replaced
from lowlight_cli.errors import ResourceError, WeightsError, first_line
from lowlight_cli.weights.header import Header, called, inspect, sniff

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FORMAT", "check", "convert", "filled", "load", "parameters", "save"]

M = TypeVar("M", bound="nn.Module")

FORMAT: Final = "lowlight-1"
"""The value of `format` in the metadata; another number means another layout."""

INPUTS: Final = ("exposed", "as-is")
"""What a network expects: the picture after one gain over the whole of it, or the picture unchanged."""

FLOATS: Final = ("F16", "BF16", "F32", "F64")
"""Element types that can be loaded; all become float32."""

WRAPPERS: Final = ("state_dict", "model_state_dict", "params_ema", "params", "model", "ema", "network", "generator")
"""Keys under which training programs store the tensors, next to optimiser state and counters."""

PREFIXES: Final = ("module.", "_orig_mod.")
"""Prefixes that torch's wrappers (DataParallel, compile) add to every name."""


# ---------------------------------------------------------------------------------------------------------- reading


def check(path: str | Path, network: str) -> Header:
    """Compare the header of `path` with `network`: format, name, every tensor's name and shape. Reads no tensor.

    Raises:
        WeightsError: the file is foreign, for another network or truncated, or a tensor is missing, unknown, of an
            unsupported type or of another shape.
    """
    header = inspect(path)
    way = f"`lowlight weights convert {path} --model {network or 'MODEL'} -o FILE.safetensors`"
    if (found := header.metadata.get("format")) != FORMAT:
        if not found and any(name.startswith("average.") for name in header.shapes):  # as training's `State` has it
            raise WeightsError(
                f"{path} is the state of a training, which only `lowlight train --resume` reads; its weights are in "
                "MODEL.TAG.safetensors beside it, once the training is done"
            )
        what = f"its format is {found!r}, this version reads {FORMAT!r}" if found else "it was not written by lowlight"
        raise WeightsError(f"{path}: {what}; {way} may read it")
    if not (found := header.metadata.get("network")):
        raise WeightsError(f"{path} does not say which network its weights are for; {way} notes it in a new file")
    if found not in networks.NETWORKS and found not in networks.DEGRADATIONS:
        raise WeightsError(
            f"{path} holds weights for {found!r}, a network that this version does not know; a newer one may, or "
            "choose other weights (`lowlight weights list`)"
        )
    if found != network:
        use = "`lowlight darken -w` takes it" if found in networks.DEGRADATIONS else f"use `--model {found}`"
        raise WeightsError(f"{path} holds weights for {found}, not for {network}: {use}")
    if (found := header.metadata.get("input")) not in INPUTS:
        raise WeightsError(f"{path}: `input` in its metadata is {found!r}, wanted {' or '.join(INPUTS)}")
    if fault := _differences(header.shapes, _layout(network).floats):
        raise WeightsError(f"{path} does not fit {network}: {fault}")
    if odd := sorted(name for name, kind in header.dtypes.items() if kind not in FLOATS):
        kind = header.dtypes[odd[0]]
        raise WeightsError(f"{path}: {odd[0]} has element type {kind}, wanted one of {', '.join(FLOATS)}")
    return header


def load(path: str | Path, network: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read weights for `network`.

    Returns:
        The state for `load_state_dict(..., strict=True)`: float32 on the CPU, integer buffers zero (batch counters,
        which only training reads); and the file's metadata.

    Raises:
        WeightsError: as `check`, or a value is not finite.
        ResourceError: there is not enough memory.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    header = check(path, network)
    try:
        with safe_open(path, framework="pt") as file:  # copies, as the file is unmapped after this
            state = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in header.shapes}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read the weights {path}: {first_line(error)}") from error
    except MemoryError as error:
        raise ResourceError(f"not enough memory for the weights {path}") from error
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite; the file is damaged")
    for name, shape in _layout(network).integers.items():
        state[name] = torch.zeros(shape, dtype=torch.int64)
    return state, header.metadata


def filled(make: Callable[[str], M], network: str, path: str | Path) -> tuple[M, dict[str, str]]:
    """Build a network on the CPU and load its weights, whatever the caller's default device and random state.

    Args:
        make: `networks.build` or `networks.module`.
        network: its name.
        path: the weights.

    Returns:
        The network, ready for inference; and the file's metadata.

    Raises:
        WeightsError, ResourceError: as `load`.
    """
    import torch

    state, metadata = load(path, network)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        made = make(network)
    made.load_state_dict(state, strict=True)
    return made.eval().requires_grad_(False), metadata


def parameters(network: str) -> int:
    """The number of trained values of `network`, without buffers."""
    return _layout(network).trained


# ---------------------------------------------------------------------------------------------------------- writing


def save(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights atomically: floats as float16, or float32 if a value is too large; integer buffers are dropped.

    The same weights and metadata give the same bytes.

    Args:
        path: the file to write; replaced if it exists.
        state: a network's whole `state_dict()`.
        metadata: `network` and `input` at least; `tag`, `recipe`, `data`, `licence`, `config`, `steps` if known.

    Raises:
        UsageError: no such network.
        WeightsError: the metadata are incomplete, the state does not fit the network, or a value is not finite.
        OutputError: the file cannot be written.
        ResourceError: the disk is full.
    """
    import torch
    from safetensors.torch import save as to_bytes

    strings = {**metadata, "format": FORMAT}
    if lacking := {"network", "input"} - strings.keys():
        raise WeightsError(f"{path}: the metadata lack {' and '.join(sorted(lacking))}")
    networks.known(strings["network"])
    half: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name} holds values that are no numbers; the training went wrong")
        small = tensor.detach().to("cpu", torch.float16, copy=True).contiguous()
        fits = bool(torch.isfinite(small).all())  # a batch norm's variance may exceed 65,504
        half[name] = small if fits else tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
    with replaced(Path(path)) as part:
        part.write_bytes(_in_order(to_bytes(half, metadata=strings)))
        with called(part, str(path)):
            check(part, strings["network"])


def convert(
    source: Path | Sequence[Path],
    network: str,
    target: Path,
    metadata: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> None:
    """Convert foreign weights into ours: .pth, .pt (without running code that they contain) or .safetensors.

    Nested states are flattened with dots (`{"encoder": {"a": ...}}` is `encoder.a`), the usual wrappers are opened.

    Args:
        source: a file, or several that together hold the network.
        network: the network that they are for.
        target: the file to write.
        metadata: as for `save`; missing entries are taken from a safetensors source.
        defaults: entries that neither of them has; without one for `input`, "as-is" is used.

    Raises:
        WeightsError: a source is missing, cannot be read without running its code, or does not fit the network.
        OutputError: the target cannot be written.
        ResourceError: the disk is full.
    """
    networks.known(network)
    sources = [source] if isinstance(source, Path) else list(source)
    wanted = _layout(network).floats
    state: dict[str, Tensor] = {}
    strings = {"input": "as-is", **(defaults or {})}
    for path in sources:
        if path.suffix == ".safetensors":
            strings |= inspect(path).metadata
        try:
            state |= _unwrapped(_tree(path), wanted.keys())
        except RecursionError as error:
            raise WeightsError(f"{path} holds itself, or is nested without end; wanted named tensors") from error
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    if fault := _differences({name: tuple(tensor.shape) for name, tensor in floats.items()}, wanted):
        part = wanted.keys() - floats.keys() and wanted.keys() & floats.keys()
        more = "; is the rest in another file? Give both: several together make one network" if part else ""
        raise WeightsError(f"{', '.join(map(str, sources))} does not fit {network}: {fault}{more}")
    save(target, floats, {**strings, **(metadata or {}), "network": network})


# ---------------------------------------------------------------------------------------------------------- inside


@dataclass(frozen=True)
class _Layout:
    """The shapes of a network's float and integer tensors by name, and the number of trained values."""

    floats: dict[str, tuple[int, ...]]
    integers: dict[str, tuple[int, ...]]
    trained: int


@functools.cache
def _layout(network: str) -> _Layout:
    """The layout, read off a built network; not on torch's meta device, whose first use spends a second on imports."""
    import torch

    with torch.random.fork_rng(devices=[]):  # do not advance the caller's random numbers
        built = networks.module(network)
    shapes: dict[bool, dict[str, tuple[int, ...]]] = {True: {}, False: {}}
    for name, tensor in built.state_dict().items():
        shapes[tensor.is_floating_point()][name] = tuple(tensor.shape)
    return _Layout(shapes[True], shapes[False], sum(tensor.numel() for tensor in built.parameters()))


def _differences(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """The missing, unknown and misshapen tensors, in a few words; empty if all fit."""
    faults = []
    if missing := sorted(wanted.keys() - found.keys()):
        faults.append(f"{len(missing)} of {len(wanted)} tensors are missing (first {missing[0]})")
    if extra := sorted(found.keys() - wanted.keys()):
        faults.append(f"{len(extra)} unknown (first {extra[0]})")
    if bent := sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name]):
        first = bent[0]
        shapes = ("x".join(map(str, shape)) or "a number" for shape in (found[first], wanted[first]))
        faults.append("shape of {} is {}, wanted {}".format(first, *shapes))
    return ", ".join(faults)


def _tree(path: Path) -> Mapping[Any, Any]:
    """Read the tensors of a foreign file, nested as its authors nested them."""
    import torch

    if path.suffix == ".safetensors":
        inspect(path)
        from safetensors.torch import load_file

        return load_file(path)
    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle formats: all names are compared later
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # untrusted bytes: the unpickler and the archive reader fail in a dozen ways
        raise WeightsError(f"cannot read {path} safely (tensors only, no code): {_refusal(path, error)}") from error
    if not isinstance(tree, Mapping):
        raise WeightsError(f"{path} holds a {type(tree).__name__}, wanted named tensors")
    return tree


def _refusal(path: Path, error: Exception) -> str:
    """Why a pickle was refused, in a few words."""
    text = str(error).lower()
    if "unsupported global" in text or "torchscript" in text:
        return "it wants to run code when it is read, which is refused"
    with path.open("rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):
            return sniff(path) or "it is not a .pth, .pt or .safetensors file"
    return "it holds more than tensors" if isinstance(error, pickle.UnpicklingError) else "it is cut off or damaged"


def _unwrapped(tree: Mapping[Any, Any], wanted: Set[str]) -> dict[str, Tensor]:
    """`tree` or the content of one of its usual wrappers, flattened: the one that shares most names with `wanted`."""
    inner = [tree, *(tree[key] for key in WRAPPERS if isinstance(tree.get(key), Mapping))]
    return max((_flat(part) for part in inner), key=lambda flat: len(flat.keys() & wanted))


def _flat(tree: Mapping[Any, Any], before: str = "") -> dict[str, Tensor]:
    """Flatten nested mappings, joining names with dots; drops `PREFIXES` and everything that is not a tensor."""
    import torch

    flat: dict[str, Tensor] = {}
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif isinstance(value, torch.Tensor):
            for prefix in PREFIXES:
                name = name.removeprefix(prefix)
            flat[name] = value
    return flat


def _in_order(raw: bytes) -> bytes:
    """The same file with its metadata sorted, because safetensors writes them in an order that varies between runs."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as safetensors aligns the tensors
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]
