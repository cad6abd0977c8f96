"""All SQL of the backup room: what was shipped, and which backups were made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, bindparam, delete, func, insert, select, update

from backup.tables import backup_progress, backup_set
from kernel import ReadSession, Statement, UnitOfWork, metadata

_PROGRESS = Statement(
    select(backup_progress.c.value).where(backup_progress.c.name == bindparam("name"))
)
_SET_PROGRESS = Statement.for_dialect(
    lambda insert_into: (
        insert_into(backup_progress)
        .values(name=bindparam("name"), value=bindparam("value"))
        .on_conflict_do_update(index_elements=["name"], set_={"value": bindparam("value")})
    )
)
_TAKE_LEASE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(backup_progress)
        .values(name=bindparam("name"), value=bindparam("until_us"))
        .on_conflict_do_update(
            index_elements=["name"],
            set_={"value": bindparam("until_us")},
            where=backup_progress.c.value < bindparam("now_us", type_=BigInteger),
        )
    )
)
_ADD_SET = Statement.for_dialect(
    lambda insert_into: (
        insert_into(backup_set)
        .values(
            generation=bindparam("generation"),
            id=bindparam("id"),
            created_us=bindparam("created_us"),
            verified_us=None,
            manifest_sha256=bindparam("manifest_sha256"),
            stored_bytes=bindparam("stored_bytes"),
            row_count=bindparam("row_count"),
        )
        .on_conflict_do_nothing()
    )
)
_VERIFIED = Statement(
    update(backup_set)
    .where(backup_set.c.generation == bindparam("of_generation"))
    .values(verified_us=bindparam("now_us"))
)
_FORGET_SETS = Statement(delete(backup_set))
_NEWEST = Statement(select(backup_set).order_by(backup_set.c.generation.desc()).limit(1))
_NEWEST_VERIFIED = Statement(
    select(backup_set)
    .where(backup_set.c.verified_us.is_not(None))
    .order_by(backup_set.c.generation.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A backup as this registry remembers it."""

    generation: int
    id: str
    created_us: int
    verified_us: int | None
    manifest_sha256: bytes
    stored_bytes: int
    row_count: int


async def progress(session: ReadSession, name: str) -> int:
    """Read how far something has come; 0 when it has not begun."""
    row = await session.first(_PROGRESS, name=name)
    return 0 if row is None else int(row["value"])


async def set_progress(work: UnitOfWork, name: str, value: int) -> None:
    """Note how far something has come."""
    await work.run(_SET_PROGRESS, name=name, value=value)


async def take_lease(work: UnitOfWork, name: str, *, now_us: int, until_us: int) -> bool:
    """Take a lease that nobody holds now; False when somebody does."""
    return await work.run(_TAKE_LEASE, name=name, now_us=now_us, until_us=until_us) == 1


async def forget_sets(work: UnitOfWork) -> None:
    """Forget every backup: the store is another one."""
    await work.run(_FORGET_SETS)


async def add_set(work: UnitOfWork, made: BackupSet) -> None:
    """Remember a backup."""
    await work.run(
        _ADD_SET,
        generation=made.generation,
        id=made.id,
        created_us=made.created_us,
        manifest_sha256=made.manifest_sha256,
        stored_bytes=made.stored_bytes,
        row_count=made.row_count,
    )


async def mark_verified(work: UnitOfWork, generation: int, now_us: int) -> None:
    """Note that a backup was read back and found whole."""
    await work.run(_VERIFIED, of_generation=generation, now_us=now_us)


async def newest_set(session: ReadSession, *, verified: bool = False) -> BackupSet | None:
    """Give the newest backup, or the newest that was read back."""
    row = await session.first(_NEWEST_VERIFIED if verified else _NEWEST)
    if row is None:
        return None
    return BackupSet(
        row["generation"],
        row["id"],
        row["created_us"],
        row["verified_us"],
        bytes(row["manifest_sha256"]),
        row["stored_bytes"],
        row["row_count"],
    )


# --- whole tables ---------------------------------------------------------------------


@cache
def rows_of(table: str) -> Statement:
    """Select every row of a table in the order of its primary key."""
    described = metadata.tables[table]
    return Statement(select(described).order_by(*described.primary_key.columns))


async def count_rows(session: ReadSession, table: str) -> int:
    """Count the rows of a table."""
    row = await session.first(_counting(table))
    return 0 if row is None else int(row["n"])


async def put_rows(
    work: UnitOfWork, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write rows as they were read, whatever engine they were read from."""
    flags = {c.name for c in metadata.tables[table].columns if isinstance(c.type, Boolean)}
    await work.run_many(_inserting(table, tuple(columns)), _named(columns, rows, flags))


@cache
def _counting(table: str) -> Statement:
    return Statement(select(func.count().label("n")).select_from(metadata.tables[table]))


@cache
def _inserting(table: str, columns: tuple[str, ...]) -> Statement:
    return Statement(insert(metadata.tables[table]).values({c: bindparam(c) for c in columns}))


def _named(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], flags: set[str]
) -> list[dict[str, Any]]:
    """SQLite gives a flag back as a number, which PostgreSQL does not take for one."""
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    for row in named:
        row.update((flag, bool(row[flag])) for flag in flags if row.get(flag) is not None)
    return named
