"""Convert a file's colours to sRGB and back: profiles, greys, CMYK, colours beyond sRGB.

Profiles of three primaries and three curves (Display P3, Adobe RGB, ProPhoto, Rec. 2020: all that cameras, phones
and editors embed) are computed here in float, because ImageCms works with eight bits and clips to sRGB. Table-based
profiles are sampled with ImageCms on a grid, which is then interpolated.

ICC.1:2022: 7.2 header, 10.6 curveType, 10.18 parametricCurveType, annex F.3 three-component matrix profiles.
"""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from lowlight_cli.exposure import LUMA, largest, smallest, to_linear, to_srgb
from lowlight_cli.pictures.photo import Codes, Pixels

__all__ = [
    "ADOBE_RGB",
    "DISPLAY_P3",
    "REC_2020",
    "SRGB",
    "Primaries",
    "Profile",
    "hdr_transfer",
    "luma",
    "make_profile",
    "profile_of",
    "scaled",
    "to_srgb_image",
    "top",
]

Matrix = NDArray[np.float64]
Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

ADOBE_RGB: Final[Primaries] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
DISPLAY_P3: Final[Primaries] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
REC_2020: Final[Primaries] = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
SRGB: Final[Primaries] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_D65: Final = (0.3127, 0.3290)
_D50: Final = np.array([0.9642, 1.0, 0.8249])
"""White point of the profile connection space (ICC.1:2022, 7.2.16)."""

_FULL: Final = 65_536
_INVERSE: Final = 16_385
_GRID: Final = 52
"""Grid nodes per axis for table-based profiles: 255 / 51 = 5, so that every node is a whole code."""

_NOISE: Final = (1.0, 4.0)
"""Colour beyond sRGB is ignored below one dark 8-bit step and restored in full above four: smaller amounts are the
noise of black pixels, which would come back amplified."""


class Profile(Protocol):
    """How a file's colours relate to sRGB; codes are (h, w, 3) uint8 or uint16."""

    def forward(self, codes: Codes) -> Pixels:
        """sRGB-encoded pixels, clipped to [0, 1]."""

    def backward(self, pixels: Pixels, codes: Codes) -> Pixels:
        """Values in the file's encoding, [0, 1].

        A pixel that still equals `forward(codes)` is returned as exactly its code.
        """


def top(codes: Codes) -> int:
    """The largest value of the codes' type: 255 or 65535."""
    return int(np.iinfo(codes.dtype).max)


def scaled(codes: Codes) -> Pixels:
    """Codes divided by the largest value of their type: float32 in [0, 1]."""
    result: Pixels = np.divide(codes, np.float32(top(codes)), dtype=np.float32)
    return result


def luma(pixels: Pixels) -> Pixels:
    """The sRGB-encoded luminance (h, w, 1) of sRGB-encoded (h, w, 3); equal channels are returned unchanged."""
    same = (pixels[..., :1] == pixels[..., 1:2]) & (pixels[..., :1] == pixels[..., 2:])
    grey = to_srgb(np.clip(to_linear(pixels) @ LUMA, 0, 1))[..., None]
    return np.where(same, pixels[..., :1], grey)


