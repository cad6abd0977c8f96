"""Which bodies of the trail have been kept long enough, and how their going is told: pure parts.

A month of bodies goes rule by rule. What goes is named by places in the log, each run of them from
first to last less what stays in between, so that a verifier can tell what was deleted by rule from
what has vanished.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from audit.log_key import KEY_ROTATED

PRUNED = "retention.pruned"
MOST_GAPS = 200
"""So many gaps fit an event of 8 KiB beside everything else, whatever the size of the log."""
_MICROSECONDS = 1_000_000

Run = tuple[int, int]
"""Places in the log from a first to a last, both included."""


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A rule as the trail needs it: which actions it is for, and when a month's bodies may go.

    `actions` are names or `name.*`; `due_us` gives for a month (`YYYY-MM`) the moment (µs), or
    None while nobody can say.
    """

    key: str
    actions: tuple[str, ...]
    due_us: Callable[[str], int | None]


class Pruned(NamedTuple):
    """What an event `retention.pruned` tells: the bodies from `first` to `last` less the gaps."""

    month: str
    rule: str
    first: int
    last: int
    gaps: tuple[Run, ...] = ()

    @property
    def bodies(self) -> int:
        """How many bodies went."""
        return self.last - self.first + 1 - sum(last - first + 1 for first, last in self.gaps)

    @property
    def runs(self) -> list[Run]:
        """Give the places of what went, run by run."""
        found: list[Run] = []
        begin = self.first
        for first, last in self.gaps:
            found.append((begin, first - 1))
            begin = last + 1
        return [*found, (begin, self.last)]


def rule_of(rules: Iterable[RetentionRule], action: str) -> RetentionRule | None:
    """Find the rule of an action: the one that names it, or the longest beginning of it.

    None for the event of a rotation of the log's key, whatever a rule says: a verifier goes from
    one key to the next by it.
    """
    best: tuple[int, RetentionRule] | None = None
    if action == KEY_ROTATED:
        return None
    for rule in rules:
        for named in rule.actions:
            fits = action.startswith(named[:-1]) if named.endswith(".*") else action == named
            length = len(named) + (not named.endswith(".*")) * len(action)
            if fits and (best is None or length > best[0]):
                best = length, rule
    return None if best is None else best[1]


def told(month: str, rule: str, places: Sequence[int]) -> list[Pruned]:
    """Tell of places, sorted and each once, in as few events as their gaps allow."""
    found: list[Pruned] = []
    first, last, gaps = places[0], places[0], list[Run]()
    for place in places[1:]:
        if place != last + 1:
            if len(gaps) == MOST_GAPS:
                found.append(Pruned(month, rule, first, last, tuple(gaps)))
                first, gaps = place, []
            else:
                gaps.append((last + 1, place - 1))
        last = place
    return [*found, Pruned(month, rule, first, last, tuple(gaps))]


def bounds_us(month: str) -> tuple[int, int]:
    """Give the first moment (µs, UTC) of a month and that of the next one."""
    year, number = int(month[:4]), int(month[5:])
    begin = datetime(year, number, 1, tzinfo=UTC)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(begin.timestamp()) * _MICROSECONDS, int(end.timestamp()) * _MICROSECONDS


def said_of(body: bytes) -> Pruned | None:
    """Read what a stored event `retention.pruned` tells; None when it is not well formed."""
    try:
        said = orjson.loads(body)["pruned"]
        gaps = tuple((int(first), int(last)) for first, last in said.get("except", []))
        pruned = Pruned(
            str(said["month"]), str(said["rule"]), int(said["first"]), int(said["last"]), gaps
        )
        bounds_us(pruned.month)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    ordered = all(first <= last for first, last in (*pruned.runs, *pruned.gaps))
    return pruned if ordered else None
