"""All SQL of claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgpack
from sqlalchemy import BigInteger, bindparam, delete, insert, select, update

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from service.claims.tables import contact_claim


@dataclass(frozen=True, slots=True)
class Claim:
    """A contact that waits for its code; `member_id` is None while somebody joins.

    `slot` names the cell that the proven value replaces, None when it is a further one.
    `contact_digest` is a keyed digest of the contact, to count its codes by.
    """

    id: str
    member_id: MemberId | None
    kind: str
    slot: str | None
    attempts: int
    sealed: Mapping[str, bytes] = field(repr=False)
    contact_digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The code of a claim with this attempt counted; no `mac` before the code was sent."""

    attempts: int
    mac: bytes | None
    expires_us: int | None


_ADD = Statement(
    insert(contact_claim).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        kind=bindparam("kind"),
        slot=bindparam("slot"),
        sealed=bindparam("sealed"),
        contact_digest=bindparam("contact_digest"),
        attempts=0,
        expires_us=bindparam("expires_us"),
    )
)
_ALIVE = contact_claim.c.expires_us > bindparam("now_us")
_READ = Statement(select(contact_claim).where(contact_claim.c.id == bindparam("claim_id"), _ALIVE))
_OF_MEMBER = Statement(
    select(contact_claim).where(contact_claim.c.member_id == bindparam("member_id"), _ALIVE)
)
_ID_OF_MEMBER = Statement(
    select(contact_claim.c.id).where(contact_claim.c.member_id == bindparam("member_id"))
)
_FORGET_CODE = Statement(
    update(contact_claim)
    .where(contact_claim.c.id == bindparam("of_claim"))
    .values(code_mac=None, code_expires_us=None, attempts=0)
)
_SET_CODE = Statement(
    update(contact_claim)
    .where(contact_claim.c.id == bindparam("of_claim"))
    .values(code_mac=bindparam("mac"), code_expires_us=bindparam("until_us"), attempts=0)
)
_TRY = Statement(
    update(contact_claim)
    .where(contact_claim.c.id == bindparam("of_claim"), _ALIVE)
    .values(attempts=contact_claim.c.attempts + 1)
    .returning(contact_claim.c.attempts, contact_claim.c.code_mac, contact_claim.c.code_expires_us)
)
_DROP = Statement(delete(contact_claim).where(contact_claim.c.id == bindparam("claim_id")))
_OLD = Statement(
    select(contact_claim.c.id)
    .where(contact_claim.c.expires_us <= bindparam("now_us"))
    .limit(bindparam("most", type_=BigInteger))
)


def _claim(row: Row) -> Claim:
    return Claim(
        row["id"],
        None if row["member_id"] is None else MemberId(row["member_id"]),
        row["kind"],
        row["slot"],
        row["attempts"],
        msgpack.unpackb(row["sealed"]),
        bytes(row["contact_digest"]),
    )


async def add(work: UnitOfWork, claim: Claim, *, expires_us: int) -> None:
    """Store a claim that has no code yet."""
    await work.run(
        _ADD,
        id=claim.id,
        member_id=claim.member_id,
        kind=claim.kind,
        slot=claim.slot,
        sealed=msgpack.packb(dict(claim.sealed)),
        contact_digest=claim.contact_digest,
        expires_us=expires_us,
    )


async def read(session: ReadSession, claim_id: str, *, now_us: int) -> Claim | None:
    """Find a claim that has not run out."""
    row = await session.first(_READ, claim_id=claim_id, now_us=now_us)
    return None if row is None else _claim(row)


async def of_member(session: ReadSession, member_id: MemberId, *, now_us: int) -> Claim | None:
    """Find the claim that a member has open."""
    row = await session.first(_OF_MEMBER, member_id=member_id, now_us=now_us)
    return None if row is None else _claim(row)


async def ids_of_member(session: ReadSession, member_id: MemberId) -> list[str]:
    """Give the claims of a member, those that ran out too."""
    return [row["id"] for row in await session.all(_ID_OF_MEMBER, member_id=member_id)]


async def forget_code(work: UnitOfWork, claim_id: str) -> None:
    """Take back the code that is on its way, with the tries at it."""
    await work.run(_FORGET_CODE, of_claim=claim_id)


async def set_code(work: UnitOfWork, claim_id: str, mac: bytes, *, until_us: int) -> bool:
    """Store a code as its digest; False when the claim has gone."""
    return await work.run(_SET_CODE, of_claim=claim_id, mac=mac, until_us=until_us) == 1


async def try_code(work: UnitOfWork, claim_id: str, *, now_us: int) -> Attempt | None:
    """Count an attempt and give the code; the count stands even if the code is wrong."""
    row = await work.first(_TRY, of_claim=claim_id, now_us=now_us)
    if row is None:
        return None
    mac = row["code_mac"]
    return Attempt(row["attempts"], None if mac is None else bytes(mac), row["code_expires_us"])


async def drop(work: UnitOfWork, claim_id: str) -> None:
    """Forget a claim."""
    await work.run(_DROP, claim_id=claim_id)


async def old(session: ReadSession, *, now_us: int, most: int) -> list[str]:
    """Give claims that have run out."""
    return [row["id"] for row in await session.all(_OLD, now_us=now_us, most=most)]