@dataclass(frozen=True, eq=False)
class _MatrixProfile:
    """Three curves and three primaries.

    Attributes:
        curves: (3, 65536) linear light of each code.
        inverse: (3, 16385) codes in [0, 1], at equal steps of the square root of linear light.
        matrix: the file's linear light to linear sRGB, unclipped.
    """

    curves: NDArray[np.float32]
    inverse: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def _linear(self, codes: Codes) -> Pixels:
        """Linear sRGB, not clipped to [0, 1]."""
        scale = 65_535 // top(codes)
        light = np.stack([self.curves[i][codes[..., i].astype(np.int32) * scale] for i in range(3)], -1)
        linear: Pixels = light @ self.matrix.T
        return linear

    def forward(self, codes: Codes) -> Pixels:
        return to_srgb(np.clip(self._linear(codes), 0, 1))

    def backward(self, pixels: Pixels, codes: Codes) -> Pixels:
        was = self._linear(codes)
        seen = np.clip(was, 0, 1)
        light = to_linear(np.clip(pixels, 0, 1))
        # The part of a colour beyond sRGB is scaled with the part inside: a brightened colour stays as vivid as it
        # was, and a colour that was removed as noise does not return.
        beyond = was - seen
        low, high = (step / 255 / 12.92 for step in _NOISE)
        weight = np.clip((largest(np.abs(beyond)) - low) / (high - low), 0, 1)[..., None]
        gain = ((largest(light) - smallest(light)) / np.maximum(largest(seen) - smallest(seen), 1e-4))[..., None]
        light = np.clip((light + beyond * weight * gain) @ np.linalg.inv(self.matrix).T, 0, 1)
        values = np.stack([_interpolate(self.inverse[i], np.sqrt(light[..., i])) for i in range(3)], -1)
        return _unless_same(values, pixels, to_srgb(seen), codes)


def _unless_same(values: Pixels, pixels: Pixels, before: Pixels, codes: Codes) -> Pixels:
    """`values`, but with the file's own codes for pixels that did not change."""
    same = pixels == before
    kept = (same[..., 0] & same[..., 1] & same[..., 2])[..., None]
    result: Pixels = np.where(kept, scaled(codes), values)
    return result


def _interpolate(table: NDArray[np.float32], at: Pixels) -> Pixels:
    """Linear interpolation between the nodes of a table over [0, 1]."""
    place = at * (len(table) - 1)
    node = np.minimum(place.astype(np.int32), len(table) - 2)
    result: Pixels = table[node] + (place - node).astype(np.float32) * (table[node + 1] - table[node])
    return result


@dataclass(frozen=True, eq=False)
class _TableProfile:
    """Grids (52, 52, 52, 3), sampled with ImageCms, from the file's encoding to sRGB and back."""

    there: NDArray[np.float32]
    back: NDArray[np.float32]

    def forward(self, codes: Codes) -> Pixels:
        return _through(self.there, scaled(codes))

    def backward(self, pixels: Pixels, codes: Codes) -> Pixels:
        return _unless_same(_through(self.back, pixels), pixels, self.forward(codes), codes)


def _through(grid: NDArray[np.float32], values: Pixels) -> Pixels:
    """Trilinear interpolation; values (h, w, 3) in [0, 1]."""
    place = np.clip(values, 0, 1) * (_GRID - 1)
    node = np.minimum(place.astype(np.int32), _GRID - 2)
    part = (place - node).astype(np.float32)
    result = np.zeros(values.shape, np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner) == 1, part, 1 - part), axis=-1, keepdims=True)
        at = node + np.array(corner, np.int32)
        result += weight * grid[at[..., 0], at[..., 1], at[..., 2]]
    return result


# -- reading a profile


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The tagged elements of a profile. Raises ValueError if it is truncated or not a profile."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        raise ValueError("no ICC profile")
    tags = {}
    for i in range(min(int.from_bytes(icc[128:132], "big"), 200)):
        row = icc[132 + 12 * i : 144 + 12 * i]
        if len(row) < 12:
            raise ValueError("the ICC profile is cut")
        start, size = struct.unpack(">II", row[4:])
        if start + size > len(icc):
            raise ValueError("the ICC profile is cut")
        tags[row[:4]] = icc[start : start + size]
    return tags


def hdr_transfer(icc: bytes) -> int | None:
    """The transfer code (ITU-T H.273: 16 is PQ, 18 is HLG) that a profile declares in its `cicp` tag, or None."""
    try:
        tag = _tags(icc).get(b"cicp", b"")
    except ValueError:
        return None
    return tag[9] if len(tag) >= 12 else None


