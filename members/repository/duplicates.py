"""SQL of the duplicates queue: pairs of members, by id and field names only."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson
from sqlalchemy import BigInteger, Text, bindparam, delete, func, or_, select, update

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from members.tables import duplicate


class PairState(StrEnum):
    """Where a pair stands: waiting for a person, or decided by one."""

    OPEN = "open"
    MERGED = "merged"
    DISMISSED = "dismissed"


class Proposal(StrEnum):
    """What came of proposing a pair: it is new, waits with another score, or nothing changed."""

    NEW = "new"
    RESCORED = "rescored"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two members who may be one person: how likely (0 to 100), and the fields that say so."""

    id: str
    brand: str
    first_id: MemberId
    second_id: MemberId
    score: int
    reasons: tuple[str, ...]
    state: PairState
    merge_id: str | None
    created_us: int
    decided_us: int | None
    decided_by: str | None


_PROPOSE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(duplicate)
        .values(
            id=bindparam("id"),
            brand=bindparam("brand"),
            first_id=bindparam("first_id"),
            second_id=bindparam("second_id"),
            score=bindparam("score"),
            reasons=bindparam("reasons"),
            state=PairState.OPEN.value,
            created_us=bindparam("now_us"),
        )
        .on_conflict_do_nothing()
    )
)
_RESCORE = Statement(
    update(duplicate)
    .where(
        duplicate.c.first_id == bindparam("of_first"),
        duplicate.c.second_id == bindparam("of_second"),
        duplicate.c.state == PairState.OPEN.value,
        or_(
            duplicate.c.score != bindparam("new_score"),
            duplicate.c.reasons != bindparam("new_reasons"),
        ),
    )
    .values(score=bindparam("new_score"), reasons=bindparam("new_reasons"))
)
_QUEUE = Statement(
    select(duplicate)
    .where(
        duplicate.c.brand == bindparam("brand"),
        duplicate.c.state == bindparam("state", type_=Text),
        duplicate.c.id > bindparam("after"),
    )
    .order_by(duplicate.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_COUNTS = Statement(
    select(duplicate.c.state, func.count().label("pairs"))
    .where(duplicate.c.brand == bindparam("brand"))
    .group_by(duplicate.c.state)
)
_ONE = select(duplicate).where(duplicate.c.id == bindparam("duplicate_id"))
_READ = Statement(_ONE)
_HOLD = Statement(_ONE.with_for_update())
_DECIDE = Statement(
    update(duplicate)
    .where(duplicate.c.id == bindparam("of_duplicate"))
    .values(
        state=bindparam("new_state"),
        merge_id=bindparam("new_merge", type_=Text),
        decided_us=bindparam("now_us"),
        decided_by=bindparam("by"),
    )
)
_PART = Statement(
    update(duplicate)
    .where(duplicate.c.merge_id == bindparam("of_merge"))
    .values(
        state=PairState.DISMISSED.value, decided_us=bindparam("now_us"), decided_by=bindparam("by")
    )
)
_of_member = or_(
    duplicate.c.first_id == bindparam("of_member"), duplicate.c.second_id == bindparam("of_member")
)
_FORGET = Statement(delete(duplicate).where(_of_member))
_FORGET_OPEN = Statement(
    delete(duplicate).where(_of_member, duplicate.c.state == PairState.OPEN.value)
)


def _pair(row: Row) -> DuplicatePair:
    return DuplicatePair(
        row["id"],
        row["brand"],
        MemberId(row["first_id"]),
        MemberId(row["second_id"]),
        row["score"],
        tuple(orjson.loads(row["reasons"])),
        PairState(row["state"]),
        row["merge_id"],
        row["created_us"],
        row["decided_us"],
        row["decided_by"],
    )


async def propose_pair(
    work: UnitOfWork,
    duplicate_id: str,
    brand: str,
    pair: tuple[MemberId, MemberId],
    score: int,
    reasons: Sequence[str],
    *,
    now_us: int,
) -> Proposal:
    """Put a pair into the queue, or score it anew while it waits.

    What a person has decided stays decided.
    """
    first, second = sorted(pair)
    told = orjson.dumps(list(reasons))
    made = await work.run(
        _PROPOSE,
        id=duplicate_id,
        brand=brand,
        first_id=first,
        second_id=second,
        score=score,
        reasons=told,
        now_us=now_us,
    )
    if made:
        return Proposal.NEW
    moved = await work.run(
        _RESCORE, of_first=first, of_second=second, new_score=score, new_reasons=told
    )
    return Proposal.RESCORED if moved else Proposal.KNOWN


async def pairs_in_state(
    session: ReadSession, brand: str, state: PairState, *, after: str, most: int
) -> list[DuplicatePair]:
    """Give a brand's pairs in a state, the oldest first, from the one after `after`."""
    rows = await session.all(_QUEUE, brand=brand, state=state.value, after=after, most=most)
    return [_pair(row) for row in rows]


async def pair_counts(session: ReadSession, brand: str) -> dict[str, int]:
    """Count a brand's pairs by state."""
    rows = await session.all(_COUNTS, brand=brand)
    return {row["state"]: row["pairs"] for row in rows}


async def read_pair(session: ReadSession, duplicate_id: str) -> DuplicatePair | None:
    """Find a pair."""
    row = await session.first(_READ, duplicate_id=duplicate_id)
    return None if row is None else _pair(row)


async def hold_pair(work: UnitOfWork, duplicate_id: str) -> DuplicatePair | None:
    """Find a pair and keep others from deciding it until this unit of work ends."""
    row = await work.first(_HOLD, duplicate_id=duplicate_id)
    return None if row is None else _pair(row)


async def decide_pair(
    work: UnitOfWork,
    duplicate_id: str,
    state: PairState,
    merge_id: str | None,
    by: str,
    *,
    now_us: int,
) -> None:
    """Write down what a person decided about a pair."""
    await work.run(
        _DECIDE,
        of_duplicate=duplicate_id,
        new_state=state.value,
        new_merge=merge_id,
        by=by,
        now_us=now_us,
    )


async def part_pair(work: UnitOfWork, merge_id: str, by: str, *, now_us: int) -> None:
    """Write down that the two of an undone merge are two people."""
    await work.run(_PART, of_merge=merge_id, by=by, now_us=now_us)


async def forget_open_pairs(work: UnitOfWork, member_id: MemberId) -> None:
    """Drop what waits about a member who is not on their own any more."""
    await work.run(_FORGET_OPEN, of_member=member_id)


async def forget_pairs(work: UnitOfWork, member_id: MemberId) -> None:
    """Drop every pair with an erased member."""
    await work.run(_FORGET, of_member=member_id)
