"""What evening out a codec's blocks does to the result: the table of video.md.

    python docs/measure_deblock.py PHOTO... --noise 0.5
    python docs/measure_deblock.py forest.jpg --darker 0.05

Each photograph becomes a clip that pans by two pixels a frame, once without loss and once by each codec. All are
enhanced without, by itself and with `--deblock`; the result of the lossless clip, without, is the reference. Below
stands what it takes beside the network: the least of all frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli import DEFAULT_MODEL, Enhancer, read
from lowlight_cli.metrics.psnr import psnr
from lowlight_cli.metrics.ssim import ssim
from lowlight_cli.video.deblock import Deblock
from lowlight_cli.video.series import film
from lowlight_cli.video.temporal import Smoothing

WIDTH, HEIGHT, STEP = 320, 208, 2

CODECS: Final[dict[str, tuple[str, str, dict[str, str]]]] = {
    "lossless": ("ffv1", "yuv420p", {}),
    **{f"H.264, crf {crf}": ("libx264", "yuv420p", {"crf": str(crf)}) for crf in (18, 23, 28, 35)},
    **{f"MJPEG, q {q}": ("mjpeg", "yuvj420p", {"qmin": str(q), "qmax": str(q)}) for q in (5, 15)},
}

WAYS: Final = {"off": False, "by itself": None, "on": True}


def panned(path: Path, frames: int, noise: float, darker: float) -> Iterator[NDArray[np.uint8]]:
    """A reduced photograph, seen through a window that moves, with a sensor's noise in levels of 255."""
    photo, random = read(path).pixels, np.random.default_rng(0)
    height, width, _ = photo.shape
    wide = WIDTH + STEP * frames
    scale = max(wide / width, HEIGHT / height)
    size = max(wide, round(width * scale)), max(HEIGHT, round(height * scale))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA) * np.float32(255 * darker)
    for number in range(frames):
        view = small[:HEIGHT, STEP * number : STEP * number + WIDTH]
        yield np.rint(np.clip(view + noise * random.normal(size=view.shape), 0, 255)).astype(np.uint8)


def coded(path: Path, pictures: list[NDArray[np.uint8]], codec: str) -> Path:
    """The pictures as a clip."""
    name, pixels, options = CODECS[codec]
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream(name, rate=25, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, pixels
        for picture in pictures:
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)))
        out.mux(video.encode(None))
    return path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("-m", "--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=6, help="a clip; the latter half counts")
    parser.add_argument("--noise", type=float, default=0.0, help="levels of 255")
    parser.add_argument("--darker", type=float, default=1.0, help="what the photographs are multiplied by")
    args = parser.parse_args()
    enhancer = Enhancer(args.model, protect_highlights=False)  # blocks are in the dark
    spent: dict[str, list[float]] = {what: [] for what in ("network", *WAYS)}
    enhancer.load()

    def timed(what: str, work: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        start = time.process_time()
        done = work()
        spent[what].append(time.process_time() - start)
        return done

    def smoothed(pictures: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The results of the latter half, in eight bits."""
        smoothing, made = Smoothing("on"), []
        for number, picture in enumerate(pictures):
            lit = timed("network", lambda p=picture, n=number: smoothing.begin(p, n / 25, enhancer.begin_frame)())
            made.append((np.rint(lit * 255) / 255).astype(np.float32))
        return made[len(made) // 2 :]

    def lit(clip: Path) -> dict[str, tuple[list[NDArray[np.float32]], float]]:
        """By way: the results, and how much was evened out."""
        with film(clip) as opened:
            frames = [frame.picture for frame in opened.decoded()]
        made: dict[str, tuple[list[NDArray[np.float32]], float]] = {}
        deblocks = {way: Deblock(wanted) for way, wanted in WAYS.items()}
        even = {way: [timed(way, lambda d=d, f=frame: d.frame(f)) for frame in frames] for way, d in deblocks.items()}
        for way, inputs in even.items():
            same = [other for other in made if all(map(np.array_equal, inputs, even[other]))]
            made[way] = (made[same[0]][0] if same else smoothed(inputs)), deblocks[way].share
        return made

    rows: dict[str, list[list[float]]] = {codec: [] for codec in CODECS}
    with tempfile.TemporaryDirectory() as folder:
        for photo in args.photos:
            pictures = list(panned(photo, args.frames, args.noise, args.darker))
            truth: list[NDArray[np.float32]] = []
            for codec, figures in rows.items():
                results = lit(coded(Path(folder, "clip.mkv"), pictures, codec))
                truth = truth or results["off"][0]
                scores = [
                    [np.mean(list(map(score, made, truth))) for score in (psnr, ssim)] for made, _ in results.values()
                ]
                figures.append([results["by itself"][1], *np.ravel(scores)])
    print("| clip | evened out | PSNR / SSIM, off | by itself | on | largest loss by itself |")  # noqa: T201
    print("|---|---|---|---|---|---|")  # noqa: T201
    for codec, figures in rows.items():
        table = np.array(figures)
        share, *cells = table.mean(0)
        told = " | ".join(f"{cells[at]:.2f} / {cells[at + 1]:.4f}" for at in (0, 2, 4))
        gain = min(after - before if after < before else 0.0 for before, after in table[:, (1, 3)])
        print(f"| {codec} | {share:.0%} | {told} | {gain:+.2f} dB |")  # noqa: T201
    network, *rest = (1000 * min(spent[what]) for what in ("network", "by itself", "on"))
    told = ", ".join(
        f"{way} {cost:.1f} ({cost / network:.0%})" for way, cost in zip(("by itself", "on"), rest, strict=True)
    )
    print(f"ms of processors a frame: network {network:.1f}, {told}")  # noqa: T201


if __name__ == "__main__":
    main()
