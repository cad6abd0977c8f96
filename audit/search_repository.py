"""SQL of searching the trail: any combination of its search columns, a page at a time."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Text, bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from audit.tables import audit_event
from kernel import ReadSession, Row, Statement

_MOST_SUBJECTS = 60
_SUBJECT_NAMES = [f"subject_{at}" for at in range(_MOST_SUBJECTS)]
_FITS: Mapping[str, ColumnElement[bool]] = {
    "actor": audit_event.c.actor == bindparam("actor"),
    "action": audit_event.c.action == bindparam("action"),
    "purpose": audit_event.c.purpose == bindparam("purpose"),
    "decision": audit_event.c.decision == bindparam("decision"),
    "from_us": audit_event.c.recorded_us >= bindparam("from_us"),
    "until_us": audit_event.c.recorded_us < bindparam("until_us"),
}
_OF_ANY_SUBJECT = audit_event.c.subject.in_(
    [bindparam(name, type_=Text) for name in _SUBJECT_NAMES]
)


@lru_cache(maxsize=128)  # all combinations: 6 filters, with a subject or without
def _fitting(used: frozenset[str], *, of_subject: bool) -> Statement:
    conditions = [_FITS[name] for name in sorted(used)]
    if of_subject:
        conditions.append(_OF_ANY_SUBJECT)
    return Statement(
        select(audit_event.c.id, audit_event.c.recorded_us, audit_event.c.body)
        .where(
            audit_event.c.id < bindparam("before"),
            audit_event.c.id > bindparam("oldest"),
            *conditions,
        )
        .order_by(audit_event.c.id.desc())
        .limit(bindparam("most", type_=BigInteger))
    )


async def events_that_fit(
    session: ReadSession,
    used: Mapping[str, str | int],
    subjects: Sequence[str],
    *,
    before: str,
    oldest: str,
    most: int,
) -> Sequence[Row]:
    """Give events between two ids for which every named search column fits, newest first."""
    parameters: dict[str, Any] = {**used, "before": before, "oldest": oldest, "most": most}
    if subjects:
        padded = [*subjects[:_MOST_SUBJECTS], *[""] * (_MOST_SUBJECTS - len(subjects))]
        parameters |= dict(zip(_SUBJECT_NAMES, padded, strict=True))
    return await session.all(_fitting(frozenset(used), of_subject=bool(subjects)), **parameters)
