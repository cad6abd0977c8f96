"""All SQL of reviews. A row is written once, beside its event, and never changed (migration 0028).

What is left to review has no table of its own: it is what has a detail and no review.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Text, bindparam, exists, insert, select

from audit.tables import audit_detail, audit_event, audit_leaf, audit_review
from kernel import ReadSession, Row, Statement, UnitOfWork

_ADD = Statement(
    insert(audit_review).values(
        event_id=bindparam("event_id"), reviewed_by=bindparam("reviewed_by")
    )
)
_ONE = Statement(
    select(audit_review.c.reviewed_by).where(audit_review.c.event_id == bindparam("event_id"))
)
_DETAIL = Statement(
    select(audit_detail.c.ciphertext.is_not(None).label("sealed")).where(
        audit_detail.c.event_id == bindparam("event_id")
    )
)
# The body comes by a look-up for each row: a join lets PostgreSQL walk all events ever written.
_UNREVIEWED = Statement(
    select(
        audit_detail.c.event_id,
        audit_detail.c.ciphertext.is_not(None).label("sealed"),
        select(audit_event.c.body)
        .where(audit_event.c.id == audit_detail.c.event_id)
        .scalar_subquery()
        .label("body"),
    )
    .where(
        audit_detail.c.event_id > bindparam("after"),
        ~exists().where(audit_review.c.event_id == audit_detail.c.event_id).correlate(audit_detail),
    )
    .order_by(audit_detail.c.event_id)
    .limit(bindparam("most", type_=BigInteger))
)
_OF_ACTION = Statement(
    select(audit_event.c.id, audit_event.c.body)
    .where(audit_event.c.action == bindparam("action", type_=Text))
    .order_by(audit_event.c.id)
)
_found, _read = audit_event.alias("found"), audit_event.alias("read")
_ALL = Statement(
    select(
        audit_review.c.event_id,
        audit_review.c.reviewed_by,
        _found.c.body,
        _read.c.body.label("read"),
        audit_leaf.c.leaf_index,
    )
    .select_from(
        audit_review.outerjoin(_found, _found.c.id == audit_review.c.reviewed_by)
        .outerjoin(_read, _read.c.id == audit_review.c.event_id)
        .outerjoin(audit_leaf, audit_leaf.c.event_id == audit_review.c.reviewed_by)
    )
    .where(audit_review.c.event_id > bindparam("after"))
    .order_by(audit_review.c.event_id)
    .limit(bindparam("most", type_=BigInteger))
)


async def add_review(work: UnitOfWork, event_id: str, *, reviewed_by: str) -> None:
    """Say which event tells of the review of a read; `IntegrityError` when another one does."""
    await work.run(_ADD, event_id=event_id, reviewed_by=reviewed_by)


async def review_of(session: ReadSession, event_id: str) -> Row | None:
    """Give `reviewed_by` of a read; None while nobody has looked at it."""
    return await session.first(_ONE, event_id=event_id)


async def detail_of(session: ReadSession, event_id: str) -> Row | None:
    """Give `sealed` of an event that has or had a detail."""
    return await session.first(_DETAIL, event_id=event_id)


async def unreviewed(session: ReadSession, *, after: str, most: int) -> Sequence[Row]:
    """Give event_id, `sealed` and body (None where deleted) of what no review names, by id."""
    return await session.all(_UNREVIEWED, after=after, most=most)


async def events_of(session: ReadSession, action: str) -> Sequence[Row]:
    """Give id and body of all events of an action, by id."""
    return await session.all(_OF_ACTION, action=action)


async def every_review(session: ReadSession, *, after: str, most: int) -> Sequence[Row]:
    """Give event_id, reviewed_by, both bodies (body, `read`) and the place in the log, by id."""
    return await session.all(_ALL, after=after, most=most)
