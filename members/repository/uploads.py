"""SQL of received files: their sealed parts, until their import has ended."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import BigInteger, Text, bindparam, delete, insert, select, update

from kernel import ReadSession, Statement, UnitOfWork
from members.tables import import_part, import_row, import_upload


@dataclass(frozen=True, slots=True)
class Upload:
    """A received file; `declared` is sealed, and None once the file was dropped."""

    import_id: str
    rows: int
    parts: int
    declared: bytes | None
    failure: str | None
    created_us: int


_ADD = Statement.for_dialect(
    lambda insert_into: (
        insert_into(import_upload)
        .values(
            import_id=bindparam("import_id"),
            rows=bindparam("rows"),
            parts=bindparam("parts"),
            declared=bindparam("declared"),
            created_us=bindparam("created_us"),
        )
        .on_conflict_do_nothing()
    )
)
_ADD_PART = Statement(
    insert(import_part).values(
        import_id=bindparam("import_id"), part=bindparam("part"), cell=bindparam("cell")
    )
)
_READ = Statement(select(import_upload).where(import_upload.c.import_id == bindparam("import_id")))
_PARTS = Statement(
    select(import_part.c.cell)
    .where(import_part.c.import_id == bindparam("import_id"))
    .order_by(import_part.c.part)
)
_DROP_PARTS = Statement(
    delete(import_part).where(import_part.c.import_id == bindparam("of_import"))
)
_DROPPED = Statement(
    update(import_upload)
    .where(import_upload.c.import_id == bindparam("of_import"))
    .values(
        declared=None,
        failure=bindparam("new_failure", type_=Text),
    )
)
_STALE = Statement(
    select(import_upload.c.import_id).where(
        import_upload.c.declared.is_not(None), import_upload.c.created_us < bindparam("before_us")
    )
)
_QUARANTINED = Statement(
    select(import_row.c.row_no, import_row.c.issues)
    .where(
        import_row.c.import_id == bindparam("import_id"),
        import_row.c.outcome == "quarantined",
        import_row.c.row_no > bindparam("after"),
    )
    .order_by(import_row.c.row_no)
    .limit(bindparam("most", type_=BigInteger))
)


async def add_upload(work: UnitOfWork, upload: Upload) -> bool:
    """Write a received file down; False when it was received before."""
    made = await work.run(
        _ADD,
        import_id=upload.import_id,
        rows=upload.rows,
        parts=upload.parts,
        declared=upload.declared,
        created_us=upload.created_us,
    )
    return bool(made)


async def add_parts(work: UnitOfWork, import_id: str, cells: Sequence[bytes]) -> None:
    """Store the sealed parts of a file in their order."""
    await work.run_many(
        _ADD_PART,
        [{"import_id": import_id, "part": at, "cell": cell} for at, cell in enumerate(cells)],
    )


async def read_upload(session: ReadSession, import_id: str) -> Upload | None:
    """Find a received file."""
    row = await session.first(_READ, import_id=import_id)
    if row is None:
        return None
    return Upload(
        row["import_id"],
        row["rows"],
        row["parts"],
        row["declared"],
        row["failure"],
        row["created_us"],
    )


async def read_parts(session: ReadSession, import_id: str) -> list[bytes]:
    """Give the sealed parts of a file in their order."""
    return [bytes(row["cell"]) for row in await session.all(_PARTS, import_id=import_id)]


async def drop_parts(work: UnitOfWork, import_id: str, failure: str | None) -> None:
    """Forget a file whose import has ended, well or, with a reason, not."""
    await work.run(_DROP_PARTS, of_import=import_id)
    await work.run(_DROPPED, of_import=import_id, new_failure=failure)


async def stale_uploads(session: ReadSession, *, before_us: int) -> list[str]:
    """Give files received before a moment that are still there."""
    return [row["import_id"] for row in await session.all(_STALE, before_us=before_us)]


async def quarantined_rows(
    session: ReadSession, import_id: str, *, after: int, most: int
) -> list[tuple[int, list[tuple[str, str]]]]:
    """Give (row number, issues) of rows that were set aside, from the one after `after`."""
    rows = await session.all(_QUARANTINED, import_id=import_id, after=after, most=most)
    return [
        (row["row_no"], [(field, code) for field, code in orjson.loads(row["issues"])])
        for row in rows
    ]
