"""A result for other programs: CSV for sheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import math
from typing import Final

from lowlight_cli.bench.report import Table, measured, notes
from lowlight_cli.bench.run import Result

__all__ = ["as_csv", "as_latex"]

SPECIAL: Final = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def as_csv(result: Result) -> str:
    """A line a method and picture, nothing rounded: method, kind, picture, the metrics by their keys, seconds."""
    held = io.StringIO()
    written = csv.writer(held, lineterminator="\n")
    keys = [metric.key for metric in result.metrics]
    written.writerow(["method", "kind", "picture", *keys, "seconds"])
    for row in result.rows:
        for score in row.scores:
            values = ["" if math.isnan(score.values[key]) else score.values[key] for key in keys]
            seconds = "" if score.seconds is None else score.seconds
            written.writerow([row.method.name, row.method.kind, score.stem, *values, seconds])
    return held.getvalue()


def as_latex(result: Result) -> str:
    """A `tabular` with the rules of booktabs, ties marked, and under it what must be read with it."""
    table = measured(result)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_plain(result.dataset.title)}}}",
        f"\\begin{{tabular}}{{ll{'r' * (len(table.columns) - 2)}}}",
        "\\toprule",
        _line(table.columns),
        "\\midrule",
        *_rows(table),
        "\\bottomrule",
        "\\end{tabular}",
        "\\par\\footnotesize",
        *(f"{_plain(line)}.\\\\" for line in notes(result)),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> list[str]:
    return [_line(row) for row in table.rows]


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join(map(_plain, cells)) + r" \\"


def _plain(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(SPECIAL.get(character, character) for character in text)
