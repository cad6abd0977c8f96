"""SQL of contact points and their one-time codes."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    LargeBinary,
    bindparam,
    delete,
    insert,
    literal,
    select,
    update,
)

from kernel import ContactPointId, MemberId, ReadSession, Row, Statement, UnitOfWork
from members.tables import contact_code, contact_point


@dataclass(frozen=True, slots=True)
class ContactPoint:
    """A way to reach a member: the cell that holds it, and whether it was verified."""

    id: ContactPointId
    member_id: MemberId
    kind: str
    field: str
    verified_us: int | None


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
    work: UnitOfWork, contact_point_id: str, tags: Sequence[bytes], *, now_us: int
) -> None:
    """Make a contact point the verified sign-in for its value, by the first of its tags.

    A number that changed hands belongs to whoever verified it last; the earlier holder keeps
    the member record and loses this way to sign in.
    """
    for tag in tags:
        await work.run(_RELEASE_SIGN_IN, tag=tag)
    await work.run(_VERIFIED, contact_point_id=contact_point_id, now_us=now_us, tag=tags[0])


_SET_SIGN_IN = Statement(
    update(contact_point)
    .where(contact_point.c.id == bindparam("contact_point_id"))
    .values(sign_in_tag=bindparam("tag"))
)


async def set_sign_in(work: UnitOfWork, contact_point_id: str, tag: bytes | None) -> None:
    """Let a contact point sign its member in by a tag, or no longer."""
    await work.run(_SET_SIGN_IN, contact_point_id=contact_point_id, tag=tag)


async def unverify_field(work: UnitOfWork, member_id: MemberId, field: str) -> None:
    """A changed value is unverified until its holder answers.

    A code that is on its way to the earlier value must not prove the new one.
    """
    await work.run(_UNVERIFY, of_member=member_id, of_field=field)
    for point in await contact_points_of(work, member_id):
        if point.field == field:
            await work.run(_DROP_CODE, contact_point_id=point.id)


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A contact point with all that is stored of it, to be put somewhere else or back."""

    id: str
    kind: str
    field: str
    verified_us: int | None
    sign_in_tag: bytes | None
    created_us: int


_STORED_POINTS = Statement(
    select(contact_point)
    .where(contact_point.c.member_id == bindparam("member_id"))
    .order_by(contact_point.c.id)
)
_PUT_POINT = Statement(
    insert(contact_point).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        kind=bindparam("kind"),
        field=bindparam("field"),
        verified_us=bindparam("verified_us"),
        sign_in_tag=bindparam("sign_in_tag"),
        created_us=bindparam("created_us"),
    )
)


async def stored_points(session: ReadSession, member_id: MemberId) -> list[StoredPoint]:
    """Give all that is stored of a member's contact points."""
    rows = await session.all(_STORED_POINTS, member_id=member_id)
    return [
        StoredPoint(
            row["id"],
            row["kind"],
            row["field"],
            row["verified_us"],
            row["sign_in_tag"],
            row["created_us"],
        )
        for row in rows
    ]


async def put_point(work: UnitOfWork, member_id: MemberId, point: StoredPoint) -> None:
    """Store a contact point as it was; where another signs in by its value now, it does not."""
    tag = point.sign_in_tag
    if tag is not None and await contact_point_by_sign_in_tag(work, tag) is not None:
        tag = None
    await work.run(
        _PUT_POINT,
        id=point.id,
        member_id=member_id,
        kind=point.kind,
        field=point.field,
        verified_us=point.verified_us,
        sign_in_tag=tag,
        created_us=point.created_us,
    )


_MOVE_POINT = Statement(
    update(contact_point)
    .where(contact_point.c.id == bindparam("contact_point_id"))
    .values(member_id=bindparam("to_member"))
)
_DROP_POINT = Statement(
    delete(contact_point).where(contact_point.c.id == bindparam("contact_point_id"))
)


async def move_point(work: UnitOfWork, contact_point_id: str, member_id: MemberId) -> None:
    """Let a contact point reach another record of the same person; a code under way stays good."""
    await work.run(_MOVE_POINT, contact_point_id=contact_point_id, to_member=member_id)


async def drop_point(work: UnitOfWork, contact_point_id: str) -> None:
    """Forget one contact point and its code."""
    await work.run(_DROP_CODE, contact_point_id=contact_point_id)
    await work.run(_DROP_POINT, contact_point_id=contact_point_id)


async def drop_contact_points(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget a member's contact points and codes."""
    for point in await contact_points_of(work, member_id):
        await work.run(_DROP_CODE, contact_point_id=point.id)
    await work.run(_DROP_CONTACT_POINTS, member_id=member_id)


_SET_CODE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(contact_code)
        .from_select(
            ["contact_point_id", "code_mac", "attempts", "expires_us"],
            select(
                contact_point.c.id,
                bindparam("code_mac", type_=LargeBinary),
                literal(0),
                bindparam("expires_us", type_=BigInteger),
            ).where(contact_point.c.id == bindparam("for_contact_point")),
        )
        .on_conflict_do_update(
            index_elements=["contact_point_id"],
            set_={
                "code_mac": bindparam("code_mac", type_=LargeBinary),
                "attempts": 0,
                "expires_us": bindparam("expires_us", type_=BigInteger),
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
) -> bool:
    """Store a one-time code (as its MAC), replacing an earlier one; False without the point."""
    stored = await work.run(
        _SET_CODE, for_contact_point=contact_point_id, code_mac=code_mac, expires_us=expires_us
    )
    return stored == 1


async def try_code(work: UnitOfWork, contact_point_id: str) -> CodeAttempt | None:
    """Count an attempt and give the stored code; the count stands even if the code is wrong."""
    row = await work.first(_TRY_CODE, of_contact_point=contact_point_id)
    if row is None:
        return None
    return CodeAttempt(bytes(row["code_mac"]), row["attempts"], row["expires_us"])


async def drop_code(work: UnitOfWork, contact_point_id: str) -> None:
    """A code is good once."""
    await work.run(_DROP_CODE, contact_point_id=contact_point_id)
