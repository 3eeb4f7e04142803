"""The table of networks: a description of each, without importing torch.

A network is one file of this package and one entry of `NETWORKS`. `build` imports the file on first use. `DEGRADATIONS`
are networks that two of the papers use in training to darken pictures; they have weights but enhance nothing.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lowlight_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from lowlight_cli.networks.layers import Network

__all__ = ["DEGRADATIONS", "NETWORKS", "Descriptor", "build", "descriptor", "known", "module"]


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What the rest of the program needs to know about a network before it is built.

    Attributes:
        name: what the user types.
        factory: `module:callable` inside this package.
        title: the network's full name.
        paper: authors, venue, year.
        url: where the paper is.
        stride: heights and widths are padded to a multiple of it inside `forward`.
        radius: largest distance in pixels at which an input pixel can change an output pixel; None if the network
            pools over the whole picture.
        overlap: of tiles in pixels, if it does: beyond, what a pixel changes is under a thousandth of a grey level,
            except through what is measured of the whole picture.
        parameters: number of trained values at inference, in millions, as published where `published` is true.
        gmacs: multiply-adds at 384x384, in 1e9, as published where `published` is true.
        published: whether the paper states the two budgets.
        bf16: whether bfloat16 stays within 0.5 grey levels (mean) of float32.
        good_at: one line for `lowlight models`.
        bad_at: one line for `lowlight models`.
        thumbnail: whether all its whole-picture measurements come from a thumbnail, before it sees the picture itself.
    """

    name: str
    factory: str
    title: str
    paper: str
    url: str
    stride: int
    radius: int | None = None
    overlap: int = 64
    parameters: float
    gmacs: float
    published: bool = False
    bf16: bool = False
    good_at: str
    bad_at: str
    thumbnail: bool = False


NETWORKS: dict[str, Descriptor] = {
    d.name: d
    for d in (
        Descriptor(
            name="jcrnet",
            factory="jcrnet:JCRNet",
            title="Joint Correcting and Refinement Network",
            paper="Yu, Shi, Han, 2023",
            url="https://arxiv.org/abs/2309.16128",
            stride=4,
            parameters=2.01,
            gmacs=219.74,
            published=True,
            bf16=True,
            good_at="the cleanest results; the largest network",
            bad_at="slow without a GPU; texture under strong noise is painted over",
        ),
        Descriptor(
            name="drgn",
            factory="drgn:DRGN",
            title="Degradation-to-Refinement Generation Network",
            paper="Jiang et al., AAAI 2022",
            url="https://arxiv.org/abs/2103.10621",
            stride=4,
            parameters=4.773,
            gmacs=110.59,
            published=True,
            bf16=True,
            good_at="noise and detail at three scales",
            bad_at="slow without a GPU; strong noise becomes a pattern",
        ),
        Descriptor(
            name="lw-drgn",
            factory="drgn:LightDRGN",
            title="Light-weight Degradation-to-Refinement Generation Network",
            paper="Jiang et al., AAAI 2022",
            url="https://arxiv.org/abs/2103.10621",
            stride=4,
            parameters=0.660,
            gmacs=18.15,
            published=True,
            bf16=True,
            good_at="most of DRGN at a sixth of its work",
            bad_at="strong noise becomes a pattern",
        ),
        Descriptor(
            name="neid",
            factory="neid:NEID",
            title="Bridge the vision gap: enhancing illumination and details",
            paper="Jiang et al., 2021",
            url="https://arxiv.org/abs/2101.08039",
            stride=16,
            overlap=128,
            parameters=3.210,
            gmacs=7.35,
            bf16=True,
            good_at="fast on large pictures: it works at half size",
            bad_at="fine detail, for the same reason",
        ),
        Descriptor(
            name="frlie",
            factory="frlie:FRLIE",
            title="Low-light image enhancement via feature restoration",
            paper="Yang, Zhang, Guo, ICASSP 2022",
            url="https://github.com/YaN9-Y/FRLIE",
            stride=4,
            radius=147,
            parameters=2.854,
            gmacs=33.85,
            bf16=True,
            good_at="purely local: the same in a tile as in the whole picture",
            bad_at="soft; fine texture and small print",
        ),
        Descriptor(
            name="dgaf",
            factory="dgaf:DGAF",
            title="Domain-gap aware framework, its Enlightening network",
            paper="Chen et al., Frontiers in Physics 2023",
            url="https://doi.org/10.3389/fphy.2023.1147031",
            stride=4,
            parameters=0.383,
            gmacs=3.63,
            bf16=True,
            good_at="photographs of any kind, video; the fastest",
            bad_at="the deepest shadows stay grey",
            thumbnail=True,
        ),
    )
}


