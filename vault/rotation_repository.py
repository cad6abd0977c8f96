"""The SQL by which keys replace one another: buckets to re-key, keys to move, roots to drop."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    LargeBinary,
    Text,
    and_,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.elements import ColumnElement

from kernel import ReadSession, Statement, UnavailableError, UnitOfWork
from kernel.db import Insert
from vault.repository import KnownRing, StoredBucket, know_ring, stored_bucket
from vault.tables import vault_bucket, vault_destroyed, vault_key, vault_rekey, vault_ring


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bucket that needs a key above a version, and how many member keys are to be moved."""

    bucket: int
    above: int
    keys: int


# --- which buckets get a new key ------------------------------------------------------

_newest_of = (
    select(vault_bucket.c.bucket, func.max(vault_bucket.c.version))
    .group_by(vault_bucket.c.bucket)
    .subquery()
)
_WANT_ALL = Statement.for_dialect(
    # SQLite takes ON CONFLICT for a part of a join unless a WHERE stands before it.
    lambda insert_into: _asked(insert_into, _newest_of.c.bucket >= 0)
)
_WANT = Statement.for_dialect(
    lambda insert_into: _asked(
        insert_into, _newest_of.c.bucket == bindparam("bucket", type_=Integer)
    )
)


def _asked(insert_into: Insert, which: ColumnElement[bool]) -> ClauseElement:
    """Ask for keys above the newest; what was asked before is not enough for what died since."""
    put = insert_into(vault_rekey).from_select(["bucket", "above"], select(_newest_of).where(which))
    asked: ClauseElement = put.on_conflict_do_update(
        index_elements=["bucket"], set_={"above": put.excluded.above}
    )
    return asked


_behind = and_(
    vault_key.c.bucket == vault_rekey.c.bucket, vault_key.c.bucket_version <= vault_rekey.c.above
)
_WANTED = Statement(
    select(
        vault_rekey.c.bucket,
        vault_rekey.c.above,
        func.count(vault_key.c.owner_id).label("keys"),
    )
    .select_from(vault_rekey.outerjoin(vault_key, _behind))
    .group_by(vault_rekey.c.bucket, vault_rekey.c.above)
    .order_by(vault_rekey.c.bucket)
)
_WANTED_IN_RANGE = Statement(
    select(vault_rekey)
    .where(
        vault_rekey.c.bucket.between(
            bindparam("first", type_=Integer), bindparam("last", type_=Integer)
        )
    )
    .order_by(vault_rekey.c.bucket)
)
_DONE = Statement(
    delete(vault_rekey).where(
        vault_rekey.c.bucket == bindparam("bucket"), vault_rekey.c.above == bindparam("above")
    )
)
_TAKE_DESTROYED = Statement(
    delete(vault_destroyed).returning(vault_destroyed.c.bucket, vault_destroyed.c["keys"])
)
_COUNT_DESTROYED = Statement(
    select(
        func.coalesce(func.sum(vault_destroyed.c["keys"]), 0).label("erasures"),
        func.count(vault_destroyed.c.bucket.distinct()).label("buckets"),
    )
)


async def want_all(work: UnitOfWork) -> None:
    """Ask for a new key for every bucket."""
    await work.run(_WANT_ALL)


async def want(work: UnitOfWork, buckets: Sequence[int]) -> None:
    """Ask for a new key for some buckets."""
    await work.run_many(_WANT, [{"bucket": bucket} for bucket in sorted(set(buckets))])


async def wanted(session: ReadSession) -> list[Wanted]:
    """Give the buckets that still need a new key, in order."""
    return [Wanted(r["bucket"], r["above"], r["keys"]) for r in await session.all(_WANTED)]


async def wanted_in_range(session: ReadSession, first: int, last: int) -> list[Wanted]:
    """Give the buckets of a range that still need a new key, their keys uncounted."""
    rows = await session.all(_WANTED_IN_RANGE, first=first, last=last)
    return [Wanted(r["bucket"], r["above"], 0) for r in rows]


async def are_done(work: UnitOfWork, done: Sequence[Wanted]) -> None:
    """Note that buckets have their new key and nothing but that."""
    await work.run_many(_DONE, [{"bucket": one.bucket, "above": one.above} for one in done])


async def take_destroyed(work: UnitOfWork) -> Counter[int]:
    """Take every note of destroyed keys since the last seal; gives how many in which bucket."""
    taken: Counter[int] = Counter()
    for row in await work.all(_TAKE_DESTROYED):
        taken[row["bucket"]] += row["keys"]
    return taken


async def count_destroyed(session: ReadSession) -> tuple[int, int]:
    """Count the keys destroyed since the last seal, and the buckets they were in."""
    row = await session.first(_COUNT_DESTROYED)
    return (0, 0) if row is None else (int(row["erasures"]), int(row["buckets"]))


# --- moving keys ----------------------------------------------------------------------

