"""Sets of 16 bits: figures of 8-bit levels on both sides, and kept apart from those of the set's 8-bit copy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lowlight_cli.bench import methods, run, sets
from lowlight_cli.bench.journal import Journal
from lowlight_cli.metrics.table import CEILING

Picture = NDArray[np.float32]


def save(folder: Path, low: NDArray[np.unsignedinteger], high: NDArray[np.unsignedinteger] | None) -> sets.DataSet:
    """A set of one pair, or of one dark picture."""
    parts = {"low/1.png": low, "high/1.png": high} if high is not None else {"1.png": low}
    for name, pixels in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    return sets.find(str(folder), folder)


def codes(most: int) -> NDArray[np.uint16]:
    """Of which nearly none is an 8-bit level."""
    return np.random.default_rng(0).integers(0, most, (24, 36, 3)).astype(np.uint16)


def eight(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.rint(pixels / 257).astype(np.uint8)


def brighter() -> methods.Method:
    """Of what is rounded before it makes something else than of what is not."""
    return methods.Method("brighter", "network", lambda _, low: np.minimum(low * 20, 1), identity=lambda _: "brighter")


def test_equal_pictures_of_16_bits_count_as_equal(tmp_path: Path) -> None:
    dataset = save(tmp_path / "deep", codes(65536), codes(65536))
    row = next(row for row in run.measure(dataset, methods.baselines()).rows if row.method.name == "input")
    assert row.mean("psnr") == CEILING and row.mean("ssim") == pytest.approx(1, abs=1e-9)


def test_a_network_sees_all_16_bits_of_the_dark_picture(tmp_path: Path) -> None:
    dataset = save(tmp_path / "deep", codes(3000), codes(65536))
    seen: list[Picture] = []
    run.measure(dataset, [methods.Method("looks", "network", lambda _, low: seen.append(low) or low, timed=False)])
    assert np.allclose(seen[0], codes(3000) / 65535, atol=1e-7)


def test_without_reference_the_dark_picture_is_compared_in_8_bits(tmp_path: Path) -> None:
    """254 is white and 253 is not, whatever lies between: an untouched input turns nothing white."""
    low = codes(65536)
    low[:4] = round(253.502 * 257)
    dataset = save(tmp_path / "dark", low, None)
    row = next(row for row in run.measure(dataset, methods.baselines()).rows if row.method.name == "input")
    assert row.mean("whitened") == 0 and row.mean("colour_shift") == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("paired", [True, False])
def test_figures_of_16_bits_are_not_those_of_the_8_bit_copy(tmp_path: Path, paired: bool) -> None:
    low, high = codes(3000), codes(65536)
    deep = save(tmp_path / "deep", low, high if paired else None)
    flat = save(tmp_path / "flat", eight(low), eight(high) if paired else None)
    journal = tmp_path / "before.jsonl"
    found = [run.measure(each, [brighter()], journal=Journal(journal)) for each in (flat, deep, flat, deep)]
    wanted = [run.measure(each, [brighter()]) for each in (flat, deep)] * 2
    first = found[0].metrics[0].key
    assert [each.rows[0].mean(first) for each in found] == [each.rows[0].mean(first) for each in wanted]
    assert found[0].rows[0].mean(first) != found[1].rows[0].mean(first)
    assert found[0].pixels == found[2].pixels != found[1].pixels == found[3].pixels


def test_what_was_measured_of_8_bits_before_stays_known(tmp_path: Path) -> None:
    """The hash of 8-bit pictures, by which journals and published sets are known, is that of their levels."""
    low, high = eight(codes(3000)), eight(codes(65536))
    (looked,) = run.measure(save(tmp_path / "flat", low, high), [brighter()]).looked
    levels = b"".join(repr(pixels.shape).encode() + pixels.tobytes() for pixels in (low, high))
    assert looked.pixels == hashlib.sha256(levels).hexdigest()
