"""The duplicates queue as staff and clients use it: look, merge, dismiss, undo.

Pairs name members by id and say which fields speak for one person, never a value. Whether two
records are one person is decided by people; nothing is merged by itself.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from audit import AuditLog
from kernel import Caller, Clock, Database, MemberId, NotAllowedError, ReadSession, UnitOfWork
from members import repository
from members.errors import MergeError, MergeUnknownError
from members.merging import Merged, Merges
from members.parting import Parted, Partings
from members.repository import DuplicatePair, PairState
from policies import AccessSnapshot

_RESOURCE = "duplicates"


@dataclass(frozen=True, slots=True)
class Decided:
    """A pair that a person decided about."""

    duplicate_id: str
    audit_id: str


class Duplicates:
    """Pairs that wait for a decision, and the decisions."""

    def __init__(
        self,
        database: Database,
        access: AccessSnapshot,
        audit: AuditLog,
        merges: Merges,
        partings: Partings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._access = access
        self._audit = audit
        self._merges = merges
        self._partings = partings
        self._clock = clock

    async def queue(
        self,
        session: ReadSession,
        caller: Caller,
        state: PairState = PairState.OPEN,
        *,
        after: str = "",
        most: int = 50,
    ) -> list[DuplicatePair]:
        """Give the pairs of the caller's brand in a state, the oldest first, after `after`."""
        self._require(caller, "read")
        return await repository.pairs_in_state(session, caller.brand, state, after=after, most=most)

    async def counts(self, session: ReadSession, caller: Caller) -> dict[str, int]:
        """Count the pairs of the caller's brand by state."""
        self._require(caller, "read")
        return await repository.pair_counts(session, caller.brand)

    async def read(self, session: ReadSession, caller: Caller, duplicate_id: str) -> DuplicatePair:
        """Give one pair of the caller's brand, or `MergeUnknownError`."""
        self._require(caller, "read")
        pair = await repository.read_pair(session, duplicate_id)
        if pair is None or pair.brand != caller.brand:
            raise MergeUnknownError(reason="duplicate_unknown")
        return pair

    async def merge(
        self,
        caller: Caller,
        duplicate_id: str,
        survivor_id: MemberId | None = None,
        *,
        then: Callable[[UnitOfWork, Merged], Awaitable[object]] | None = None,
    ) -> Merged:
        """Merge the two of a pair; without a survivor the stronger record stays.

        `then` runs last in the unit of work of the decision, here and below.
        """
        self._require(caller, "resolve")
        return await self._merges.merge(caller, duplicate_id, survivor_id, then=then)

    async def dismiss(
        self,
        caller: Caller,
        duplicate_id: str,
        *,
        then: Callable[[UnitOfWork, Decided], Awaitable[object]] | None = None,
    ) -> Decided:
        """Say that the two are two people; they are not proposed again."""
        self._require(caller, "resolve")
        async with self._database.unit_of_work() as work:
            pair = await repository.hold_pair(work, duplicate_id)
            if pair is None or pair.brand != caller.brand:
                raise MergeUnknownError(reason="duplicate_unknown")
            if pair.state is PairState.MERGED:
                raise MergeError("this pair was merged: undo the merge", reason="decided")
            now_us = self._clock.now_us()
            await repository.decide_pair(
                work, duplicate_id, PairState.DISMISSED, None, caller.id, now_us=now_us
            )
            audit_id = await self._audit.record(
                work, caller, "duplicate.dismiss", resource=f"duplicate:{duplicate_id}"
            )
            decided = Decided(duplicate_id, audit_id)
            if then is not None:
                await then(work, decided)
        return decided

    async def undo(
        self,
        caller: Caller,
        merge_id: str,
        *,
        then: Callable[[UnitOfWork, Parted], Awaitable[object]] | None = None,
    ) -> Parted:
        """Undo a merge within the days that the settings allow."""
        self._require(caller, "resolve")
        return await self._partings.undo(caller, merge_id, then=then)

    def _require(self, caller: Caller, action: str) -> None:
        if not self._access.allows(caller.role, caller.brand, _RESOURCE, action):
            raise NotAllowedError(reason="role")
