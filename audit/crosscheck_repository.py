"""All SQL that only the cross-check of the log's tables asks."""

from sqlalchemy import BigInteger, bindparam, func, select

from audit.tables import audit_checkpoint, audit_cosignature, audit_head, audit_tile
from kernel import ReadSession, Row, Statement

_TILE_LEVELS = Statement(
    select(
        audit_tile.c.level,
        func.count().label("tiles"),
        func.max(audit_tile.c.n).label("last"),
        func.sum(func.length(audit_tile.c.data)).label("bytes"),
        select(func.max(audit_head.c.size)).scalar_subquery().label("size"),
    )
    .group_by(audit_tile.c.level)
    .order_by(audit_tile.c.level)
)
_NEWEST_CHECKPOINTS = Statement(
    select(audit_checkpoint.c.size, audit_checkpoint.c.root, audit_checkpoint.c.note)
    .order_by(audit_checkpoint.c.size.desc())
    .limit(bindparam("most", type_=BigInteger))
)
_COSIGNATURES = Statement(
    select(
        audit_cosignature.c.size,
        audit_cosignature.c.witness,
        audit_cosignature.c.line,
        audit_checkpoint.c.note,
    )
    .select_from(
        audit_cosignature.join(
            audit_checkpoint, audit_checkpoint.c.size == audit_cosignature.c.size
        )
    )
    .order_by(audit_cosignature.c.size.desc())
    .limit(5_000)
)


async def tile_levels(session: ReadSession) -> list[Row]:
    """Give for each level the number of tiles, the last, their bytes, and the head's size."""
    return list(await session.all(_TILE_LEVELS))


async def newest_checkpoints(session: ReadSession, most: int) -> list[Row]:
    """Give size, root and note of the newest checkpoints, the newest first."""
    return list(await session.all(_NEWEST_CHECKPOINTS, most=most))


async def cosignatures(session: ReadSession) -> list[Row]:
    """Give the newest lines of witnesses, each with the note that it is kept under."""
    return list(await session.all(_COSIGNATURES))
