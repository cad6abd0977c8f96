"""SQL of manifests: the rows beside an event, and the index that finds a member's among them."""

from collections.abc import Sequence

import orjson
from sqlalchemy import ARRAY, Text, bindparam, func, insert, select

from audit.errors import NotRecordedError
from audit.tables import audit_event, audit_leaf, audit_manifest, audit_manifest_token
from kernel import IntegrityError, ReadSession, Row, Statement, UnitOfWork

_ADD_ROWS = Statement(
    insert(audit_manifest).values(
        event_id=bindparam("event_id"), width=bindparam("width"), rows=bindparam("rows")
    )
)
_COLUMNS = ("token", "event_id", "place")
_of_event = bindparam("event_id", type_=Text)
_EACH = func.json_each(bindparam("tokens", type_=Text)).table_valued("value", "key")
_ADD_TOKENS = Statement(
    insert(audit_manifest_token).from_select(
        _COLUMNS, select(_EACH.c.value, _of_event, _EACH.c.key)
    )
)
_UNNESTED = (
    func.unnest(bindparam("tokens", type_=ARRAY(Text)))
    .table_valued("token", with_ordinality="nth")
    .render_derived()
)
_ADD_TOKEN_ARRAY = Statement(
    insert(audit_manifest_token).from_select(
        _COLUMNS, select(_UNNESTED.c.token, _of_event, _UNNESTED.c.nth - 1)
    )
)
_ROWS = Statement(
    select(audit_manifest.c.width, audit_manifest.c.rows).where(
        audit_manifest.c.event_id == bindparam("event_id")
    )
)
_ROWS_BETWEEN = Statement(
    select(audit_leaf.c.leaf_index, audit_manifest.c.rows)
    .select_from(
        audit_leaf.join(audit_manifest, audit_manifest.c.event_id == audit_leaf.c.event_id)
    )
    .where(
        audit_leaf.c.leaf_index >= bindparam("start"), audit_leaf.c.leaf_index < bindparam("end")
    )
    .order_by(audit_leaf.c.leaf_index)
)
_SIZES_BETWEEN = Statement(
    select(audit_leaf.c.leaf_index, func.length(audit_manifest.c.rows).label("bytes"))
    .select_from(
        audit_leaf.join(audit_manifest, audit_manifest.c.event_id == audit_leaf.c.event_id)
    )
    .where(
        audit_leaf.c.leaf_index >= bindparam("start"), audit_leaf.c.leaf_index < bindparam("end")
    )
    .order_by(audit_leaf.c.leaf_index)
)
_TOKENS = Statement(
    select(audit_manifest_token.c.token, audit_manifest_token.c.place)
    .where(audit_manifest_token.c.event_id == bindparam("event_id"))
    .order_by(audit_manifest_token.c.place, audit_manifest_token.c.token)
)
_STRAYS = Statement(
    select(audit_manifest_token.c.event_id)
    .distinct()
    .select_from(
        audit_manifest_token.outerjoin(
            audit_manifest, audit_manifest.c.event_id == audit_manifest_token.c.event_id
        )
    )
    .where(audit_manifest.c.event_id.is_(None))
    .limit(20)
)
_HOMELESS = Statement(
    select(audit_manifest.c.event_id)
    .select_from(
        audit_manifest.outerjoin(audit_event, audit_event.c.id == audit_manifest.c.event_id)
    )
    .where(audit_event.c.id.is_(None))
    .limit(20)
)


async def add_manifest(
    work: UnitOfWork, event_id: str, width: int, rows: bytes, tokens: Sequence[str]
) -> None:
    """Store the rows beside an event of this unit of work, or `NotRecordedError`."""
    try:
        await work.run(_ADD_ROWS, event_id=event_id, width=width, rows=rows)
        if work.dialect == "postgresql":
            await work.run(_ADD_TOKEN_ARRAY, event_id=event_id, tokens=list(tokens))
        else:
            told = orjson.dumps(list(tokens)).decode()
            await work.run(_ADD_TOKENS, event_id=event_id, tokens=told)
    except IntegrityError as error:
        raise NotRecordedError from error


async def rows_of(session: ReadSession, event_id: str) -> bytes | None:
    """Give the rows beside an event as they are stored; None when there are none."""
    row = await session.first(_ROWS, event_id=event_id)
    return None if row is None else bytes(row["rows"])


async def rows_between(session: ReadSession, start: int, end: int) -> list[tuple[int, bytes]]:
    """Give place in the log and rows of the events in a range that have any."""
    found = await session.all(_ROWS_BETWEEN, start=start, end=end)
    return [(row["leaf_index"], bytes(row["rows"])) for row in found]


async def sizes_between(session: ReadSession, start: int, end: int) -> list[tuple[int, int]]:
    """Give place in the log and number of bytes of the rows of the events in a range."""
    found = await session.all(_SIZES_BETWEEN, start=start, end=end)
    return [(row["leaf_index"], row["bytes"]) for row in found]


async def indexed_tokens(session: ReadSession, event_id: str) -> Sequence[Row]:
    """Give token and place of an event's rows as the index has them."""
    return await session.all(_TOKENS, event_id=event_id)


async def strays(session: ReadSession) -> list[str]:
    """Give ids under which the index or the table of rows has something without its event."""
    found = [row["event_id"] for row in await session.all(_STRAYS)]
    return found + [row["event_id"] for row in await session.all(_HOMELESS)]
