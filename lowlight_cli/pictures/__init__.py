"""Pictures: read files into `Photo` and write them back, keeping depth, colours, transparency and metadata.

Only this package deals with orientation, profiles, bit depth and codecs; all others see (H, W, 3) float32 RGB,
sRGB-encoded, in [0, 1].
"""

from lowlight_cli.pictures.formats import FORMATS, READ_ONLY, format_of, suffix_of, suffixes
from lowlight_cli.pictures.headers import pixel_count
from lowlight_cli.pictures.photo import Jpeg, Photo
from lowlight_cli.pictures.placing import place
from lowlight_cli.pictures.reading import MAX_PIXELS, read
from lowlight_cli.pictures.writing import encode, refuse_unfit, write

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "READ_ONLY",
    "Jpeg",
    "Photo",
    "encode",
    "format_of",
    "pixel_count",
    "place",
    "read",
    "refuse_unfit",
    "suffix_of",
    "suffixes",
    "write",
]
