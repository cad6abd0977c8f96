"""The SQL of an erasure: an owner's keys and tags go, what a law still needs gets its date.

On PostgreSQL all of it is one statement, because each further one is a way to the server and
back that an erasing request waits for; SQLite is in the process and takes them one by one.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache

import orjson
from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from kernel import Statement, UnitOfWork, new_random_id
from vault.tables import vault_destroyed, vault_key, vault_tag

_owner: ColumnElement[str] = bindparam("owner", type_=Text)
_kept_text: ColumnElement[str] = bindparam("kept", type_=Text)

_KEEP = Statement(
    update(vault_key)
    .where(vault_key.c.owner_id == _owner, vault_key.c.kind == bindparam("one", type_=Text))
    .values(destroy_after_us=bindparam("until_us", type_=BigInteger))
)
_TOUCH = Statement.for_dialect(
    lambda insert_into: (
        insert_into(vault_destroyed)
        .values(id=bindparam("id"), bucket=bindparam("bucket"), keys=bindparam("keys"))
        .on_conflict_do_update(
            index_elements=["id"],
            set_={"keys": vault_destroyed.c["keys"] + bindparam("keys", type_=Integer)},
        )
    )
)
_DROP_TAGS = Statement(delete(vault_tag).where(vault_tag.c.owner_id == _owner))

# The kinds of key that are kept, each with its date: rows out of a JSON object.
_there = func.jsonb_each_text(cast(_kept_text, JSONB)).table_valued("key", "value", name="kept")
_keeping = (
    update(vault_key)
    .where(vault_key.c.owner_id == _owner, vault_key.c.kind == _there.c.key)
    .values(destroy_after_us=cast(_there.c.value, BigInteger))
    .returning(vault_key.c.kind)
    .cte("keeping")
)
_gone = (
    delete(vault_key)
    .where(vault_key.c.owner_id == _owner, vault_key.c.kind.not_in(select(_there.c.key)))
    .returning(vault_key.c.bucket)
    .cte("gone")
)
_touched = (
    insert(vault_destroyed)
    .from_select(
        ["id", "bucket", "keys"],
        select(
            func.concat(bindparam("id", type_=Text), "-", cast(_gone.c.bucket, Text)),
            _gone.c.bucket,
            func.count(),
        ).group_by(_gone.c.bucket),
    )
    .returning(vault_destroyed.c.bucket)
    .cte("touched")
)
_untagged = (
    delete(vault_tag)
    .where(vault_tag.c.owner_id == _owner)
    .returning(vault_tag.c.kind)
    .cte("untagged")
)
_ALL_AT_ONCE = Statement(
    select(func.count().label("destroyed"))
    .select_from(_gone)
    .add_cte(_keeping, _touched, _untagged)
)


async def erase(work: UnitOfWork, owner_id: str, keep: Mapping[str, int]) -> int:
    """Destroy an owner's keys but those of kinds in `keep` (kind to µs), and drop every tag.

    Gives how many keys were destroyed. Notes their buckets for the next seal: on PostgreSQL a
    row each and never shared, because erasures must not wait for one another; on SQLite, which
    has one writer, a row a bucket.
    """
    if work.dialect == "postgresql":
        kept = orjson.dumps(dict(keep)).decode()
        row = await work.first(_ALL_AT_ONCE, owner=owner_id, kept=kept, id=new_random_id("des"))
        return 0 if row is None else int(row["destroyed"])
    for kind, until_us in keep.items():
        await work.run(_KEEP, owner=owner_id, one=kind, until_us=until_us)
    kinds = {f"kept_{at}": kind for at, kind in enumerate(keep)}
    gone = await work.all(_all_but(len(kinds)), owner=owner_id, **kinds)
    for bucket, keys in Counter(row["bucket"] for row in gone).items():
        await work.run(_TOUCH, id=f"des-{bucket}", bucket=bucket, keys=keys)
    await work.run(_DROP_TAGS, owner=owner_id)
    return len(gone)


@cache
def _all_but(kinds: int) -> Statement:
    """Destroy an owner's keys of every kind but so many named ones."""
    others = [vault_key.c.kind != bindparam(f"kept_{at}", type_=Text) for at in range(kinds)]
    return Statement(
        delete(vault_key)
        .where(vault_key.c.owner_id == _owner, *others)
        .returning(vault_key.c.bucket)
    )
