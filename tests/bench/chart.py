"""The figures as bars beside their targets: plain SVG, written by hand because a chart of bars needs no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.bench.figures import Figure

NAME_WIDTH, BAR_WIDTH, VALUE_WIDTH, ROW_HEIGHT = 520, 360, 220, 24
WIDTH = NAME_WIDTH + BAR_WIDTH + VALUE_WIDTH
SHORT, LONG = 0.01, 4.0
"""The share of its target at which a bar begins, and at which it ends: the scale between them is logarithmic."""
STYLE = """
  text { font: 13px sans-serif; fill: #222 } .value { font-family: monospace }
  .met { fill: #3a7d44 } .missed { fill: #b3392f } .target { stroke: #222; stroke-dasharray: 4 3 }
"""


def svg(figures: Sequence[Figure], title: str) -> str:
    """A chart: each figure as a share of its target, with a line at the target."""
    height = ROW_HEIGHT * (len(figures) + 2)
    line = NAME_WIDTH + BAR_WIDTH * _share(1.0)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="16" font-weight="bold">{escape(title)}</text><text x="{line + 4:.0f}" y="16">target</text>',
        *(_row(figure, ROW_HEIGHT * (number + 1)) for number, figure in enumerate(figures)),
        f'<line class="target" x1="{line:.0f}" y1="6" x2="{line:.0f}" y2="{height - ROW_HEIGHT}"/>',
        "</svg>\n",
    ])  # fmt: skip


def _row(figure: Figure, top: int) -> str:
    kind = "met" if figure.met else "missed"
    width = BAR_WIDTH * _share(_of_target(figure))
    told = f"{figure.value:.3g} / {figure.target:g} {figure.unit}"
    return (
        f'<text x="8" y="{top + 16}">{escape(figure.name)}</text>'
        f'<rect class="{kind}" x="{NAME_WIDTH}" y="{top + 4}" width="{width:.0f}" height="{ROW_HEIGHT - 8}"/>'
        f'<text class="value" x="{NAME_WIDTH + BAR_WIDTH + 8}" y="{top + 16}">{escape(told)}</text>'
    )


def _of_target(figure: Figure) -> float:
    """The value as a share of its target; where that is zero, all or nothing."""
    if figure.target:
        return figure.value / figure.target
    return LONG if figure.value else SHORT


def _share(of_target: float) -> float:
    """How long a bar is, from 0 to 1."""
    if math.isnan(of_target):
        return 0.0
    bounded = min(max(of_target, SHORT), LONG)
    return math.log(bounded / SHORT) / math.log(LONG / SHORT)