_in_range = vault_bucket.c.bucket.between(
    bindparam("first", type_=Integer), bindparam("last", type_=Integer)
)
_newer = vault_bucket.alias("newer")
_is_newest = (
    vault_bucket.c.version
    == select(func.max(_newer.c.version))
    .where(_newer.c.bucket == vault_bucket.c.bucket)
    .scalar_subquery()
)
_HOLD_NEWEST = Statement(
    select(vault_bucket)
    .where(_in_range, _is_newest)
    .with_for_update(read=True, key_share=True, of=vault_bucket)
)
_STORED = Statement(select(vault_bucket).where(_in_range))
TO_MOVE = Statement(
    select(
        vault_key.c.bucket,
        vault_key.c.owner_id,
        vault_key.c.kind,
        vault_key.c.version,
        vault_key.c.bucket_version,
        vault_key.c.wrapped,
    )
    .select_from(vault_key.join(vault_rekey, _behind))
    # No lower bound but where the page begins: SQLite would take that one, and walk each time over
    # every key that has moved already.
    .where(
        vault_key.c.bucket <= bindparam("last", type_=Integer),
        tuple_(vault_key.c.bucket, vault_key.c.owner_id, vault_key.c.kind, vault_key.c.version)
        > tuple_(
            bindparam("after_bucket", type_=Integer),
            bindparam("after_owner", type_=Text),
            bindparam("after_kind", type_=Text),
            bindparam("after_version", type_=Integer),
        ),
    )
    .order_by(vault_key.c.bucket, vault_key.c.owner_id, vault_key.c.kind, vault_key.c.version)
    .limit(bindparam("most", type_=BigInteger))
    # Nobody waits for a key that is being destroyed at this moment: two who wait are a deadlock.
    .with_for_update(key_share=True, skip_locked=True, of=vault_key)
)
_moved = (
    func.unnest(
        bindparam("owners", type_=ARRAY(Text)),
        bindparam("kinds", type_=ARRAY(Text)),
        bindparam("versions", type_=ARRAY(Integer)),
        bindparam("bucket_versions", type_=ARRAY(Integer)),
        bindparam("keys", type_=ARRAY(LargeBinary)),
    )
    .table_valued("owner_id", "kind", "version", "bucket_version", "wrapped")
    .render_derived()
)
_MOVE_MANY = Statement(
    update(vault_key)
    .where(
        vault_key.c.owner_id == _moved.c.owner_id,
        vault_key.c.kind == _moved.c.kind,
        vault_key.c.version == _moved.c.version,
    )
    .values(wrapped=_moved.c.wrapped, bucket_version=_moved.c.bucket_version)
)
_MOVE_ONE = Statement(
    update(vault_key)
    .where(
        vault_key.c.owner_id == bindparam("for_owner"),
        vault_key.c.kind == bindparam("for_kind"),
        vault_key.c.version == bindparam("for_version"),
    )
    .values(wrapped=bindparam("new_wrapped"), bucket_version=bindparam("new_version"))
)
_STILL_BEHIND = Statement(
    select(vault_rekey.c.bucket).where(
        vault_rekey.c.bucket.between(
            bindparam("first", type_=Integer), bindparam("last", type_=Integer)
        ),
        select(vault_key.c.owner_id).where(_behind).correlate(vault_rekey).exists(),
    )
)
_HOLD_OLD = Statement(
    select(vault_bucket.c.bucket)
    .select_from(
        vault_bucket.join(
            vault_rekey,
            and_(
                vault_rekey.c.bucket == vault_bucket.c.bucket,
                vault_bucket.c.version <= vault_rekey.c.above,
            ),
        )
    )
    .where(_in_range)
    .order_by(vault_bucket.c.bucket, vault_bucket.c.version)
    .with_for_update(of=vault_bucket)
)
_DROP_OLD = Statement(
    delete(vault_bucket).where(
        vault_bucket.c.bucket == bindparam("bucket"),
        vault_bucket.c.version <= bindparam("above", type_=Integer),
    )
)

Place = tuple[int, str, str, int]
"""Where a member's key stands among those to move: bucket, owner, kind, version."""


def start_of(bucket: int) -> Place:
    """Give the place before every key of a bucket."""
    return bucket, "", "", 0


async def hold_newest(work: UnitOfWork, first: int, last: int) -> dict[int, StoredBucket]:
    """Give the newest key of each bucket of a range; nobody destroys them until `work` ends."""
    rows = await work.all(_HOLD_NEWEST, first=first, last=last)
    return {row["bucket"]: stored_bucket(row) for row in rows}


async def stored(session: ReadSession, first: int, last: int) -> list[StoredBucket]:
    """Give every key of the buckets of a range."""
    return [stored_bucket(row) for row in await session.all(_STORED, first=first, last=last)]


