"""All SQL of sealed details. What may change in a row the database itself decides (migration 0027).

Whose detail an event of a deletion names stands in the event's body alone, so those bodies are
read here: there are few of them, and no column repeats what a verifier must not trust.
"""

from collections.abc import Sequence

import orjson
from sqlalchemy import BigInteger, LargeBinary, Text, bindparam, insert, null, select, update

from audit.errors import NotRecordedError
from audit.retention_repository import HOLDING
from audit.tables import audit_detail, audit_event
from kernel import IntegrityError, ReadSession, Row, Statement, UnitOfWork

_ADD = Statement(
    insert(audit_detail).values(
        event_id=bindparam("event_id"),
        member_id=bindparam("member_id"),
        ciphertext=bindparam("ciphertext", type_=LargeBinary),
    )
)
_ADD_LOST = Statement(
    insert(audit_detail).values(event_id=bindparam("event_id"), dropped_by=bindparam("dropped_by"))
)
_ONE = Statement(select(audit_detail).where(audit_detail.c.event_id == bindparam("event_id")))
_CUT = Statement(
    update(audit_detail)
    .where(audit_detail.c.member_id == bindparam("of_member"))
    .values(member_id=null())
)
_DROP = Statement(
    update(audit_detail)
    .where(audit_detail.c.event_id == bindparam("of_event"), audit_detail.c.ciphertext.is_not(None))
    .values(
        member_id=null(),
        ciphertext=null(),
        dropped_by=bindparam("by_event"),
        due_us=bindparam("at_us"),
    )
)
_WITH_EVENT = audit_detail.outerjoin(audit_event, audit_event.c.id == audit_detail.c.event_id)
_SEALED = Statement(
    select(audit_detail.c.event_id, HOLDING.label("held"))
    .select_from(_WITH_EVENT)
    .where(audit_detail.c.event_id > bindparam("after"), audit_detail.c.ciphertext.is_not(None))
    .order_by(audit_detail.c.event_id)
    .limit(bindparam("most", type_=BigInteger))
)
_ALL = Statement(
    select(
        audit_detail.c.event_id,
        audit_detail.c.ciphertext,
        audit_detail.c.dropped_by,
        audit_event.c.body,
    )
    .select_from(_WITH_EVENT)
    .where(audit_detail.c.event_id > bindparam("after"))
    .order_by(audit_detail.c.event_id)
    .limit(bindparam("most", type_=BigInteger))
)
_OF_ACTION = Statement(
    select(audit_event.c.id, audit_event.c.recorded_us, audit_event.c.body)
    .where(audit_event.c.action == bindparam("action", type_=Text))
    .order_by(audit_event.c.id)
)
_WITHOUT = Statement(
    select(audit_event.c.id, audit_event.c.body)
    .select_from(audit_event.outerjoin(audit_detail, audit_detail.c.event_id == audit_event.c.id))
    .where(
        audit_event.c.action == bindparam("action", type_=Text),
        audit_detail.c.event_id.is_(None),
    )
    .order_by(audit_event.c.id)
)


async def add_detail(work: UnitOfWork, event_id: str, member_id: str, ciphertext: bytes) -> None:
    """Store a sealed detail beside its event, or raise `NotRecordedError`."""
    try:
        await work.run(_ADD, event_id=event_id, member_id=member_id, ciphertext=ciphertext)
    except IntegrityError as error:
        raise NotRecordedError from error


async def add_lost(work: UnitOfWork, event_id: str, *, dropped_by: str) -> None:
    """Say of an event that its detail is not there, and which event tells of that."""
    await work.run(_ADD_LOST, event_id=event_id, dropped_by=dropped_by)


async def detail(session: ReadSession, event_id: str) -> Row | None:
    """Find the row of an event's detail."""
    return await session.first(_ONE, event_id=event_id)


async def cut_links(work: UnitOfWork, member_id: str) -> None:
    """Forget which member's details they were."""
    await work.run(_CUT, of_member=member_id)


async def drop_detail(work: UnitOfWork, event_id: str, *, dropped_by: str, due_us: int) -> None:
    """Drop the ciphertext of a detail; the guard asks for the event, the day and holds."""
    await work.run(_DROP, of_event=event_id, by_event=dropped_by, at_us=due_us)


async def sealed_details(session: ReadSession, *, after: str, most: int) -> Sequence[Row]:
    """Give event_id and `held` of details that are still there, behind an id, the oldest first."""
    return await session.all(_SEALED, after=after, most=most)


async def every_detail(session: ReadSession, *, after: str, most: int) -> Sequence[Row]:
    """Give event_id, ciphertext, dropped_by and the event's body, behind an id."""
    return await session.all(_ALL, after=after, most=most)


async def told_gone(session: ReadSession, action: str) -> list[tuple[str, str, int]]:
    """Give what events of an action name, with id and moment (µs) of the latter, by id."""
    return [
        (str(orjson.loads(row["body"]).get("resource")), row["id"], row["recorded_us"])
        for row in await session.all(_OF_ACTION, action=action)
    ]


async def brands_since(session: ReadSession, event_id: str, *, most: int) -> list[str | None]:
    """Give the brands of events behind an id that have or had a detail, as the events say."""
    return [
        None if row["body"] is None else orjson.loads(row["body"]).get("brand")
        for row in await every_detail(session, after=event_id, most=most)
    ]


async def missing(session: ReadSession, actions: Sequence[str]) -> list[str]:
    """Name events that have a detail by what they say, and none beside them."""
    return [
        row["id"]
        for action in actions
        for row in await session.all(_WITHOUT, action=action)
        if "detail_ref" in orjson.loads(row["body"])
    ]
