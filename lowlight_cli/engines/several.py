"""Combine several GPUs into one engine: each batch goes to one that is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.engines import feeders

if TYPE_CHECKING:
    from lowlight_cli.engines import Engine
    from lowlight_cli.engines.tiling import Prepare, Settle

__all__ = ["Several", "together"]


@dataclass(frozen=True)
class Several:
    """Engines of one kind on several devices. The other fields are those of `engines.Engine`.

    Attributes:
        count: number of threads that keep them all busy.
    """

    name: str
    provider: str
    device: str
    precision: str
    why: str
    metadata: Mapping[str, str]
    count: int
    _free: SimpleQueue[Engine] = field(repr=False)

    def run(
        self,
        batch: NDArray[np.float32],
        on_tiles: Callable[[int], None] | None = None,
        prepare: Prepare | None = None,
        settle: Settle | None = None,
    ) -> NDArray[np.float32]:
        """Run the batch on an engine that is free; waits for one if necessary. See `engines.Engine.run`."""
        engine = self._free.get()
        try:
            return engine.run(batch, on_tiles, prepare, settle)
        finally:
            self._free.put(engine)


def together(engines: Sequence[Engine], device: str) -> Several:
    """Combine engines of the same network, kind and precision into one.

    Args:
        engines: at least one.
        device: their joint name, such as `cuda:0,1`.
    """
    first, free = engines[0], SimpleQueue["Engine"]()
    places = [*engines] * feeders(first)  # in this order, each gets a picture before one gets a second
    for engine in places:
        free.put(engine)
    return Several(first.name, first.provider, device, first.precision, first.why, first.metadata, len(places), free)
