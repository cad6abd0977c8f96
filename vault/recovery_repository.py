"""SQL of key rows as ring backups, recovery and verification read and write them."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, Integer, Text, bindparam, delete, exists, func, insert, select

from kernel import ReadSession, Row, Statement, UnitOfWork, new_random_id
from vault.repository import StoredBucket, WrappedKey, known_ring, stored_bucket
from vault.tables import vault_bucket, vault_key, vault_unbacked

_KEYS_BETWEEN = Statement(
    select(
        vault_key.c.owner_id,
        vault_key.c.kind,
        vault_key.c.version,
        vault_key.c.bucket,
        vault_key.c.bucket_version,
        vault_key.c.wrapped,
    ).where(
        vault_key.c.owner_id > bindparam("after", type_=Text),
        vault_key.c.owner_id <= bindparam("until", type_=Text),
        vault_key.c.kind == bindparam("kind", type_=Text),
    )
)


async def keys_between(session: ReadSession, after: str, until: str, kind: str) -> list[WrappedKey]:
    """Give the keys of a kind of all owners in a range of ids."""
    rows = await session.all(_KEYS_BETWEEN, after=after, until=until, kind=kind)
    return [_key(row) for row in rows]


_EVERY = 2**62
_NOTE = Statement(
    insert(vault_unbacked).values(id=bindparam("note"), owner_id=bindparam("owner_id"))
)
_UNBACKED = Statement(
    select(vault_unbacked.c.id, vault_unbacked.c.owner_id)
    .order_by(vault_unbacked.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_WAITING = Statement(select(func.count(vault_unbacked.c.owner_id.distinct()).label("owners")))
_BACKED = Statement(delete(vault_unbacked).where(vault_unbacked.c.id == bindparam("note")))
_DATED_KEYS = Statement(select(vault_key).where(vault_key.c.owner_id == bindparam("owner_id")))
_DATED_KEY = Statement(
    select(vault_key).where(
        vault_key.c.owner_id == bindparam("owner_id", type_=Text),
        vault_key.c.kind == bindparam("kind", type_=Text),
        vault_key.c.version == bindparam("version", type_=Integer),
    )
)


async def note_unbacked(work: UnitOfWork, owner_id: str) -> None:
    """Note that an owner has a key that is in no ring backup."""
    await work.run(_NOTE, note=new_random_id("ubk"), owner_id=owner_id)


async def unbacked(session: ReadSession, most: int = _EVERY) -> list[tuple[str, str]]:
    """Give (note, owner) of keys that are in no ring backup."""
    return [(row["id"], row["owner_id"]) for row in await session.all(_UNBACKED, most=most)]


async def waiting_owners(session: ReadSession) -> int:
    """Count owners who have a key that is in no ring backup."""
    row = await session.first(_WAITING)
    return 0 if row is None else int(row["owners"])


async def are_backed(work: UnitOfWork, notes: Iterable[str]) -> None:
    """Forget notes: what they speak of is in a ring backup, or gone."""
    await work.run_many(_BACKED, [{"note": note} for note in notes])


async def dated_keys(session: ReadSession, owner_id: str) -> list[tuple[WrappedKey, int | None]]:
    """Give the keys of an owner, each with the moment (µs) at which it must be destroyed."""
    rows = await session.all(_DATED_KEYS, owner_id=owner_id)
    return [(_key(row), row["destroy_after_us"]) for row in rows]


async def living_key(
    session: ReadSession, owner_id: str, kind: str, version: int
) -> WrappedKey | None:
    """Give one key where it rests now."""
    row = await session.first(_DATED_KEY, owner_id=owner_id, kind=kind, version=version)
    return None if row is None else _key(row)


_BUCKETS = Statement(select(vault_bucket).order_by(vault_bucket.c.version))
_OLD_KEYS = Statement(
    delete(vault_key).where(
        ~exists().where(
            vault_bucket.c.bucket == vault_key.c.bucket,
            vault_bucket.c.version == vault_key.c.bucket_version,
            vault_bucket.c.ring_version >= bindparam("root", type_=Integer),
        )
    )
)
_OLD_BUCKETS = Statement(
    delete(vault_bucket).where(vault_bucket.c.ring_version < bindparam("root", type_=Integer))
)


async def newest_ring_root(session: ReadSession) -> int:
    """Give the newest ring root that the database knows of; 0 when it knows none."""
    known = await known_ring(session)
    wrapped = [one.ring_version for one in (await newest_buckets(session)).values()]
    return max([0 if known is None else known.newest, *wrapped])


async def newest_buckets(session: ReadSession) -> dict[int, StoredBucket]:
    """Give the newest key of every bucket."""
    return {row["bucket"]: stored_bucket(row) for row in await session.all(_BUCKETS)}


async def drop_under_old_roots(work: UnitOfWork, root: int) -> int:
    """Drop bucket keys under a ring root before `root`, and member keys under those."""
    dropped = await work.run(_OLD_KEYS, root=root)
    await work.run(_OLD_BUCKETS, root=root)
    return dropped


def _key(row: Row) -> WrappedKey:
    return WrappedKey(
        row["owner_id"],
        row["kind"],
        row["version"],
        row["bucket"],
        row["bucket_version"],
        bytes(row["wrapped"]),
    )
