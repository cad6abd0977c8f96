"""Turns figures into the Markdown tables that `make bench` prints.

A row that has a target ends with `| target | ok |` or `| target | miss |`; a target whose
figures could not be measured is listed with the reason instead of passing silently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Bound(Enum):
    """On which side of its target a figure is good."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True)
class Target:
    """One figure with what it should reach; `value` is None when it was not measured."""

    name: str
    value: float | None
    bound: Bound
    target: float
    unit: str
    aim: str = ""
    reason: str = ""

    @property
    def verdict(self) -> str:
        """`ok` or `miss`; `not measured` without a value."""
        if self.value is None:
            return "not measured"
        good = (
            self.value >= self.target if self.bound is Bound.AT_LEAST else self.value <= self.target
        )
        return "ok" if good else "miss"

    def row(self) -> list[str]:
        """Give the cells of the figure's table row."""
        value = "-" if self.value is None else number(self.value)
        target = f"{self.bound.value} {self.target:g} {self.unit}".strip()
        return [self.name, f"{value} {self.unit}".strip(), self.aim, target, self.verdict]


def number(value: float) -> str:
    """Write a figure with three significant digits, whole from a hundred on."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def targets_table(targets: Sequence[Target]) -> str:
    """Write the targets that were measured as a table, and the others as a list below it."""
    measured = [one.row() for one in targets if one.value is not None]
    missing = [f"- not measured: {one.name}: {one.reason}" for one in targets if one.value is None]
    parts = []
    if measured:
        parts.append(table(["figure", "measured", "aim", "target", "verdict"], measured))
    if missing:
        parts.append("\n".join(missing))
    return "\n\n".join(parts)
