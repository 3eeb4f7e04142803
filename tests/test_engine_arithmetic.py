"""What an engine computes in is its own, whatever the process around it is set to, which finds its settings again."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from engine_kit import RUNTIMES, pictures

from lowlight_cli.engines import export, tf32
from lowlight_cli.weights.fetch import Resolved

CONVOLUTIONS = getattr(torch.backends.cudnn, "conv", None)


def test_float32_is_float32_inside_a_callers_autocast(load: Callable[..., Any]) -> None:
    engine = load("torch", precision="fp32", device="cpu")
    batch = pictures(1, 33, 50)
    expected = engine.run(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(engine.run(batch), expected)
        assert torch.is_autocast_enabled("cpu")


def rounded() -> bool:
    """Whether convolutions on an NVIDIA GPU round to TF32, as torch is set now."""
    if CONVOLUTIONS is None:
        return bool(torch.backends.cudnn.allow_tf32)
    return bool(CONVOLUTIONS.fp32_precision == "tf32")


def set_rounding(wanted: bool) -> None:
    if CONVOLUTIONS is None:
        torch.backends.cudnn.allow_tf32 = wanted
    else:
        CONVOLUTIONS.fp32_precision = "tf32" if wanted else "ieee"


@pytest.fixture(params=[True, False])
def before(request: pytest.FixtureRequest) -> Iterator[bool]:
    was = rounded()
    set_rounding(request.param)
    yield request.param
    set_rounding(was)


def test_tf32_is_off_inside_and_as_before_outside(before: bool) -> None:
    with pytest.raises(ZeroDivisionError), tf32.off():
        with tf32.off():
            assert not rounded()
        assert not rounded()
        raise ZeroDivisionError
    assert rounded() is before


def test_tf32_is_off_until_the_last_thread_is_done(before: bool) -> None:
    """Whichever came first: none turns it on under another."""
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with tf32.off():
            entered.set()
            left.wait(20)
            seen.append(rounded())

    seen: list[bool] = []
    thread = threading.Thread(target=other)
    with tf32.off():
        thread.start()
        assert entered.wait(20)
    seen.append(rounded())
    left.set()
    thread.join(20)
    assert seen == [False, False] and rounded() is before


@pytest.mark.parametrize("name", ["torch", *RUNTIMES])
def test_an_engine_that_nobody_holds_is_gone(load: Callable[..., Any], name: str) -> None:
    """At once, with its memory, which a collection of garbage may come to only much later."""
    engine = load(name, device="cpu")
    for _ in range(2):
        engine.run(pictures(1, 33, 50))
    gone = weakref.ref(engine)
    gc.collect()
    gc.disable()
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("network", ["dgaf", "frlie"])  # with a thumbnail, and without
def test_an_export_leaves_the_process_as_it_was(
    resolved: Callable[[str], Resolved], monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    weights = resolved(network)
    drawn, environment = torch.get_rng_state(), dict(os.environ)
    export.exported(network, weights)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert dict(os.environ) == environment