DEGRADATIONS: dict[str, Descriptor] = {
    d.name: d
    for d in (
        Descriptor(
            name="dgaf-darkening",
            factory="dgaf:Darkening",
            title="Domain-gap aware framework, its Darkening network",
            paper="Chen et al., Frontiers in Physics 2023",
            url="https://doi.org/10.3389/fphy.2023.1147031",
            stride=1,
            radius=18,
            parameters=0.594,
            gmacs=87.48,
            bf16=True,
            good_at="bright pictures to dark ones",
            bad_at="has no grain of its own",
        ),
        Descriptor(
            name="lw-drgn-degradation",
            factory="drgn:light_degradation",
            title="Light-weight Degradation-to-Refinement Generation Network, its DeG",
            paper="Jiang et al., AAAI 2022",
            url="https://arxiv.org/abs/2103.10621",
            stride=4,
            parameters=0.225,
            gmacs=2.02,
            bf16=True,
            good_at="the degradation of a dark picture",
            bad_at="has no grain of its own",
        ),
        Descriptor(
            name="drgn-degradation",
            factory="drgn:degradation",
            title="Degradation-to-Refinement Generation Network, its DeG",
            paper="Jiang et al., AAAI 2022",
            url="https://arxiv.org/abs/2103.10621",
            stride=4,
            parameters=2.429,
            gmacs=55.83,
            bf16=True,
            good_at="the degradation of a dark picture",
            bad_at="slow without a GPU",
        ),
    )
}


def descriptor(name: str) -> Descriptor:
    """The descriptor called `name`.

    Raises:
        UsageError: there is none; the message suggests the closest name, or the options for a name like `dgaf.tag`.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        network, _, tag = name.partition(".")
        if tag and network in NETWORKS:
            hint = f"did you mean the weights {tag!r} of {network!r}, -m {network} -w {tag}?"
            raise UsageError(f"unknown model {name!r}: {hint}") from None
        near = difflib.get_close_matches(name.lower(), NETWORKS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NETWORKS)}"
        raise UsageError(f"unknown model {name!r}: {hint} (see `lowlight models`)") from None


def known(name: str) -> Descriptor:
    """The descriptor of anything with weights: a degradation, or a network as in `descriptor`."""
    return DEGRADATIONS.get(name) or descriptor(name)


def build(name: str) -> Network:
    """A new network with its initial weights, in training mode, float32, on the CPU.

    Raises:
        UsageError: no such network.
    """
    network: Network = _made(descriptor(name))
    return network


def module(name: str) -> nn.Module:
    """Like `build`, for anything with weights."""
    made: nn.Module = _made(known(name))
    return made


def _made(line: Descriptor) -> Any:
    file, _, factory = line.factory.partition(":")
    make = getattr(importlib.import_module(f"{__name__}.{file}"), factory)
    import torch  # imported here, as the table must not need it

    default = torch.get_default_dtype()
    if default == torch.float32:
        return make()
    # The host's default; calling `float()` on the result would be too late for buffers that were rounded.
    torch.set_default_dtype(torch.float32)
    try:
        return make()
    finally:
        torch.set_default_dtype(default)
