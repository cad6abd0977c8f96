"""All SQL of the trail: appending events, sequencing them, reading the log back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    LargeBinary,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from audit.errors import NotRecordedError
from audit.tables import (
    audit_checkpoint,
    audit_event,
    audit_head,
    audit_leaf,
    audit_pending,
    audit_tile,
)
from kernel import (
    Database,
    IntegrityError,
    ReadSession,
    Row,
    Statement,
    UnitOfWork,
    id_moment_us,
)

_EVENT_COLUMNS = (
    "id",
    "recorded_us",
    "subject",
    "actor",
    "action",
    "purpose",
    "decision",
    "request_id",
    "body",
)
_EVENT_VALUES: list[ColumnElement[Any]] = [
    bindparam(name, type_=audit_event.c[name].type) for name in _EVENT_COLUMNS
]
_APPEND = Statement(insert(audit_event).values({name: bindparam(name) for name in _EVENT_COLUMNS}))


def append_while_held(held: Select[Any], *conditions: ColumnElement[bool]) -> Statement:
    """Build the statement that appends an event only if another room's row can be held.

    `held` selects that row with a lock (see `consent.gate_held`); `conditions` must be true as
    well. One statement, hence one transaction: either the row stood still and the event is on
    record, or no row comes back and the caller decides again.
    """
    gate = held.cte("held")
    values = select(*_EVENT_VALUES).select_from(gate).where(*conditions)
    return Statement(
        insert(audit_event).from_select(list(_EVENT_COLUMNS), values).returning(audit_event.c.id)
    )


async def append_event(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Append an event to the trail, or raise `NotRecordedError`."""
    try:
        await work.run(_APPEND, **values)
    except IntegrityError as error:
        raise NotRecordedError from error


async def append_events(work: UnitOfWork, events: Iterable[dict[str, Any]]) -> None:
    """Append many events to the trail, or raise `NotRecordedError`."""
    try:
        await work.run_many(_APPEND, events)
    except IntegrityError as error:
        raise NotRecordedError from error


async def try_append(database: Database, values: dict[str, Any]) -> str | None:
    """Append an event and take it back; gives a word for what is in the way, or None."""
    return await database.try_write(_APPEND, **values)


# --- sequencing -----------------------------------------------------------------------

