"""The torch engine: which device and precision, what comes out, how running out of memory looks; the memory table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran
from numpy.typing import NDArray

from lowlight_cli import engines
from lowlight_cli.engines import hardware, memory, pytorch
from lowlight_cli.errors import DeviceError, LowlightError, ResourceError, UsageError
from lowlight_cli.networks import NETWORKS
from lowlight_cli.weights.catalog import catalog
from lowlight_cli.weights.fetch import Resolved

Load = Callable[..., engines.Engine]


@pytest.fixture
def load(seeded: Callable[[str], Path]) -> Load:
    def loaded(network: str = "dgaf", **options: str) -> engines.Engine:
        return engines.load(network, Resolved(seeded(network), "0" * 64, None), **options)

    return loaded


@pytest.fixture
def batch() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((2, 33, 50, 3), np.float32) * 0.3


def test_what_an_engine_tells(load: Load) -> None:
    engine = load(device="cpu", precision="fp32")
    assert (engine.name, engine.device, engine.precision, engine.why) == ("torch", "cpu", "fp32", "")
    assert engine.metadata["network"] == "dgaf" and engine.metadata["input"] == "as-is"


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_runs(load: Load, batch: NDArray[np.float32], network: str) -> None:
    out = load(network, precision="fp32").run(batch)
    assert (out.shape, out.dtype) == (batch.shape, np.float32)
    assert out.min() >= 0 and out.max() <= 1 and np.isfinite(out).all()


def test_output_is_clamped(load: Load, batch: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = load(precision="fp32")
    monkeypatch.setattr(engine.module, "forward", lambda x: x * 20 - 1)
    out = engine.run(batch)
    assert (out.min(), out.max()) == (0, 1)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near(load: Load, batch: NDArray[np.float32], precision: str) -> None:
    full, half = (load(precision=each).run(batch) for each in ("fp32", precision))
    assert np.abs(full - half).mean() * 255 < 0.5
    assert half.dtype == np.float32


def test_a_view_is_taken(load: Load, batch: NDArray[np.float32]) -> None:
    engine = load(precision="fp32")
    assert np.array_equal(engine.run(batch[:, ::-1, ::2]), engine.run(batch[:, ::-1, ::2].copy()))


@pytest.mark.parametrize(
    ("wanted", "device", "safe", "hardware", "chosen"),
    [
        ("auto", "cpu", True, True, "bf16"),
        ("auto", "cpu", True, False, "fp32"),
        ("auto", "cpu", False, True, "fp32"),
        ("fp16", "cpu", True, False, "fp16"),
        ("auto", "mps", True, True, "fp32"),
        ("auto", "cuda:0", True, True, "bf16"),
        ("auto", "cuda:0", True, False, "fp16"),
        ("auto", "cuda:0", False, True, "fp32"),
        ("fp32", "cuda:0", True, True, "fp32"),
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: str, safe: bool, hardware: bool, chosen: str
) -> None:
    monkeypatch.setattr(pytorch, "cpu_bf16", lambda: hardware)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6) if hardware else (7, 5))
    assert pytorch.choose_precision(wanted, device, safe=safe) == chosen


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first with bf16, the second without; the first is current."""
    cards = {"cuda:0": (8, 6), "cuda:1": (7, 5)}
    monkeypatch.setattr(pytorch, "devices", lambda: [*cards, "cpu"])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device="cuda:0": cards[device])
    on = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: on(self, "cpu"))
    monkeypatch.setattr(pytorch, "halve", lambda *_: None)  # it would run a pass


@pytest.mark.usefixtures("two_cards")
def test_a_card_is_asked_for_its_own_precision(load: Load) -> None:
    assert [load(device=device).precision for device in ("cuda:0", "cuda:1", "auto")] == ["bf16", "fp16", "bf16"]


