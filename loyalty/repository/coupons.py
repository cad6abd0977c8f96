"""SQL of coupons and of what merges moved."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
from sqlalchemy import BigInteger, Text, bindparam, delete, insert, select, update

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from loyalty.model import Coupon, CouponState
from loyalty.tables import coupon, loyalty_merge

_ADD = Statement(
    insert(coupon).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        offer=bindparam("offer"),
        state=CouponState.HELD.value,
        issued_us=bindparam("issued_us"),
        expires_us=bindparam("expires_us"),
        used_us=None,
    )
)
_OF_MEMBER = Statement(
    select(coupon)
    .where(coupon.c.member_id == bindparam("member_id"))
    .order_by(coupon.c.issued_us, coupon.c.id)
)
_SET_STATE = Statement(
    update(coupon)
    .where(coupon.c.id == bindparam("of_coupon"))
    .values(state=bindparam("new_state"), used_us=bindparam("new_used_us"))
)
_EXPIRED = Statement(
    select(coupon.c.member_id)
    .where(
        coupon.c.state == CouponState.HELD.value,
        coupon.c.expires_us <= bindparam("now_us", type_=BigInteger),
        coupon.c.member_id > bindparam("after", type_=Text),
    )
    .distinct()
    .order_by(coupon.c.member_id)
    .limit(bindparam("most", type_=BigInteger))
)
_DROP = Statement(delete(coupon).where(coupon.c.member_id == bindparam("member_id")))
_MOVE = Statement(
    update(coupon)
    .where(coupon.c.id == bindparam("of_coupon"), coupon.c.member_id == bindparam("old"))
    .values(member_id=bindparam("new"))
)


async def add_coupon(work: UnitOfWork, one: Coupon) -> None:
    """Store a coupon just issued."""
    await work.run(
        _ADD,
        id=one.id,
        member_id=one.member_id,
        offer=one.offer,
        issued_us=one.issued_us,
        expires_us=one.expires_us,
    )


async def coupons_of(session: ReadSession, member_id: MemberId) -> list[Coupon]:
    """Give a member's coupons, the oldest first."""
    return [_coupon(row) for row in await session.all(_OF_MEMBER, member_id=member_id)]


async def set_coupon_state(
    work: UnitOfWork, coupon_id: str, state: CouponState, used_us: int | None = None
) -> None:
    """Note what became of a coupon."""
    await work.run(_SET_STATE, of_coupon=coupon_id, new_state=state.value, new_used_us=used_us)


async def members_with_expired_coupons(
    session: ReadSession, *, now_us: int, after: str, most: int
) -> list[MemberId]:
    """Give members who hold coupons whose time is over, from the one after `after`."""
    rows = await session.all(_EXPIRED, now_us=now_us, after=after, most=most)
    return [MemberId(row["member_id"]) for row in rows]


async def drop_coupons(work: UnitOfWork, member_id: MemberId) -> int:
    """Forget a member's coupons."""
    return await work.run(_DROP, member_id=member_id)


async def move_coupons(work: UnitOfWork, ids: Sequence[str], old: MemberId, new: MemberId) -> None:
    """Make coupons another member's, as far as they are still `old`'s."""
    await work.run_many(_MOVE, [{"of_coupon": one, "old": old, "new": new} for one in ids])


def _coupon(row: Row) -> Coupon:
    return Coupon(
        row["id"],
        MemberId(row["member_id"]),
        row["offer"],
        CouponState(row["state"]),
        row["issued_us"],
        row["expires_us"],
        row["used_us"],
    )


# --- merges ---------------------------------------------------------------------------

_ADD_MERGE = Statement(
    insert(loyalty_merge).values(
        merge_id=bindparam("merge_id"),
        into_id=bindparam("into_id"),
        merged_id=bindparam("merged_id"),
        moved=bindparam("moved"),
        at_us=bindparam("now_us"),
    )
)
_MERGE = Statement(
    select(loyalty_merge.c.moved)
    .where(loyalty_merge.c.merge_id == bindparam("merge_id"))
    .with_for_update()
)
_DROP_MERGE = Statement(
    delete(loyalty_merge).where(loyalty_merge.c.merge_id == bindparam("merge_id"))
)
_DROP_MERGES = Statement(
    delete(loyalty_merge).where(
        (loyalty_merge.c.into_id == bindparam("member_id"))
        | (loyalty_merge.c.merged_id == bindparam("member_id_"))
    )
)


async def add_merge(
    work: UnitOfWork,
    merge_id: str,
    into: MemberId,
    merged: MemberId,
    moved: Mapping[str, Any],
    *,
    now_us: int,
) -> None:
    """Remember what a merge moved, so that it can be undone."""
    await work.run(
        _ADD_MERGE,
        merge_id=merge_id,
        into_id=into,
        merged_id=merged,
        moved=msgpack.packb(moved),
        now_us=now_us,
    )


async def take_merge(work: UnitOfWork, merge_id: str) -> Mapping[str, Any] | None:
    """Give what a merge moved, and forget it; `None` when there is no such merge."""
    row = await work.first(_MERGE, merge_id=merge_id)
    if row is None:
        return None
    await work.run(_DROP_MERGE, merge_id=merge_id)
    moved: Mapping[str, Any] = msgpack.unpackb(row["moved"])
    return moved


async def drop_merges(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget every merge that a member was part of."""
    await work.run(_DROP_MERGES, member_id=member_id, member_id_=member_id)
