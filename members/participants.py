"""Rooms above this one that hold something of a member, as an erasure or a merge sees them.

Members may not import those rooms; the service hands them in. Each forgets its part inside the
erasure's own transaction, so that nothing is half erased.
"""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple, Protocol

from kernel import Caller, MemberId, UnitOfWork


class Forgotten(NamedTuple):
    """What became of one kind of data; `kept_until` is None when nothing of the member stays.

    `reason` is a stable code: `erased`, `member_link_cut`, or the retention class that keeps it.
    """

    what: str
    kept_until: date | None
    reason: str


class EraseParticipant(Protocol):
    """A room that forgets its part of a member."""

    async def forget(
        self, work: UnitOfWork, member_id: MemberId, now_us: int
    ) -> Sequence[Forgotten]:
        """Forget the member in this unit of work, and say what became of each kind of data."""
        ...


class Erased(NamedTuple):
    """A member just erased: how many keys died, the event, and what other rooms did."""

    keys_destroyed: int
    audit_id: str
    forgotten: tuple[Forgotten, ...]


class MergeParticipant(Protocol):
    """A room above that keeps something of members and moves it with them.

    Both run inside the unit of work of the merge, with the gates of both members held. Raising
    `ConflictError` refuses it.
    """

    async def merge(
        self,
        work: UnitOfWork,
        caller: Caller,
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,
    ) -> None:
        """Move what is held of `merged` to `into`, remembering under `merge_id` what was moved."""
        ...

    async def undo_merge(
        self,
        work: UnitOfWork,
        caller: Caller,
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,
    ) -> None:
        """Move back what the merge moved."""
        ...
