"""SQL of the points ledger and of its open lots."""

from collections.abc import Iterable, Sequence

from sqlalchemy import BigInteger, Text, bindparam, delete, func, insert, select, update

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from loyalty.model import Entry, EntryKind, Lot
from loyalty.tables import points_entry, points_lot

_ADD = Statement(
    insert(points_entry).values(
        {
            name: bindparam(name)
            for name in (
                "id",
                "member_id",
                "kind",
                "points",
                "at_us",
                "expires_us",
                "client_id",
                "reference",
            )
        }
    )
)
_ADD_LOT = Statement(
    insert(points_lot).values(
        entry_id=bindparam("entry_id"),
        member_id=bindparam("member_id"),
        remaining=bindparam("remaining"),
        expires_us=bindparam("expires_us"),
    )
)
_BY_REFERENCE = Statement(
    select(points_entry).where(
        points_entry.c.client_id == bindparam("client_id"),
        points_entry.c.reference == bindparam("reference"),
    )
)
_ENTRIES = Statement(
    select(points_entry)
    .where(points_entry.c.member_id == bindparam("member_id"))
    .order_by(points_entry.c.at_us, points_entry.c.id)
)
_EARNED = Statement(
    select(
        func.sum(points_entry.c.points).label("points"),
        func.min(points_entry.c.at_us).label("oldest_us"),
    ).where(
        points_entry.c.member_id == bindparam("member_id"),
        points_entry.c.kind == EntryKind.EARN.value,
        points_entry.c.at_us > bindparam("since_us", type_=BigInteger),
    )
)
_LOTS = Statement(
    select(points_lot)
    .where(points_lot.c.member_id == bindparam("member_id"))
    .order_by(points_lot.c.expires_us, points_lot.c.entry_id)
)
_SET_LOT = Statement(
    update(points_lot)
    .where(points_lot.c.entry_id == bindparam("of_entry"))
    .values(remaining=bindparam("left_over"))
)
_DROP_LOT = Statement(delete(points_lot).where(points_lot.c.entry_id == bindparam("of_entry")))
_DROP_LOTS = Statement(delete(points_lot).where(points_lot.c.member_id == bindparam("member_id")))
_EXPIRED = Statement(
    select(points_lot.c.member_id)
    .where(
        points_lot.c.expires_us <= bindparam("now_us", type_=BigInteger),
        points_lot.c.member_id > bindparam("after", type_=Text),
    )
    .distinct()
    .order_by(points_lot.c.member_id)
    .limit(bindparam("most", type_=BigInteger))
)
_CUT = Statement(
    update(points_entry)
    .where(points_entry.c.member_id == bindparam("of_member"))
    .values(member_id=None, reference=None)
)
_MOVE_ENTRY = Statement(
    update(points_entry)
    .where(points_entry.c.id == bindparam("of_entry"), points_entry.c.member_id == bindparam("old"))
    .values(member_id=bindparam("new"))
)
_MOVE_LOT = Statement(
    update(points_lot)
    .where(
        points_lot.c.entry_id == bindparam("of_entry"), points_lot.c.member_id == bindparam("old")
    )
    .values(member_id=bindparam("new"))
)


async def add_entries(work: UnitOfWork, entries: Iterable[Entry]) -> None:
    """Append to the ledger; what was earned becomes a lot."""
    listed = list(entries)
    await work.run_many(
        _ADD,
        [
            {
                "id": one.id,
                "member_id": one.member_id,
                "kind": one.kind.value,
                "points": one.points,
                "at_us": one.at_us,
                "expires_us": one.expires_us,
                "client_id": one.client_id,
                "reference": one.reference,
            }
            for one in listed
        ],
    )
    await work.run_many(
        _ADD_LOT,
        [
            {
                "entry_id": one.id,
                "member_id": one.member_id,
                "remaining": one.points,
                "expires_us": one.expires_us,
            }
            for one in listed
            if one.expires_us is not None
        ],
    )


async def entry_by_reference(session: ReadSession, client_id: str, reference: str) -> Entry | None:
    """Find what a client recorded under a reference of its own."""
    row = await session.first(_BY_REFERENCE, client_id=client_id, reference=reference)
    return None if row is None else _entry(row)


async def entries_of(session: ReadSession, member_id: MemberId) -> list[Entry]:
    """Give a member's ledger, the oldest entry first."""
    return [_entry(row) for row in await session.all(_ENTRIES, member_id=member_id)]


async def earned_since(
    session: ReadSession, member_id: MemberId, *, since_us: int
) -> tuple[int, int | None]:
    """Give the points earned after a moment, and when the oldest of them was (µs)."""
    row = await session.first(_EARNED, member_id=member_id, since_us=since_us)
    return (0, None) if row is None else (int(row["points"] or 0), row["oldest_us"])


async def lots_of(session: ReadSession, member_id: MemberId) -> list[Lot]:
    """Give a member's open lots, in the order in which they are used up."""
    rows = await session.all(_LOTS, member_id=member_id)
    return [Lot(row["entry_id"], row["remaining"], row["expires_us"]) for row in rows]


async def write_lot(work: UnitOfWork, lot: Lot) -> None:
    """Store what is left of a lot; an empty one goes."""
    if lot.remaining:
        await work.run(_SET_LOT, of_entry=lot.entry_id, left_over=lot.remaining)
    else:
        await work.run(_DROP_LOT, of_entry=lot.entry_id)


async def drop_lots(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget all open lots of a member."""
    await work.run(_DROP_LOTS, member_id=member_id)


async def members_with_expired_lots(
    session: ReadSession, *, now_us: int, after: str, most: int
) -> list[MemberId]:
    """Give members who hold points whose time is over, from the one after `after`."""
    rows = await session.all(_EXPIRED, now_us=now_us, after=after, most=most)
    return [MemberId(row["member_id"]) for row in rows]


async def cut_entries(work: UnitOfWork, member_id: MemberId) -> int:
    """Cut a member's entries off from the member, and from what the client calls them."""
    return await work.run(_CUT, of_member=member_id)


async def move_entries(work: UnitOfWork, ids: Sequence[str], old: MemberId, new: MemberId) -> None:
    """Make entries another member's, as far as they are still `old`'s."""
    await work.run_many(_MOVE_ENTRY, [{"of_entry": one, "old": old, "new": new} for one in ids])


async def move_lots(work: UnitOfWork, ids: Sequence[str], old: MemberId, new: MemberId) -> None:
    """Make open lots another member's, as far as they are still `old`'s."""
    await work.run_many(_MOVE_LOT, [{"of_entry": one, "old": old, "new": new} for one in ids])


def _entry(row: Row) -> Entry:
    return Entry(
        row["id"],
        row["member_id"],
        EntryKind(row["kind"]),
        row["points"],
        row["at_us"],
        row["expires_us"],
        row["client_id"],
        row["reference"],
    )
