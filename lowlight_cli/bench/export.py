"""Export of results to other programs: CSV for spreadsheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Final

from lowlight_cli.bench.report import measured, notes
from lowlight_cli.bench.run import Result

__all__ = ["as_csv", "as_latex"]

SPECIAL: Final = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "*": "{*}", "[": "{[}",  # after `\\` LaTeX would read them as its star or argument
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def as_csv(results: Sequence[Result]) -> str:
    """Return CSV with a line for each set, method and picture, unrounded; metrics that a set lacks are empty."""
    held = io.StringIO()
    keys = list(dict.fromkeys(metric.key for result in results for metric in result.metrics))
    written = csv.DictWriter(held, ["set", "method", "kind", "picture", *keys, "seconds"], "", lineterminator="\n")
    written.writeheader()
    for result in results:
        for row in result.rows:
            for score in row.scores:
                told = {"set": result.dataset.name, "method": row.method.name, "kind": row.method.kind}
                values = {key: "" if math.isnan(value) else value for key, value in score.values.items()}
                written.writerow({**told, "picture": score.stem, **values, "seconds": score.seconds})
    return held.getvalue()


def as_latex(results: Sequence[Result]) -> str:
    """Return a LaTeX table for each set with booktabs rules, ties marked, and the notes below it."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(map(_latex, results))


def _latex(result: Result) -> str:
    table = measured(result)
    lines = [
        "\\begin{table}",
        f"\\caption{{{_plain(result.dataset.title)}}}",
        f"\\begin{{tabular}}{{ll{'r' * (len(table.columns) - 2)}}}",
        "\\toprule",
        _line(table.columns),
        "\\midrule",
        *map(_line, table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\par\\footnotesize",
        *(f"{_plain(line)}.\\\\" for line in notes(result)),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join(map(_plain, cells)) + r" \\"


def _plain(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(SPECIAL.get(character, character) for character in text)
