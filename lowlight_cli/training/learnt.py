"""Dark pictures by two papers' learnt degradations: a network makes light and colour, a simulated sensor the noise.

DRGN (Jiang et al., AAAI 2022, Sec. 2.3): DeG estimates the degradation I_D of a real dark photograph. I_D turns the
reference into a first dark picture, whose own degradation gives the final one (`recipes.drgn.synthesised` with
`placeless`). DGAF (Chen et al., 2023, Sec. 3.1.1): the Darkening network, which was trained against real nights.

Both are deterministic and make no noise; exposure and noise are drawn at random after them, as in `darken.physical`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from lowlight_cli import disk, networks, tiles
from lowlight_cli.engines.tiling import overlap
from lowlight_cli.errors import InputError, UsageError, WeightsError
from lowlight_cli.exposure import to_linear
from lowlight_cli.networks import statistics
from lowlight_cli.networks.layers import pad
from lowlight_cli.pictures import FORMATS, read
from lowlight_cli.training.darken import Bytes, Darkened, Floats, Parameters, sensor
from lowlight_cli.training.decoded import eight_bits
from lowlight_cli.training.recipes.drgn import synthesised
from lowlight_cli.weights import files, header
from lowlight_cli.weights.fetch import Message, Progress, Resolved, resolve

__all__ = ["METHODS", "Learnt", "Night", "load"]

METHODS: Final = {"drgn": ("lw-drgn-degradation", "drgn-degradation"), "dgaf": ("dgaf-darkening",)}
"""Networks of each method, the default first."""
SPREAD: Final = (0.5, 2.0)
"""A network makes one brightness for a scene; it is multiplied by a factor from this range, log-uniform."""
SIDE: Final = 768
"""Pictures of more pixels than its square are darkened in tiles of this side, which takes 1 GB whatever their size."""
KEPT: Final = 2**30
"""Bytes of decoded nights to cache, some thirty of 12 megapixels: each picture draws one night from all of them."""


@dataclass(frozen=True)
class Night:
    """A real dark photograph and its hash."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Learnt:
    """A learnt degradation with its weights.

    Attributes:
        network: a key of `networks.DEGRADATIONS`.
        weights: sha256 of the weights file.
        nights: dark photographs to take the degradation from, if the method needs them.
        module: darkens (N, 3, H, W) in [0, 1]; with nights its input has 6 channels, the night's first.
    """

    network: str
    weights: str
    nights: tuple[Night, ...]
    module: nn.Module = field(repr=False)
    _decoded: dict[Night, Bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def like(self) -> str | None:
        """A hash of all nights; None if there are none."""
        told = "".join(night.sha256 for night in self.nights)
        return hashlib.sha256(told.encode()).hexdigest() if told else None

    def __call__(self, picture: Bytes, random: Generator, strength: tuple[float, float] | None = None) -> Darkened:
        """Darken a photograph, which is its own reference.

        Args:
            picture: (H, W, 3) uint8 sRGB.
            random: source of every random choice.
            strength: smallest and largest share of the reference's light, above 0 and up to 1; one gain in linear light
                brings the network's picture to a share from this range. None means the network's own light times a
                factor in `SPREAD`.

        Raises:
            InputError: a night can no longer be read.
        """
        x = np.divide(picture, 255, dtype=np.float32)
        drawn: Parameters = {}
        if self.nights:
            night = self.nights[int(random.integers(len(self.nights)))]
            height, width = picture.shape[:2]
            x = np.concatenate((_window(self._pixels(night), height, width, random), x), 2)
            drawn = {"night": night.path.name, "night_sha256": night.sha256}
        dark = to_linear(self._run(x))
        given = max(float(to_linear(x[..., -3:]).mean()), 1e-6)
        own = max(float(dark.mean()) / given, 1e-6)
        low, high = strength or (own * SPREAD[0], own * SPREAD[1])
        light = float(np.exp(random.uniform(np.log(low), np.log(high))))
        taken, made = sensor(np.minimum(dark * np.float32(light / own), 1), random)
        return Darkened(taken, picture, drawn | {"learnt": own, "light": light} | made)

    def _pixels(self, night: Night) -> Bytes:
        """Return a night as (H, W, 3) uint8, from the cache of up to `KEPT` bytes if possible."""
        if (pixels := self._decoded.get(night)) is None:
            pixels = eight_bits(read(night.path).pixels)
            while self._decoded and sum(each.nbytes for each in (pixels, *self._decoded.values())) > KEPT:
                del self._decoded[next(iter(self._decoded))]  # any one will do: nights are drawn at random
            self._decoded[night] = pixels
        return pixels

    def _run(self, x: Floats) -> Floats:
        """Darken (H, W, 3 or 6) to (H, W, 3), in tiles if it is large; in float32, so that results are reproducible."""
        height, width = x.shape[:2]
        if height * width <= SIDE**2:
            return self._forward(x)
        traits = networks.DEGRADATIONS[self.network]
        small_height, small_width = tiles.reduced_size(height, width, SIDE**2)
        with statistics.recording() as measured:
            if traits.radius is None:
                small = [
                    cv2.resize(part, (small_width, small_height), interpolation=cv2.INTER_AREA)
                    for part in np.split(x, x.shape[2] // 3, 2)
                ]
                self._forward(np.concatenate(small, 2))
        dark = np.empty((height, width, 3), np.float32)
        for tile in tiles.plan(height, width, SIDE, overlap(self.network), traits.stride):
            with statistics.replaying(measured):
                tile.keep(self._forward(tile.cut(x)), dark)
        return dark

    def _forward(self, x: Floats) -> Floats:
        with torch.inference_mode():
            dark: Tensor = self.module(torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None])
            return np.asarray(dark[0].clamp(0, 1).permute(1, 2, 0).numpy(), np.float32)


class _Synthesis(nn.Module):
    """`synthesised` for a night and a reference concatenated in one tensor, (N, 6, H, W) to (N, 3, H, W)."""

    def __init__(self, deg: nn.Module, stride: int) -> None:
        super().__init__()
        self.deg, self.stride = deg, stride

    def forward(self, x: Tensor) -> Tensor:
        night, reference = pad(x, self.stride).chunk(2, 1)
        return synthesised(self.deg, night, reference, placeless=True)[0][..., : x.shape[-2], : x.shape[-1]]


def load(
    method: str,
    weights: str | None = None,
    like: Path | None = None,
    *,
    on_message: Message | None = None,
    on_progress: Progress | None = None,
) -> Learnt:
    """Load a degradation.

    Args:
        method: one of `METHODS`.
        weights: a tag, file or address as for `fetch.resolve`; None for the shipped default.
        like: a folder of real dark photographs, which `drgn` needs and `dgaf` does not accept.
        on_message: called with a line before anything is downloaded, and with other hints for the user.
        on_progress: called as bytes arrive.

    Raises:
        UsageError: `like` is missing for `drgn`, or given for `dgaf`.
        InputError: there is no such folder, or no photograph in it.
        WeightsError: the weights are missing, damaged or not for this method.
    """
    if method == "drgn" and like is None:
        raise UsageError(
            "--method drgn takes its degradation from real dark photographs: name a folder of them, --like FOLDER"
        )
    if method != "drgn" and like is not None:
        raise UsageError(f"--like is for --method drgn: {method} learnt its nights in training")
    name, resolved = _found(method, weights, on_message, on_progress)
    module, _ = files.filled(networks.module, name, resolved.path)
    nights = _nights(like) if like else ()
    whole = _Synthesis(module, networks.known(name).stride) if nights else module
    return Learnt(name, resolved.sha256, nights, whole.eval().requires_grad_(False))


def _found(
    method: str, weights: str | None, on_message: Message | None, on_progress: Progress | None
) -> tuple[str, Resolved]:
    """Return the method's network that the weights are for, and the weights."""
    names = _networks(method, weights)
    for name, other in itertools.pairwise(names):
        try:
            return name, resolve(name, weights, on_message=on_message, on_progress=on_progress)
        except WeightsError as error:
            if f"holds weights for {other}," not in str(error):  # the wording of `files.check`
                raise
    return names[-1], resolve(names[-1], weights, on_message=on_message, on_progress=on_progress)


def _networks(method: str, weights: str | None) -> tuple[str, ...]:
    """Return the networks that weights may be for: a file states it in its metadata, a tag by its prefix.

    The contents of an address are unknown before it is fetched: all networks of the method are returned, first those
    that its file name begins with.
    """
    names = METHODS[method]
    if weights is None:
        return names[:1]
    if "://" in weights:
        file = weights.partition("#")[0].rpartition("/")[2]
        return tuple(sorted(names, key=lambda name: not file.startswith(name)))
    if (path := Path(weights).expanduser()).is_file():
        found = header.inspect(path).metadata.get("network", "nothing that lowlight knows")
        if found not in names:
            raise WeightsError(
                f"{path} holds weights for {found}, --method {method} wants {' or '.join(names)}: `lowlight train "
                "--recipe paper` writes such a file beside its checkpoint"
            )
        return (found,)
    return (next((name for name in names if weights.startswith(f"{name}.")), names[0]),)


def _nights(folder: Path) -> tuple[Night, ...]:
    """List the photographs of a folder by name, without subfolders and hidden files."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --like names one with real dark photographs")
    seen = (each for each in folder.iterdir() if not each.name.startswith("."))
    found = sorted(each for each in seen if each.is_file() and each.suffix.lower() in FORMATS)
    if not found:
        raise InputError(f"no picture in folder {folder}: --like names one with real dark photographs")
    return tuple(Night(path, disk.sha256(path)) for path in found)


def _window(night: NDArray[np.uint8], height: int, width: int, random: Generator) -> Floats:
    """Cut a random part of this size at full resolution, to keep its noise; mirror smaller pictures to fill it."""
    places: list[Sequence[int] | NDArray[np.intp]] = []
    for length, wanted in zip(night.shape, (height, width), strict=False):
        start = int(random.integers(max(length - wanted, 0) + 1))
        steps = (start + np.arange(wanted)) % (2 * length)
        places.append(np.minimum(steps, 2 * length - 1 - steps))
    part = night[np.ix_(*places)]
    return np.divide(part, 255, dtype=np.float32)
