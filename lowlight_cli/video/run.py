"""Enhance one clip from end to end: decoding, enhancing and encoding overlap, with bounded queues between them.

Enhancing itself has three stages, see `lighting`: while the network has a frame, the one before it is finished, and
blocks of the next are evened out.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import LowlightError, UsageError
from lowlight_cli.look import EDITION
from lowlight_cli.overlap import ahead
from lowlight_cli.sheets import labelled
from lowlight_cli.targets import landing, same
from lowlight_cli.video.addresses import Address
from lowlight_cli.video.colour import upright
from lowlight_cli.video.encode import Encoder, Plan, planned
from lowlight_cli.video.formats import CONTAINERS
from lowlight_cli.video.lighting import Even, Lighting
from lowlight_cli.video.making import Course, Lit, Made, Making, Tally, made
from lowlight_cli.video.mux import assemble, rehearse
from lowlight_cli.video.numbered import Pattern
from lowlight_cli.video.parts import LENGTH, Parts
from lowlight_cli.video.series import Film, Series, Source, film
from lowlight_cli.video.streams import Frame, Span

__all__ = [
    "Lit", "compared", "enhance_clip", "identity", "partial", "prepared", "results",
    "why_not_resumable",
]  # fmt: skip

Picture = NDArray[np.float32]
_Evened = tuple[Frame, Even]
_Begun = tuple[Frame, Callable[[], tuple[Picture, dict[str, Any]]]]

BUDGET: Final = 384 * 384
"""Pixels of a picture, as `Enhancer.expect` counts pictures."""


def enhance_clip(
    enhancer: Enhancer,
    source: Source,
    target: Path,
    making: Making | None = None,
    on_frame: Callable[[Course], None] | None = None,
) -> Made:
    """Enhance a clip; the result keeps its frames, their timestamps, and all its other streams.

    If interrupted, write what is done beside the target as `partial(target)`, and raise the interruption again, with a
    note that names it; the parts stay for a run that resumes, if one can. If none can, no partial clip is replaced, and
    parts of an earlier run become one. A live source is ended by Ctrl-C, and its result is complete.

    Args:
        enhancer: its weights are loaded.
        source: the clip; if it can be read only once, only the video is kept.
        target: the file to write; an existing one is replaced.
        making: settings.
        on_frame: called after each frame.

    Raises:
        InputError: not a clip, no video, or nothing that can be decoded.
        OutputError: the target cannot be written, or another run is writing it.
        UsageError: options that the codec does not have, or a source that cannot be resumed.
        DeviceError: the encoder does not work here.
        ResourceError: out of memory or disk.
    """
    wish, told, parts = making or Making(), on_frame or (lambda _: None), Parts(target)
    if isinstance(source, Path) and same(source, partial(target)):
        raise UsageError(f"{source}: an interruption of {target} would replace it: name another file with -o")
    with film(source, wish.span, wish.rate) as clip, contextlib.ExitStack() as claim:
        plan = planned(clip, CONTAINERS[target.suffix.lower()], wish.encoding, wide=wish.compare)
        prepared(enhancer, clip)
        notes = list[str]()
        file, index = None, 0
        if not isinstance(clip, Series):
            file = source if isinstance(source, Path | Address) and not clip.live else None
            index = clip.stream.index
            if clip.live and len(clip.container.streams) > 1:
                notes.append("plays live: its picture alone is kept")
        # The rate of what plays live is guessed from its first frames, and differs from run to run. It matters only to
        # encoders that count frames, whose clock is in each part.
        guessed = clip.live and plan.clock == plan.base
        lasting = replace(plan, rate=Fraction(0), clock=Fraction(0)) if guessed else plan
        job = identity(enhancer, source, wish) | {"plan": repr(lasting)}
        rehearse(file, index, plan, wish.span, target)
        claim.enter_context(parts.claimed())
        refused = why_not_resumable(source, clip)
        parts.resumable = not refused
        earlier = _rescued(parts, job, plan) if refused else ""
        if refused and wish.resume:
            why = f"{refused}; {earlier}" if earlier else refused
            raise UsageError(f"{clip.name}: {why}: leave --resume out, and name another file with -o")
        if earlier:
            notes.append(earlier)
        if why := parts.begin(job, resume=wish.resume):
            notes.append(f"what an earlier run left {why}: begun anew")
        lighting = Lighting(enhancer, wish)
        resumed = sum(len(part.frames) for part in parts.done)
        if parts.done:
            lighting.restore(parts.state)
        tally = Tally(wish.measure)
        try:
            _encode(lighting, clip, plan, parts, wish, tally, told, resumed)
        except (KeyboardInterrupt, SystemExit) as stop:
            ends = clip.live and isinstance(stop, KeyboardInterrupt)
            if earlier:
                stop.add_note(earlier)
            if parts.done and not ends:
                there = partial(target, anew=bool(refused))
                assemble(file, index, parts, plan, _so_far(clip, parts), there)
                stop.add_note(f"what is done is in {there}")
                if refused:
                    parts.drop()
                else:
                    parts.show()
            if not parts.done or not ends:
                raise
        except LowlightError as error:
            if not earlier:
                raise
            raise type(error)(f"{error}; {earlier}") from error
        finally:
            if not parts.done:
                parts.drop()
        with tally.timed("write"):
            notes += [*plan.notes, *clip.notes]
            notes += assemble(file, index, parts, plan, wish.span, target)
        if parts.shown and not refused:
            with contextlib.suppress(OSError):  # the finished clip contains all of it
                partial(target).unlink()
        parts.drop()
        return made(
            clip,
            lighting,
            tally,
            frames=sum(len(part.frames) for part in parts.done),
            resumed=resumed,
            size=(plan.width, plan.height),
            codec=plan.name,
            pixel_format=plan.pixel_format,
            notes=notes,
        )


def partial(target: Path, *, anew: bool = False) -> Path:
    """Path of the clip that an interrupted run leaves; if `anew`, a free name, so that an earlier one stays."""
    path = target.with_name(f"{target.stem}.partial{target.suffix}")
    return landing(path, "number", set())[0] if anew else path


def prepared(enhancer: Enhancer, clip: Film) -> None:
    """Load the model, which may depend on how much work is to come."""
    if clip.count:
        enhancer.expect(max(1, clip.count * clip.width * clip.height // BUDGET))
    enhancer.load()


def results(
    lighting: Lighting,
    clip: Film,
    tally: Tally,
    told: Callable[[Course], None],
    after: int | None = None,
    resumed: int = 0,
) -> Generator[Lit, None, None]:
    """Yield the clip's frames with their results, made ahead; a frame counts as done when the next is requested.

    Args:
        lighting: in its state after the frame at `after`.
        clip: the source.
        tally: collects times and brightness.
        told: called after each frame that is done.
        after: timestamp after which to continue; None for the beginning.
        resumed: number of frames that are done already.
    """
    frames = ahead(_read(clip, after, tally))
    evened = ahead(_evened(lighting, frames, tally), spare=0)
    begun = ahead(_begun(lighting, clip, evened, tally), spare=0)
    lit = ahead(_finished(begun, tally))
    with contextlib.closing(lit):
        for done, each in enumerate(lit, resumed + 1):
            yield each
            tally.see(each.frame.picture, each.picture)
            told(Course(done, clip.count, resumed, float(clip.rate)))


def compared(frame: Picture, lit: Picture, rotation: int, size: tuple[int, int] | None = None) -> Picture:
    """Both side by side, upright and labelled; padded to `size`, (width, height), with the sheet's background grey."""
    sheet = labelled([("before", upright(frame, rotation)), ("after", upright(lit, rotation))], 2)
    if size is None:
        return sheet
    missing = (0, size[1] - sheet.shape[0]), (0, size[0] - sheet.shape[1]), (0, 0)
    return np.pad(sheet, missing, mode="edge")


