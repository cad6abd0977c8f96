"""SQL of the change feed: rows in an order that no later commit can slip behind.

Positions are drawn by counting one row up, which stays locked until the courier's transaction
ends: who draws the next position sees the earlier ones committed. A database sequence would
hand out 7, then 8, and commit 8 first; a reader who passed 8 would never see 7.
"""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import BigInteger, Text, and_, bindparam, delete, func, or_, select, update

from disclosure.happening import Happening
from disclosure.tables import change, change_head
from disclosure.telling import PSEUDONYM_LABEL
from kernel import ReadSession, Row, Statement, UnitOfWork
from members import pairwise_source
from vault import PSEUDONYM, key_source

_FEED = "feed"
_NEXT = Statement.for_dialect(
    lambda insert_into: (
        insert_into(change_head)
        .values(name=_FEED, position=1, dropped=0)
        .on_conflict_do_update(
            index_elements=["name"], set_={"position": change_head.c.position + 1}
        )
        .returning(change_head.c.position)
    )
)
_LEAP_BY = 2**32
"""More than one life of a registry draws."""
_LEAP = Statement.for_dialect(
    lambda insert_into: (
        insert_into(change_head)
        .values(name=_FEED, position=_LEAP_BY, dropped=0)
        .on_conflict_do_update(
            index_elements=["name"], set_={"position": change_head.c.position + _LEAP_BY}
        )
        .returning(change_head.c.position)
    )
)
_NOTE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(change)
        .values(
            position=bindparam("position"),
            message_id=bindparam("message_id"),
            member_id=bindparam("member_id"),
            type=bindparam("type"),
            purpose=bindparam("purpose"),
            channel=bindparam("channel"),
            at_us=bindparam("at_us"),
            noted_us=bindparam("noted_us"),
        )
        .on_conflict_do_nothing()
    )
)
_HEAD = Statement(
    select(change_head.c.position, change_head.c.dropped).where(change_head.c.name == _FEED)
)
_OLDEST_KEPT = Statement(
    select(func.max(change.c.position).label("position")).where(
        change.c.noted_us < bindparam("before_us", type_=BigInteger)
    )
)
_DROP = Statement(delete(change).where(change.c.position <= bindparam("until", type_=BigInteger)))
_DROPPED = Statement(
    update(change_head)
    .where(change_head.c.name == _FEED)
    .values(dropped=bindparam("until", type_=BigInteger))
)


@cache
def _page(purposes: int) -> Statement:
    """Build the page for a client with this many purposes: it hears of no other ones."""
    pairwise, (named, client, of_member) = pairwise_source()
    told = [bindparam(f"purpose_{at}", type_=Text) for at in range(purposes)]
    joined = change.join(pairwise, of_member == change.c.member_id)
    theirs = and_(
        client == bindparam("client_id", type_=Text),
        change.c.position > bindparam("after", type_=BigInteger),
        or_(change.c.purpose.is_(None), change.c.purpose.in_(told)),
    )
    # Whole changes: of a member with two ids after a merge, a page never ends between the two.
    positions = (
        select(change.c.position)
        .distinct()
        .select_from(joined)
        .where(theirs)
        .order_by(change.c.position)
        .limit(bindparam("most", type_=BigInteger))
    )
    key, key_on, key_columns = key_source(PSEUDONYM, change.c.member_id, PSEUDONYM_LABEL)
    return Statement(
        select(
            change.c.position,
            change.c.member_id,
            change.c.type,
            change.c.purpose,
            change.c.channel,
            change.c.at_us,
            named,
            *key_columns,
        )
        .select_from(joined.outerjoin(key, key_on))
        .where(client == bindparam("client_id", type_=Text), change.c.position.in_(positions))
        .order_by(change.c.position, named)
    )


async def note(work: UnitOfWork, happened: Happening, *, now_us: int) -> None:
    """Append a change at the next position; a message told twice is noted once."""
    head = await work.first(_NEXT)
    if head is None:
        raise RuntimeError("counting up gave no position")
    await work.run(
        _NOTE,
        position=head["position"],
        message_id=happened.message_id,
        member_id=happened.member_id,
        type=happened.type,
        purpose=happened.purpose,
        channel=happened.channel,
        at_us=happened.at_us,
        noted_us=now_us,
    )


async def page(
    session: ReadSession, client_id: str, purposes: Sequence[str], *, after: int, most: int
) -> Sequence[Row]:
    """Give changes of members that a client knows, for its purposes, behind a position.

    Each with the member's wrapped pseudonym key, under which the trail tells whose change it is.
    """
    named = {f"purpose_{at}": purpose for at, purpose in enumerate(purposes)}
    return await session.all(
        _page(len(purposes)), client_id=client_id, after=after, most=most, **named
    )


async def bounds(session: ReadSession) -> tuple[int, int]:
    """Give the newest position that retention has taken away, and the newest one there is."""
    row = await session.first(_HEAD)
    return (0, 0) if row is None else (int(row["dropped"]), int(row["position"]))


async def begin_anew(work: UnitOfWork) -> None:
    """Make every cursor given so far expire, after a restore to an earlier day.

    Positions drawn in the life that is lost must not be drawn again for other changes: a client
    behind them would miss what came between and never hear of it.
    """
    head = await work.first(_LEAP)
    if head is None:
        raise RuntimeError("the feed has no head")
    await work.run(_DROP, until=head["position"])
    await work.run(_DROPPED, until=head["position"])


async def drop_before(work: UnitOfWork, before_us: int) -> bool:
    """Forget changes noted before a moment, remembering how far; False when there were none."""
    row = await work.first(_OLDEST_KEPT, before_us=before_us)
    if row is None or row["position"] is None:
        return False
    await work.run(_DROP, until=row["position"])
    await work.run(_DROPPED, until=row["position"])
    return True
