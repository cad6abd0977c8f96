"""All SQL of keys; that of blind indexes is in `index_repository`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.sql import FromClause
from sqlalchemy.sql.elements import ColumnElement

from kernel import ReadSession, Row, Statement, UnavailableError, UnitOfWork, new_random_id
from vault.tables import vault_bucket, vault_destroyed, vault_key, vault_ring

_BUCKET = Statement(
    select(vault_bucket)
    .where(vault_bucket.c.bucket == bindparam("bucket"))
    .order_by(vault_bucket.c.version.desc())
)
_newer = vault_bucket.alias("newer")
_HOLD_NEWEST = Statement(
    select(vault_bucket)
    .where(
        vault_bucket.c.bucket == bindparam("bucket"),
        vault_bucket.c.version
        == select(func.max(_newer.c.version))
        .where(_newer.c.bucket == bindparam("bucket"))
        .scalar_subquery(),
    )
    .with_for_update(read=True, key_share=True)
)
_RING = Statement(select(vault_ring.c.newest, vault_ring.c.oldest))
_HOLD_RING = Statement(select(vault_ring.c.newest, vault_ring.c.oldest).with_for_update(read=True))
_FIRST_RING = Statement.for_dialect(
    lambda insert_into: (
        insert_into(vault_ring)
        .values(name="ring", newest=bindparam("newest"), oldest=bindparam("oldest"))
        .on_conflict_do_nothing()
    )
)
_ADD_BUCKET = Statement.for_dialect(
    lambda insert_into: (
        insert_into(vault_bucket)
        .values(
            bucket=bindparam("bucket"),
            version=bindparam("version"),
            ring_version=bindparam("ring_version"),
            wrapped=bindparam("wrapped"),
        )
        .on_conflict_do_nothing()
    )
)
_ADD_KEY = Statement(
    insert(vault_key).values(
        owner_id=bindparam("owner_id"),
        kind=bindparam("kind"),
        version=bindparam("version"),
        bucket=bindparam("bucket"),
        bucket_version=bindparam("bucket_version"),
        wrapped=bindparam("wrapped"),
        destroy_after_us=bindparam("destroy_after_us"),
    )
)
_KEYS = Statement(
    select(
        vault_key.c.owner_id,
        vault_key.c.kind,
        vault_key.c.version,
        vault_key.c.bucket,
        vault_key.c.bucket_version,
        vault_key.c.wrapped,
    ).where(vault_key.c.owner_id == bindparam("owner_id"))
)
_ONE_KEY = Statement(
    select(vault_key).where(
        vault_key.c.owner_id == bindparam("owner_id"),
        vault_key.c.kind == bindparam("kind"),
        vault_key.c.version == bindparam("version"),
    )
)
_EVERY_KEY = Statement(
    select(
        vault_key.c.owner_id,
        vault_key.c.kind,
        vault_key.c.version,
        vault_key.c.bucket,
        vault_key.c.bucket_version,
        vault_key.c.wrapped,
        vault_key.c.destroy_after_us,
    )
    .where(
        tuple_(vault_key.c.owner_id, vault_key.c.kind, vault_key.c.version)
        > tuple_(
            bindparam("owner_id", type_=Text),
            bindparam("kind", type_=Text),
            bindparam("version", type_=Integer),
        )
    )
    .order_by(vault_key.c.owner_id, vault_key.c.kind, vault_key.c.version)
    .limit(bindparam("most", type_=BigInteger))
)
_TOUCH = Statement(
    insert(vault_destroyed).values(
        id=bindparam("id"), bucket=bindparam("bucket"), keys=bindparam("keys")
    )
)
_DESTROY_EXPIRED = Statement(
    delete(vault_key)
    .where(vault_key.c.destroy_after_us <= bindparam("now_us"))
    .returning(vault_key.c.owner_id, vault_key.c.kind, vault_key.c.bucket)
)
_COUNTS = Statement(
    select(vault_key.c.kind, vault_key.c.version, func.count().label("keys")).group_by(
        vault_key.c.kind, vault_key.c.version
    )
)
_BUCKETS = Statement(
    select(func.count().label("buckets"), func.max(vault_bucket.c.ring_version).label("ring"))
)


class WrappedKey(NamedTuple):
    """A key as it rests: bound to its owner, kind, version and bucket."""

    owner_id: str
    kind: str
    version: int
    bucket: int
    bucket_version: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class StoredBucket:
    """A bucket key as it rests, wrapped under a ring root."""

    bucket: int
    version: int
    ring_version: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class KnownRing:
    """The newest and the oldest ring root that something may be wrapped under."""

    newest: int
    oldest: int


def key_source(
    kind: str, owner: ColumnElement[str], label: str
) -> tuple[FromClause, ColumnElement[bool], Sequence[ColumnElement[Any]]]:
    """Offer the newest key of a kind as a part of another room's statement.

    Gives the aliased table, the join condition and the columns, each labelled
    `<label>_version`, `<label>_bucket`, `<label>_bucket_version` and `<label>_wrapped`.
    """
    key = vault_key.alias(label)
    columns = [
        getattr(key.c, name).label(f"{label}_{name}")
        for name in ("version", "bucket", "bucket_version", "wrapped")
    ]
    return key, (key.c.owner_id == owner) & (key.c.kind == kind), columns


def key_from_row(row: Row, owner_id: str, kind: str, label: str) -> WrappedKey | None:
    """Read the columns of `key_source` back; None when the key does not exist any more."""
    version, bucket, bucket_version, wrapped = _labels(label)
    if row[wrapped] is None:
        return None
    return WrappedKey(owner_id, kind, row[version], row[bucket], row[bucket_version], row[wrapped])


@cache
def _labels(label: str) -> tuple[str, str, str, str]:
    return (
        f"{label}_version",
        f"{label}_bucket",
        f"{label}_bucket_version",
        f"{label}_wrapped",
    )


async def bucket_versions(session: ReadSession, bucket: int) -> list[StoredBucket]:
    """Give every key of a bucket, the newest first."""
    rows = await session.all(_BUCKET, bucket=bucket)
    return [stored_bucket(r) for r in rows]


async def hold_newest_bucket(work: UnitOfWork, bucket: int) -> StoredBucket | None:
    """Give the newest key of a bucket, which nobody destroys until `work` has ended.

    None when the bucket has no key, or when the one found was destroyed in this very moment:
    then there is a newer one.
    """
    row = await work.first(_HOLD_NEWEST, bucket=bucket)
    return None if row is None else stored_bucket(row)


def stored_bucket(row: Row) -> StoredBucket:
    """Read a row of bucket keys."""
    return StoredBucket(row["bucket"], row["version"], row["ring_version"], bytes(row["wrapped"]))


async def known_ring(session: ReadSession) -> KnownRing | None:
    """Give the ring roots in use, as the database knows them."""
    row = await session.first(_RING)
    return None if row is None else KnownRing(row["newest"], row["oldest"])


async def know_ring(work: UnitOfWork, versions: tuple[int, ...]) -> None:
    """Tell the database which ring roots there are, unless it knows."""
    await work.run(_FIRST_RING, newest=versions[-1], oldest=versions[0])


async def hold_ring(work: UnitOfWork, versions: tuple[int, ...]) -> KnownRing:
    """Give the ring roots in use, which nobody changes until `work` has ended.

    A database that knows none is told those of this process.
    """
    row = await work.first(_HOLD_RING)
    if row is None:
        await know_ring(work, versions)
        row = await work.first(_HOLD_RING)
    if row is None:
        raise UnavailableError("the ring roots in use cannot be told", reason="rotating")
    return KnownRing(row["newest"], row["oldest"])


async def add_buckets(work: UnitOfWork, fresh: Iterable[StoredBucket]) -> None:
    """Add bucket keys, each unless another worker was first."""
    await work.run_many(
        _ADD_BUCKET,
        [
            {
                "bucket": one.bucket,
                "version": one.version,
                "ring_version": one.ring_version,
                "wrapped": one.wrapped,
            }
            for one in fresh
        ],
    )


async def add_key(work: UnitOfWork, key: WrappedKey, destroy_after_us: int | None) -> None:
    """Store a wrapped key."""
    await work.run(
        _ADD_KEY,
        owner_id=key.owner_id,
        kind=key.kind,
        version=key.version,
        bucket=key.bucket,
        bucket_version=key.bucket_version,
        wrapped=key.wrapped,
        destroy_after_us=destroy_after_us,
    )


async def keys_of(session: ReadSession, owner_id: str) -> list[WrappedKey]:
    """Give every key that an owner still has."""
    rows = await session.all(_KEYS, owner_id=owner_id)
    return [
        WrappedKey(
            r["owner_id"],
            r["kind"],
            r["version"],
            r["bucket"],
            r["bucket_version"],
            bytes(r["wrapped"]),
        )
        for r in rows
    ]


async def one_key(
    session: ReadSession, owner_id: str, kind: str, version: int
) -> WrappedKey | None:
    """Give one key of an owner where it rests now."""
    r = await session.first(_ONE_KEY, owner_id=owner_id, kind=kind, version=version)
    if r is None:
        return None
    wrapped = bytes(r["wrapped"])
    return WrappedKey(owner_id, kind, version, r["bucket"], r["bucket_version"], wrapped)


async def every_key(
    session: ReadSession, after: tuple[str, str, int], most: int
) -> list[tuple[WrappedKey, int | None]]:
    """Give keys of all owners in order, from the one after (owner, kind, version)."""
    rows = await session.all(
        _EVERY_KEY, owner_id=after[0], kind=after[1], version=after[2], most=most
    )
    return [
        (
            WrappedKey(
                r["owner_id"],
                r["kind"],
                r["version"],
                r["bucket"],
                r["bucket_version"],
                bytes(r["wrapped"]),
            ),
            r["destroy_after_us"],
        )
        for r in rows
    ]


async def _touch(work: UnitOfWork, buckets: Iterable[int]) -> None:
    """Note for the next seal of which bucket each destroyed key was; no row is ever shared.

    Erasures must not wait for one another.
    """
    rows = [
        {"id": new_random_id("des"), "bucket": bucket, "keys": keys}
        for bucket, keys in Counter(buckets).items()
    ]
    await work.run_many(_TOUCH, rows)


async def destroy_expired_keys(work: UnitOfWork, now_us: int) -> list[tuple[str, str]]:
    """Destroy the keys whose date has come; give (owner, kind) of each."""
    rows = await work.all(_DESTROY_EXPIRED, now_us=now_us)
    await _touch(work, (r["bucket"] for r in rows))
    return [(r["owner_id"], r["kind"]) for r in rows]


async def key_counts(session: ReadSession) -> list[tuple[str, int, int]]:
    """Count keys by kind and version."""
    rows = await session.all(_COUNTS)
    return [(r["kind"], r["version"], r["keys"]) for r in rows]


async def bucket_count(session: ReadSession) -> int:
    """Count bucket keys."""
    row = await session.first(_BUCKETS)
    return 0 if row is None else int(row["buckets"])
