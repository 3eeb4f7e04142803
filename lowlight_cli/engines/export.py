"""Export a network with its weights as one ONNX file, by torch's dynamo exporter, and compare it with torch.

    input (N, 3, H, W)  ->  pad by reflection to the stride  ->  network  ->  crop, clamp  ->  output (N, 3, H, W)

N, H and W may be any number from 1 on; `padded` has the parts before and after the network. The network's measurements
of the whole picture have names in the graph (`statistic_00`, ...), so that `cache.parts` can split it there.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

import lowlight_cli
from lowlight_cli.engines import cache
from lowlight_cli.engines.padded import THUMBNAIL, padded
from lowlight_cli.errors import DeviceError, LowlightError
from lowlight_cli.exposure import apply_gain, auto_gain
from lowlight_cli.networks import Descriptor, build, descriptor
from lowlight_cli.weights import files

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from torch import Tensor, nn

    from lowlight_cli.networks.layers import Network
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["OPSET", "PICTURES", "SIZES", "Difference", "Exported", "compared", "exported", "kept"]

Picture = NDArray[np.float32]

OPSET: Final = 18
"""The oldest opset that the exporter writes, which the most runtimes read."""

SIZES: Final = ((1, 1, 1), (1, 7, 19), (2, 33, 50), (1, 61, 129), (1, 97, 131))
"""Batch size, height and width of the test inputs for graphs: none is a multiple of a stride."""

PICTURES: Final = 16
"""Number of pictures used from a folder, for calibration and comparison."""

LARGEST: Final = 1.0
MEAN: Final = 0.5
TAIL: Final = 4.0
"""Tolerances for a graph in grey levels: `LARGEST` anywhere in float32; in lower precision `MEAN` on average and `TAIL`
at the 99.9th percentile."""


@dataclass(frozen=True)
class Difference:
    """How far a graph is from torch's float32, in grey levels of 255: the maxima over all tested inputs.

    Attributes:
        largest: difference of any value.
        mean: mean difference of an input.
        tail: 99.9th percentile of an input's differences.
    """

    largest: float
    mean: float
    tail: float

    def holds(self, precision: str) -> bool:
        """Whether the differences are within the tolerances for `precision`."""
        return self.largest <= LARGEST if precision == "fp32" else self.mean <= MEAN and self.tail <= TAIL


@dataclass(frozen=True)
class Exported:
    """A graph that was compared with torch: the bytes of its file, and how far it is off."""

    data: bytes
    difference: Difference


def kept(network: str, resolved: Resolved, precision: str = "fp32") -> Path:
    """Export a graph and cache it where engines look for it. Raises the errors of `exported` and `cache.keep`."""
    cache.refuse_unwritable()
    return cache.keep(exported(network, resolved, precision).data, network, resolved.sha256, precision)


def exported(network: str, resolved: Resolved, precision: str = "fp32", pictures: Sequence[Picture] = ()) -> Exported:
    """Export the graph of `network` in `precision`, and check that it agrees with torch at `SIZES`.

    Args:
        network: a name of `networks.NETWORKS`.
        resolved: where the weights are.
        precision: `fp32`, `fp16` or `int8`.
        pictures: (H, W, 3) float32 in [0, 1], not exposed; used to calibrate int8, and for the comparison too.

    Raises:
        DeviceError: a package is missing.
        WeightsError: the weights do not fit the network.
        LowlightError: the graph differs from torch by more than the tolerance.
    """
    module, metadata = files.filled(build, network, resolved.path)
    model = _model(network, module)
    import onnx

    from lowlight_cli.engines import onnx as runtime

    said = about(network, resolved, metadata, model)
    if precision == "fp16":
        model = runtime.half(model)
    elif precision == "int8":
        model = runtime.quantised(model, [_exposed(picture, metadata) for picture in pictures])
    said["precision"] = precision
    onnx.helper.set_model_props(model, said)
    data = model.SerializeToString(deterministic=True)
    inputs = [*_tried(), *(_exposed(picture, metadata) for picture in pictures)]
    difference = compared(module, runtime.opened(data), inputs)
    if not difference.holds(precision):
        may = f"{LARGEST:g} at most" if precision == "fp32" else f"{MEAN:g} on average and {TAIL:g} at 99.9 % at most"
        raise LowlightError(
            f"{network} in {precision} is off by {difference.mean:.2f} grey levels on average, {difference.tail:.2f} "
            f"at 99.9 %, {difference.largest:.2f} at most; allowed are {may}: nothing is written"
        )
    return Exported(data, difference)


def compared(
    module: nn.Module, run: Callable[[NDArray[np.float32]], NDArray[np.float32]], inputs: Sequence[NDArray[np.float32]]
) -> Difference:
    """Compare `run` with `module` in float32, clamped to [0, 1], on each of `inputs`, (N, 3, H, W)."""
    import torch

    differences = []
    for batch in inputs:
        with torch.inference_mode():
            wanted = module(torch.from_numpy(batch)).clamp(0, 1).numpy()
        off = np.abs(run(batch) - wanted) * 255
        differences.append((float(off.max()), float(off.mean()), float(np.quantile(off, 0.999))))
    largest, mean, tail = (max(column) for column in zip(*differences, strict=True))
    return Difference(largest, mean, tail)


def _tried() -> Iterator[NDArray[np.float32]]:
    """Yield dark test pictures of `SIZES`, (N, 3, H, W): a gradient with noise, always the same."""
    random = np.random.default_rng(0)
    for count, height, width in SIZES:
        slope = np.linspace(0.01, 0.4, width, dtype=np.float32)
        noise = random.normal(0, 0.02, (count, 3, height, width)).astype(np.float32)
        yield np.clip(slope + noise, 0, 1)


def _exposed(picture: Picture, metadata: Mapping[str, str]) -> NDArray[np.float32]:
    """A picture in the form that the network takes: (1, 3, H, W), exposed if the checkpoint wants that."""
    seen = apply_gain(picture, auto_gain(picture)) if metadata["input"] == "exposed" else picture
    return np.ascontiguousarray(seen.transpose(2, 0, 1)[None])


def _model(network: str, module: Network) -> ModelProto:
    """Export the network as a float32 model, and let ONNX check it."""
    from lowlight_cli.networks.fusing import fused

    try:
        import onnx
        import onnxscript  # noqa: F401  # the exporter needs it; imported here so that its absence is reported
    except ImportError as error:
        raise DeviceError(
            f"{error.name or error} is not installed, which exporting needs: pip install 'lowlight-cli[cpu]'"
        ) from error
    traits = descriptor(network)
    model = onnx.helper.make_model(
        padded(_traced(fused(copy.deepcopy(module)), traits), traits, thumbnail=module.wants_thumbnail),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=cache.IR_VERSION,
        producer_name="lowlight",
        producer_version=lowlight_cli.__version__,
    )
    onnx.checker.check_model(model)
    return model


def about(network: str, resolved: Resolved, metadata: Mapping[str, str], model: ModelProto) -> dict[str, str]:
    """The metadata to store in the graph's file."""
    licence = resolved.checkpoint.licence if resolved.checkpoint else metadata.get("licence", "unknown")
    tag = resolved.checkpoint.tag if resolved.checkpoint else metadata.get("tag", "unknown")
    return {
        "format": cache.FORMAT,
        "network": network,
        "tag": tag,
        "weights": resolved.sha256,
        "input": metadata["input"],
        "range": "0..1 sRGB-encoded RGB",
        "layout": "NCHW",
        "stride": str(descriptor(network).stride),
        "licence": licence,
        "precision": "fp32",
        "statistics": " ".join(
            sorted({name for node in model.graph.node for name in node.output if name.startswith("statistic_")})
        ),
    }


