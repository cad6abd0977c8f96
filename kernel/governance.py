"""No governed change without an event: what a statement writes, and what a unit of work owes.

A table is *governed* when what stands in it decides over people: their data, keys, consents and
rights, and whoever may ask for them. Its room declares that beside the table (`info=GOVERNED`),
and the trail declares where events go (`info=TRAIL`); so the kernel knows no room, and code that
forgets to put on record what it does cannot commit. Who is kept out is our own next change.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.dml import Insert, UpdateBase
from sqlalchemy.sql.schema import Table

from kernel.errors import YinyomError

GOVERNED: dict[str, Any] = {"governed": True}
"""Declares that a change of the table needs an event in the same transaction."""

TRAIL: dict[str, Any] = {"trail": True}
"""Declares that a row in the table is such an event."""


class UnrecordedChangeError(YinyomError):
    """A unit of work changed governed rows and appended no event: a defect of the code."""

    slug = "unrecorded-change"
    title = "A change that no event speaks of was refused"
    remedy = "Nothing was changed. This is a defect of Yinyom; please report it."


@dataclass(frozen=True, slots=True)
class Writes:
    """What a statement writes that is of interest here; `surely`: a plain insert of a row."""

    governed: frozenset[str]
    to_trail: bool
    surely: bool


def writes_of(clause: ClauseElement) -> Writes | None:
    """Tell what a statement writes, in whatever part of it; None when nothing is of interest."""
    parts = [
        (part.table, isinstance(part, Insert))
        for part in visitors.iterate(clause)
        if isinstance(part, UpdateBase) and isinstance(part.table, Table)
    ]
    surely = isinstance(clause, Insert) and clause._post_values_clause is None  # noqa: SLF001 (ON CONFLICT)
    governed = frozenset(table.name for table, _ in parts if table.info.get("governed"))
    to_trail = any(added and table.info.get("trail") for table, added in parts)
    return Writes(governed, to_trail, surely) if governed or to_trail else None


class Owed:
    """What one unit of work has changed, and whether an event speaks of it."""

    __slots__ = ("_changed", "_recorded")

    def __init__(self) -> None:
        self._changed: frozenset[str] = frozenset()
        self._recorded = False

    def announce(self, writes: Writes) -> None:
        """Hear of a statement that is about to run; what it owes can still be paid."""

    def note(self, writes: Writes) -> None:
        """Take note of a statement that touched at least one row."""
        if writes.to_trail:
            self._recorded = True
        if writes.governed:
            self._changed |= writes.governed

    def check(self) -> None:
        """Refuse the commit of a governed change without an event: `UnrecordedChangeError`."""
        if self._changed and not self._recorded:
            raise UnrecordedChangeError(f"changed without an event: {_names(self._changed)}")


class Building(Owed):
    """The one exception: a restore builds a database that nobody can open before it is whole.

    Its rows bear the events they came with, which are rebuilt beside them, and its last step is
    an event. On PostgreSQL the guards are off in the schema being built, and on before it is put
    in its place.
    """

    __slots__ = ()

    def note(self, writes: Writes) -> None:
        """Owe nothing."""


class OwedAtOnce(Owed):
    """Where every statement stands on its own there is no later: it bears its event, or waits."""

    __slots__ = ()

    def announce(self, writes: Writes) -> None:
        """Refuse a governed change whose event is not in the very same statement."""
        if writes.governed and not writes.to_trail:
            raise UnrecordedChangeError(
                f"changed outside a unit of work: {_names(writes.governed)}"
            )

    def note(self, writes: Writes) -> None:
        """Nothing is owed afterwards."""


def _names(tables: Iterable[str]) -> str:
    """Name tables for an error."""
    return ", ".join(sorted(tables))
