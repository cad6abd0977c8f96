"""SQL of imports: runs, and what became of each row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import (
    BigInteger,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
    update,
)

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from members.tables import import_mark, import_row, import_run

_ADD_RUN = Statement.for_dialect(
    lambda insert_into: (
        insert_into(import_run)
        .values(
            id=bindparam("id"),
            brand=bindparam("brand"),
            file_digest=bindparam("file_digest"),
            profile=bindparam("profile"),
            state="running",
            created_us=bindparam("now_us"),
            finished_us=None,
            expires_us=bindparam("expires_us"),
            ended_us=None,
        )
        .on_conflict_do_nothing()
    )
)
_RUN_BY_DIGEST = Statement(
    select(import_run).where(
        import_run.c.file_digest == bindparam("file_digest"),
        import_run.c.brand == bindparam("brand"),
    )
)
_RUN = Statement(select(import_run).where(import_run.c.id == bindparam("import_id")))
_FINISH_RUN = Statement(
    update(import_run)
    .where(import_run.c.id == bindparam("of_import"))
    .values(state="finished", finished_us=bindparam("now_us"))
)
_ADD_ROW = Statement(
    insert(import_row).values(
        import_id=bindparam("import_id"),
        row_no=bindparam("row_no"),
        outcome=bindparam("outcome"),
        row_tag=bindparam("row_tag"),
        member_id=bindparam("member_id"),
        issues=bindparam("issues"),
        cell=bindparam("cell"),
    )
)
_ADD_MARK = Statement(
    insert(import_mark).values(
        import_id=bindparam("import_id"), row_no=bindparam("row_no"), mark=bindparam("mark")
    )
)
_MARKED = Statement(
    select(import_mark.c.import_id, import_mark.c.row_no)
    .join(import_run, import_run.c.id == import_mark.c.import_id)
    .where(import_mark.c.mark == bindparam("mark"), import_run.c.brand == bindparam("brand"))
)
_DROP_CELL = Statement(
    update(import_row)
    .where(
        import_row.c.import_id == bindparam("of_import"),
        import_row.c.row_no == bindparam("of_row"),
        import_row.c.outcome == "quarantined",
    )
    .values(cell=None, row_tag=b"")
)
_DROP_ROW_MARKS = Statement(
    delete(import_mark).where(
        import_mark.c.import_id == bindparam("of_import"),
        import_mark.c.row_no == bindparam("of_row"),
    )
)
_DROP_MARKS = Statement(
    delete(import_mark).where(import_mark.c.import_id == bindparam("of_import"))
)
_SET_ASIDE = and_(import_row.c.outcome == "quarantined", import_row.c.cell.is_not(None))
_SET_ASIDE_UNTIL = Statement(
    select(func.max(import_run.c.expires_us).label("until_us")).where(
        import_run.c.brand == bindparam("brand"),
        import_run.c.ended_us.is_(None),
        exists().where(import_row.c.import_id == import_run.c.id, _SET_ASIDE),
    )
)
_TO_END = Statement(
    select(import_run.c.id)
    .where(
        import_run.c.ended_us.is_(None),
        import_run.c.expires_us <= bindparam("now_us", type_=BigInteger),
    )
    .order_by(import_run.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_END_CELLS = Statement(
    update(import_row)
    .where(import_row.c.import_id == bindparam("of_import"), _SET_ASIDE)
    .values(cell=None)
)
_END_TAGS = Statement(
    update(import_row)
    .where(import_row.c.import_id == bindparam("of_import"), import_row.c.outcome == "quarantined")
    .values(row_tag=b"")
)
_END_RUN = Statement(
    update(import_run)
    .where(import_run.c.id == bindparam("of_import"))
    .values(ended_us=bindparam("now_us"))
)
_LAST_ROW = Statement(
    select(func.max(import_row.c.row_no).label("row_no")).where(
        import_row.c.import_id == bindparam("import_id")
    )
)
_ROW_BY_TAG = Statement(
    select(import_row.c.row_no)
    .where(
        import_row.c.import_id == bindparam("import_id"),
        import_row.c.row_tag == bindparam("row_tag"),
    )
    .limit(1)
)
_OUTCOMES = Statement(
    select(import_row.c.outcome, func.count().label("rows"))
    .where(import_row.c.import_id == bindparam("import_id"))
    .group_by(import_row.c.outcome)
)
_ROWS_WITH_ISSUES = Statement(
    select(import_row.c.row_no, import_row.c.outcome, import_row.c.issues, import_row.c.cell)
    .where(
        import_row.c.import_id == bindparam("import_id"),
        import_row.c.row_no > bindparam("after"),
        import_row.c.outcome != "exact_repeat",
    )
    .order_by(import_row.c.row_no)
    .limit(bindparam("most", type_=BigInteger))
)
_THEIRS = import_row.alias("theirs")
# While a file is being read its tags keep a repeated row from bringing an erased member back.
_FORGET_TAGS = Statement(
    update(import_row)
    .where(
        tuple_(import_row.c.import_id, import_row.c.row_tag).in_(
            select(_THEIRS.c.import_id, _THEIRS.c.row_tag)
            .join(import_run, import_run.c.id == _THEIRS.c.import_id)
            .where(
                _THEIRS.c.member_id == bindparam("of_member"),
                _THEIRS.c.row_tag != b"",
                import_run.c.state == "finished",
            )
        )
    )
    .values(row_tag=b"")
)
_FORGET_ROWS = Statement(
    update(import_row).where(import_row.c.member_id == bindparam("of_member")).values(cell=None)
)


@dataclass(frozen=True, slots=True)
class ImportRun:
    """One file being imported, known by the digest of its bytes and declarations."""

    id: str
    brand: str
    profile: str
    state: str
    created_us: int
    finished_us: int | None
    expires_us: int | None
    ended_us: int | None


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What became of one row: its outcome, its issues, and the sealed cell with what was bad.

    `marks` are keyed digests of the addresses that a row which was set aside may hold.
    """

    row_no: int
    outcome: str
    row_tag: bytes
    member_id: MemberId | None
    issues: Sequence[tuple[str, str]]
    cell: bytes | None
    marks: Sequence[bytes] = ()