def identity(enhancer: Enhancer, source: Source, wish: Making) -> dict[str, Any]:
    """Everything that a result depends on, except the machine."""
    settings = enhancer.settings
    _, resolved = enhancer.load()
    return {
        "source": _stamped(source),
        "weights": resolved.sha256,
        "look": repr([settings.model, EDITION, settings.look, settings.self_ensemble]),
        "making": repr([wish.span, wish.temporal, wish.deblock, wish.compare, wish.rate]),
    }


def why_not_resumable(source: Source, clip: Film) -> str:
    """Why a run cannot resume an earlier one of this source; empty if it can."""
    if clip.live:
        return "plays live, so that what an earlier run left cannot be gone on with"
    known = isinstance(source, Path | Pattern | Address)
    return "" if known else "nothing tells whether it is the clip of an earlier run"


def _rescued(parts: Parts, job: Mapping[str, Any], plan: Plan) -> str:
    """Make a clip of the parts that an earlier run of a job left, which cannot be resumed; where it is, if any were."""
    if parts.of(job):
        parts.begin(job, resume=True)
    if not parts.done:
        return ""
    there = partial(parts.target, anew=True)
    assemble(None, 0, parts, plan, Span(), there)
    parts.drop()
    return f"what an earlier run left is in {there}"


def _so_far(clip: Film, parts: Parts) -> Span:
    """The part of a clip that is done, so that its sound ends with its picture."""
    if isinstance(clip, Series) or clip.live:
        return Span()  # nothing else is copied
    shown = (parts.done[-1].last + clip.span.shift(clip.base)) * clip.base - clip.zero
    return Span(clip.span.start, float(shown + 1 / clip.rate))