@pytest.mark.usefixtures("two_cards")
def test_cards_of_two_generations_compute_alike(load: Load) -> None:
    """Else it would be chance in which precision a picture of a batch is made."""
    for device in ("cuda:0,1", "cuda:1,0"):
        several: Any = load(device=device)
        each = [several._free.get() for _ in range(several.count)]
        assert {several.precision, *(engine.precision for engine in each)} == {"fp16"}


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    assert [pytorch.choose_device(each) for each in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:0", "cuda:0", "cuda:1", "cpu",
    ]  # fmt: skip
    with pytest.raises(DeviceError, match=r"device 'cuda:2' is not available.*use --device cuda:0 or cuda:1 or cpu"):
        pytorch.choose_device("cuda:2")
    with pytest.raises(DeviceError, match="'mps'"):
        pytorch.choose_device("mps")
    with pytest.raises(UsageError, match="'cuda:x'"):
        pytorch.choose_device("cuda:x")


MISFITS = [
    ("no kernel image is available for execution on the device", DeviceError, 6),
    ("CUDA-capable device(s) is/are busy or unavailable", DeviceError, 6),
    ("out of memory", ResourceError, 7),
]
"""What cards say that are there and take nothing: under a torch that is not built for them, used by others, full."""


@pytest.fixture
def misfit(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Two cards that say so at the first thing that is put on them."""
    told = f"CUDA error: {request.param}\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    on = torch.nn.Module.to

    def to(module: torch.nn.Module, *words: Any, **named: Any) -> torch.nn.Module:
        if str(named.get("device")).startswith("cuda"):
            raise torch.AcceleratorError(told)
        return on(module, *words, **named)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 0))
    monkeypatch.setattr(pytorch, "devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    monkeypatch.setattr(hardware, "gpu", lambda: True)


@pytest.mark.parametrize(("misfit", "error", "code"), MISFITS, indirect=["misfit"])
@pytest.mark.usefixtures("misfit")
def test_a_card_that_takes_nothing(load: Load, error: type[LowlightError], code: int) -> None:
    told = "has not the memory" if error is ResourceError else "does not work (CUDA error: "
    with pytest.raises(error, match=r"^cuda:1 [^\n]*: use another --device$") as refused:
        load(device="cuda:1")
    assert refused.value.exit_code == code
    engine = load()
    assert engine.device == "cpu" and "use another" not in engine.why
    assert all(f"{card} {told}" in engine.why for card in ("cuda:0", "cuda:1"))


@pytest.mark.parametrize("misfit", [MISFITS[0][0]], indirect=True)
@pytest.mark.usefixtures("misfit")
def test_the_command_goes_on_by_the_processor(lowlight: Callable[..., Ran], photo: Path) -> None:
    ran = lowlight("enhance", photo)
    assert ran.code == 0 and "on cpu" in ran.err and "no kernel image" in ran.err
    ran = lowlight("enhance", photo, "--device", "cuda", "--exist", "overwrite")
    assert ran.code == 6 and len(ran.lines) == 1 and ran.err.startswith("error: ")


def test_cpu_bf16_without_torch_s_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: "flags : avx avx512_bf16 sse\n")
    assert pytorch.cpu_bf16()
    monkeypatch.setattr(Path, "read_text", lambda _: "flags : avx sse\n")
    assert not pytorch.cpu_bf16()


def test_cpu_bf16_is_what_the_kernel_says() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        pytest.skip("no /proc/cpuinfo")
    words = flags.read_text().split()
    assert pytorch.cpu_bf16() == ("avx512_bf16" in words or "amx_bf16" in words)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_out_of_memory_is_one_error(
    load: Load, batch: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*_: object) -> None:
        raise error

    engine: Any = load()
    monkeypatch.setattr(engine.module, "forward", exhausted)
    with pytest.raises(ResourceError, match="memory"):
        engine.run(batch)


def test_other_errors_stay_what_they_are(
    load: Load, batch: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    engine: Any = load()
    monkeypatch.setattr(engine.module, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.run(batch)


# ------------------------------------------------------------------------------------------------------------- memory


def test_every_shipped_network_was_measured() -> None:
    assert memory.PER_PIXEL.keys() == {each.network for each in catalog()}


def test_memory_of_this_machine() -> None:
    free = memory.available()
    assert free is None or 2**20 < free < 2**50


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of cgroups, and a listing of this process's; none of this machine's."""
    if sys.platform != "linux":
        pytest.skip("Linux alone has cgroups")
    monkeypatch.setattr(memory, "LISTING", tmp_path / "listing")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    return tmp_path


def group(folder: Path, limit: str, used: str, statistics: str, version: int = 2) -> None:
    """The files of a cgroup."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip((*names, "memory.stat"), (limit, used, statistics), strict=True):
        (folder / name).write_text(text)


def test_containers(groups: Path) -> None:
    (groups / "listing").write_text("0::/\n")
    assert memory.available() > 2**20
    group(groups, "max\n", "900\n", "")
    assert memory.available() > 2**20
    group(groups, "1000\n", "900\n", "anon 100\ninactive_file 300\n")
    assert memory.available() == 400
    group(groups, "1000", "2000", "anon 1\n")
    assert memory.available() == 0


@pytest.mark.parametrize(("outer", "inner", "free"), [("max", "1000", 100), ("900", "max", 200), ("2000", "950", 50)])
def test_a_limit_on_a_cgroup_inside_another(groups: Path, outer: str, inner: str, free: int) -> None:
    """As of systemd's MemoryMax=, of Slurm, or of a container that sees the machine's cgroups."""
    (groups / "listing").write_text("1:name=systemd:/elsewhere\n0::/slice/a:ö.service\n")
    group(groups / "slice", outer, "700", "")
    group(groups / "slice" / "a:ö.service", inner, "900", "")
    group(groups / "elsewhere", "1", "1", "")
    assert memory.available() == free


def test_cgroups_of_version_1(groups: Path) -> None:
    """The statistics of a group leave out the groups inside it, except for the totals."""
    (groups / "listing").write_text("4:cpu,memory:/slurm/job\n3:cpuset:/slurm\n0::/\n")
    group(groups / "memory", str(2**63 - 4096), "900", "inactive_file 0\n", version=1)
    group(groups / "memory" / "slurm", "1000", "900", "inactive_file 0\ntotal_inactive_file 300\n", version=1)
    group(groups / "memory" / "slurm" / "job", "1000", "500", "inactive_file 20\n", version=1)
    assert memory.available() == 400


def test_a_container_that_is_told_the_path_outside_it(groups: Path) -> None:
    """Only the root of what it sees is there."""
    (groups / "listing").write_text("4:memory:/docker/0123\n0::/../../docker\n")
    group(groups / "memory", "1000", "900", "", version=1)
    assert memory.available() == 100


MEASURE = """
import resource, sys, torch
from pathlib import Path
from lowlight_cli.networks import build
torch.set_num_threads(1)
network, half, side = build(sys.argv[1]).eval().to(memory_format=torch.channels_last), sys.argv[2] == 'half', 1280
with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=half):
    network(torch.rand(1, 3, 64, 64))
    x = torch.rand(1, 3, side, side).to(memory_format=torch.channels_last)
    before = int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()
    network(x)
    peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    print(int(peak.split()[1]) * 1024 - before)  # ru_maxrss would count what started it, too
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the memory of a process as Linux tells it")
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("half", [False, True])
def test_the_memory_table_is_true(network: str, half: bool) -> None:
    """The table may be careful by half, but not bold by more than half of the reserve.

    It has the highest peaks of all CPUs. In half precision these are of matrix units (AMX); without them `dgaf` takes
    down to two fifths of that, so that only with them it shows whether the table is too careful.
    """
    if half and not pytorch.cpu_bf16():
        pytest.skip("bf16 is emulated here, which takes other memory")
    told = subprocess.check_output([sys.executable, "-c", MEASURE, network, "half" if half else "full"], text=True)
    expected = memory.PER_PIXEL[network][half] * 1280**2
    assert int(told) < expected * 1.05 + memory.RESERVE / 2
    if not half or "amx_bf16" in Path("/proc/cpuinfo").read_text("utf-8").split():
        assert int(told) > expected * 0.5