@functools.lru_cache(maxsize=4)
def profile_of(icc: bytes, *, grey: bool = False) -> Profile | None:
    """How to convert the pixels of a file with this profile; None if the profile is sRGB itself.

    Args:
        icc: a profile for RGB or grey.
        grey: the file has one channel; of an RGB profile only the curves are used, so that neutral stays neutral.

    Raises:
        ValueError: the profile is damaged, or made for other channels (CMYK, Lab).
    """
    tags, space = _tags(icc), icc[16:20]
    curves: NDArray[np.floating]
    matrix: NDArray[np.floating]
    if space == b"GRAY" and b"kTRC" in tags:
        curves = np.stack([_curve(tags[b"kTRC"])] * 3)
        matrix = np.eye(3)
    elif space != b"RGB ":
        raise ValueError(f"a profile for {space.decode('latin-1').strip() or 'nothing'}")
    elif b"A2B0" in tags or b"rXYZ" not in tags:
        if grey:
            raise ValueError("tables for colours on a grey picture")
        return _table_profile(icc)
    else:
        curves = np.stack([_curve(tags[name]) for name in _named(tags, b"rTRC", b"gTRC", b"bTRC")])
        columns = [_xyz(tags[name]) for name in _named(tags, b"rXYZ", b"gXYZ", b"bXYZ")]
        matrix = np.linalg.inv(_to_d50(SRGB)) @ np.stack(columns, 1)
        matrix = np.eye(3) if grey else matrix
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-3:
            raise ValueError("the ICC profile has no usable primaries")
    srgb = to_linear(np.linspace(0, 1, _FULL))
    # the many profiles called sRGB differ only by rounding, within these tolerances
    if np.abs(curves - srgb).max() < 2e-3 and np.abs(matrix - np.eye(3)).max() < 3e-3:
        return None
    return _MatrixProfile(curves.astype(np.float32), np.stack([_inverse(c) for c in curves]), matrix.astype(np.float32))


def _named(tags: dict[bytes, bytes], *names: bytes) -> tuple[bytes, ...]:
    if missing := [name.decode() for name in names if name not in tags]:
        raise ValueError(f"the ICC profile lacks {missing[0]}")
    return names


def _xyz(element: bytes) -> Matrix:
    if element[:4] != b"XYZ " or len(element) < 20:
        raise ValueError("the ICC profile has a damaged colour")
    return np.array(struct.unpack(">3i", element[8:20])) / 65_536


def _curve(element: bytes) -> NDArray[np.float64]:
    """Linear light in [0, 1] of all 65536 codes, never falling."""
    y: NDArray[np.floating]
    x = np.linspace(0, 1, _FULL)
    count = int.from_bytes(element[8:12], "big")
    if element[:4] == b"curv" and len(element) >= 12 + 2 * count:
        table = np.frombuffer(element, ">u2", count, 12).astype(np.float64)
        if count == 0:
            y = x
        elif count == 1:
            y = x ** (table[0] / 256)
        else:
            y = np.interp(x, np.linspace(0, 1, count), table / 65_535)
    elif element[:4] == b"para" and len(element) >= 12 and (form := int.from_bytes(element[8:10], "big")) <= 4:
        given = (1, 3, 4, 5, 7)[form]
        if len(element) < 12 + 4 * given:
            raise ValueError("the ICC profile has a damaged curve")
        p = [number / 65_536 for number in struct.unpack(f">{given}i", element[12 : 12 + 4 * given])]
        g, a, b, c, d, e, f = (p + [0.0] * 7)[:7]
        if form == 0:
            a, d = 1.0, 0.0
        elif form in (1, 2):
            # the power applies from -b/a on; form 2 adds c to both parts
            d, e, f, c = -b / a if a else 0.0, c, c, 0.0
        y = np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    else:
        raise ValueError("the ICC profile has a damaged curve")
    rising: NDArray[np.float64] = np.maximum.accumulate(np.clip(np.nan_to_num(y), 0, 1))
    if rising[-1] - rising[0] < 0.1:
        raise ValueError("the ICC profile has a flat curve")
    return rising