def _stamped(source: Source) -> Any:
    """A value that changes when the source does; None if that cannot be known."""
    if isinstance(source, Pattern):
        stamps = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in source.found().values()]
        return [str(source.folder.resolve()), hashlib.sha256("\n".join(stamps).encode()).hexdigest()]
    if isinstance(source, Path):
        status = source.stat()
        return [str(source.resolve()), status.st_size, status.st_mtime_ns]
    # hashed, because an address may hold credentials, which must not be stored on the disk
    return hashlib.sha256(source.url.encode()).hexdigest() if isinstance(source, Address) else None


def _read(clip: Film, after: int | None, tally: Tally) -> Iterator[Frame]:
    """Yield the clip's frames, and time the reading as the stage `read`."""
    frames = clip.decoded(after)
    while True:
        with tally.timed("read"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _evened(lighting: Lighting, frames: Generator[Frame, None, None], tally: Tally) -> Iterator[_Evened]:
    """Yield the frames without blocks, in order; the stage `deblock`."""
    with contextlib.closing(frames):
        for frame in frames:
            with tally.timed("deblock"):
                even = lighting.even(frame.picture)
            yield frame, even


def _begun(lighting: Lighting, clip: Film, evened: Generator[_Evened, None, None], tally: Tally) -> Iterator[_Begun]:
    """Yield the frames with what finishes them, in order; the stage `run`."""
    with contextlib.closing(evened):
        for frame, even in evened:
            with tally.timed("run"):
                finish = lighting.begin(even, float(frame.pts * clip.base))
            yield frame, finish


def _finished(begun: Generator[_Begun, None, None], tally: Tally) -> Iterator[Lit]:
    """Yield the frames with their results, in order; the stage `finish`."""
    with contextlib.closing(begun):
        for frame, finish in begun:
            with tally.timed("finish"):
                lit, state = finish()
            yield Lit(frame, lit, state)


def _encode(
    lighting: Lighting,
    clip: Film,
    plan: Plan,
    parts: Parts,
    wish: Making,
    tally: Tally,
    told: Callable[[Course], None],
    resumed: int,
) -> None:
    """Encode all frames that the parts lack; if interrupted, still flush the encoder into a part."""
    encoder: Encoder | None = Encoder(plan)
    inside = 0
    state: Mapping[str, Any] = lighting.state()

    def close() -> None:
        nonlocal encoder
        spent, encoder = encoder, None  # only once: a second flush fails, and would hide a full disk
        if spent:
            for packed in spent.flush():
                parts.add(packed)
            parts.close(state)

    def encode(lit: Lit) -> None:
        nonlocal encoder, inside, state
        if inside == LENGTH:
            close()
            inside = 0
        encoder = encoder or Encoder(plan)
        picture = lit.picture
        if wish.compare:
            picture = compared(lit.frame.picture, picture, clip.rotation, (plan.width, plan.height))
        for packed in encoder.encode(picture, lit.frame.pts, lit.frame.duration):
            parts.add(packed)
        inside, state = inside + 1, lit.state

    after = parts.done[-1].last if parts.done else None
    frames = results(lighting, clip, tally, told, after, resumed)
    try:
        # In a thread of its own, because KeyboardInterrupt is raised in the main one and would lose packets halfway.
        with contextlib.closing(frames), ThreadPoolExecutor(1) as undisturbed:
            for lit in frames:
                with tally.timed("encode"):
                    undisturbed.submit(encode, lit).result()
    finally:
        with tally.timed("encode"):
            close()
