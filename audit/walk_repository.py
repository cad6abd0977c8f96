"""SQL of searches that no index serves: a portion of the trail is walked, the newest event first.

One statement gives what fits and how far it walked, so that both are of one moment: were a
portion measured first and searched then, events that commit in between could push others out.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Text, bindparam, func, select, true, tuple_
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.util import ClauseAdapter

from audit.search_repository import ACTION_NAMES, DENIED, FITS, OF_ANY_ACTION, named, padded
from audit.tables import audit_event
from kernel import ReadSession, Row, Statement

_ACTOR = "actor"
_BY_IDS = frozenset({"from_us", "until_us", DENIED})
"""What bounds of ids, or an index in their order, serve: all that is between them fits."""
_before = bindparam("before", type_=Text)
_oldest = bindparam("oldest", type_=Text)


class Walked(NamedTuple):
    """What fits in a portion, how many events it has, and the last of them."""

    fitting: Sequence[Row]
    events: int
    lowest: str


def is_walked(
    used: Mapping[str, str | int], subjects: Sequence[str], actions: Sequence[str]
) -> bool:
    """Say whether no index has what fits: then events are walked, and most may be in vain."""
    names, _ = named(used)
    if subjects or "request_id" in names:
        return False
    return bool(actions) or not names <= _BY_IDS


def _portion(names: Collection[str]) -> Select[Any]:
    """Select the newest events before an id: of what was denied, of an actor, or else of all.

    An actor's by a pair of bounds and no equality. Equality and bounds of ids look to a planner
    that knows no values like a short walk over everybody's ids; a lower bound as a pair would
    never end the walk.
    """
    event = audit_event.c
    columns = (event.id, event.recorded_us, event.actor, event.action, event.purpose)
    chosen = select(*columns, event.decision, event.request_id)
    if _ACTOR in names and DENIED not in names:
        actor = bindparam(_ACTOR, type_=Text)
        chosen = chosen.where(
            tuple_(event.actor, event.id) < tuple_(actor, _before), event.actor >= actor
        ).order_by(event.actor.desc(), event.id.desc())
    else:
        conditions = [FITS[DENIED]] if DENIED in names else []
        chosen = chosen.where(event.id < _before, event.id >= _oldest, *conditions)
        chosen = chosen.order_by(event.id.desc())
    return chosen.limit(bindparam("portion", type_=BigInteger))


@lru_cache(maxsize=256)
def walking(names: frozenset[str], *, of_actions: bool) -> Statement:
    """Build the statement for the columns asked for."""
    walked = _portion(names).cte("walked")
    conditions: list[ColumnElement[bool]] = [FITS[name] for name in sorted(names)]
    if of_actions:
        conditions.append(OF_ANY_ACTION)
    adapt = ClauseAdapter(walked).traverse
    fitting = (
        select(walked.c.id, walked.c.recorded_us)
        .where(walked.c.id >= _oldest, *(adapt(each) for each in conditions))
        .order_by(walked.c.id.desc())
        .limit(bindparam("most", type_=BigInteger))
        .subquery("fitting")
    )
    edge = select(func.count().label("events"), func.min(walked.c.id).label("lowest")).select_from(
        walked
    )
    end = edge.subquery("edge")
    # By a look-up for each row: a join lets a planner walk all events ever written.
    body = select(audit_event.c.body).where(audit_event.c.id == fitting.c.id).scalar_subquery()
    return Statement(
        select(end.c.events, end.c.lowest, fitting.c.id, fitting.c.recorded_us, body.label("body"))
        .select_from(end.outerjoin(fitting, true()))
        .order_by(fitting.c.id.desc())
    )


async def walk(
    session: ReadSession,
    used: Mapping[str, str | int],
    actions: Sequence[str],
    *,
    before: str,
    oldest: str,
    portion: int,
    most: int,
) -> Walked:
    """Walk so many events before an id, and give at most `most` that fit, the newest first.

    None that fits is older than `oldest`; the walk itself may end behind it.
    """
    names, values = named(used)
    asked: dict[str, Any] = {**values, "before": before, "oldest": oldest}
    if actions:
        asked |= padded(ACTION_NAMES, actions)
    statement = walking(names, of_actions=bool(actions))
    rows = await session.all(statement, **asked, portion=portion, most=most)
    events, lowest = (rows[0]["events"], rows[0]["lowest"]) if rows else (0, None)
    fitting = [row for row in rows if row["id"] is not None]
    return Walked(fitting, int(events), lowest or "")
