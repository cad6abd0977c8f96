"""SQL of member rows and of the ids by which clients know them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgpack
from sqlalchemy import BigInteger, Text, bindparam, delete, func, insert, select, update

from kernel import MemberId, PairwiseId, ReadSession, Row, Statement, UnitOfWork, new_random_id
from members.tables import member, pairwise_id


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a field's value came from, and whether it was verified (moments in µs)."""

    source: str
    collected_us: int
    verified_us: int | None = None
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as it rests: sealed cells by field, and their provenance."""

    id: MemberId
    brand: str
    jurisdiction: str
    cells: Mapping[str, bytes]
    provenance: Mapping[str, Provenance]
    version: int
    created_us: int


_ADD_MEMBER = Statement(
    insert(member).values(
        id=bindparam("id"),
        brand=bindparam("brand"),
        jurisdiction=bindparam("jurisdiction"),
        cells=bindparam("cells"),
        provenance=bindparam("provenance"),
        version=1,
        created_us=bindparam("now_us"),
        updated_us=bindparam("now_us"),
    )
)
_MEMBER = select(member).where(member.c.id == bindparam("member_id"))
_READ_MEMBER = Statement(_MEMBER)
_HOLD_MEMBER = Statement(_MEMBER.with_for_update())
_WRITE_MEMBER = Statement(
    update(member)
    .where(member.c.id == bindparam("of_member"), member.c.version == bindparam("old_version"))
    .values(
        cells=bindparam("new_cells"),
        provenance=bindparam("new_provenance"),
        version=member.c.version + 1,
        updated_us=bindparam("now_us"),
    )
)
_SET_VERSION = Statement(
    update(member)
    .where(member.c.id == bindparam("of_member"), member.c.version == bindparam("old_version"))
    .values(version=bindparam("new_version"), updated_us=bindparam("now_us"))
)
_ROWS = Statement(
    select(member)
    .where(member.c.id > bindparam("after", type_=Text))
    .order_by(member.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_JURISDICTION = Statement(
    select(member.c.jurisdiction).where(member.c.id == bindparam("member_id"))
)
_COUNT = Statement(select(func.count().label("members")).select_from(member))
_PAGE = Statement(
    select(member.c.id)
    .where(member.c.id > bindparam("after"))
    .order_by(member.c.id)
    .limit(bindparam("most", type_=BigInteger))
)


def _pack(provenance: Mapping[str, Provenance]) -> bytes:
    packed: bytes = msgpack.packb(
        {
            field: [entry.source, entry.collected_us, entry.verified_us, entry.evidence]
            for field, entry in provenance.items()
        }
    )
    return packed


def _member(row: Row) -> MemberRow:
    provenance = msgpack.unpackb(row["provenance"])
    return MemberRow(
        MemberId(row["id"]),
        row["brand"],
        row["jurisdiction"],
        msgpack.unpackb(row["cells"]),
        {field: Provenance(*entry) for field, entry in provenance.items()},
        row["version"],
        row["created_us"],
    )


async def add_member(work: UnitOfWork, row: MemberRow) -> None:
    """Store a new member."""
    await work.run(
        _ADD_MEMBER,
        id=row.id,
        brand=row.brand,
        jurisdiction=row.jurisdiction,
        cells=msgpack.packb(row.cells),
        provenance=_pack(row.provenance),
        now_us=row.created_us,
    )


async def read_member(session: ReadSession, member_id: MemberId) -> MemberRow | None:
    """Read a member's sealed row."""
    row = await session.first(_READ_MEMBER, member_id=member_id)
    return None if row is None else _member(row)


async def jurisdiction_of(session: ReadSession, member_id: MemberId) -> str | None:
    """Give the jurisdiction that a member is held under; `None` when there is no such member."""
    row = await session.first(_JURISDICTION, member_id=member_id)
    return None if row is None else str(row["jurisdiction"])


async def hold_member(work: UnitOfWork, member_id: MemberId) -> MemberRow | None:
    """Read a member's row and keep others from changing it until this unit of work ends."""
    row = await work.first(_HOLD_MEMBER, member_id=member_id)
    return None if row is None else _member(row)


async def write_member(
    work: UnitOfWork,
    old: MemberRow,
    cells: Mapping[str, bytes],
    provenance: Mapping[str, Provenance],
    *,
    now_us: int,
) -> MemberRow | None:
    """Replace cells and provenance if the row is still the version that was read.

    Gives the row as it is now, whose digest belongs into the event of the change; None when
    somebody else was first and nothing was written.
    """
    touched = await work.run(
        _WRITE_MEMBER,
        of_member=old.id,
        old_version=old.version,
        new_cells=msgpack.packb(cells),
        new_provenance=_pack(provenance),
        now_us=now_us,
    )
    if touched != 1:
        return None
    return replace(old, cells=cells, provenance=provenance, version=old.version + 1)


