"""Speed of networks on this machine: engines and precisions side by side in one run, and the share of peak they reach.

Every row is warmed up, then all rows take turns, so that other load on the machine affects all of them. Work counts the
multiply-adds of the convolutions. The peak is what torch reaches here on one convolution, which takes turns with the
rows: if others share a processor's matrix units, their throughput can change threefold within a minute.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import engines, heap
from lowlight_cli.bench.methods import Choice
from lowlight_cli.bench.report import Table, environment
from lowlight_cli.bench.speed_peak import CHANNELS, Eager, bandwidth, convolution, roofline
from lowlight_cli.engines import Engine, Tiling, hardware
from lowlight_cli.errors import DeviceError, LowlightError
from lowlight_cli.exposure import apply_gain, auto_gain
from lowlight_cli.look import Look, exposing_gain, finish
from lowlight_cli.networks import build, descriptor
from lowlight_cli.pictures import Photo, encode, read
from lowlight_cli.weights import fetch, files

if TYPE_CHECKING:
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["DEFINITIONS", "SCHEMA", "Row", "Speed", "as_json", "measure", "table", "wishes"]

Picture = NDArray[np.float32]

SCHEMA: Final = "lowlight-speed-1"

WARM: Final = 3.0
"""Seconds of warm-up, at least one picture: enough for a runtime to finish work that it defers for a new size."""

WARM_ON_GPU: Final = 1.0
"""The same on a GPU, where torch defers work until the second picture only."""

BUDGET: Final = 384 * 384
"""Number of pixels for which descriptors state their multiply-adds; work is proportional to pixels."""

DEFINITIONS: Final = {
    "ms": "milliseconds a picture, median, after three seconds to warm up; without reading, writing and exposing",
    "spread": "between the quartiles",
    "times": "how many times as fast as `eager` in the same run: the network in torch as it was built, fp32 and NCHW",
    "GMAC/s": "multiply-adds of the convolutions, by the network's budget, a second; twice that is FLOP/s",
    "of peak": f"of what torch reaches on one convolution of 3x3, {CHANNELS} to {CHANNELS} channels, in the same "
    "precision and the same turns",
    "GPU ms": "likewise, of a GPU with the picture lying there; GMAC/s and both shares are then by this time",
    "of roof": "what the network's convolutions take at least of that time, each at that peak or at the rate of a copy "
    "in the GPU's memory, whichever takes longer",
    "MB": "the most that the process held during one picture, above what it held before",
}
"""What the columns mean."""


@dataclass(frozen=True)
class Row:
    """One network in one engine and precision.

    Attributes:
        name: name of the checkpoint.
        engine: `name` of the `engines.Engine`.
        provider: `provider` of the engine.
        device: `device` of the engine.
        precision: `precision` of the engine.
        seconds: time of each picture.
        gmacs: multiply-adds of one picture, in 1e9.
        peak: multiply-adds a second of one convolution in this precision, in 1e9, the median of the runs between the
            pictures; None if torch does not have the device.
        bytes: peak of main memory; None if the system does not report it.
        on_gpu: median seconds with the picture already in GPU memory; None elsewhere.
        roof: `speed_peak.roofline`, seconds; None elsewhere.
    """

    name: str
    engine: str
    provider: str
    device: str
    precision: str
    seconds: tuple[float, ...]
    gmacs: float
    peak: float | None
    bytes: int | None
    on_gpu: float | None = None
    roof: float | None = None

    @property
    def rate(self) -> float:
        """Multiply-adds a second, in 1e9, by the time on the GPU if there is one."""
        return self.gmacs / (self.on_gpu or self.median)

    @property
    def median(self) -> float:
        """Median seconds a picture."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Seconds between the quartiles."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(high - low)


@dataclass(frozen=True)
class Speed:
    """Everything that was measured.

    Attributes:
        size: width and height of the picture.
        rows: network by network in the order of `wishes`, `eager` first if torch has the device.
        peaks: the best `Row.peak` of each precision that has one.
        decode: megapixels a second when reading a JPEG from memory.
        finish: megapixels a second of what surrounds the network: exposing the picture, and the look.
        encode: megapixels a second when writing a JPEG to memory.
        bandwidth: gigabytes a second that a copy within the GPU's memory reads and writes; None without a GPU.
    """

    size: tuple[int, int]
    rows: tuple[Row, ...]
    peaks: dict[str, float]
    decode: float
    finish: float
    encode: float
    bandwidth: float | None = None


def wishes(engine: str, precision: str, *, compiled: bool = False) -> list[tuple[str, str, bool]]:
    """Return what to measure, torch in fp32 first; engine `auto` means all installed ones.

    Returns:
        Engine, precision, and whether it is compiled; what is compiled follows the same one that is not.
    """
    names = [name for name in engines.ENGINES if name == "torch" or hardware.installed(*engines.NEEDED[name])]
    named = names if engine == "auto" else list(dict.fromkeys(("torch", engine)))
    kinds = ("fp32", "bf16") if precision == "auto" else tuple(dict.fromkeys(("fp32", precision)))
    found = list[tuple[str, str, bool]]()
    for name in named:
        for kind in kinds:
            found.append((name, kind, False))
            if compiled and name == "torch" and precision in ("auto", kind):
                found.append((name, kind, True))
    return found


