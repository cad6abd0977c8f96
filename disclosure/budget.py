"""How many distinct members a client may read in a day, whichever process it asks.

A leaked secret must not empty the registry in a night. What is kept is a keyed digest of each
member that a client asked for that day, never an id, and for that day only. Far from the end a
process counts in memory and writes down every second what it has counted; near it, each new
member is written down and counted in the database before it is read.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from audit import AuditLog
from disclosure import budget_repository
from disclosure.errors import BudgetSpentError
from kernel import Caller, Clock, Database, ReadSession, YinyomError
from vault import Vault

DAY_US = 86_400_000_000
_LABEL = "member-budget"
_LEAST_MARGIN = 64
_MARGIN_PART = 20
_MOST_KNOWN = 50_000
_FLUSH_SECONDS = 1.0
_LIMIT_FOR_US = 60_000_000

LimitOf = Callable[[ReadSession, str], Awaitable[int | None]]
"""Gives what a client may read in a day where that is its own number; the service has it."""


@dataclass(slots=True)
class _Use:
    """What one client has used of one day: as stored, and as this process knows beyond that."""

    limit: int
    read_us: int
    stored: int = 0
    known: set[bytes] = field(default_factory=set)
    waiting: set[bytes] = field(default_factory=set)
    writing: set[bytes] = field(default_factory=set)

    @property
    def counted(self) -> int:
        """How many members this process knows of; more than there are where others know some."""
        return self.stored + len(self.waiting) + len(self.writing)


class MemberBudget:
    """Counts distinct members by client and day, and says when it is enough."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        clock: Clock,
        limit_of: LimitOf,
        *,
        default: int,
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._clock = clock
        self._limit_of = limit_of
        self._default = default
        self._used: dict[tuple[str, int], _Use] = {}
        self._turn = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None
        self.refused = 0

    async def admit(self, caller: Caller, members: Iterable[str]) -> None:
        """Count the members that a client asks for, by its own ids of them.

        Raises:
            BudgetSpentError: one of them is more than the client may read today; it is on record.
        """
        now_us = self._clock.now_us()
        day = now_us // DAY_US
        use = await self._use(caller.id, day, now_us)
        marks = {self._mark(caller.id, one) for one in members}
        new = marks - use.known
        if not new:
            return
        margin = max(_LEAST_MARGIN, use.limit // _MARGIN_PART)
        if use.counted + len(new) <= use.limit - margin:
            use.waiting |= new
            use.known |= new
            self._write_later()
            return
        await self.flush()
        if not await self._store(caller.id, day, use, sorted(new)):
            self.refused += 1
            async with self._database.unit_of_work() as work:
                audit_id = await self._audit.record(
                    work, caller, "member.budget", decision="deny", reason="budget_spent",
                    count=use.limit,
                )  # fmt: skip
            left_us = (day + 1) * DAY_US - now_us
            raise BudgetSpentError(use.limit, max(1, left_us // 1_000_000), audit_id)

    async def flush(self) -> None:
        """Write down what this process has counted."""
        async with self._turn:
            for (client_id, day), use in list(self._used.items()):
                if not use.waiting:
                    continue
                use.writing, use.waiting = use.waiting, set()
                try:
                    async with self._database.unit_of_work() as work:
                        await budget_repository.add_marks(work, client_id, day, sorted(use.writing))
                        stored = await budget_repository.count_marks(work, client_id, day)
                except BaseException:
                    use.waiting |= use.writing
                    raise
                finally:
                    use.writing = set()
                use.stored = stored
                if len(use.known) > _MOST_KNOWN:
                    use.known = set(use.waiting)

    async def close(self) -> None:
        """Write down what is left, and stop."""
        if self._later is not None:
            self._later.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._later
        await self.flush()

    async def sweep(self) -> int:
        """Forget what was counted on days that are over; gives how many marks."""
        day = self._clock.now_us() // DAY_US
        for key in [key for key in self._used if key[1] < day]:
            del self._used[key]
        async with self._database.unit_of_work() as work:
            return await budget_repository.drop_before(work, day)

    # --- helpers ----------------------------------------------------------------------

    async def _use(self, client_id: str, day: int, now_us: int) -> _Use:
        use = self._used.get((client_id, day))
        if use is not None and now_us - use.read_us < _LIMIT_FOR_US:
            return use
        async with self._database.read() as session:
            own = await self._limit_of(session, client_id)
            stored = await budget_repository.count_marks(session, client_id, day)
        limit = self._default if own is None else own
        use = self._used.setdefault((client_id, day), _Use(limit, now_us))
        use.limit, use.read_us, use.stored = limit, now_us, max(stored, use.stored)
        return use

    async def _store(self, client_id: str, day: int, use: _Use, new: Sequence[bytes]) -> bool:
        """Store members that are new to this process, if they fit; all of them or none."""
        try:
            async with self._database.unit_of_work() as work:
                await budget_repository.add_marks(work, client_id, day, new)
                stored = await budget_repository.count_marks(work, client_id, day)
                _hold(stored, use.limit)
        except _TooManyError:
            return False
        use.stored = stored
        use.known |= set(new)
        return True

    def _mark(self, client_id: str, member: str) -> bytes:
        return self._vault.keyed_digest(_LABEL, client_id.encode(), member.encode())

    def _write_later(self) -> None:
        if self._later is None or self._later.done():
            self._later = asyncio.create_task(self._flush_in_a_moment(), name="member budget")

    async def _flush_in_a_moment(self) -> None:
        await asyncio.sleep(_FLUSH_SECONDS)
        with contextlib.suppress(YinyomError):  # the next one writes it too
            await self.flush()


def _hold(stored: int, limit: int) -> None:
    if stored > limit:
        raise _TooManyError


class _TooManyError(Exception):
    """Ends a unit of work so that nothing of it stays."""
