"""All SQL of guardians: who may decide for or with a minor, and how far the proof has come."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, bindparam, func, insert, null, select, update

from consent.tables import guardian
from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork


@dataclass(frozen=True, slots=True)
class GuardianRow:
    """A guardian of one minor: a member (`guardian_member_id`), or who holds a sealed contact."""

    id: str
    member_id: MemberId
    relation: str
    kind: str
    guardian_member_id: MemberId | None
    contact_point_id: str | None
    proven_us: int | None
    ended_us: int | None
    recorded_by: str
    created_us: int

    @property
    def is_proven(self) -> bool:
        """Whether this guardian may decide now."""
        return self.proven_us is not None and self.ended_us is None


@dataclass(frozen=True, slots=True)
class CodeAttempt:
    """What a code must match, after this attempt was counted."""

    code_mac: bytes
    attempts: int
    expires_us: int


_COLUMNS = tuple(
    getattr(guardian.c, name)
    for name in (
        "id",
        "member_id",
        "relation",
        "kind",
        "guardian_member_id",
        "contact_point_id",
        "proven_us",
        "ended_us",
        "recorded_by",
        "created_us",
    )
)
_ADD = Statement(
    insert(guardian).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        relation=bindparam("relation"),
        kind=bindparam("kind"),
        guardian_member_id=bindparam("guardian_member_id"),
        contact_point_id=bindparam("contact_point_id"),
        cells=bindparam("cells"),
        attempts=0,
        expires_us=0,
        recorded_by=bindparam("recorded_by"),
        created_us=bindparam("created_us"),
    )
)
_ONE = Statement(select(*_COLUMNS).where(guardian.c.id == bindparam("guardian_id")))
_OF_MEMBER = Statement(
    select(*_COLUMNS).where(guardian.c.member_id == bindparam("member_id")).order_by(guardian.c.id)
)
_WARDS = Statement(
    select(*_COLUMNS)
    .where(
        guardian.c.guardian_member_id == bindparam("member_id"),
        guardian.c.proven_us.is_not(None),
        guardian.c.ended_us.is_(None),
    )
    .order_by(guardian.c.id)
)
_PROVEN = Statement(
    select(guardian.c.id).where(
        guardian.c.member_id == bindparam("member_id"),
        guardian.c.proven_us.is_not(None),
        guardian.c.ended_us.is_(None),
    )
)
_SET_CODE = Statement(
    update(guardian)
    .where(
        guardian.c.id == bindparam("for_guardian"),
        guardian.c.proven_us.is_(None),
        guardian.c.ended_us.is_(None),
    )
    .values(
        code_mac=bindparam("new_mac"),
        attempts=0,
        expires_us=bindparam("new_expiry_us", type_=BigInteger),
    )
)
_TRY = Statement(
    update(guardian)
    .where(guardian.c.id == bindparam("for_guardian"), guardian.c.code_mac.is_not(None))
    .values(attempts=guardian.c.attempts + 1)
    .returning(guardian.c.code_mac, guardian.c.attempts, guardian.c.expires_us)
)
_PROVE = Statement(
    update(guardian)
    .where(guardian.c.id == bindparam("for_guardian"))
    .values(code_mac=null(), proven_us=bindparam("moment_us", type_=BigInteger))
)
_END = Statement(
    update(guardian)
    .where(guardian.c.id == bindparam("for_guardian"), guardian.c.ended_us.is_(None))
    .values(code_mac=null(), cells=null(), ended_us=bindparam("moment_us", type_=BigInteger))
)
_FORGET = Statement(
    update(guardian)
    .where(guardian.c.member_id == bindparam("for_member"))
    .values(code_mac=null(), cells=null())
)
_FORGET_GUARDIAN = Statement(
    update(guardian)
    .where(guardian.c.guardian_member_id == bindparam("gone_member"))
    .values(
        guardian_member_id=null(),
        contact_point_id=null(),
        code_mac=null(),
        ended_us=func.coalesce(guardian.c.ended_us, bindparam("moment_us", type_=BigInteger)),
    )
)


async def add(work: UnitOfWork, row: GuardianRow, cells: bytes | None) -> None:
    """Store a guardian whose proof is still to come."""
    await work.run(
        _ADD,
        id=row.id,
        member_id=row.member_id,
        relation=row.relation,
        kind=row.kind,
        guardian_member_id=row.guardian_member_id,
        contact_point_id=row.contact_point_id,
        cells=cells,
        recorded_by=row.recorded_by,
        created_us=row.created_us,
    )


async def by_id(session: ReadSession, guardian_id: str) -> GuardianRow | None:
    """Find one guardian."""
    row = await session.first(_ONE, guardian_id=guardian_id)
    return None if row is None else _guardian(row)


async def of_member(session: ReadSession, member_id: MemberId) -> list[GuardianRow]:
    """Give every guardian a member ever had, the oldest first."""
    return [_guardian(row) for row in await session.all(_OF_MEMBER, member_id=member_id)]


async def wards(session: ReadSession, member_id: MemberId) -> list[GuardianRow]:
    """Give the guardianships that a member holds now."""
    return [_guardian(row) for row in await session.all(_WARDS, member_id=member_id)]


async def proven(session: ReadSession, member_id: MemberId) -> frozenset[str]:
    """Give the guardians who may decide for a member now."""
    return frozenset(row["id"] for row in await session.all(_PROVEN, member_id=member_id))


async def set_code(work: UnitOfWork, guardian_id: str, code_mac: bytes, *, expires_us: int) -> bool:
    """Store the digest of a fresh code; False where none is wanted any more."""
    changed = await work.run(
        _SET_CODE, for_guardian=guardian_id, new_mac=code_mac, new_expiry_us=expires_us
    )
    return changed > 0


async def try_code(work: UnitOfWork, guardian_id: str) -> CodeAttempt | None:
    """Count an attempt before it is compared, so that guessing in parallel gains nothing."""
    row = await work.first(_TRY, for_guardian=guardian_id)
    if row is None:
        return None
    return CodeAttempt(bytes(row["code_mac"]), row["attempts"], row["expires_us"])


async def prove(work: UnitOfWork, guardian_id: str, *, now_us: int) -> None:
    """Let a guardian decide from now on."""
    await work.run(_PROVE, for_guardian=guardian_id, moment_us=now_us)


async def end(work: UnitOfWork, guardian_id: str, *, now_us: int) -> bool:
    """End a guardianship and forget how the guardian is reached."""
    return await work.run(_END, for_guardian=guardian_id, moment_us=now_us) > 0


async def forget_contacts(work: UnitOfWork, member_id: MemberId) -> None:
    """Forget how the guardians of a member are reached; who proved what stays."""
    await work.run(_FORGET, for_member=member_id)


async def forget_guardian(work: UnitOfWork, member_id: MemberId, *, now_us: int) -> None:
    """Cut off whom an erased member was guardian of; nobody decides by that proof any more."""
    await work.run(_FORGET_GUARDIAN, gone_member=member_id, moment_us=now_us)


def _guardian(row: Row) -> GuardianRow:
    other = row["guardian_member_id"]
    return GuardianRow(
        row["id"],
        MemberId(row["member_id"]),
        row["relation"],
        row["kind"],
        None if other is None else MemberId(other),
        row["contact_point_id"],
        row["proven_us"],
        row["ended_us"],
        row["recorded_by"],
        row["created_us"],
    )
