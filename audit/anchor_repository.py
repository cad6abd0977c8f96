"""All SQL of anchors, and of the checkpoints that may be dropped because others say enough."""

from sqlalchemy import BigInteger, bindparam, delete, exists, func, select

from audit.tables import audit_anchor, audit_checkpoint, audit_cosignature
from kernel import ReadSession, Row, Statement, UnitOfWork

HOUR_US = 3_600_000_000

_ADD_ANCHOR = Statement.for_dialect(
    lambda insert_into: (
        insert_into(audit_anchor)
        .values({c.name: bindparam(c.name) for c in audit_anchor.columns})
        .on_conflict_do_nothing()
    )
)
_LAST_ANCHORED = Statement(
    select(audit_anchor.c.size, audit_anchor.c.anchored_us)
    .where(audit_anchor.c.sink == bindparam("sink"))
    .order_by(audit_anchor.c.size.desc())
    .limit(1)
)
_COUNT_ANCHORS = Statement(
    select(
        audit_anchor.c.sink,
        func.count().label("anchors"),
        func.max(audit_anchor.c.size).label("size"),
        func.max(audit_anchor.c.anchored_us).label("anchored_us"),
    ).group_by(audit_anchor.c.sink)
)
_LATEST_ANCHORS = Statement(
    select(audit_anchor)
    .where(audit_anchor.c.size < bindparam("before"))
    .order_by(audit_anchor.c.size.desc(), audit_anchor.c.sink)
    .limit(bindparam("most", type_=BigInteger))
)
_before = audit_checkpoint.alias("earlier")
_previous_hour = (
    select(_before.c.created_us.op("/")(HOUR_US))
    .where(_before.c.size < audit_checkpoint.c.size)
    .order_by(_before.c.size.desc())
    .limit(1)
    .scalar_subquery()
)
_DROPPABLE = Statement(
    select(audit_checkpoint.c.size)
    .where(
        audit_checkpoint.c.size > bindparam("after"),
        audit_checkpoint.c.size < bindparam("below"),
        audit_checkpoint.c.created_us < bindparam("before_us"),
        _previous_hour == audit_checkpoint.c.created_us.op("/")(HOUR_US),
        ~exists().where(audit_cosignature.c.size == audit_checkpoint.c.size),
        ~exists().where(audit_anchor.c.size == audit_checkpoint.c.size),
    )
    .order_by(audit_checkpoint.c.size)
    .limit(bindparam("most", type_=BigInteger))
)
_DROP = Statement(delete(audit_checkpoint).where(audit_checkpoint.c.size == bindparam("gone")))
_CHECKPOINT = Statement(
    select(audit_checkpoint.c.root, audit_checkpoint.c.note).where(
        audit_checkpoint.c.size == bindparam("size")
    )
)


async def add_anchor(
    work: UnitOfWork, size: int, sink: str, receipt: str, anchored_us: int
) -> None:
    """Remember that a sink holds the checkpoint of a size; what is known already stays."""
    await work.run(_ADD_ANCHOR, size=size, sink=sink, receipt=receipt, anchored_us=anchored_us)


async def last_anchored(session: ReadSession, sink: str) -> tuple[int, int] | None:
    """Give the largest size that a sink is known to hold, and when it was put there (µs)."""
    row = await session.first(_LAST_ANCHORED, sink=sink)
    return None if row is None else (int(row["size"]), int(row["anchored_us"]))


async def count_anchors(session: ReadSession) -> dict[str, tuple[int, int, int]]:
    """Give, by sink, how many anchors it holds, the largest size and the newest moment (µs)."""
    rows = await session.all(_COUNT_ANCHORS)
    return {
        row["sink"]: (int(row["anchors"]), int(row["size"]), int(row["anchored_us"]))
        for row in rows
    }


async def latest_anchors(session: ReadSession, *, before: int, most: int) -> list[Row]:
    """Give anchors below a size, the largest first."""
    return list(await session.all(_LATEST_ANCHORS, before=before, most=most))


async def checkpoint_of(session: ReadSession, size: int) -> tuple[bytes, str] | None:
    """Give root and note of the checkpoint of a size; None when there is none, or none any more."""
    row = await session.first(_CHECKPOINT, size=size)
    return None if row is None else (bytes(row["root"]), row["note"])


async def droppable_checkpoints(
    session: ReadSession, *, after: int, below: int, before_us: int, most: int
) -> list[int]:
    """Give sizes of checkpoints that nobody needs, in order."""
    asked = {"after": after, "below": below, "before_us": before_us, "most": most}
    return [row["size"] for row in await session.all(_DROPPABLE, **asked)]


async def drop_checkpoints(work: UnitOfWork, sizes: list[int]) -> None:
    """Drop checkpoints; the database refuses those that must stay."""
    await work.run_many(_DROP, [{"gone": size} for size in sizes])