async def keys_to_move(work: UnitOfWork, after: Place, last: int, most: int) -> Sequence[Any]:
    """Give keys behind a place, up to a bucket, that a replaced bucket key wraps; held by `work`.

    Keys that somebody else holds at this moment are left out. Rows of bucket, owner, kind,
    version, bucket key version, wrapped, by position: a million of them, and names cost seconds.
    """
    return await work.all(
        TO_MOVE,
        last=last,
        after_bucket=after[0],
        after_owner=after[1],
        after_kind=after[2],
        after_version=after[3],
        most=most,
    )


async def move_keys(
    work: UnitOfWork, keys: Sequence[Any], versions: Sequence[int], rewrapped: Sequence[bytes]
) -> None:
    """Store keys held by `keys_to_move` as they are wrapped now, under which bucket key version."""
    if work.dialect == "postgresql":
        await work.run(
            _MOVE_MANY,
            owners=[key[1] for key in keys],
            kinds=[key[2] for key in keys],
            versions=[key[3] for key in keys],
            bucket_versions=versions,
            keys=rewrapped,
        )
        return
    await work.run_many(
        _MOVE_ONE,
        (
            {
                "for_owner": key[1],
                "for_kind": key[2],
                "for_version": key[3],
                "new_wrapped": wrapped,
                "new_version": version,
            }
            for key, version, wrapped in zip(keys, versions, rewrapped, strict=True)
        ),
    )


async def drop_replaced(work: UnitOfWork, group: Sequence[Wanted]) -> int:
    """Destroy the replaced keys of those buckets where none of them wraps anything any more.

    Waits for everybody who is wrapping under one of them; gives how many buckets are at rest.
    """
    first, last = group[0].bucket, group[-1].bucket
    await work.all(_HOLD_OLD, first=first, last=last)
    behind = {r["bucket"] for r in await work.all(_STILL_BEHIND, first=first, last=last)}
    at_rest = [one for one in group if one.bucket not in behind]
    await work.run_many(_DROP_OLD, [{"bucket": o.bucket, "above": o.above} for o in at_rest])
    await are_done(work, at_rest)
    return len(at_rest)


# --- ring roots -----------------------------------------------------------------------

_HOLD_RING = Statement(select(vault_ring).with_for_update())
_SET_RING = Statement(
    update(vault_ring).values(newest=bindparam("new_newest"), oldest=bindparam("new_oldest"))
)
_UNDER_OLD_ROOT = Statement(
    select(vault_bucket)
    .where(vault_bucket.c.ring_version < bindparam("root", type_=Integer))
    .order_by(vault_bucket.c.bucket, vault_bucket.c.version)
    .limit(bindparam("most", type_=BigInteger))
)
_REWRAP_BUCKET = Statement(
    update(vault_bucket)
    .where(
        vault_bucket.c.bucket == bindparam("of_bucket"),
        vault_bucket.c.version == bindparam("of_version"),
        vault_bucket.c.wrapped == bindparam("was"),
    )
    .values(ring_version=bindparam("root"), wrapped=bindparam("becomes"))
)
_ROOTS = Statement(
    select(vault_bucket.c.ring_version, func.count().label("buckets"))
    .group_by(vault_bucket.c.ring_version)
    .order_by(vault_bucket.c.ring_version)
)


async def hold_ring_alone(work: UnitOfWork, versions: tuple[int, ...]) -> KnownRing:
    """Give the ring roots in use, once nobody is wrapping under one; nobody does until `work` ends.

    A database that knows none is told those of this process.
    """
    await know_ring(work, versions)
    row = await work.first(_HOLD_RING)
    if row is None:
        raise UnavailableError("the ring roots in use cannot be told", reason="rotating")
    return KnownRing(row["newest"], row["oldest"])


async def set_ring(work: UnitOfWork, newest: int, oldest: int) -> None:
    """Say which ring roots are in use."""
    await work.run(_SET_RING, new_newest=newest, new_oldest=oldest)


async def under_old_root(session: ReadSession, root: int, most: int) -> list[StoredBucket]:
    """Give bucket keys that a ring root before `root` wraps."""
    return [stored_bucket(r) for r in await session.all(_UNDER_OLD_ROOT, root=root, most=most)]


async def rewrap_buckets(
    work: UnitOfWork, were: Sequence[StoredBucket], become: Sequence[StoredBucket]
) -> None:
    """Store bucket keys as they are wrapped now, each only if nobody else was first."""
    await work.run_many(
        _REWRAP_BUCKET,
        [
            {
                "of_bucket": one.bucket,
                "of_version": one.version,
                "was": one.wrapped,
                "root": moved.ring_version,
                "becomes": moved.wrapped,
            }
            for one, moved in zip(were, become, strict=True)
        ],
    )


async def roots_in_use(session: ReadSession) -> list[tuple[int, int]]:
    """Give (ring root version, bucket keys under it)."""
    return [(r["ring_version"], r["buckets"]) for r in await session.all(_ROOTS)]


# --- trying a backup ------------------------------------------------------------------
