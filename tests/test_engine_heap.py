"""Kept memory: large pictures take less time, the next picture finds the memory of the one before, budgets hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")

CODE = """
import json, sys, time
import numpy as np
from lowlight_cli import engines
from lowlight_cli import heap
from lowlight_cli.engines import Tiling, memory, pytorch
from lowlight_cli.weights import fetch
if sys.argv[1] == "kept":
    heap.allow()
engine = engines.load("dgaf", fetch.resolve("dgaf", sys.argv[2]), engine="torch", device="cpu", precision="fp32",
                      tiling=Tiling(0))
picture = np.full((1, 1200, 1600, 3), 0.1, np.float32)
engine.run(picture)
start = time.perf_counter()
engine.run(picture)
seconds = time.perf_counter() - start
held = memory.resident()
engine.free()
untouched = memory.resident()
engine.release()
left = memory.resident()
engine.run(picture)
pytorch.MUCH = pytorch.MUCH_EACH = 0
engine.free()
over = memory.resident()
tiles = []
budget = left + picture.nbytes + 2 * memory.needed("dgaf", "fp32", 1200 * 1600) + 200_000_000
tight = engines.load("dgaf", fetch.resolve("dgaf", sys.argv[2]), engine="torch", device="cpu", precision="fp32",
                     tiling=Tiling(None, budget))
for _ in range(3):
    tight.run(picture, tiles.append)
tight.release()
memory.available = lambda: 3_000_000_000
shares = engine.free(), engine.free(1_000_000_000)
kept = heap.kept()
memory.available = lambda: memory.RESERVE + 512 * 512 * 1000
little = engine.free()
print(json.dumps({"kept": kept, "seconds": seconds, "held": held, "untouched": untouched, "left": left, "over": over,
                  "tiles": tiles, "most": shares[0], "rest": shares[1],
                  "little": little, "still": heap.kept()}))
"""


def ran(how: str, weights: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", CODE, how, str(weights)]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return told


def test_only_where_it_is_allowed_and_given_back_where_memory_is_short(dgaf_weights: Path) -> None:
    plain, kept = ran("plain", dgaf_weights), ran("kept", dgaf_weights)
    assert not plain["kept"]
    if not kept["kept"]:
        pytest.skip("no glibc here")
    assert kept["held"] > plain["held"] + 50e6  # it is kept indeed
    assert kept["untouched"] > kept["held"] - 50e6  # giving it back costs time, so a plan that has room leaves it
    assert kept["left"] < plain["left"] + 100e6
    assert kept["over"] < plain["over"] + 100e6  # nor is it left where much has come together
    assert kept["tiles"] == [1, 1, 1]  # what is kept does not count as used: no picture is cut because of the last
    # A share of what is left once the result has its place, not a share less the result.
    assert (kept["most"], kept["rest"]) == (1.5e9, 1e9)
    assert (plain["most"], plain["rest"]) == (3e9, 2e9)


def test_where_a_share_has_no_room_for_tiles_nothing_is_kept(dgaf_weights: Path) -> None:
    kept = ran("kept", dgaf_weights)
    if not kept["kept"]:
        pytest.skip("no glibc here")
    assert kept["little"] > 512 * 512 * 1000 and not kept["still"]
