"""All SQL of the members room."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgpack
import orjson
from sqlalchemy import BigInteger, bindparam, delete, func, insert, select, update

from kernel import (
    ContactPointId,
    MemberId,
    PairwiseId,
    ReadSession,
    Row,
    Statement,
    UnitOfWork,
    new_random_id,
)
from members.tables import (
    contact_code,
    contact_point,
    import_row,
    import_run,
    member,
    pairwise_id,
)


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


@dataclass(frozen=True, slots=True)
class ContactPoint:
    """A way to reach a member: the cell that holds it, and whether it was verified."""

    id: ContactPointId
    member_id: MemberId
    kind: str
    field: str
    verified_us: int | None


# --- members --------------------------------------------------------------------------

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
) -> bool:
    """Replace cells and provenance if the row is still the version that was read."""
    touched = await work.run(
        _WRITE_MEMBER,
        of_member=old.id,
        old_version=old.version,
        new_cells=msgpack.packb(cells),
        new_provenance=_pack(provenance),
        now_us=now_us,
    )
    return touched == 1


async def count_members(session: ReadSession) -> int:
    """Count members, erased ones included."""
    row = await session.first(_COUNT)
    return 0 if row is None else int(row["members"])


async def member_ids(session: ReadSession, *, after: str, most: int) -> list[MemberId]:
    """Give member ids in order, from the one after `after`."""
    rows = await session.all(_PAGE, after=after, most=most)
    return [MemberId(row["id"]) for row in rows]


# --- pairwise ids ---------------------------------------------------------------------

_ADD_PAIRWISE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(pairwise_id)
        .values(
            id=bindparam("id"),
            client_id=bindparam("client_id"),
            member_id=bindparam("member_id"),
            created_us=bindparam("now_us"),
        )
        .on_conflict_do_nothing()
    )
)
_PAIRWISE_OF = Statement(
    select(pairwise_id.c.id).where(
        pairwise_id.c.client_id == bindparam("client_id"),
        pairwise_id.c.member_id == bindparam("member_id"),
    )
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


async def knows_member(session: ReadSession, client_id: str, member_id: MemberId) -> bool:
    """Say whether a client has an id for a member."""
    row = await session.first(_PAIRWISE_OF, client_id=client_id, member_id=member_id)
    return row is not None


async def member_of_pairwise(
    session: ReadSession, pairwise: str, client_id: str
) -> MemberId | None:
    """Resolve what a client calls a member."""
    row = await session.first(_BY_PAIRWISE, pairwise=pairwise, client_id=client_id)
    return None if row is None else MemberId(row["member_id"])


async def drop_pairwise_ids(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget by which ids clients knew a member."""
    await work.run(_DROP_PAIRWISE, member_id=member_id)


# --- contact points -------------------------------------------------------------------

_ADD_CONTACT_POINT = Statement(
    insert(contact_point).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        kind=bindparam("kind"),
        field=bindparam("field"),
        verified_us=None,
        sign_in_tag=None,
        created_us=bindparam("now_us"),
    )
)
_CONTACT_POINT_COLUMNS = (
    contact_point.c.id,
    contact_point.c.member_id,
    contact_point.c.kind,
    contact_point.c.field,
    contact_point.c.verified_us,
)
_CONTACT_POINTS = Statement(
    select(*_CONTACT_POINT_COLUMNS)
    .where(contact_point.c.member_id == bindparam("member_id"))
    .order_by(contact_point.c.id)
)
_CONTACT_POINT = Statement(
    select(*_CONTACT_POINT_COLUMNS).where(contact_point.c.id == bindparam("contact_point_id"))
)
_BY_SIGN_IN_TAG = Statement(
    select(*_CONTACT_POINT_COLUMNS).where(contact_point.c.sign_in_tag == bindparam("tag"))
)
_RELEASE_SIGN_IN = Statement(
    update(contact_point)
    .where(contact_point.c.sign_in_tag == bindparam("tag"))
    .values(sign_in_tag=None)
)
_VERIFIED = Statement(
    update(contact_point)
    .where(contact_point.c.id == bindparam("contact_point_id"))
    .values(verified_us=bindparam("now_us"), sign_in_tag=bindparam("tag"))
)
_UNVERIFY = Statement(
    update(contact_point)
    .where(
        contact_point.c.member_id == bindparam("of_member"),
        contact_point.c.field == bindparam("of_field"),
    )
    .values(verified_us=None, sign_in_tag=None)
)
_DROP_CONTACT_POINTS = Statement(
    delete(contact_point).where(contact_point.c.member_id == bindparam("member_id"))
)


def _contact_point(row: Row) -> ContactPoint:
    return ContactPoint(
        ContactPointId(row["id"]),
        MemberId(row["member_id"]),
        row["kind"],
        row["field"],
        row["verified_us"],
    )


async def add_contact_point(work: UnitOfWork, point: ContactPoint, *, now_us: int) -> None:
    """Store an unverified contact point."""
    await work.run(
        _ADD_CONTACT_POINT,
        id=point.id,
        member_id=point.member_id,
        kind=point.kind,
        field=point.field,
        now_us=now_us,
    )


