"""Charts as numbers for a template to draw: pairs of bars from a common zero line.

Pure: takes counts, gives coordinates. The first bar of a pair is filled and the second outlined,
so the two are told apart without colour; each carries its number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 640
_LABEL = 230
_NUMBER = 60
_ROW = 52
_BAR = 16
_TOP = 8


@dataclass(frozen=True, slots=True)
class Bars:
    """One row of a chart: its label, and the lengths and numbers of its two bars."""

    label: str
    channel: str
    y: int
    first: int
    second: int
    first_width: float
    second_width: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """A chart of horizontal pairs of bars; lengths in the units of its view box."""

    rows: tuple[Bars, ...]
    width: int
    height: int
    zero: int
    bar: int


def bars(counts: Sequence[tuple[str, str, int, int]]) -> BarChart:
    """Lay out (label, channel, first, second) rows, all bars to one scale from zero."""
    most = max((max(first, second) for _, _, first, second in counts), default=0) or 1
    room = WIDTH - _LABEL - _NUMBER
    rows = tuple(
        Bars(
            label,
            channel,
            _TOP + at * _ROW,
            first,
            second,
            round(room * first / most, 1),
            round(room * second / most, 1),
        )
        for at, (label, channel, first, second) in enumerate(counts)
    )
    return BarChart(rows, WIDTH, _TOP + len(rows) * _ROW, _LABEL, _BAR)
