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


AT_ONCE = 500
_TOKEN_NAMES = [f"token_{at}" for at in range(AT_ONCE)]
_MOST_ACTIONS = 16
_ACTION_NAMES = [f"action_{at}" for at in range(_MOST_ACTIONS)]
_OF_SUBJECTS = Statement(
    select(audit_event.c.id, audit_event.c.subject, audit_event.c.body).where(
        audit_event.c.subject.in_([bindparam(name, type_=Text) for name in _TOKEN_NAMES]),
        audit_event.c.action.in_([bindparam(name, type_=Text) for name in _ACTION_NAMES]),
    )
)


async def events_of_many(
    session: ReadSession, tokens: Sequence[str], actions: Sequence[str]
) -> Sequence[Row]:
    """Give id, subject and body of events of at most `AT_ONCE` subjects, by their actions."""
    parameters = dict(zip(_TOKEN_NAMES, [*tokens, *[""] * (AT_ONCE - len(tokens))], strict=True))
    padded = [*actions, *[""] * (_MOST_ACTIONS - len(actions))]
    parameters |= dict(zip(_ACTION_NAMES, padded, strict=True))
    return await session.all(_OF_SUBJECTS, **parameters)