def measure(
    choices: Sequence[Choice],
    *,
    engine: str = "auto",
    precision: str = "auto",
    size: tuple[int, int] = (600, 400),
    runs: int = 5,
    device: str = "auto",
    compiled: bool = False,
    offline: bool = False,
    on_message: Callable[[str], None] | None = None,
    on_done: Callable[[float], None] | None = None,
) -> Speed:
    """Measure each network in the engines and precisions of `wishes`; those not available are reported and left out.

    Args:
        choices: networks and weights.
        engine: as for `engines.load`; `auto` means all installed ones.
        precision: as for `engines.load`; `auto` means fp32, and bf16 except for torch on a CPU that emulates it.
        size: width and height of the picture.
        runs: how many pictures to time for each row.
        device: as for `engines.load`.
        compiled: also measure torch compiled, on an NVIDIA GPU.
        offline: never use the network.
        on_message: called with a line for each combination left out.
        on_done: called with 1 after each network.

    Raises:
        UsageError: the device name is invalid, or the engine is not one that compiles.
        LowlightError: none of the requested combinations is available; DeviceError if the device is the reason.
        WeightsError: weights that are missing, wrong or unreachable.
        ResourceError: the memory does not suffice.
    """
    if compiled and engine != "auto":
        engines.check_compiles(engine)
    picture, place = _picture(size), _place(device)
    copied = bandwidth(place) if place and place.startswith("cuda") else None
    rows, told = list[Row](), set[str]()
    for choice in choices:
        resolved = fetch.resolve(choice.network, choice.weights, offline=offline, on_message=on_message)
        name = resolved.checkpoint.name if resolved.checkpoint else f"{choice.network} ({choice.weights})"
        found, left_out = _loaded(choice.network, resolved, engine, device, precision, compiled)
        for line in left_out:
            if on_message and line not in told:
                on_message(line)
            told.add(line)
        loaded: list[Engine | Eager] = [_eager(choice.network, resolved, place)] if place else []
        loaded += found
        for each in loaded:
            _warm_up(each, picture)
        seconds: list[list[float]] = [[] for _ in loaded]
        convolve = {each.precision: convolution(each.precision, size, place) for each in loaded if place}
        convolved: dict[str, list[float]] = {kind: [] for kind in convolve}
        for _ in range(runs):
            for each, kept in zip(loaded, seconds, strict=True):
                start = time.perf_counter()
                each.run(picture)
                kept.append(time.perf_counter() - start)
            for kind, convolved_once in convolve.items():
                convolved[kind].append(convolved_once())
        work = descriptor(choice.network).gmacs * size[0] * size[1] / BUDGET
        for each, kept in zip(loaded, seconds, strict=True):
            ran = each.name, each.provider, each.device, each.precision
            peak = statistics.median(convolved[each.precision]) if place else None
            on_gpu, roof = _on_gpu(each, picture, runs), None
            if on_gpu and peak and copied:
                roof = roofline(build(choice.network).eval(), size, each.precision, peak, copied)
            rows.append(Row(name, *ran, tuple(kept), work, peak, _memory(each, picture), on_gpu, roof))
        if on_done:
            on_done(1)
    reached = [(row.precision, row.peak) for row in rows if row.peak]
    peaks = {kind: max(peak for other, peak in reached if other == kind) for kind, _ in reached}
    return Speed(size, tuple(rows), peaks, *_surroundings(picture[0], runs), copied)


def table(speed: Speed) -> Table:
    """Return a table with one row for each network, engine and precision."""
    eager = {row.name: row.median for row in speed.rows if row.engine == "eager"}
    lines = []
    for row in speed.rows:
        lines.append(
            (
                row.name,
                f"{row.engine}, compiled" if row.provider == "inductor" else row.engine,
                row.precision,
                f"{row.median * 1e3:.3g}",
                f"{row.spread * 1e3:.2g}",
                f"{eager[row.name] / row.median:.2f}" if row.name in eager else "",
                f"{row.rate:.0f}",
                f"{row.rate / row.peak:.0%}" if row.peak else "",
                "" if row.on_gpu is None else f"{row.on_gpu * 1e3:.3g}",
                f"{row.roof / row.on_gpu:.0%}" if row.roof and row.on_gpu else "",
                "" if row.bytes is None else f"{row.bytes / 1e6:.0f}",
            )
        )
    return Table(("model", "engine", "precision", *DEFINITIONS), tuple(lines))