def _inverse(curve: NDArray[np.float64]) -> NDArray[np.float32]:
    """Codes in [0, 1] at equal steps of the square root of linear light: fine steps where the eye needs them."""
    rising = np.concatenate([[True], np.diff(curve) > 0])
    codes = np.linspace(0, 1, _FULL)
    steps = np.linspace(0, 1, _INVERSE) ** 2
    return np.asarray(np.interp(steps, curve[rising], codes[rising]), np.float32)


def _table_profile(icc: bytes) -> _TableProfile:
    axis = (np.arange(_GRID) * 5).astype(np.uint8)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(_GRID, -1, 3)
    image, srgb = Image.fromarray(nodes), ImageCms.createProfile("sRGB")
    grids = []
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        for given, wanted in ((profile, srgb), (srgb, profile)):
            made = ImageCms.profileToProfile(image, given, wanted, ImageCms.Intent.RELATIVE_COLORIMETRIC)
            assert made is not None
            grids.append(np.asarray(made, np.float32).reshape(_GRID, _GRID, _GRID, 3) / np.float32(255))
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(f"the ICC profile cannot be used: {error}") from error
    return _TableProfile(*grids)


def to_srgb_image(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert a CMYK or Lab picture of eight bits to RGB, through its profile if it has a usable one."""
    try:
        if image.mode == "LAB":
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif icc is not None and icc[16:20] == b"CMYK":
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        else:
            return image.convert("RGB")
        made = ImageCms.profileToProfile(
            image,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        if image.mode == "LAB":
            raise
        return image.convert("RGB")
    assert made is not None
    return made


# -- making a profile, for files that name their primaries without embedding one


def _to_d50(primaries: Primaries, white: tuple[float, float] = _D65) -> Matrix:
    """The matrix from linear light of these primaries to XYZ of the connection space, with Bradford adaptation."""
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    lit = np.array([white[0] / white[1], 1.0, (1 - white[0] - white[1]) / white[1]])
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(cone) @ np.diag((cone @ _D50) / (cone @ lit)) @ cone
    result: Matrix = adapt @ (xyz * np.linalg.solve(xyz, lit))
    return result


def make_profile(
    name: str, primaries: Primaries | None, gamma: float | None = None, white: tuple[float, float] = _D65
) -> bytes:
    """Build a version 4 display profile from primaries (None: grey), gamma (None: the sRGB curve) and white."""

    def numbers(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))

    text = name.encode("utf-16-be")
    label = b"mluc\0\0\0\0" + struct.pack(">IIHHII", 1, 12, 0x656E, 0x5553, len(text), 28) + text
    srgb = b"para\0\0\0\0\0\3\0\0" + numbers(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = srgb if gamma is None else b"para\0\0\0\0\0\0\0\0" + numbers(gamma)
    elements = {b"desc": label, b"cprt": label, b"wtpt": b"XYZ \0\0\0\0" + numbers(*_D50)}
    if primaries is None:
        elements[b"kTRC"] = curve
    else:
        places = zip((b"rXYZ", b"gXYZ", b"bXYZ"), _to_d50(primaries, white).T, strict=True)
        elements |= {tag: b"XYZ \0\0\0\0" + numbers(*place) for tag, place in places}
        elements |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = b"", b"", 132 + 12 * len(elements)
    for tag, element in elements.items():
        table += tag + struct.pack(">II", start + len(body), len(element))
        body += element + bytes(-len(element) % 4)
    size = start + len(body)
    space = b"RGB " if primaries else b"GRAY"
    head = struct.pack(">I4xI4s4s4s12x4s", size, 0x04200000, b"mntr", space, b"XYZ ", b"acsp")
    head = (head + bytes(28) + numbers(*_D50)).ljust(128, b"\0")
    return head + struct.pack(">I", len(elements)) + table + body