def _run(row: Row) -> ImportRun:
    return ImportRun(
        row["id"],
        row["brand"],
        row["profile"],
        row["state"],
        row["created_us"],
        row["finished_us"],
        row["expires_us"],
        row["ended_us"],
    )


async def begin_import(
    work: UnitOfWork,
    import_id: str,
    brand: str,
    file_digest: bytes,
    profile: str,
    *,
    now_us: int,
    expires_us: int,
) -> tuple[ImportRun, bool]:
    """Begin an import, or find the one of the same file; True when it is new.

    What it sets aside ends at `expires_us`.
    """
    made = await work.run(
        _ADD_RUN,
        id=import_id,
        brand=brand,
        file_digest=file_digest,
        profile=profile,
        now_us=now_us,
        expires_us=expires_us,
    )
    row = await work.first(_RUN_BY_DIGEST, file_digest=file_digest, brand=brand)
    if row is None:
        raise RuntimeError("an import run vanished inside its own transaction")
    return _run(row), bool(made)


async def import_by_id(session: ReadSession, import_id: str) -> ImportRun | None:
    """Find an import."""
    row = await session.first(_RUN, import_id=import_id)
    return None if row is None else _run(row)


async def finish_import(work: UnitOfWork, import_id: str, *, now_us: int) -> None:
    """Mark an import as having accounted for every row."""
    await work.run(_FINISH_RUN, of_import=import_id, now_us=now_us)


async def add_rows(work: UnitOfWork, import_id: str, rows: Iterable[ImportedRow]) -> None:
    """Write down what became of rows."""
    await work.run_many(
        _ADD_ROW,
        [
            {
                "import_id": import_id,
                "row_no": row.row_no,
                "outcome": row.outcome,
                "row_tag": row.row_tag,
                "member_id": row.member_id,
                "issues": orjson.dumps(row.issues),
                "cell": row.cell,
            }
            for row in rows
        ],
    )


async def add_marks(work: UnitOfWork, import_id: str, rows: Iterable[ImportedRow]) -> None:
    """Write down by which marks rows that were set aside can be found again."""
    marks = [
        {"import_id": import_id, "row_no": row.row_no, "mark": mark}
        for row in rows
        for mark in sorted(set(row.marks))
    ]
    if marks:
        await work.run_many(_ADD_MARK, marks)


async def drop_marked(work: UnitOfWork, brand: str, mark: bytes) -> int:
    """Forget the rows of a brand's imports that were set aside and bear a mark; gives how many."""
    found = await work.all(_MARKED, brand=brand, mark=mark)
    for row in found:
        where = {"of_import": row["import_id"], "of_row": row["row_no"]}
        await work.run(_DROP_CELL, **where)
        await work.run(_DROP_ROW_MARKS, **where)
    return len(found)


async def set_aside_until(session: ReadSession, brand: str) -> int | None:
    """Say when the last row that a brand's imports set aside ends; None when there is none."""
    row = await session.first(_SET_ASIDE_UNTIL, brand=brand)
    return None if row is None else row["until_us"]


async def imports_to_end(session: ReadSession, *, now_us: int, most: int) -> list[str]:
    """Give imports whose day has come."""
    return [row["id"] for row in await session.all(_TO_END, now_us=now_us, most=most)]


async def end_import(work: UnitOfWork, import_id: str, *, now_us: int) -> int:
    """Forget what an import set aside, by what it is known too; gives how many rows."""
    ended = await work.run(_END_CELLS, of_import=import_id)
    await work.run(_END_TAGS, of_import=import_id)
    await work.run(_DROP_MARKS, of_import=import_id)
    await work.run(_END_RUN, of_import=import_id, now_us=now_us)
    return ended


async def last_row_no(session: ReadSession, import_id: str) -> int:
    """Give the last row an import accounted for; an interrupted one goes on after it."""
    row = await session.first(_LAST_ROW, import_id=import_id)
    return 0 if row is None or row["row_no"] is None else int(row["row_no"])


async def row_seen(session: ReadSession, import_id: str, row_tag: bytes) -> bool:
    """Say whether an identical row came earlier in the same file."""
    return await session.first(_ROW_BY_TAG, import_id=import_id, row_tag=row_tag) is not None


async def outcomes(session: ReadSession, import_id: str) -> dict[str, int]:
    """Count an import's rows by outcome."""
    rows = await session.all(_OUTCOMES, import_id=import_id)
    return {row["outcome"]: row["rows"] for row in rows}


async def rows_with_issues(
    session: ReadSession, import_id: str, *, after: int, most: int
) -> list[tuple[int, str, list[tuple[str, str]], bytes | None]]:
    """Give (row number, outcome, issues, sealed cell) of accepted and quarantined rows."""
    rows = await session.all(_ROWS_WITH_ISSUES, import_id=import_id, after=after, most=most)
    return [
        (
            row["row_no"],
            row["outcome"],
            [(field, code) for field, code in orjson.loads(row["issues"])],
            row["cell"],
        )
        for row in rows
    ]


async def forget_import_rows(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget the sealed leftovers of a member's rows, and by what rows like them are known."""
    await work.run(_FORGET_TAGS, of_member=member_id)
    await work.run(_FORGET_ROWS, of_member=member_id)