def as_json(speed: Speed) -> str:
    """Return everything as JSON: the times of every picture, versions and machine."""
    rows: list[dict[str, Any]] = [
        {**asdict(row), "median": row.median, "spread": row.spread, "gflops": 2 * row.rate} for row in speed.rows
    ]
    whole = {
        "schema": SCHEMA,
        "environment": {
            **environment(),
            **hardware.versions(*filter(hardware.installed, ("onnxruntime", "openvino", "onnx"))),
        },
        "definitions": DEFINITIONS,
        "width": speed.size[0],
        "height": speed.size[1],
        "peak_gmacs": speed.peaks,
        "copied_gigabytes": speed.bandwidth,
        "decode_megapixels": speed.decode,
        "finish_megapixels": speed.finish,
        "encode_megapixels": speed.encode,
        "rows": rows,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


# ------------------------------------------------------------------------------------------------------------ inside


def _picture(size: tuple[int, int]) -> Picture:
    """Make a dark picture with noise, (1, H, W, 3)."""
    width, height = size
    slope = np.linspace(0.01, 0.3, width, dtype=np.float32)[None, None, :, None]
    noise = np.random.default_rng(0).normal(0, 0.02, (1, height, width, 3)).astype(np.float32)
    picture: Picture = np.clip(slope + noise, 0, 1)
    return picture


def _place(device: str) -> str | None:
    """Return torch's name of the device; None if torch does not have it (other engines may)."""
    from lowlight_cli.engines.pytorch import choose_device

    try:
        return choose_device(device)
    except DeviceError:
        return None


def _loaded(
    network: str, resolved: Resolved, engine: str, device: str, precision: str, compiled: bool
) -> tuple[list[Engine], list[str]]:
    """Load what is available of `wishes`; return it, and why the rest is left out.

    Raises the first error if nothing that was explicitly requested is available.
    """
    emulated = _place(device) == "cpu" and hardware.bf16() is False
    loaded, had, lacking, left_out = list[Engine](), False, list[LowlightError](), list[str]()
    for name, kind, fused in wishes(engine, precision, compiled=compiled):
        if (name, kind, precision) == ("torch", "bf16", "auto") and emulated:
            left_out.append("torch in bf16 is left out: this CPU emulates it, slowly; --precision bf16 measures it")
            continue
        asked = engine in ("auto", name) and precision in ("auto", kind)
        try:
            made = engines.load(
                network, resolved, engine=name, device=device, precision=kind, tiling=Tiling(0), compiled=fused
            )
        except LowlightError as error:
            left_out.append(f"{name}{', compiled,' if fused else ''} in {kind} is left out: {error}")
            lacking += [error] if asked else []
        else:
            loaded.append(made)
            had = had or asked
    if not had:
        raise lacking[0]
    return loaded, left_out


def _eager(network: str, resolved: Resolved, place: str) -> Eager:
    return Eager(files.filled(build, network, resolved.path)[0].to(place), place)


def _warm_up(engine: Engine | Eager, picture: Picture) -> None:
    until = time.perf_counter() + (WARM_ON_GPU if engine.device.startswith("cuda") else WARM)
    engine.run(picture)
    while time.perf_counter() < until:
        engine.run(picture)


def _surroundings(picture: Picture, runs: int) -> tuple[float, float, float]:
    """Return megapixels a second for reading a JPEG from memory, for exposure and look, and for writing a JPEG."""
    data = encode(Photo(picture), format="jpg")

    def finished() -> Picture:
        bright = apply_gain(picture, auto_gain(picture))
        return finish(picture, bright, Look(), exposing_gain(picture, bright, Look()))

    steps: tuple[Callable[[], object], ...] = (
        lambda: read(data, name="the picture"), finished, lambda: encode(Photo(picture), format="jpg"),
    )  # fmt: skip
    seconds: tuple[list[float], ...] = ([], [], [])
    for _ in range(runs):
        for step, kept in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            kept.append(time.perf_counter() - start)
    decode, finishing, encoding = (picture.shape[0] * picture.shape[1] / 1e6 / statistics.median(x) for x in seconds)
    return decode, finishing, encoding


def _on_gpu(engine: Engine | Eager, picture: Picture, runs: int) -> float | None:
    """Return the median seconds of a pass on a GPU, or None if the engine cannot measure them."""
    from lowlight_cli.engines.pytorch import TorchEngine

    if not isinstance(engine, TorchEngine):
        return None
    seconds = [taken for _ in range(runs) if (taken := engine.seconds(picture.shape)) is not None]
    return statistics.median(seconds) if seconds else None


def _memory(engine: Engine | Eager, picture: Picture) -> int | None:
    """Return the peak memory of one picture in bytes, or None: only Linux can reset the peak (`VmHWM`)."""
    status = Path("/proc/self/status")
    if release := getattr(engine, "release", None):  # buffers kept from earlier pictures
        release()
    gc.collect()
    heap.give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _kilobytes(status, "VmRSS")
        engine.run(picture)
        return max(0, _kilobytes(status, "VmHWM") - before) * 1024
    except (OSError, KeyError):
        return None


def _kilobytes(status: Path, field: str) -> int:
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[field].split()[0])