async def contact_points_of(session: ReadSession, member_id: MemberId) -> list[ContactPoint]:
    """Give a member's contact points, the oldest first."""
    rows = await session.all(_CONTACT_POINTS, member_id=member_id)
    return [_contact_point(row) for row in rows]


async def contact_point_by_id(session: ReadSession, contact_point_id: str) -> ContactPoint | None:
    """Find a contact point."""
    row = await session.first(_CONTACT_POINT, contact_point_id=contact_point_id)
    return None if row is None else _contact_point(row)


async def contact_point_by_sign_in_tag(session: ReadSession, tag: bytes) -> ContactPoint | None:
    """Find the verified contact point that signs a member in."""
    row = await session.first(_BY_SIGN_IN_TAG, tag=tag)
    return None if row is None else _contact_point(row)


async def mark_verified(
    work: UnitOfWork, contact_point_id: str, tag: bytes, *, now_us: int
) -> None:
    """Make a contact point the verified sign-in for its value.

    A number that changed hands belongs to whoever verified it last; the earlier holder keeps
    the member record and loses this way to sign in.
    """
    await work.run(_RELEASE_SIGN_IN, tag=tag)
    await work.run(_VERIFIED, contact_point_id=contact_point_id, now_us=now_us, tag=tag)


async def unverify_field(work: UnitOfWork, member_id: MemberId, field: str) -> None:
    """A changed value is unverified until its holder answers."""
    await work.run(_UNVERIFY, of_member=member_id, of_field=field)


async def drop_contact_points(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget a member's contact points and codes."""
    for point in await contact_points_of(work, member_id):
        await work.run(_DROP_CODE, contact_point_id=point.id)
    await work.run(_DROP_CONTACT_POINTS, member_id=member_id)


# --- one-time codes -------------------------------------------------------------------

_SET_CODE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(contact_code)
        .values(
            contact_point_id=bindparam("contact_point_id"),
            code_mac=bindparam("code_mac"),
            attempts=0,
            expires_us=bindparam("expires_us"),
        )
        .on_conflict_do_update(
            index_elements=["contact_point_id"],
            set_={
                "code_mac": bindparam("code_mac"),
                "attempts": 0,
                "expires_us": bindparam("expires_us"),
            },
        )
    )
)
_TRY_CODE = Statement(
    update(contact_code)
    .where(contact_code.c.contact_point_id == bindparam("of_contact_point"))
    .values(attempts=contact_code.c.attempts + 1)
    .returning(contact_code.c.code_mac, contact_code.c.attempts, contact_code.c.expires_us)
)
_DROP_CODE = Statement(
    delete(contact_code).where(contact_code.c.contact_point_id == bindparam("contact_point_id"))
)


@dataclass(frozen=True, slots=True)
class CodeAttempt:
    """A stored one-time code with this attempt counted."""

    code_mac: bytes
    attempts: int
    expires_us: int


async def set_code(
    work: UnitOfWork, contact_point_id: str, code_mac: bytes, *, expires_us: int
) -> None:
    """Store a one-time code (as its MAC), replacing an earlier one."""
    await work.run(
        _SET_CODE, contact_point_id=contact_point_id, code_mac=code_mac, expires_us=expires_us
    )


async def try_code(work: UnitOfWork, contact_point_id: str) -> CodeAttempt | None:
    """Count an attempt and give the stored code; the count stands even if the code is wrong."""
    row = await work.first(_TRY_CODE, of_contact_point=contact_point_id)
    if row is None:
        return None
    return CodeAttempt(bytes(row["code_mac"]), row["attempts"], row["expires_us"])


async def drop_code(work: UnitOfWork, contact_point_id: str) -> None:
    """A code is good once."""
    await work.run(_DROP_CODE, contact_point_id=contact_point_id)


# --- imports --------------------------------------------------------------------------

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


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What became of one row: its outcome, its issues, and the sealed cell with what was bad."""

    row_no: int
    outcome: str
    row_tag: bytes
    member_id: MemberId | None
    issues: Sequence[tuple[str, str]]
    cell: bytes | None


def _run(row: Row) -> ImportRun:
    return ImportRun(
        row["id"],
        row["brand"],
        row["profile"],
        row["state"],
        row["created_us"],
        row["finished_us"],
    )


async def begin_import(
    work: UnitOfWork,
    import_id: str,
    brand: str,
    file_digest: bytes,
    profile: str,
    *,
    now_us: int,
) -> tuple[ImportRun, bool]:
    """Begin an import, or find the one of the same file; True when it is new."""
    made = await work.run(
        _ADD_RUN,
        id=import_id,
        brand=brand,
        file_digest=file_digest,
        profile=profile,
        now_us=now_us,
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
    """Forget the sealed leftovers of a member's rows."""
    await work.run(_FORGET_ROWS, of_member=member_id)