# ------------------------------------------------------------------------------------------------------------ inside


def _traced(network: Network, traits: Descriptor) -> GraphProto:
    """Trace the network alone: `padded` (and `thumbnail`) to `bright` and its statistics."""
    import torch
    from torch import nn

    from lowlight_cli.networks import statistics

    class Told(nn.Module):
        """The network with its statistics as further outputs, in the order of a forward pass."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, padded: Tensor, thumbnail: Tensor | None = None) -> tuple[Tensor, ...]:
            with statistics.recording() as held:
                if thumbnail is None:
                    bright: Tensor = self.network(padded)
                else:  # `forward` would take the thumbnail of the padded tile instead
                    bright = self.network.training_outputs(padded, thumbnail)["output"]  # type: ignore[call-arg]
            return bright, *held.values

    many = torch.export.Dim("pictures", min=1, max=2**16)
    high, wide = (torch.export.Dim(name, min=-(-16 // traits.stride), max=2**20) for name in ("high", "wide"))
    sizes: dict[str, Any] = {"padded": {0: many, 2: traits.stride * high, 3: traits.stride * wide}}
    drawn = torch.Generator("cpu").manual_seed(0)  # leaves the caller's random state alone
    size = (2, 3, 5 * 16, 7 * 16)  # all dimensions differ, so that the exporter confuses none with another
    inputs = [torch.rand(size, generator=drawn)]
    if network.wants_thumbnail:
        sizes["thumbnail"] = {0: many}
        inputs.append(torch.rand(2, 3, THUMBNAIL, THUMBNAIL, generator=drawn))
    told = Told().eval()
    with statistics.recording() as held, torch.inference_mode():
        network(inputs[0])
    names = ["bright", *(f"statistic_{i:02}" for i in range(len(held.values)))]
    with _quiet(), torch.no_grad():
        exported = torch.export.export(told, tuple(inputs), dynamic_shapes=sizes, strict=False)
        program = torch.onnx.export(
            exported,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(sizes),
            output_names=names,
            external_data=False,
        )
    assert program is not None
    graph: GraphProto = program.model_proto.graph
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about torch's own deprecations and packages not needed here.

    Also removes the environment variable for compiled code that it sets.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)  # "torchvision is not installed"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=r".*LeafSpec")  # from torch's own code
            warnings.filterwarnings("ignore", category=DeprecationWarning)  # about typing and ast, from onnxscript
            yield
    finally:
        log.setLevel(level)
        if before is None:
            os.environ.pop(name, None)