async def member_rows(session: ReadSession, *, after: str, most: int) -> list[MemberRow]:
    """Give members' sealed rows in order of id, from the one after `after`."""
    return [_member(row) for row in await session.all(_ROWS, after=after, most=most)]


async def set_version(work: UnitOfWork, row: MemberRow, version: int, *, now_us: int) -> MemberRow:
    """Let a row count from another version on, as after a restore; gives the row."""
    await work.run(
        _SET_VERSION,
        of_member=row.id,
        old_version=row.version,
        new_version=version,
        now_us=now_us,
    )
    return replace(row, version=version)


async def count_members(session: ReadSession) -> int:
    """Count members, erased ones included."""
    row = await session.first(_COUNT)
    return 0 if row is None else int(row["members"])


async def member_ids(session: ReadSession, *, after: str, most: int) -> list[MemberId]:
    """Give member ids in order, from the one after `after`."""
    rows = await session.all(_PAGE, after=after, most=most)
    return [MemberId(row["id"]) for row in rows]


_ADD_PAIRWISE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(pairwise_id)
        .values(
            id=bindparam("id"),
            client_id=bindparam("client_id"),
            member_id=bindparam("member_id"),
            created_us=bindparam("now_us"),
            made_for=None,
        )
        .on_conflict_do_nothing()
    )
)
# After a merge a client may have several ids for one member: the member's own comes first.
_PAIRWISE_OF = Statement(
    select(pairwise_id.c.id)
    .where(
        pairwise_id.c.client_id == bindparam("client_id"),
        pairwise_id.c.member_id == bindparam("member_id"),
    )
    .order_by(pairwise_id.c.made_for.is_not(None), pairwise_id.c.id)
    .limit(1)
)
_PAIRWISE_IDS = Statement(
    select(pairwise_id.c.id, pairwise_id.c.made_for)
    .where(pairwise_id.c.member_id == bindparam("member_id"))
    .order_by(pairwise_id.c.id)
)
_NAME_ANOTHER = Statement(
    update(pairwise_id)
    .where(pairwise_id.c.id == bindparam("pairwise"))
    .values(member_id=bindparam("to_member"), made_for=bindparam("new_made_for"))
)
_BY_PAIRWISE = Statement(
    select(pairwise_id.c.member_id).where(
        pairwise_id.c.id == bindparam("pairwise"),
        pairwise_id.c.client_id == bindparam("client_id"),
    )
)
_DROP_PAIRWISE = Statement(
    delete(pairwise_id).where(pairwise_id.c.member_id == bindparam("member_id"))
)


async def pairwise_for(
    work: UnitOfWork, client_id: str, member_id: MemberId, *, now_us: int
) -> PairwiseId:
    """Give the id by which one client knows a member, making it when there is none."""
    row = await work.first(_PAIRWISE_OF, client_id=client_id, member_id=member_id)
    if row is None:
        await work.run(
            _ADD_PAIRWISE,
            id=new_random_id("sub"),
            client_id=client_id,
            member_id=member_id,
            now_us=now_us,
        )
        row = await work.first(_PAIRWISE_OF, client_id=client_id, member_id=member_id)
        if row is None:
            raise RuntimeError("a pairwise id vanished inside its own transaction")
    return PairwiseId(row["id"])


async def known_as(session: ReadSession, client_id: str, member_id: MemberId) -> PairwiseId | None:
    """Give the id a client has for a member, or None."""
    row = await session.first(_PAIRWISE_OF, client_id=client_id, member_id=member_id)
    return None if row is None else PairwiseId(row["id"])


async def member_of_pairwise(
    session: ReadSession, pairwise: str, client_id: str
) -> MemberId | None:
    """Resolve what a client calls a member."""
    row = await session.first(_BY_PAIRWISE, pairwise=pairwise, client_id=client_id)
    return None if row is None else MemberId(row["member_id"])


async def pairwise_ids_of(
    session: ReadSession, member_id: MemberId
) -> list[tuple[str, str | None]]:
    """Give every id that names a member, with whom it named before a merge."""
    rows = await session.all(_PAIRWISE_IDS, member_id=member_id)
    return [(row["id"], row["made_for"]) for row in rows]


async def name_another(
    work: UnitOfWork, pairwise: str, member_id: MemberId, made_for: str | None
) -> None:
    """Let an id name another member: the survivor of a merge, or again who it was made for."""
    await work.run(_NAME_ANOTHER, pairwise=pairwise, to_member=member_id, new_made_for=made_for)


async def drop_pairwise_ids(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget by which ids clients knew a member."""
    await work.run(_DROP_PAIRWISE, member_id=member_id)
