"""The table of networks: what each is, without importing torch.

A network is one file of this room and one line of `NETWORKS`. `build` imports the file on first use. `DEGRADATIONS` are
what two of the papers darken with: parts of training with weights of their own, which enhance nothing.
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


@dataclass(frozen=True)
class Descriptor:
    """What the rest of the program needs to know about a network before it is built.

    Attributes:
        name: what the user types.
        factory: `module:Class` inside this room.
        title: the network's full name.
        paper: authors, venue, year.
        url: where the paper is.
        stride: heights and widths are padded to a multiple of it inside `forward`.
        radius: how many pixels away an input pixel can change an output pixel; None where the network pools over the
            whole picture.
        parameters: number of trained values at inference, in millions, as published where `published` is true.
        gmacs: multiply-adds at 384x384, in 1e9, as published where `published` is true.
        published: whether the paper states the two budgets.
        bf16: whether bfloat16 stays within 0.5 grey levels (mean) of float32.
        good_at: one line for `lowlight models`.
        bad_at: one line for `lowlight models`.
        thumbnail: whether all that it measures comes from a thumbnail, before it looks at the picture.
    """

    name: str
    factory: str
    title: str
    paper: str
    url: str
    stride: int
    radius: int | None
    parameters: float
    gmacs: float
    published: bool
    bf16: bool
    good_at: str
    bad_at: str
    thumbnail: bool = False


NETWORKS: dict[str, Descriptor] = {
    d.name: d
    for d in (
        Descriptor(
            "jcrnet",
            "jcrnet:JCRNet",
            "Joint Correcting and Refinement Network",
            "Yu, Shi, Han, 2023",
            "https://arxiv.org/abs/2309.16128",
            4,
            None,
            2.01,
            219.74,
            True,
            True,
            "the cleanest results; the largest network",
            "slow without a GPU; texture under strong noise is painted over",
        ),
        Descriptor(
            "drgn",
            "drgn:DRGN",
            "Degradation-to-Refinement Generation Network",
            "Jiang et al., AAAI 2022",
            "https://arxiv.org/abs/2103.10621",
            4,
            None,
            4.773,
            110.59,
            True,
            True,
            "noise and detail at three scales",
            "slow without a GPU; strong noise becomes a pattern",
        ),
        Descriptor(
            "lw-drgn",
            "drgn:LightDRGN",
            "Light-weight Degradation-to-Refinement Generation Network",
            "Jiang et al., AAAI 2022",
            "https://arxiv.org/abs/2103.10621",
            4,
            None,
            0.660,
            18.15,
            True,
            True,
            "most of DRGN at a sixth of its work",
            "strong noise becomes a pattern",
        ),
        Descriptor(
            "neid",
            "neid:NEID",
            "Bridge the vision gap: enhancing illumination and details",
            "Jiang et al., 2021",
            "https://arxiv.org/abs/2101.08039",
            16,
            None,
            3.210,
            7.35,
            False,
            True,
            "fast on large pictures: it works at half size",
            "fine detail, for the same reason",
        ),
        Descriptor(
            "frlie",
            "frlie:FRLIE",
            "Low-light image enhancement via feature restoration",
            "Yang, Zhang, Guo, ICASSP 2022",
            "https://github.com/YaN9-Y/FRLIE",
            4,
            147,
            2.854,
            33.85,
            False,
            True,
            "purely local: the same in a tile as in the whole picture",
            "soft; fine texture and small print",
        ),
        Descriptor(
            "dgaf",
            "dgaf:DGAF",
            "Domain-gap aware framework, its Enlightening network",
            "Chen et al., Frontiers in Physics 2023",
            "https://doi.org/10.3389/fphy.2023.1147031",
            4,
            None,
            0.383,
            3.63,
            False,
            True,
            "photographs of any kind, video; the fastest",
            "the deepest shadows stay grey",
            thumbnail=True,
        ),
    )
}


DEGRADATIONS: dict[str, Descriptor] = {
    d.name: d
    for d in (
        Descriptor(
            "dgaf-darkening",
            "dgaf:Darkening",
            "Domain-gap aware framework, its Darkening network",
            "Chen et al., Frontiers in Physics 2023",
            "https://doi.org/10.3389/fphy.2023.1147031",
            1,
            18,
            0.594,
            87.48,
            False,
            True,
            "bright pictures to dark ones",
            "has no grain of its own",
        ),
        Descriptor(
            "lw-drgn-degradation",
            "drgn:light_degradation",
            "Light-weight Degradation-to-Refinement Generation Network, its DeG",
            "Jiang et al., AAAI 2022",
            "https://arxiv.org/abs/2103.10621",
            4,
            None,
            0.225,
            2.02,
            False,
            True,
            "the degradation of a dark picture",
            "has no grain of its own",
        ),
        Descriptor(
            "drgn-degradation",
            "drgn:degradation",
            "Degradation-to-Refinement Generation Network, its DeG",
            "Jiang et al., AAAI 2022",
            "https://arxiv.org/abs/2103.10621",
            4,
            None,
            2.429,
            55.83,
            False,
            True,
            "the degradation of a dark picture",
            "slow without a GPU",
        ),
    )
}


def descriptor(name: str) -> Descriptor:
    """The descriptor called `name`.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        near = difflib.get_close_matches(name.lower(), NETWORKS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NETWORKS)}"
        raise UsageError(f"unknown model {name!r}: {hint} (see `lowlight models`)") from None


def known(name: str) -> Descriptor:
    """The descriptor of whatever has weights: of a degradation, or as `descriptor`."""
    return DEGRADATIONS.get(name) or descriptor(name)


def build(name: str) -> Network:
    """A new network with its initial weights, in training mode, float32, on the CPU.

    Raises:
        UsageError: no such network.
    """
    network: Network = _made(descriptor(name))
    return network


def module(name: str) -> nn.Module:
    """As `build`, of whatever has weights."""
    made: nn.Module = _made(known(name))
    return made


def _made(line: Descriptor) -> Any:
    file, _, factory = line.factory.partition(":")
    make = getattr(importlib.import_module(f"{__name__}.{file}"), factory)
    import torch  # not by the table

    default = torch.get_default_dtype()
    if default == torch.float32:
        return make()
    torch.set_default_dtype(torch.float32)  # of the host; `float()` afterwards would keep tables that were rounded
    try:
        return make()
    finally:
        torch.set_default_dtype(default)
