"""The named data sets: usual locations, expected layout, where to get them, and notes for their tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["EVAL15", "OVERLAP", "SCENES", "SETS", "Known"]


@dataclass(frozen=True)
class Known:
    """A named data set.

    Attributes:
        title: its name in tables.
        places: folders below the root in which to look for it.
        parts: what such a folder must contain; for pairs, first the folder of dark pictures, then that of references.
        missing: the hint to print if it is not found.
        count: number of pairs or pictures in the whole set; 0 if that differs between distributions.
        size: width and height of every picture, if all are the same.
        pixels: for each stem, the first 16 digits of the sha256 of the pair's pixels, as in `run.Looked`.
        paired: whether there are references.
        notes: lines that must be printed below every table.
    """

    title: str
    places: tuple[str, ...]
    parts: tuple[str, ...]
    missing: str
    count: int = 0
    size: tuple[int, int] | None = None
    pixels: tuple[tuple[str, str], ...] = ()
    paired: bool = True
    notes: tuple[str, ...] = ()


LOL: Final = "LOL v1 (Wei et al., BMVC 2018, https://daooshee.github.io/BMVC2018website/)"
LOL_V2: Final = "LOL v2 (Yang et al., TIP 2021, https://github.com/flyywh/CVPR-2020-Semi-Low-Light)"
OVERLAP: Final = (
    "14 of the 15 eval15 scenes also occur in our485, LOL's training pairs, at other exposures: "
    "a figure on eval15 measures memory as much as skill"
)
SCENES: Final = (
    "of LOL's training scenes, `lowlight train` holds out one in twenty, chosen by hash, and these are they; weights "
    "that were trained elsewhere may have seen them"
)
SEEN: Final = (
    "the same camera and rooms as LOL v1: weights trained on that have seen their like, and may have seen scenes"
)
USUAL: Final = "the test data of EnlightenGAN (https://github.com/VITA-Group/EnlightenGAN)"

EVAL15: Final = (
    ("1", "421293f3735add14"), ("22", "6f8912aee41039d1"), ("23", "4652d9669c12e22a"), ("55", "8009fc6952cf0455"),
    ("79", "3748fd32644b617d"), ("111", "3a464ef67fadeb21"), ("146", "1cb4ec201c80e5c4"), ("179", "205678240b1a878b"),
    ("493", "ce36dbb51c810aa0"), ("547", "aeae50913a47fdec"), ("665", "b7d86b57f99bb76f"), ("669", "793bbea062472332"),
    ("748", "f301072e51b289bc"), ("778", "b74ce4fefe7d56c8"), ("780", "8b5f9f0ff9214543"),
)  # fmt: skip
"""Hashes of the published test pairs of LOL v1 by stem; lossless copies in any format have the same."""


def _alone(title: str, name: str, cited: str, where: str, count: int = 0) -> Known:
    """Describe a set of dark pictures without references."""
    places = (f"{name}/images", f"{name}/image", name, f"{title}/images", f"{title}/image", title)
    told = (
        f"get {title} ({cited}), from {where}, and put its pictures into a folder {name}; folders inside are searched"
    )
    return Known(title, tuple(dict.fromkeys(places)), (), told, count, paired=False)


SETS: Final[dict[str, Known]] = {
    "lol": Known(
        "LOL v1 eval15",
        ("lol/eval15", "LOL/eval15", "LOLdataset/eval15", "lol_dataset/eval15", "eval15"),
        ("low", "high"),
        f"get {LOL} and unpack it so that eval15/low and eval15/high hold its 15 test pairs, 600x400",
        15,
        (600, 400),
        EVAL15,
        notes=(OVERLAP,),
    ),
    "lol-scenes": Known(
        "LOL v1, held-out scenes",
        ("lol", "LOL", "LOLdataset", "lol_dataset", "."),
        ("our485/low", "our485/high", "scenes.csv"),
        f"get {LOL}, unpack it so that our485/low and our485/high hold its training pairs, and put a scenes.csv beside "
        "our485 with the columns folder, stem and scene, which tells the pictures that show one scene "
        "(our485,2,0: picture 2 shows scene 0)",
        notes=(SCENES, OVERLAP),
    ),
    "lol-v2-real": Known(
        "LOL v2, real test pairs",
        ("LOL-v2/Real_captured/Test", "LOLv2/Real_captured/Test", "lol-v2/Real_captured/Test", "Real_captured/Test"),
        ("Low", "Normal"),
        f"get {LOL_V2} and unpack it so that LOL-v2/Real_captured/Test/Low and /Normal hold its 100 test pairs, "
        "600x400 (low00690.png goes with normal00690.png)",
        100,
        (600, 400),
        notes=(SEEN,),
    ),
    "lol-v2-syn": Known(
        "LOL v2, synthetic test pairs",
        ("LOL-v2/Synthetic/Test", "LOLv2/Synthetic/Test", "lol-v2/Synthetic/Test", "Synthetic/Test"),
        ("Low", "Normal"),
        f"get {LOL_V2} and unpack it so that LOL-v2/Synthetic/Test/Low and /Normal hold its 100 test pairs",
        100,
    ),
    "sice": Known(
        "SICE, validation scenes",
        ("sice", "SICE", "."),
        ("low", "high", "pairs.csv"),
        "get SICE (Cai et al., TIP 2018, https://github.com/csjcai/SICE) and lay out low/, high/ and a pairs.csv with "
        "the columns low, high (file names), scene and split, where split is val for what is measured",
    ),
    "fivek": Known(
        "MIT-Adobe FiveK, test pairs",
        ("fivek/test", "FiveK/test", "fivek", "FiveK"),
        ("low", "high"),
        "get MIT-Adobe FiveK (Bychkovsky et al., CVPR 2011, https://data.csail.mit.edu/graphics/fivek/) and put the "
        "pictures as shot into fivek/test/low and expert C's into fivek/test/high, of equal names and sizes; the usual "
        "test pairs are the last 500",
        500,
    ),
    "dicm": _alone("DICM", "dicm", "Lee, Lee, Kim, ICIP 2012", USUAL, 64),
    "lime": _alone("LIME", "lime", "Guo, Li, Ling, TIP 2017", USUAL, 10),
    "mef": _alone("MEF", "mef", "Ma, Zeng, Wang, TIP 2015", USUAL, 17),
    "npe": _alone("NPE", "npe", "Wang et al., TIP 2013", USUAL, 8),
    "vv": _alone("VV", "vv", "Vonikakis, Kouskouridas, Gasteratos, 2018", USUAL, 24),
    "exdark": _alone(
        "ExDark",
        "exdark",
        "Loh and Chan, CVIU 2019",
        "https://github.com/cs-chan/Exclusively-Dark-Image-Dataset",
        7363,
    ),
    "darkface": _alone(
        "DARK FACE",
        "darkface",
        "Yang et al., TIP 2020",
        "https://flyywh.github.io/CVPRW2019LowLight/",
        6000,
    ),
}  # fmt: skip
"""Known sets by name."""
