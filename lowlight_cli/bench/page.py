"""Results as one self-contained HTML page: sortable tables, pictures under a slider, scatter plots and histograms.

The page loads nothing: pictures are embedded and its content policy forbids everything else, so that it works from a
disk, in a mail and years later. page.html has layout and behaviour; this module fills in the contents.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.bench.methods import INPUT, REFERENCE, Method
from lowlight_cli.bench.report import REMARK, Table, environment, measured, notes, stated
from lowlight_cli.bench.run import Result, Score
from lowlight_cli.bench.sets import in_levels
from lowlight_cli.metrics.table import METRICS
from lowlight_cli.sheets import reduced

__all__ = ["Gallery", "as_html"]

Picture = NDArray[np.float32]

SHOWN: Final = 60
"""Number of pairs whose pictures are in the page: those where the shown methods do worst."""
SIDE: Final = 720
"""Longer side of a picture in the page, in pixels."""
QUALITY: Final = 85
TEMPLATE: Final = Path(__file__).with_name("page.html")


class Gallery:
    """A `run.Viewer` that collects the pictures for a page while the measurement runs.

    Args:
        methods: all methods that are measured; baselines are shown only if there is nothing else.
        most: how many pairs to keep: those with the worst first metric, or the lowest if that metric only describes.
    """

    def __init__(self, methods: Sequence[Method], most: int = SHOWN) -> None:
        others = [method.name for method in methods if method.kind != "baseline"]
        self.names = others or [method.name for method in methods if method.name != INPUT]
        self.pictures: dict[str, dict[str, bytes]] = {}
        self._most = most
        self._worst: dict[str, float] = {}

    def wants(self, method: Method) -> bool:
        """Return whether the page shows the results of `method`."""
        return method.name in self.names

    def __call__(self, method: Method, score: Score, low: Picture, made: Picture, high: Picture | None) -> None:
        """Keep a result; if there are too many pairs, drop the one whose worst value is the best."""
        kept = self.pictures.setdefault(score.stem, {})
        if not kept:
            kept[INPUT] = _jpeg(low)
            if high is not None:
                kept[REFERENCE] = _jpeg(high)
        kept[method.name] = _jpeg(made)
        key, first = next(iter(score.values.items()))
        value = -first if METRICS[key].higher is False else first
        self._worst[score.stem] = min(value, self._worst.get(score.stem, value))
        if len(self.pictures) > self._most and method.name == self.names[-1]:
            best = max(self._worst, key=self._worst.__getitem__)
            del self.pictures[best], self._worst[best]


def as_html(results: Sequence[Result], galleries: Sequence[Gallery]) -> str:
    """Return the page; `galleries` has one gallery for each result."""
    facts = {name: str(value) for name, value in environment().items() if value is not None}
    title = ", ".join(result.dataset.title for result in results)
    parts = {
        "TITLE": html.escape(f"lowlight bench: {title}"),
        "MEASURED": "".join(map(_measured, results)),
        "SETS": "".join(
            f'<option value="{number}">{html.escape(result.dataset.title)}</option>'
            for number, result in enumerate(results)
        ),
        "ALONE": "hidden" if len(results) == 1 else "",
        "MACHINE": "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items()
        ),
        "DATA": _data(results, galleries),
    }
    # All at once: a set that is called %DATA% is no place for the data.
    return re.sub("%([A-Z]+)%", lambda found: parts[found[1]], TEMPLATE.read_text("utf-8"))


def _measured(result: Result) -> str:
    """Return the section of one set: measured table, notes and published figures."""
    told = stated(result)
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in notes(result))
    title = html.escape(result.dataset.title)
    return (
        f"<section><h2>{title}</h2>{_table(measured(result), f'{result.dataset.title}: means over pictures')}"
        f'<p class="pale">A heading sorts by its column.</p><ul>{lines}</ul>'
        + (f"<h3>As published</h3><p>{html.escape(REMARK)}</p>{_table(told, 'As published')}" if told else "")
        + "</section>"
    )


def _table(table: Table, caption: str) -> str:
    """Return a table that is sorted by clicking its headings; cell texts are escaped."""
    head = "".join(f'<th scope="col"><button type="button">{html.escape(name)}</button></th>' for name in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in table.rows
    )
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(caption)}"><table class="sorts">'
        f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _data(results: Sequence[Result], galleries: Sequence[Gallery]) -> str:
    """Return the data for the page's script, as JSON in which no text can close the script element."""
    sets = [_set(result, gallery) for result, gallery in zip(results, galleries, strict=True)]
    text = json.dumps(sets, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("%", "\\u0025")


def _set(result: Result, gallery: Gallery) -> dict[str, Any]:
    return {
        "metrics": [
            {"key": metric.key, "title": metric.title, "digits": metric.digits, "higher": metric.higher}
            for metric in result.metrics
        ],
        "methods": [
            {"name": row.method.name, "kind": row.method.kind, "shown": row.method.name in gallery.names}
            for row in result.rows
        ],
        "stems": [score.stem for score in result.rows[0].scores],
        "values": {
            metric.key: {
                row.method.name: [None if math.isnan(value) else value for value in row.values(metric.key)]
                for row in result.rows
            }
            for metric in result.metrics
        },
        "pictures": {
            stem: {name: base64.b64encode(data).decode() for name, data in pictures.items()}
            for stem, pictures in gallery.pictures.items()
        },
    }


def _jpeg(picture: Picture) -> bytes:
    """Encode an (H, W, 3) picture in [0, 1], reduced to `SIDE`."""
    picture = reduced(picture, SIDE)
    held = io.BytesIO()
    Image.fromarray(in_levels(picture)).save(held, "JPEG", quality=QUALITY, subsampling=0)
    return held.getvalue()
