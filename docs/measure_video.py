"""What the way of a clip costs beside the network: the table of video.md.

    python docs/measure_video.py night.mp4                       dgaf, 60 frames, as `lowlight video` makes them
    python docs/measure_video.py night.mp4 -m neid --frames 100 --turns 3 --engine torch

The same frames are enhanced from memory, alone, and by the whole way: read, held steady, encoded, written. Both take
turns; the least of each counts, in seconds and in seconds of all processors together. Ends with 1 where the way takes
more than `--most` above the network alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lowlight_cli import DEFAULT_MODEL, Enhancer
from lowlight_cli.video.making import Making
from lowlight_cli.video.run import enhance_clip, prepared
from lowlight_cli.video.series import film
from lowlight_cli.video.streams import Span


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of all processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-m", "--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--temporal", default="on")
    parser.add_argument("--most", type=float, default=0.15)
    args = parser.parse_args()
    enhancer = Enhancer(args.model, engine=args.engine)
    with film(args.clip) as clip:
        prepared(enhancer, clip)  # as for the whole clip
        frames = [frame for frame, _ in zip(clip.decoded(), range(args.frames), strict=False)]
        pictures = [frame.picture for frame in frames]
        making = Making(Span(0.0, float((frames[-1].pts + 1) * clip.base - clip.zero)), temporal=args.temporal)
        size = f"{clip.width}x{clip.height}"
    engine, _ = enhancer.load()
    enhancer.enhance_picture(pictures[0])
    alone, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"lit{args.clip.suffix}")
        for _ in range(args.turns):
            alone.append(spent(lambda: [enhancer.enhance_picture(picture) is None for picture in pictures]))
            whole.append(spent(lambda: enhance_clip(enhancer, args.clip, target, making)))
    print("| model | engine | frames | | network alone | whole way | more |")  # noqa: T201
    print("|---|---|---|---|---|---|---|")  # noqa: T201
    more = []
    for at, what in enumerate(("ms a frame", "ms of processors a frame")):
        one, all_of_it = (min(each[at] for each in times) * 1000 / len(frames) for times in (alone, whole))
        more.append(all_of_it / one - 1)
        name = f"`{args.model}` | {engine.name}, {engine.precision} | {len(frames)} of {size}"
        print(f"| {name} | {what} | {one:.1f} | {all_of_it:.1f} | {more[-1]:.0%} |")  # noqa: T201
    sys.exit(more[0] > args.most)


if __name__ == "__main__":
    main()
