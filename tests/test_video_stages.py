"""The stages of a frame in a clip: they overlap, each frame has its own state, an error of any ends the run."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import video_kit as kit
from conftest import Ran
from numpy.typing import NDArray

from lowlight_cli import Enhancer, look, passes
from lowlight_cli.errors import ResourceError
from lowlight_cli.video.lighting import Lighting
from lowlight_cli.video.making import Lit, Making, Tally
from lowlight_cli.video.run import results
from lowlight_cli.video.series import film
from lowlight_cli.video.temporal import Smoothing

Picture = NDArray[np.float32]
COUNT = 6
LONG = 20.0
"""Seconds after which a thread that waits for the other fails: with one stage, it would wait for itself."""


@pytest.fixture
def clip(folder: Path) -> Path:
    """Six frames, with a cut after the third."""
    dark = list(kit.pictures(COUNT))
    return kit.write(Path("clip.mkv"), [*dark[:3], *(200 - 3 * each for each in dark[3:])])


@pytest.fixture
def ready(dgaf_weights: Path) -> Enhancer:
    enhancer = Enhancer("dgaf", dgaf_weights, device="cpu", precision="fp32", engine="torch")
    enhancer.load()
    return enhancer


def lit(lighting: Lighting, clip: Path) -> Iterator[Lit]:
    with film(clip, Making().span) as shown:
        yield from results(lighting, shown, Tally(measure=False), lambda _: None)


def plain(state: object) -> Any:
    return json.loads(json.dumps(state, default=np.ndarray.tolist))


def test_pixels_are_finished_while_the_network_has_the_next_frame(
    clip: Path, ready: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame's look meets the next one's network: neither goes on before the other has come."""
    meeting, network, blend = threading.Barrier(2), passes.run, look._blend
    entered, finished = iter(range(COUNT)), iter(range(COUNT))

    def run(*args: Any, **more: Any) -> Picture:
        if next(entered) > 0:
            meeting.wait(LONG)
        return network(*args, **more)

    def pixels(*args: Any) -> Picture:
        if next(finished) < COUNT - 1:
            meeting.wait(LONG)
        return blend(*args)

    monkeypatch.setattr(passes, "run", run)
    monkeypatch.setattr(look, "_blend", pixels)
    assert len(list(lit(Lighting(ready, Making()), clip))) == COUNT
    assert (next(entered, None), next(finished, None)) == (None, None)


@pytest.mark.parametrize("temporal", ["on", "off"])
def test_a_frame_has_its_own_state_though_the_next_has_begun(
    clip: Path, ready: Enhancer, monkeypatch: pytest.MonkeyPatch, temporal: str
) -> None:
    """Results and states are those of one frame after the other."""
    making, begin = Making(temporal=temporal), Lighting.begin
    alone = Lighting(ready, making)
    with film(clip, making.span) as shown:
        wanted = [
            (alone.frame(frame.picture, float(frame.pts * shown.base)), plain(alone.state()))
            for frame in shown.decoded()
        ]
    assert alone.cuts == (temporal == "on")
    assert temporal == "off" or all(one != other for (_, one), (_, other) in itertools.pairwise(wanted))
    begun = [threading.Event() for _ in range(COUNT)]
    numbers = iter(range(COUNT))

    def followed(lighting: Lighting, picture: Picture, seconds: float) -> Callable[[], tuple[Picture, dict[str, Any]]]:
        finish, number = begin(lighting, picture, seconds), next(numbers)
        begun[number].set()

        def finished() -> tuple[Picture, dict[str, Any]]:
            assert begun[min(number + 1, COUNT - 1)].wait(LONG)
            return finish()

        return finished

    monkeypatch.setattr(Lighting, "begin", followed)
    for each, (picture, state) in zip(lit(Lighting(ready, making), clip), wanted, strict=True):
        assert np.array_equal(each.picture, picture)
        assert plain(each.state) == state


@pytest.mark.parametrize(("where", "what"), [(passes, "run"), (Smoothing, "_level")], ids=["begun", "finished"])
def test_an_error_of_either_stage_ends_a_run(
    clip: Path,
    ready: Enhancer,
    lowlight: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    what: str,
) -> None:
    """It comes in place of its frame, after those before it, and no thread goes on."""
    work = getattr(where, what)
    calls = list[int]()

    def breaking(*args: Any, **more: Any) -> Picture:
        calls.append(len(calls))
        if calls[-1] == 2:
            raise ResourceError("no room for the third frame")
        return work(*args, **more)

    monkeypatch.setattr(where, what, breaking)
    got, threads = list[Lit](), set(threading.enumerate())
    with pytest.raises(ResourceError, match="the third"):
        for each in lit(Lighting(ready, Making()), clip):
            got.append(each)
    assert len(got) == 2
    assert set(threading.enumerate()) <= threads
    calls.clear()
    ran = lowlight("video", clip, "-o", "out.mkv")
    assert (ran.code, ran.lines[-1]) == (ResourceError.exit_code, "error: no room for the third frame"), ran.err
    assert not Path("out.mkv").exists()
