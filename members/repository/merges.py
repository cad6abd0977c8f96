"""SQL of merges: who became part of whom, and the sealed state to go back to."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BigInteger, bindparam, delete, insert, or_, select, update

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from members.tables import member_merge


class MergeState(StrEnum):
    """Whether a merge stands and can be undone, was undone, or stands for good."""

    MERGED = "merged"
    UNDONE = "undone"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Merge:
    """Two records that became one; the cells hold both as they were, each under its own key."""

    id: str
    brand: str
    survivor_id: MemberId
    merged_id: MemberId
    state: MergeState
    survivor_cell: bytes | None
    merged_cell: bytes | None
    merged_us: int
    undo_until_us: int


_ADD = Statement(
    insert(member_merge).values(
        id=bindparam("id"),
        brand=bindparam("brand"),
        survivor_id=bindparam("survivor_id"),
        merged_id=bindparam("merged_id"),
        state=MergeState.MERGED.value,
        survivor_cell=bindparam("survivor_cell"),
        merged_cell=bindparam("merged_cell"),
        merged_us=bindparam("merged_us"),
        undo_until_us=bindparam("undo_until_us"),
        undone_us=None,
    )
)
_ONE = select(member_merge).where(member_merge.c.id == bindparam("merge_id"))
_READ = Statement(_ONE)
_HOLD = Statement(_ONE.with_for_update())
_END = Statement(
    update(member_merge)
    .where(member_merge.c.id == bindparam("of_merge"))
    .values(
        state=bindparam("new_state"),
        survivor_cell=None,
        merged_cell=None,
        undone_us=bindparam("now_us", type_=BigInteger),
    )
)
_STANDING = member_merge.c.state != MergeState.UNDONE.value
_INTO = Statement(
    select(member_merge)
    .where(member_merge.c.survivor_id == bindparam("member_id"), _STANDING)
    .order_by(member_merge.c.id)
)
_DUE = Statement(
    select(member_merge)
    .where(
        member_merge.c.state == MergeState.MERGED.value,
        member_merge.c.undo_until_us <= bindparam("now_us"),
    )
    .order_by(member_merge.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_FORGET = Statement(
    delete(member_merge).where(
        or_(
            member_merge.c.survivor_id == bindparam("of_member"),
            member_merge.c.merged_id == bindparam("of_member"),
        )
    )
)


def _merge(row: Row) -> Merge:
    return Merge(
        row["id"],
        row["brand"],
        MemberId(row["survivor_id"]),
        MemberId(row["merged_id"]),
        MergeState(row["state"]),
        row["survivor_cell"],
        row["merged_cell"],
        row["merged_us"],
        row["undo_until_us"],
    )


async def add_merge(work: UnitOfWork, merge: Merge) -> None:
    """Write a merge down."""
    await work.run(
        _ADD,
        id=merge.id,
        brand=merge.brand,
        survivor_id=merge.survivor_id,
        merged_id=merge.merged_id,
        survivor_cell=merge.survivor_cell,
        merged_cell=merge.merged_cell,
        merged_us=merge.merged_us,
        undo_until_us=merge.undo_until_us,
    )


async def read_merge(session: ReadSession, merge_id: str) -> Merge | None:
    """Find a merge."""
    row = await session.first(_READ, merge_id=merge_id)
    return None if row is None else _merge(row)


async def hold_merge(work: UnitOfWork, merge_id: str) -> Merge | None:
    """Find a merge and keep others from ending it until this unit of work ends."""
    row = await work.first(_HOLD, merge_id=merge_id)
    return None if row is None else _merge(row)


async def end_merge(work: UnitOfWork, merge_id: str, state: MergeState, *, now_us: int) -> None:
    """Mark a merge undone or settled, and forget what it kept for going back."""
    await work.run(_END, of_merge=merge_id, new_state=state.value, now_us=now_us)


async def merges_into(session: ReadSession, member_id: MemberId) -> list[Merge]:
    """Give the standing merges into a member, the oldest first."""
    return [_merge(row) for row in await session.all(_INTO, member_id=member_id)]


async def merges_to_settle(session: ReadSession, *, now_us: int, most: int) -> list[Merge]:
    """Give merges that can be undone no longer."""
    return [_merge(row) for row in await session.all(_DUE, now_us=now_us, most=most)]


async def forget_merges(work: UnitOfWork, member_id: MemberId) -> None:
    """Drop every merge with an erased member, and with it the sealed states."""
    await work.run(_FORGET, of_member=member_id)
