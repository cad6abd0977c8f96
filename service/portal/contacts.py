"""Contacts: how a member is reached and let in; a new one counts once its code has come back.

Whoever finds a browser signed in cannot take the account to a number of theirs: each change wants
a code first that went to a contact which was proven before, and was answered in that very browser.
It is told to every contact proven before, and ends every other session. The old number stays until
the new one is proven, so a slip of the finger locks nobody out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernel import (
    Caller,
    Clock,
    Database,
    MemberId,
    NotAllowedError,
    NotFoundError,
    UnitOfWork,
    put_message,
    to_date,
)
from members import (
    ContactPoint,
    Formats,
    MemberDataError,
    Members,
    prepare,
    removable,
)
from policies import AccessSnapshot, ContactKind, PolicyPack
from service.auth.repository import PortalSession
from service.claims import Claim, Claims
from service.limits import CodeLimits
from service.outbox import CONTACT_CHANGED
from service.portal.proving import CONTACTS, proven_points
from service.portal.sessions import Sessions
from service.portal.typed import LONGEST_TYPED, contact_kind, declared_formats, faults, typed_code

REPLACEABLE = frozenset({ContactKind.PHONE, ContactKind.EMAIL})


@dataclass(frozen=True, slots=True)
class Way:
    """A contact point as its page shows it."""

    point: ContactPoint
    is_removable: bool


@dataclass(frozen=True, slots=True)
class Contacts:
    """Adds, replaces and removes the contacts of a signed-in member."""

    database: Database
    pack: PolicyPack
    access: AccessSnapshot
    members: Members
    claims: Claims
    sessions: Sessions
    clock: Clock
    limits: CodeLimits
    region: str | None

    async def ways(self, member_id: MemberId) -> list[Way]:
        """Give a member's contact points and which of them may go."""
        async with self.database.read() as session:
            points = await self.members.contact_points.points_of(session, member_id)
        return [Way(point, removable(point, points)) for point in points]

    async def propose(
        self,
        caller: Caller,
        session: PortalSession,
        typed: str,
        slot: str | None,
        address: str | None,
    ) -> str | None:
        """Send a code to a new contact; gives the code of what is wrong with it, or None.

        `slot` is the cell it shall replace, None to add it. The answer is the same whoever else
        has this number or address. It uses up the session's fresh proof.
        """
        self._may(caller, "add")
        member_id = MemberId(session.member_id or "")
        kind = contact_kind(typed) if len(typed) <= LONGEST_TYPED else None
        if kind is None:
            return "contact" if typed.strip() else "empty"
        if slot is not None and slot != kind.value:
            return "other_kind"
        now_us = self.clock.now_us()
        try:
            prepared = prepare(self.pack, {kind.value: typed.strip()}, self._declared())
        except MemberDataError as error:
            return faults(error.errors).get(kind.value, "invalid")
        async with self.database.unit_of_work() as work:
            await self.sessions.spend(work, session, CONTACTS)
            claim = await self.claims.open(
                work,
                caller,
                kind.value,
                prepared.values,
                member_id=member_id,
                slot=slot,
                subject=await self.members.pseudonym(work, member_id),
            )
            await self._want_code(work, claim, address, now_us)
        return None

    async def waiting(self, member_id: MemberId) -> Claim | None:
        """Find the contact that waits for its code."""
        async with self.database.read() as session:
            return await self.claims.of_member(session, member_id)

    async def new_code(self, claim: Claim, address: str | None) -> None:
        """Send another code; the one before stops working."""
        async with self.database.unit_of_work() as work:
            await self._want_code(work, claim, address, self.clock.now_us())

    async def prove(self, caller: Caller, session: PortalSession, claim: Claim, typed: str) -> bool:
        """Take a code; when it was right, the contact is the member's from now on.

        Whom the member was reached by before is told, and every other session ends.
        """
        self._may(caller, "verify")
        member_id = MemberId(session.member_id or "")
        async with self.database.read() as reader:
            subject = await self.members.pseudonym(reader, member_id)
        values = await self.claims.prove(caller, claim, typed_code(typed), subject=subject)
        if values is None:
            return False
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            change = "added" if claim.slot is None else "replaced"
            await self._tell(work, session, change, now_us)
            point = await self._store(work, caller, member_id, claim, values, now_us)
            await self.members.contact_points.prove(work, caller, point, now_us=now_us)
            await self.claims.drop(work, claim.id)
        return True

    async def remove(self, caller: Caller, session: PortalSession, contact_point_id: str) -> None:
        """Forget a contact point of the member, or `NotFoundError`, or why it has to stay."""
        self._may(caller, "add")
        member_id, now_us = MemberId(session.member_id or ""), self.clock.now_us()
        async with self.database.unit_of_work() as work:
            await self._tell(work, session, "removed", now_us)
            await self.members.contact_points.remove(
                work, caller, member_id, contact_point_id, now_us=now_us
            )
            await self.sessions.spend(work, session, CONTACTS)

    async def _tell(
        self, work: UnitOfWork, session: PortalSession, change: str, now_us: int
    ) -> None:
        """Tell every contact proven so far that one changes, and end the other sessions."""
        for point in await proven_points(work, self.members, session):
            told = {"contact_point_id": point.id, "kind": point.kind, "change": change}
            await put_message(work, CONTACT_CHANGED, told, now_us=now_us)
        await self.sessions.close_others(work, session)

    async def _store(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        claim: Claim,
        values: dict[str, str],
        now_us: int,
    ) -> ContactPoint:
        declared = self._declared()
        if claim.slot is None:
            added, _ = await self.members.contact_points.add(
                work,
                caller,
                member_id,
                claim.kind,
                values[claim.kind],
                declared,
                now_us=now_us,
                send_code=False,
            )
            return added
        prepared = prepare(self.pack, values, declared)
        await self.members.update(
            work, caller, member_id, prepared, now_us=now_us, send_codes=False
        )
        points = await self.members.contact_points.points_of(work, member_id)
        return _at(points, claim.slot)

    async def _want_code(
        self, work: UnitOfWork, claim: Claim, address: str | None, now_us: int
    ) -> None:
        if self.limits.ask(address, now_us) and self.limits.send(claim.contact_digest, now_us):
            await self.claims.want_code(work, claim)

    def _declared(self) -> Formats:
        return declared_formats(self.region, "iso", to_date(self.clock.now_us()))

    def _may(self, caller: Caller, action: str) -> None:
        if not self.access.allows(caller.role, caller.brand, "contact_point", action):
            raise NotAllowedError(reason="role_not_allowed")


def _at(points: Sequence[ContactPoint], slot: str) -> ContactPoint:
    for point in points:
        if point.field == slot:
            return point
    raise NotFoundError("no such contact point", reason="contact_point_unknown")
