"""All SQL of blind indexes: tags, and which versions of which index there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    LargeBinary,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    update,
)

from kernel import ReadSession, Snapshot, Statement, UnitOfWork, epoch_value
from vault.index import Indexes, IndexState, IndexVersion
from vault.tables import vault_index, vault_tag

INDEX_EPOCH = "index"
"""The epoch that moves whenever a version of an index comes, goes or changes its state."""

_ROWS = 1_000
_ADD_TAG = Statement.for_dialect(
    lambda insert_into: (
        insert_into(vault_tag)
        .values(
            kind=bindparam("kind"),
            tag=bindparam("tag"),
            owner_id=bindparam("owner_id"),
            field=bindparam("field"),
            index_version=bindparam("index_version"),
            suppression=bindparam("suppression"),
        )
        .on_conflict_do_nothing()
    )
)
_present = select(func.coalesce(epoch_value(INDEX_EPOCH), 0).label("epoch")).subquery("present")
_found = (
    select(vault_tag.c.owner_id)
    .distinct()
    .where(vault_tag.c.kind == bindparam("kind"), vault_tag.c.tag == bindparam("tag"))
    .order_by(vault_tag.c.owner_id)
    .limit(bindparam("most", type_=BigInteger))
    .subquery("found")
)
# One statement: no switch of versions can come between the epoch and the tags it is read with.
_OWNERS = Statement(
    select(_present.c.epoch, _found.c.owner_id)
    .select_from(_present.join(_found, true(), isouter=True))
    .order_by(_found.c.owner_id)
)
_other_tag = vault_tag.alias("other_tag")
_SHARING = Statement(
    select(_other_tag.c.kind, _other_tag.c.owner_id)
    .distinct()
    .select_from(
        vault_tag.join(
            _other_tag,
            (_other_tag.c.kind == vault_tag.c.kind) & (_other_tag.c.tag == vault_tag.c.tag),
        )
    )
    .where(
        vault_tag.c.owner_id == bindparam("owner_id"),
        _other_tag.c.owner_id != vault_tag.c.owner_id,
    )
    .limit(1_000)
)
_TAGS_OF = Statement(
    select(vault_tag)
    .where(vault_tag.c.owner_id == bindparam("owner_id"))
    .order_by(vault_tag.c.field, vault_tag.c.kind, vault_tag.c.index_version.desc())
)
_DROP_TAGS = Statement(delete(vault_tag).where(vault_tag.c.owner_id == bindparam("owner_id")))
_DROP_TAG = Statement(
    delete(vault_tag).where(
        vault_tag.c.owner_id == bindparam("owner_id"), vault_tag.c.field == bindparam("field")
    )
)
_FIELDS = Statement(select(vault_tag.c.kind, vault_tag.c.field).distinct())
_SHARES = (
    select(
        vault_tag.c.kind,
        vault_tag.c.index_version,
        vault_tag.c.tag,
        func.count(vault_tag.c.owner_id.distinct()).label("owners"),
    )
    .group_by(vault_tag.c.kind, vault_tag.c.index_version, vault_tag.c.tag)
    .subquery("shares")
)
_HISTOGRAMS = Statement(
    select(
        _SHARES.c.kind, _SHARES.c.index_version, _SHARES.c.owners, func.count().label("tags")
    ).group_by(_SHARES.c.kind, _SHARES.c.index_version, _SHARES.c.owners)
)
_BOUND = Statement(
    select(vault_tag.c.tag)
    .where(
        vault_tag.c.kind == bindparam("kind"),
        vault_tag.c.tag > bindparam("after", type_=LargeBinary),
    )
    .order_by(vault_tag.c.tag)
    .offset(bindparam("skip", type_=BigInteger))
    .limit(1)
)
_DROP_RANGE = Statement(
    delete(vault_tag).where(
        vault_tag.c.kind == bindparam("kind"),
        vault_tag.c.tag > bindparam("after", type_=LargeBinary),
        vault_tag.c.tag <= bindparam("to", type_=LargeBinary),
        vault_tag.c.index_version == bindparam("version", type_=Integer),
    )
)
_DROP_REST = Statement(
    delete(vault_tag).where(
        vault_tag.c.kind == bindparam("kind"),
        vault_tag.c.tag > bindparam("after", type_=LargeBinary),
        vault_tag.c.index_version == bindparam("version", type_=Integer),
    )
)
_VERSIONS = Statement(
    select(_present.c.epoch, vault_index)
    .select_from(_present.join(vault_index, true(), isouter=True))
    .order_by(vault_index.c.kind, vault_index.c.version)
)
_ADD_VERSION = Statement(
    insert(vault_index).values(
        kind=bindparam("kind"),
        version=bindparam("version"),
        form=bindparam("form"),
        hardened=bindparam("hardened"),
        state=bindparam("state"),
        cursor=bindparam("cursor"),
        done=bindparam("done"),
    )
)
_SET_STATE = Statement(
    update(vault_index)
    .where(
        vault_index.c.kind == bindparam("of_kind"),
        vault_index.c.version == bindparam("of_version"),
        vault_index.c.state == bindparam("from_state"),
    )
    .values(state=bindparam("to_state"))
)
_ADVANCE = Statement(
    update(vault_index)
    .where(
        vault_index.c.kind == bindparam("of_kind"),
        vault_index.c.version == bindparam("of_version"),
        vault_index.c.state == IndexState.FILLING.value,
        vault_index.c.cursor == bindparam("from_cursor"),
    )
    .values(cursor=bindparam("to_cursor"), done=bindparam("to_done"))
)
_DROP_VERSION = Statement(
    delete(vault_index).where(
        vault_index.c.kind == bindparam("of_kind"),
        vault_index.c.version == bindparam("of_version"),
        vault_index.c.state == IndexState.OLD.value,
    )
)


@dataclass(frozen=True, slots=True)
class StoredTag:
    """One tag of an owner: the field it is of, its kind, and the version of the index.

    `suppression` is the tag of the same value on the suppression list, sealed under the
    owner's ordinary key.
    """

    field: str
    kind: str
    tag: bytes
    index_version: int
    suppression: bytes


async def add_tags(work: UnitOfWork, owner_id: str, tags: Iterable[StoredTag]) -> None:
    """Store tags of an owner."""
    await work.run_many(
        _ADD_TAG,
        [
            {
                "kind": one.kind,
                "tag": one.tag,
                "owner_id": owner_id,
                "field": one.field,
                "index_version": one.index_version,
                "suppression": one.suppression,
            }
            for one in tags
        ],
    )


async def owners_of_tag(
    session: ReadSession, kind: str, tag: bytes, *, most: int
) -> tuple[int, Sequence[str]]:
    """Give the index epoch, and the owners that carry a tag, the oldest first."""
    rows = await session.all(_OWNERS, kind=kind, tag=tag, most=most)
    return rows[0]["epoch"], [r["owner_id"] for r in rows if r["owner_id"] is not None]


async def owners_sharing(session: ReadSession, owner_id: str) -> list[tuple[str, str]]:
    """Give (kind, other owner) for every tag that an owner shares, up to a thousand."""
    rows = await session.all(_SHARING, owner_id=owner_id)
    return [(r["kind"], r["owner_id"]) for r in rows]


async def tags_of(session: ReadSession, owner_id: str) -> list[StoredTag]:
    """Give every tag of an owner by field, of each the newest version first."""
    rows = await session.all(_TAGS_OF, owner_id=owner_id)
    return [
        StoredTag(
            r["field"], r["kind"], bytes(r["tag"]), r["index_version"], bytes(r["suppression"])
        )
        for r in rows
    ]


async def drop_tags(work: UnitOfWork, owner_id: str) -> int:
    """Forget every tag of an owner."""
    return await work.run(_DROP_TAGS, owner_id=owner_id)


async def drop_tag(work: UnitOfWork, owner_id: str, field: str) -> None:
    """Forget the tags of one field of an owner."""
    await work.run(_DROP_TAG, owner_id=owner_id, field=field)


async def fields_of_kinds(snapshot: Snapshot) -> Mapping[str, frozenset[str]]:
    """Give, by kind, the fields that hold an identifier, such as `phone` and `phone.2`."""
    found: dict[str, set[str]] = {}
    async for rows in snapshot.stream(_FIELDS, most=_ROWS):
        for row in rows:
            found.setdefault(row["kind"], set()).add(row["field"])
    return {kind: frozenset(fields) for kind, fields in found.items()}


async def histograms(snapshot: Snapshot) -> Mapping[tuple[str, int], Mapping[int, int]]:
    """Give, by (kind, index version), how many tags are carried by how many owners."""
    found: dict[tuple[str, int], dict[int, int]] = {}
    async for rows in snapshot.stream(_HISTOGRAMS, most=_ROWS):
        for row in rows:
            of_index = found.setdefault((row["kind"], row["index_version"]), {})
            of_index[row["owners"]] = row["tags"]
    return found


async def drop_tags_of_version(
    work: UnitOfWork, kind: str, version: int, after: bytes, most: int
) -> bytes | None:
    """Forget a version's tags among the next `most` of a kind; gives how far, None at the end."""
    row = await work.first(_BOUND, kind=kind, after=after, skip=most - 1)
    if row is None:
        await work.run(_DROP_REST, kind=kind, after=after, version=version)
        return None
    to = bytes(row["tag"])
    await work.run(_DROP_RANGE, kind=kind, after=after, to=to, version=version)
    return to


