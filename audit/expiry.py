"""Deletes bodies of events whose time has come, and tells of it in the log itself.

A batch is one transaction: the event `retention.pruned`, the places that it names and the deletion
commit together or not at all, so that a crash leaves the old trail or the new one and the next run
goes on from there. Leaf hashes, tiles and checkpoints stay: the log proves as much as before.
Whoever would rid themselves of evidence is kept out by the database's own guards (migration 0021),
which ask again for rule, day, head and hold, body by body.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from audit import retention_repository as repository
from audit.event import epochs
from audit.repository import append_event
from audit.retention import PRUNED, RetentionRule, rule_of, told
from audit.service import AuditLog
from kernel import Caller, Clock, Database, ReadSession, Row, UnavailableError, UnitOfWork

if TYPE_CHECKING:
    from audit.detail_clock import DetailClock

_AT_ONCE = 4_000
_HOUR_US = 3_600_000_000
_MONTH_LENGTH = len("2026-11")


@dataclass(slots=True)
class PrunedMonth:
    """What went of a month by one rule, or would go: bodies, those held, and the events of it.

    Held is also a body whose sealed detail is still there; under the rule `detail` the details
    themselves are counted.
    """

    month: str
    rule: str
    bodies: int = 0
    held: int = 0
    events: list[str] = field(default_factory=list)


class Pruning:
    """Keeps the trail's bodies as long as the rules say, and no longer."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        rules: Sequence[RetentionRule],
        anchored: Callable[[ReadSession], Awaitable[int]] | None = None,
        details: "DetailClock | None" = None,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self.rules = rules
        self._anchored = anchored
        self._details = details

    async def prune(
        self, caller: Caller, *, before: str | None = None, dry_run: bool = False
    ) -> list[PrunedMonth]:
        """Delete the bodies of every month whose time has come; gives month by month what went.

        Sealed details go first, by their own clock: a body waits for its detail.
        `before` (`YYYY-MM`) leaves that month and later ones alone. With `dry_run` nothing is
        deleted and no event written. What waits for its place in the log, lies under no head that
        is an hour old and anchored (where anchors are configured), or is held, stays.
        """
        found: list[PrunedMonth] = []
        if self._details is not None:
            found += await self._details.prune(caller, before=before, dry_run=dry_run)
        now_us = self._clock.now_us()
        async with self._database.read() as session:
            oldest_us = await repository.oldest_us(session)
            settled = await repository.settled_size(session, before_us=now_us - _HOUR_US)
            if self._anchored is not None:
                settled = min(settled, await self._anchored(session))
        if oldest_us is None or not settled:
            return found
        for month in epochs(min(oldest_us, now_us), now_us):
            due = {rule.key: rule.due_us(month) for rule in self.rules}
            ripe = {key: us for key, us in due.items() if us is not None and us <= now_us}
            if ripe and (before is None or month < before[:_MONTH_LENGTH]):
                found += await self._month(caller, month, ripe, settled, dry_run=dry_run)
        return found

    async def _month(
        self, caller: Caller, month: str, ripe: Mapping[str, int], settled: int, *, dry_run: bool
    ) -> list[PrunedMonth]:
        sums: dict[str, PrunedMonth] = {}
        after = ""
        while True:
            if dry_run:
                async with self._database.read() as session:
                    rows = await repository.bodies_of_month(
                        session, month, after=after, settled=settled, most=_AT_ONCE
                    )
                self._sort(rows, month, ripe, sums)
            else:
                async with self._database.unit_of_work() as work:
                    await repository.stop_holds(work)
                    rows = await repository.bodies_of_month(
                        work, month, after=after, settled=settled, most=_AT_ONCE
                    )
                    for key, places in self._sort(rows, month, ripe, sums).items():
                        events = await self._delete(work, caller, month, key, places, ripe[key])
                        sums[key].events += events
            if len(rows) < _AT_ONCE:
                return [one for one in sums.values() if one.bodies or one.held]
            after = rows[-1]["id"]

    def _sort(
        self,
        rows: Sequence[Row],
        month: str,
        ripe: Mapping[str, int],
        sums: dict[str, PrunedMonth],
    ) -> dict[str, list[int]]:
        """Give the places of bodies that may go, rule by rule, and count them and those held."""
        places: dict[str, list[int]] = {}
        for row in rows:
            rule = rule_of(self.rules, row["action"])
            if rule is None or rule.key not in ripe:
                continue
            total = sums.setdefault(rule.key, PrunedMonth(month, rule.key))
            if row["held"] or row["sealed"]:
                total.held += 1
            else:
                total.bodies += 1
                places.setdefault(rule.key, []).append(row["leaf_index"])
        return places

    async def _delete(
        self,
        work: UnitOfWork,
        caller: Caller,
        month: str,
        rule: str,
        places: Sequence[int],
        due_us: int,
    ) -> list[str]:
        events: list[str] = []
        for pruned in told(month, rule, sorted(places)):
            event = self._audit.draft(
                caller,
                PRUNED,
                reason="retention_ended",
                count=pruned.bodies,
                pruned=pruned,
            )
            await append_event(work, self._audit.checked_row(event))
            await repository.name_runs(work, event.id, pruned.runs, month, due_us=due_us)
            if await repository.delete_bodies(work, event.id) != pruned.bodies:
                raise UnavailableError("bodies to delete were not there", reason="prune_raced")
            events.append(event.id)
        return events
