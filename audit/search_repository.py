"""SQL of searching the trail: any combination of its search columns, a page at a time.

A member's events are found by the index over subjects, those that speak of many by the index over
the tokens of their rows, and sorted after that. Comparing and sorting by an expression keeps the
planner from walking all events in the hope of meeting some.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from audit.tables import audit_event, audit_leaf, audit_manifest, audit_manifest_token
from kernel import ReadSession, Row, Statement

_MOST_SUBJECTS = 60
_SUBJECT_NAMES = [f"subject_{at}" for at in range(_MOST_SUBJECTS)]
DENIED = "denied"
FITS: Mapping[str, ColumnElement[bool]] = {
    "actor": audit_event.c.actor == bindparam("actor"),
    "action": audit_event.c.action == bindparam("action"),
    "purpose": audit_event.c.purpose == bindparam("purpose"),
    "decision": audit_event.c.decision == bindparam("decision"),
    "request_id": audit_event.c.request_id == bindparam("request_id"),
    "view_decision": audit_event.c.decision == bindparam("view_decision"),
    # Written out, so that the planner knows the index over what was denied to be the one.
    DENIED: audit_event.c.decision == literal_column("'deny'"),
    "from_us": audit_event.c.recorded_us >= bindparam("from_us"),
    "until_us": audit_event.c.recorded_us < bindparam("until_us"),
}
_OF_ANY_SUBJECT = audit_event.c.subject.in_(
    [bindparam(name, type_=Text) for name in _SUBJECT_NAMES]
)


_OF_ANY_TOKEN = audit_manifest_token.c.token.in_(
    [bindparam(name, type_=Text) for name in _SUBJECT_NAMES]
)
_MOST_ACTIONS = 16
ACTION_NAMES = [f"action_{at}" for at in range(_MOST_ACTIONS)]
OF_ANY_ACTION = audit_event.c.action.in_([bindparam(name, type_=Text) for name in ACTION_NAMES])


@lru_cache(maxsize=1024)  # all combinations: 8 columns, with a subject or without, actions or not
def _fitting(used: frozenset[str], *, of_subject: bool, of_actions: bool) -> Statement:
    conditions = [FITS[name] for name in sorted(used)]
    if of_actions:
        conditions.append(OF_ANY_ACTION)
    if of_subject:
        return Statement(with_rows(_of_member(conditions)))
    by_index = "request_id" in used
    # An expression, or a plan made for any parameters takes two bounds of ids for a short walk.
    moment: ColumnElement[str] = (
        audit_event.c.id + literal("", Text) if by_index else audit_event.c.id
    )
    return Statement(
        select(audit_event.c.id, audit_event.c.recorded_us, audit_event.c.body)
        .where(
            moment < bindparam("before", type_=Text),
            moment >= bindparam("oldest", type_=Text),
            *conditions,
        )
        .order_by(moment.desc())
        .limit(bindparam("most", type_=BigInteger))
    )


def _of_member(conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Select one member's events between two ids, by subject or by the token of a row."""

    def between(event_id: ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
        moment = event_id + literal("", Text)
        return (
            moment < bindparam("before", type_=Text),
            moment >= bindparam("oldest", type_=Text),
        )

    alone = select(
        audit_event.c.id,
        audit_event.c.recorded_us,
        audit_event.c.body,
        literal_column("0", Integer).label("place"),
        null().label("token"),
    ).where(_OF_ANY_SUBJECT, *between(audit_event.c.id), *conditions)
    # Bounds on the side of the token: guessed at on that of the event, they make it look as if
    # walking all events were cheaper than looking up some.
    among = (
        select(
            audit_event.c.id,
            audit_event.c.recorded_us,
            audit_event.c.body,
            audit_manifest_token.c.place,
            audit_manifest_token.c.token,
        )
        .select_from(
            audit_manifest_token.join(
                audit_event, audit_event.c.id == audit_manifest_token.c.event_id
            )
        )
        .where(_OF_ANY_TOKEN, *between(audit_manifest_token.c.event_id), *conditions)
    )
    both = union_all(alone, among).subquery("both")
    return (
        select(both)
        .order_by((both.c.id + literal("", Text)).desc())
        .limit(bindparam("most", type_=BigInteger))
    )


def with_rows(page: Select[Any]) -> Select[Any]:
    """Bring to each event of a page that has `token` and `place` the bytes of that row alone."""
    found = page.subquery("page")
    row = (
        select(
            func.substr(
                audit_manifest.c.rows,
                found.c.place * audit_manifest.c.width + 1,
                audit_manifest.c.width,
            )
        )
        .where(audit_manifest.c.event_id == found.c.id, found.c.token.is_not(None))
        .scalar_subquery()
    )
    return select(
        found.c.id,
        found.c.recorded_us,
        found.c.body,
        found.c.place,
        found.c.token,
        row.label("row"),
    ).order_by(found.c.id.desc())


async def events_that_fit(
    session: ReadSession,
    used: Mapping[str, str | int],
    subjects: Sequence[str],
    actions: Sequence[str],
    *,
    before: str,
    oldest: str,
    most: int,
) -> Sequence[Row]:
    """Give events between two ids for which every named search column fits, newest first.

    `oldest` is the least id that may be given, `before` one above the greatest.
    """
    names, values = named(used)
    parameters: dict[str, Any] = {**values, "before": before, "oldest": oldest, "most": most}
    if subjects:
        parameters |= padded(_SUBJECT_NAMES, subjects)
    if actions:
        parameters |= padded(ACTION_NAMES, actions)
    statement = _fitting(names, of_subject=bool(subjects), of_actions=bool(actions))
    return await session.all(statement, **parameters)


def padded(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Give as many values to these names as there are, and nothing to the others."""
    kept = values[: len(names)]
    return dict(zip(names, [*kept, *[""] * (len(names) - len(kept))], strict=True))


def named(used: Mapping[str, str | int]) -> tuple[frozenset[str], dict[str, str | int]]:
    """Give the names of conditions for the columns asked for, and the values they compare with."""
    values = dict(used)
    denied = [name for name in ("decision", "view_decision") if used.get(name) == "deny"]
    for name in denied:
        del values[name]
    return frozenset(values) | ({DENIED} if denied else set()), values


_OLDEST = Statement(select(audit_event.c.id).order_by(audit_event.c.id).limit(1))


async def oldest_event(session: ReadSession) -> str | None:
    """Give the id of the first event there is."""
    row = await session.first(_OLDEST)
    return None if row is None else str(row["id"])


def _read_between(subject: ColumnElement[Any]) -> tuple[list[Any], list[ColumnElement[bool]]]:
    columns = [audit_event.c.actor, subject.label("subject"), audit_event.c.id]
    conditions = [
        audit_event.c.id > bindparam("oldest"),
        audit_event.c.id < bindparam("newest"),
        audit_event.c.recorded_us >= bindparam("from_us"),
        audit_event.c.recorded_us < bindparam("until_us"),
        audit_event.c.decision == "allow",
        OF_ANY_ACTION,
    ]
    return columns, conditions


_columns, _conditions = _read_between(audit_event.c.subject)
_row_columns, _row_conditions = _read_between(audit_manifest_token.c.token)
_READ = union_all(
    select(*_columns).where(audit_event.c.subject.is_not(None), *_conditions),
    select(*_row_columns)
    .select_from(
        audit_event.join(audit_manifest_token, audit_manifest_token.c.event_id == audit_event.c.id)
    )
    .where(*_row_conditions),
).cte("read")
_FIRST_OF_MEMBER = (
    select(_READ.c.actor, _READ.c.subject, func.min(_READ.c.id).label("id"))
    .group_by(_READ.c.actor, _READ.c.subject)
    .cte("first_of_member")
)
_NUMBERED = select(
    _FIRST_OF_MEMBER.c.id,
    _FIRST_OF_MEMBER.c.subject,
    func.row_number()
    .over(partition_by=_FIRST_OF_MEMBER.c.actor, order_by=_FIRST_OF_MEMBER.c.id)
    .label("nth"),
).cte("numbered")
_OVER = Statement(
    select(
        audit_event.c.id,
        audit_event.c.recorded_us,
        _NUMBERED.c.subject,
        audit_event.c.actor,
        audit_event.c.action,
        audit_event.c.purpose,
        audit_event.c.decision,
        audit_event.c.request_id,
        audit_event.c.body,
    )
    .select_from(_NUMBERED.join(audit_event, audit_event.c.id == _NUMBERED.c.id))
    .where(_NUMBERED.c.nth == bindparam("nth", type_=Integer))
    .order_by(audit_event.c.id.desc())
)


async def events_over(
    session: ReadSession,
    actions: Sequence[str],
    over: int,
    *,
    from_us: int,
    until_us: int,
    oldest: str,
    newest: str,
) -> Sequence[Row]:
    """Give the event with which each actor read the data of one member more than `over`."""
    return await session.all(
        _OVER,
        nth=over + 1,
        from_us=from_us,
        until_us=until_us,
        oldest=oldest,
        newest=newest,
        **padded(ACTION_NAMES, actions),
    )


_MOST_PLACES = 100
_EVENT_NAMES = [f"event_{at}" for at in range(_MOST_PLACES)]
_PLACES = Statement(
    select(audit_leaf.c.event_id, audit_leaf.c.leaf_index).where(
        audit_leaf.c.event_id.in_([bindparam(name, type_=Text) for name in _EVENT_NAMES])
    )
)


async def places_of(session: ReadSession, events: Sequence[str]) -> dict[str, int]:
    """Give the places in the log of those events that have one."""
    found: dict[str, int] = {}
    for at in range(0, len(events), _MOST_PLACES):
        some = padded(_EVENT_NAMES, events[at : at + _MOST_PLACES])
        rows = await session.all(_PLACES, **some)
        found |= {row["event_id"]: int(row["leaf_index"]) for row in rows}
    return found


AT_ONCE = 500
_TOKEN_NAMES = [f"token_{at}" for at in range(AT_ONCE)]
_OF_SUBJECTS = Statement(
    select(audit_event.c.id, audit_event.c.subject, audit_event.c.body).where(
        audit_event.c.subject.in_([bindparam(name, type_=Text) for name in _TOKEN_NAMES]),
        OF_ANY_ACTION,
    )
)


async def events_of_many(
    session: ReadSession, tokens: Sequence[str], actions: Sequence[str]
) -> Sequence[Row]:
    """Give id, subject and body of events of at most `AT_ONCE` subjects, by their actions."""
    parameters = dict(zip(_TOKEN_NAMES, [*tokens, *[""] * (AT_ONCE - len(tokens))], strict=True))
    return await session.all(_OF_SUBJECTS, **parameters, **padded(ACTION_NAMES, actions))