# --- versions -------------------------------------------------------------------------


async def read_indexes(session: ReadSession) -> Indexes:
    """Read which versions there are, and the epoch of that."""
    rows = await session.all(_VERSIONS)
    return Indexes(
        rows[0]["epoch"],
        [
            IndexVersion(
                r["kind"],
                r["version"],
                r["form"],
                IndexState(r["state"]),
                r["cursor"],
                r["done"],
                bool(r["hardened"]),
            )
            for r in rows
            if r["kind"] is not None
        ],
    )


async def add_version(work: UnitOfWork, one: IndexVersion) -> None:
    """Store a version of an index."""
    await work.run(_ADD_VERSION, **_row(one))


async def set_state(work: UnitOfWork, one: IndexVersion, to_state: IndexState) -> bool:
    """Move a version from the state it was read in; False when it is not in it any more."""
    touched = await work.run(
        _SET_STATE,
        of_kind=one.kind,
        of_version=one.version,
        from_state=one.state.value,
        to_state=to_state.value,
    )
    return touched == 1


async def advance(work: UnitOfWork, one: IndexVersion, cursor: str, done: int) -> bool:
    """Move the cursor on from where it was read; False when somebody else moved it."""
    touched = await work.run(
        _ADVANCE,
        of_kind=one.kind,
        of_version=one.version,
        from_cursor=one.cursor,
        to_cursor=cursor,
        to_done=done,
    )
    return touched == 1


async def drop_version(work: UnitOfWork, one: IndexVersion) -> None:
    """Forget a version that is old."""
    await work.run(_DROP_VERSION, of_kind=one.kind, of_version=one.version)


def _row(one: IndexVersion) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "version": one.version,
        "form": one.form,
        "hardened": int(one.hardened),
        "state": one.state.value,
        "cursor": one.cursor,
        "done": one.done,
    }