_HOLD_HEAD = Statement(
    select(audit_head)
    .where(audit_head.c.origin == bindparam("origin"))
    .with_for_update(skip_locked=True)
)
_ADVANCE_HEAD = Statement(
    update(audit_head)
    .where(
        audit_head.c.origin == bindparam("of_origin"),
        audit_head.c.size == bindparam("old"),
        audit_head.c.fence == bindparam("of_fence"),
    )
    .values(size=bindparam("new"), lease_until_us=bindparam("until_us"))
)
_HEAD = Statement(select(audit_head.c.origin, audit_head.c.size))
_NEXT = (
    select(audit_pending.c.event_id)
    .order_by(audit_pending.c.event_id)
    .limit(bindparam("most", type_=BigInteger))
    .subquery("next")
)
# The body comes by a look-up for each row: a join lets PostgreSQL walk all events ever written.
_WAITING = Statement(
    select(
        _NEXT.c.event_id.label("id"),
        select(audit_event.c.body)
        .where(audit_event.c.id == _NEXT.c.event_id)
        .scalar_subquery()
        .label("body"),
    ).order_by(_NEXT.c.event_id)
)
_ANY_WAITING = Statement(select(audit_pending.c.event_id).limit(1))
_ADD_LEAF = Statement(
    insert(audit_leaf).values(
        leaf_index=bindparam("leaf_index"),
        event_id=bindparam("event_id"),
        leaf_hash=bindparam("leaf_hash"),
    )
)
# SQLite takes a hundred rows in a third of the time that it takes them in one by one.
_AT_ONCE = 100
_ADD_HUNDRED = Statement(
    insert(audit_leaf).values(
        [
            {
                "leaf_index": bindparam(f"index_{at}"),
                "event_id": bindparam(f"id_{at}"),
                "leaf_hash": bindparam(f"hash_{at}"),
            }
            for at in range(_AT_ONCE)
        ]
    )
)
_NAMES = [(f"index_{at}", f"id_{at}", f"hash_{at}") for at in range(_AT_ONCE)]
_UNQUEUE = Statement(
    delete(audit_pending).where(
        audit_pending.c.event_id.in_(
            select(func.json_each(bindparam("ids", type_=Text)).table_valued("value").c.value)
        )
    )
)
# A batch is one statement on PostgreSQL: a message for each row would cost more than the row.
_BATCH = (
    func.unnest(
        bindparam("indexes", type_=ARRAY(BigInteger)),
        bindparam("ids", type_=ARRAY(Text)),
        bindparam("hashes", type_=ARRAY(LargeBinary)),
    )
    .table_valued("leaf_index", "event_id", "leaf_hash")
    .render_derived()
)
_ADD_LEAVES = Statement(
    insert(audit_leaf).from_select(["leaf_index", "event_id", "leaf_hash"], select(_BATCH))
)
_UNQUEUE_ARRAY = Statement(
    delete(audit_pending).where(
        audit_pending.c.event_id == func.any(bindparam("ids", type_=ARRAY(Text)))
    )
)
_SET_TILE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(audit_tile)
        .values(level=bindparam("level"), n=bindparam("n"), data=bindparam("data"))
        .on_conflict_do_update(index_elements=["level", "n"], set_={"data": bindparam("data")})
    )
)
_ADD_CHECKPOINT = Statement(
    insert(audit_checkpoint).values(
        size=bindparam("size"),
        root=bindparam("root"),
        note=bindparam("note"),
        created_us=bindparam("created_us"),
    )
)
_TILE = Statement(
    select(audit_tile.c.data).where(
        audit_tile.c.level == bindparam("level"), audit_tile.c.n == bindparam("n")
    )
)
_TILES_AT_ONCE = 8
# One way to the server for all tiles of a proof; each part is one look-up by the primary key.
_TILES = Statement(
    union_all(
        *(
            select(audit_tile.c.level, audit_tile.c.n, audit_tile.c.data).where(
                audit_tile.c.level == bindparam(f"level_{at}", type_=Integer),
                audit_tile.c.n == bindparam(f"n_{at}", type_=BigInteger),
            )
            for at in range(_TILES_AT_ONCE)
        )
    )
)
_LEVEL_TILES = Statement(
    select(audit_tile.c.n, audit_tile.c.data)
    .where(audit_tile.c.level == bindparam("level"), audit_tile.c.n >= bindparam("first"))
    .order_by(audit_tile.c.n)
    .limit(bindparam("most", type_=BigInteger))
)
_LAST_CHECKPOINT = Statement(
    select(audit_checkpoint.c.size, audit_checkpoint.c.root, audit_checkpoint.c.note)
    .order_by(audit_checkpoint.c.size.desc())
    .limit(1)
)
_PENDING_COUNT = Statement(
    select(
        func.count().label("waiting"), func.min(audit_pending.c.event_id).label("oldest")
    ).select_from(audit_pending)
)
_ENTRIES = Statement(
    select(
        audit_leaf.c.leaf_index,
        audit_leaf.c.leaf_hash,
        audit_leaf.c.event_id.label("id"),
        audit_event.c.body,
    )
    .select_from(audit_leaf.outerjoin(audit_event, audit_event.c.id == audit_leaf.c.event_id))
    .where(
        audit_leaf.c.leaf_index >= bindparam("start"), audit_leaf.c.leaf_index < bindparam("end")
    )
    .order_by(audit_leaf.c.leaf_index)
)
_SEARCH_COLUMNS = Statement(
    select(
        audit_event.c.id,
        audit_event.c.recorded_us,
        audit_event.c.subject,
        audit_event.c.actor,
        audit_event.c.action,
        audit_event.c.purpose,
        audit_event.c.decision,
        audit_event.c.request_id,
        audit_event.c.body,
        audit_leaf.c.leaf_index,
        audit_leaf.c.leaf_hash,
    )
    .select_from(audit_leaf.outerjoin(audit_event, audit_event.c.id == audit_leaf.c.event_id))
    .where(
        audit_leaf.c.leaf_index >= bindparam("start"), audit_leaf.c.leaf_index < bindparam("end")
    )
)
_NEWEST = select(audit_checkpoint).order_by(audit_checkpoint.c.size.desc()).limit(1).subquery()
_SIZES = Statement(
    select(
        select(audit_head.c.size).scalar_subquery().label("head"),
        select(func.count()).select_from(audit_leaf).scalar_subquery().label("leaves"),
        select(func.max(audit_leaf.c.leaf_index)).scalar_subquery().label("last_leaf"),
        select(_NEWEST.c.size).scalar_subquery().label("checkpoint"),
        select(_NEWEST.c.root).scalar_subquery().label("root"),
        select(_NEWEST.c.note).scalar_subquery().label("note"),
    )
)
_LOST = Statement(
    select(audit_event.c.id)
    .select_from(
        audit_event.outerjoin(audit_leaf, audit_leaf.c.event_id == audit_event.c.id).outerjoin(
            audit_pending, audit_pending.c.event_id == audit_event.c.id
        )
    )
    .where(audit_leaf.c.event_id.is_(None), audit_pending.c.event_id.is_(None))
    .order_by(audit_event.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_LEAF_OF = Statement(
    select(audit_leaf.c.leaf_index).where(audit_leaf.c.event_id == bindparam("event_id"))
)


async def hold_head(work: UnitOfWork, origin: str) -> Row | None:
    """Lock the head of the log and give its row; None while another sequencer holds it."""
    return await work.first(_HOLD_HEAD, origin=origin)


async def advance_head(
    work: UnitOfWork, origin: str, old: int, new: int, fence: int = 0, until_us: int = 0
) -> bool:
    """Move the head, and renew the lease; False when size or fencing number is not as it was."""
    moved = {"old": old, "new": new, "of_fence": fence, "until_us": until_us}
    return await work.run(_ADVANCE_HEAD, of_origin=origin, **moved) == 1


async def head(session: ReadSession) -> tuple[str, int] | None:
    """Give the log's origin and size."""
    row = await session.first(_HEAD)
    return None if row is None else (str(row["origin"]), int(row["size"]))


async def any_waiting(session: ReadSession) -> bool:
    """Say whether any event waits for the sequencer."""
    return await session.first(_ANY_WAITING) is not None


async def waiting_events(work: UnitOfWork, most: int) -> list[tuple[str, bytes]]:
    """Give (id, body) of events that have no place in the log yet."""
    rows = await work.all(_WAITING, most=most)
    return [(row["id"], bytes(row["body"])) for row in rows]


async def place_leaves(
    work: UnitOfWork, first_index: int, leaves: Sequence[tuple[str, bytes]]
) -> None:
    """Give (event id, leaf hash) pairs their places from `first_index` on, and unqueue them."""
    ids = [event_id for event_id, _ in leaves]
    if work.dialect == "postgresql":
        indexes = list(range(first_index, first_index + len(leaves)))
        hashes = [leaf for _, leaf in leaves]
        await work.run(_ADD_LEAVES, indexes=indexes, ids=ids, hashes=hashes)
        await work.run(_UNQUEUE_ARRAY, ids=ids)
        return
    whole = len(leaves) // _AT_ONCE * _AT_ONCE
    await work.run_many(
        _ADD_HUNDRED, (_hundred(leaves, at, first_index) for at in range(0, whole, _AT_ONCE))
    )
    rest = (
        {"leaf_index": at, "event_id": event_id, "leaf_hash": leaf}
        for at, (event_id, leaf) in enumerate(leaves[whole:], first_index + whole)
    )
    await work.run_many(_ADD_LEAF, rest)
    await work.run(_UNQUEUE, ids=orjson.dumps(ids).decode())


def _hundred(leaves: Sequence[tuple[str, bytes]], start: int, first_index: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for at, (index_name, id_name, hash_name) in enumerate(_NAMES, start):
        values[index_name] = first_index + at
        values[id_name], values[hash_name] = leaves[at]
    return values


async def store_tiles(work: UnitOfWork, tiles: Iterable[tuple[int, int, bytes]]) -> None:
    """Store tiles whole, replacing what stood under their level and number."""
    await work.run_many(
        _SET_TILE, [{"level": level, "n": n, "data": data} for level, n, data in tiles]
    )


async def add_checkpoint(
    work: UnitOfWork, size: int, root: bytes, note: str, created_us: int
) -> None:
    """Store a signed checkpoint."""
    await work.run(_ADD_CHECKPOINT, size=size, root=root, note=note, created_us=created_us)


async def read_tile(session: ReadSession, level: int, n: int) -> bytes:
    """Give the hashes of a tile; nothing when there is no such tile."""
    row = await session.first(_TILE, level=level, n=n)
    return b"" if row is None else bytes(row["data"])


async def tiles_at(
    session: ReadSession, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    """Give the tiles at places (level, number); nothing for one that is not there."""
    found = dict.fromkeys(places, b"")
    for start in range(0, len(places), _TILES_AT_ONCE):
        asked = places[start : start + _TILES_AT_ONCE]
        padded = [*asked, *[(-1, -1)] * (_TILES_AT_ONCE - len(asked))]
        values = {f"level_{at}": level for at, (level, _) in enumerate(padded)}
        values |= {f"n_{at}": n for at, (_, n) in enumerate(padded)}
        for row in await session.all(_TILES, **values):
            found[row["level"], row["n"]] = bytes(row["data"])
    return found


async def read_tiles(
    session: ReadSession, level: int, first: int, most: int
) -> list[tuple[int, bytes]]:
    """Give tiles of a level from number `first` on."""
    rows = await session.all(_LEVEL_TILES, level=level, first=first, most=most)
    return [(row["n"], bytes(row["data"])) for row in rows]


async def last_checkpoint(session: ReadSession) -> tuple[int, bytes, str] | None:
    """Give (size, root, note) of the newest checkpoint."""
    row = await session.first(_LAST_CHECKPOINT)
    return None if row is None else (row["size"], bytes(row["root"]), row["note"])


async def pending(session: ReadSession) -> tuple[int, int | None]:
    """Give how many events wait for the sequencer, and when the oldest was made (µs)."""
    row = await session.first(_PENDING_COUNT)
    if row is None or row["oldest"] is None:
        return 0, None
    return row["waiting"], id_moment_us(row["oldest"])


async def entries(session: ReadSession, start: int, end: int) -> Sequence[Row]:
    """Give leaf_index, leaf_hash, id and body (None where deleted) of a range of the log."""
    return await session.all(_ENTRIES, start=start, end=end)


async def search_columns(session: ReadSession, start: int, end: int) -> Sequence[Row]:
    """Give search columns and bodies of a range of the log; None where the body was deleted."""
    return await session.all(_SEARCH_COLUMNS, start=start, end=end)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What each table of the log says about its size, and its newest checkpoint."""

    head: int
    leaves: int
    last_leaf: int
    checkpoint: int | None
    root: bytes | None
    note: str | None


async def sizes(session: ReadSession) -> Sizes:
    """Ask every table of the log for its size, in one statement and so at one moment."""
    row = await session.first(_SIZES)
    if row is None:
        return Sizes(0, 0, -1, None, None, None)
    last = row["last_leaf"]
    return Sizes(
        row["head"] or 0,
        row["leaves"],
        -1 if last is None else last,
        row["checkpoint"],
        row["root"],
        row["note"],
    )


async def lost_events(session: ReadSession, most: int) -> list[str]:
    """Give ids of events that are neither in the log nor waiting for it."""
    return [row["id"] for row in await session.all(_LOST, most=most)]


async def leaf_index_of(session: ReadSession, event_id: str) -> int | None:
    """Give an event's place in the log; None while it waits."""
    row = await session.first(_LEAF_OF, event_id=event_id)
    return None if row is None else int(row["leaf_index"])


# --- reading the trail ----------------------------------------------------------------

_EVENT = Statement(
    select(audit_event.c.id, audit_event.c.recorded_us, audit_event.c.body).where(
        audit_event.c.id == bindparam("event_id")
    )
)
_LATEST = Statement(
    select(audit_event.c.id, audit_event.c.recorded_us, audit_event.c.body)
    .where(audit_event.c.id < bindparam("before"))
    .order_by(audit_event.c.id.desc())
    .limit(bindparam("most", type_=BigInteger))
)
AFTER_EVERY_ID = "evt_~"


async def latest_events(session: ReadSession, *, before: str, most: int) -> Sequence[Row]:
    """Give events, the newest first, before an id."""
    return await session.all(_LATEST, before=before, most=most)


async def event_by_id(session: ReadSession, event_id: str) -> Row | None:
    """Find one event."""
    return await session.first(_EVENT, event_id=event_id)
