"""The clock of sealed details: their ciphertext goes before what their events said.

Each going is an event of the log, `retention.detail_pruned`, that names the event whose detail
went, and commits with it or not at all. Whoever would lose a justification that somebody may yet
ask for is kept out by the database's own guard (migration 0027), which asks again for that event,
for the day and for legal holds. A restore, which can only go back to a day, does again what was
done since then, and says which details it has lost.
"""

from collections.abc import Callable

from audit import detail_repository as repository
from audit.details import DETAILED
from audit.event import AuditEvent, epoch_of
from audit.expiry import PrunedMonth
from audit.repository import append_event
from audit.retention_repository import stop_holds
from audit.service import AuditLog
from kernel import Caller, Clock, Database, ReadSession, Row, UnitOfWork, id_moment_us

DETAIL = "detail"
DETAIL_PRUNED = "retention.detail_pruned"
DETAIL_LOST = "retention.detail_lost"
_AT_ONCE = 100
_SECOND_US = 1_000_000  # the guard reads SQLite's own clock, which tells whole seconds


class DetailClock:
    """Drops the ciphertext of details whose time has come.

    `due_us` gives for a month (`YYYY-MM`) the moment (µs) from which its details may go.
    """

    def __init__(
        self, database: Database, audit: AuditLog, clock: Clock, due_us: Callable[[str], int]
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._due_us = due_us

    async def prune(
        self, caller: Caller, *, before: str | None = None, dry_run: bool = False
    ) -> list[PrunedMonth]:
        """Drop what is due and not held; gives month by month how many went and are held.

        `before` (`YYYY-MM`) leaves that month and later ones alone; with `dry_run` nothing goes.
        """
        sums: dict[str, PrunedMonth] = {}
        after = ""
        while True:
            if dry_run:
                async with self._database.read() as session:
                    rows = await self._ripe(session, after, before, sums)
            else:
                async with self._database.unit_of_work() as work:
                    await stop_holds(work)
                    rows = await self._ripe(work, after, before, sums)
                    for row, month in rows:
                        event = await self._drop(work, caller, row, month)
                        sums[month].events.append(event.id)
            if not rows:
                return list(sums.values())
            after = rows[-1][0]["event_id"]

    async def _ripe(
        self, session: ReadSession, after: str, before: str | None, sums: dict[str, PrunedMonth]
    ) -> list[tuple[Row, str]]:
        """Give details that may go behind an id, each with its month; counts them and the held."""
        ripe: list[tuple[Row, str]] = []
        while not ripe:
            rows = await repository.sealed_details(session, after=after, most=_AT_ONCE)
            for row in rows:
                month = epoch_of(id_moment_us(row["event_id"]))
                if self._due_us(month) > self._clock.now_us() or (before and month >= before[:7]):
                    return ripe  # ids order by their moment: nothing behind this one is due
                total = sums.setdefault(month, PrunedMonth(month, DETAIL))
                if row["held"]:
                    total.held += 1
                else:
                    total.bodies += 1
                    ripe.append((row, month))
            if len(rows) < _AT_ONCE:
                break
            after = rows[-1]["event_id"]
        return ripe

    async def _drop(self, work: UnitOfWork, caller: Caller, row: Row, month: str) -> AuditEvent:
        event = self._audit.draft(
            caller, DETAIL_PRUNED, reason="retention_ended", resource=row["event_id"]
        )
        await append_event(work, self._audit.checked_row(event))
        await repository.drop_detail(
            work, row["event_id"], dropped_by=event.id, due_us=self._due_us(month)
        )
        return event


async def settle_details(work: UnitOfWork, audit: AuditLog, caller: Caller) -> int:
    """After a restore: drop again what the log says is gone, and say what was lost; how many.

    The log is newer than the rows: a detail may have come back, and one that was written after
    the backup is not there. Each lost one gets an event and a row that says so.
    """
    gone = {one: at_us for one, _, at_us in await repository.told_gone(work, DETAIL_PRUNED)}
    after = ""
    while rows := await repository.sealed_details(work, after=after, most=_AT_ONCE):
        for row in rows:
            gone_us = gone.get(row["event_id"])
            if gone_us is not None and not row["held"]:
                again = await _tell(work, audit, caller, DETAIL_PRUNED, row["event_id"])
                await repository.drop_detail(
                    work, row["event_id"], dropped_by=again, due_us=gone_us - gone_us % _SECOND_US
                )
        after = rows[-1]["event_id"]
    lost = await repository.missing(work, DETAILED)
    for event_id in lost:
        told_by = await _tell(work, audit, caller, DETAIL_LOST, event_id)
        await repository.add_lost(work, event_id, dropped_by=told_by)
    return len(lost)


async def _tell(
    work: UnitOfWork, audit: AuditLog, caller: Caller, action: str, event_id: str
) -> str:
    event = audit.draft(caller, action, reason="restored", resource=event_id)
    await append_event(work, audit.checked_row(event))
    return event.id
