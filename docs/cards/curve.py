"""Loss and held-out figures over steps as one SVG, readable on light and on dark ground."""

from __future__ import annotations

import math
from typing import Final
from xml.sax.saxutils import escape

from cards.log import Leg, scored

WIDTH: Final = 800
HEIGHT: Final = 300
TOP: Final = 40
BOTTOM: Final = 250
PANELS: Final = ((60, 370), (460, 770))
"""Left and right end of the loss's axes, and of the figures'."""

STYLE: Final = """
text { font: 12px sans-serif; fill: #57606a } .title { font-weight: bold; fill: #24292f }
line { stroke: #d0d7de } .leg { stroke-dasharray: 3 3; stroke: #8c959f }
polyline { fill: none; stroke-width: 2 } circle { stroke: none }
.a { stroke: #0969da; fill: #0969da } .b { stroke: #bc4c00; fill: #bc4c00 } text.a, text.b { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title { fill: #f0f6fc } line { stroke: #3d444d } .leg { stroke: #656c76 }
  .a { stroke: #4493f8; fill: #4493f8 } .b { stroke: #f0883e; fill: #f0883e }
}
polyline.a, polyline.b { fill: none }
"""

Curve = list[tuple[int, float]]


def drawn(name: str, legs: list[Leg]) -> str:
    """The picture's text: a panel for the loss, one for PSNR and GT-mean PSNR of the held-out scenes."""
    losses = [(point.step, point.loss) for leg in legs for point in leg.points if point.loss is not None]
    plain, at_mean = scored(legs, "psnr"), scored(legs, "psnr_gt_mean")
    steps = max((leg.points[-1].step for leg in legs if leg.points), default=1)
    ends = [leg.points[-1].step for leg in legs[:-1] if leg.points]
    said = f"Training of {name}: loss and held-out PSNR over {steps} steps"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(said)}</title>",
        f"<style>{STYLE}</style>",
        *_panel(PANELS[0], "loss", "", {"a": ("training", losses)}, steps, ends),
        *_panel(
            PANELS[1], "held-out scenes", "dB", {"a": ("GT-mean PSNR", at_mean), "b": ("PSNR", plain)}, steps, ends
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(
    ends: tuple[int, int], title: str, unit: str, curves: dict[str, tuple[str, Curve]], steps: int, legs: list[int]
) -> list[str]:
    """Axes from 0 to `steps`, and the curves by their class."""
    left, right = ends
    values = sorted(value for _, curve in curves.values() for _, value in curve)
    parts = [f'<text class="title" x="{left}" y="16">{escape(title)}{", " if unit else ""}{unit}</text>']
    if not values:
        return [*parts, f'<text x="{left}" y="{(TOP + BOTTOM) / 2}">not measured</text>']
    low, high = values[0], values[min(len(values) - 1, math.ceil(0.995 * len(values)))]  # a spike is not the scale
    step = _round_step((high - low) or 1.0)
    low, high = math.floor(low / step) * step, max(math.ceil(high / step), math.floor(low / step) + 1) * step

    def x(of: float) -> float:
        return round(left + (right - left) * of / steps, 1)

    def y(of: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (min(max(of, low), high) - low) / (high - low), 1)

    digits = max(0, -math.floor(math.log10(step)))
    for number in range(round((high - low) / step) + 1):
        at = low + number * step
        parts.append(f'<line x1="{left}" y1="{y(at)}" x2="{right}" y2="{y(at)}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(at) + 4}" text-anchor="end">{at:.{digits}f}</text>')
    across = _round_step(steps)
    for number in range(int(steps / across) + 1):
        at = number * across
        parts.append(f'<text x="{x(at)}" y="{BOTTOM + 18}" text-anchor="middle">{at:,.0f}</text>')
    parts.append(f'<text x="{(left + right) / 2}" y="{BOTTOM + 38}" text-anchor="middle">steps</text>')
    parts += [f'<line class="leg" x1="{x(at)}" y1="{TOP}" x2="{x(at)}" y2="{BOTTOM}"/>' for at in legs]
    beside = left
    for kind, (label, curve) in curves.items():
        line = " ".join(f"{x(at)},{y(value)}" for at, value in curve)
        parts.append(f'<polyline class="{kind}" points="{line}"/>')
        if len(curve) <= 40:
            parts += [f'<circle class="{kind}" cx="{x(at)}" cy="{y(value)}" r="3"/>' for at, value in curve]
        parts.append(f'<text class="{kind}" x="{beside}" y="32">{escape(label)}</text>')
        beside += 110
    return parts


def _round_step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that a span has three to six of it."""
    power = 10.0 ** math.floor(math.log10(span / 3))
    return next(factor * power for factor in (5, 2, 1) if span / (factor * power) >= 3)
