"""Contacts: how a member is reached and let in; a new one counts once its code has come back.

The old number stays until the new one is proven, so a slip of the finger locks nobody out, and
whoever finds a browser signed in cannot take the account to a number of theirs unseen: every
change is an event, and the way in that is left is never removed.
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
from service.claims import Claim, Claims
from service.limits import CodeLimits
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
        member_id: MemberId,
        typed: str,
        slot: str | None,
        address: str | None,
    ) -> str | None:
        """Send a code to a new contact; gives the code of what is wrong with it, or None.

        `slot` is the cell it shall replace, None to add it. The answer is the same whoever else
        has this number or address.
        """
        self._may(caller, "add")
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
            claim = await self.claims.open(
                work, kind.value, prepared.values, member_id=member_id, slot=slot
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

    async def prove(self, caller: Caller, member_id: MemberId, claim: Claim, typed: str) -> bool:
        """Take a code; when it was right, the contact is the member's from now on."""
        self._may(caller, "verify")
        async with self.database.read() as session:
            subject = await self.members.pseudonym(session, member_id)
        values = await self.claims.prove(caller, claim, typed_code(typed), subject=subject)
        if values is None:
            return False
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            point = await self._store(work, caller, member_id, claim, values, now_us)
            await self.members.contact_points.prove(work, caller, point, now_us=now_us)
            await self.claims.drop(work, claim.id)
        return True

    async def remove(self, caller: Caller, member_id: MemberId, contact_point_id: str) -> None:
        """Forget a contact point of the member, or `NotFoundError`, or why it has to stay."""
        self._may(caller, "add")
        async with self.database.unit_of_work() as work:
            await self.members.contact_points.remove(
                work, caller, member_id, contact_point_id, now_us=self.clock.now_us()
            )

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
