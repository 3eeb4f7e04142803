"""What the tests of pictures share: samples, files made by other hands than ours, and readers of the same kind."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from hypothesis import strategies as st
from PIL import Image, ImageCms

from lowlight_cli.pictures import Photo
from lowlight_cli.pictures.colour import scaled

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def noise(height: int, width: int, channels: int, dtype: type, seed: int = 0) -> np.ndarray:
    """(H, W, C) of every code there is, with some full transparency."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
    if channels in (2, 4):
        samples[: height // 3, :, -1] = 0
    return samples


@st.composite
def samples(draw: st.DrawFn, largest: int = 40) -> np.ndarray:
    """(H, W, C) of 1 to 4 channels, 8 or 16 bits."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    return noise(height, width, draw(st.integers(1, 4)), dtype, draw(st.integers(0, 2**32)))


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8 that codecs like: a slope in each channel."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), (x + y) * 255 / (height + width)]
    return np.stack(planes, -1).astype(np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """A file by Pillow."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    """Pillow's view of a file."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def tiff(array: np.ndarray, **options: object) -> bytes:
    """A file by tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def png(array: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (H, W, C) without filters, made by hand."""
    height, width, channels = array.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, array.dtype.itemsize * 8, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def seen(data: bytes) -> np.ndarray:
    """Samples (H, W, C) of a PNG, TIFF or BMP by OpenCV or tifffile, at the depth of the file."""
    if data[:2] in (b"II", b"MM"):
        array = tifffile.imread(io.BytesIO(data))
    else:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if array.ndim == 3:
            array = array[..., [2, 1, 0, 3][: array.shape[-1]]]
    return array if array.ndim == 3 else array[..., None]


def photo_of(array: np.ndarray, **rest: object) -> Photo:
    """A Photo of (H, W, C) samples, as `read` would make it where nothing is transparent."""
    grey = array.shape[-1] < 3
    colours = scaled(array[..., :1] if grey else array[..., :3])
    alpha = np.ascontiguousarray(array[..., -1]) if array.shape[-1] in (2, 4) else None
    pixels = np.ascontiguousarray(np.broadcast_to(colours, (*array.shape[:2], 3)))
    return Photo(pixels=pixels, depth=array.dtype.itemsize * 8, grey=grey, alpha=alpha, **rest)  # type: ignore[arg-type]


def srgb_by_littlecms(array: np.ndarray, icc: bytes) -> np.ndarray:
    """(H, W, 3) uint8 under a profile as sRGB uint8, by ImageCms."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    made = ImageCms.profileToProfile(
        Image.fromarray(array), profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    return np.asarray(made)
