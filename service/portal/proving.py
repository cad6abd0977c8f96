"""A fresh code before the contacts change: it goes where the member was reached before.

A browser left signed in must not be enough to take a member's contacts over, because whoever
holds the contacts holds every later code. The code is good in the browser that asked for it, for
one change, for as long as any fresh code is.
"""

from dataclasses import dataclass

from kernel import Caller, Clock, Database, MemberId, ReadSession
from members import ContactPoint, ContactPointNotFoundError, Members
from service.auth.repository import PortalSession
from service.limits import CodeLimits
from service.portal.sessions import Sessions
from service.portal.typed import typed_code

CONTACTS = "contacts"
_CODE_DIGITS = 6


async def reached_by(
    reader: ReadSession, members: Members, session: PortalSession
) -> ContactPoint | None:
    """Give the contact that gets a session's codes: the one it began with, if it still counts.

    Only a contact that was proven gets any; None when the member has none left.
    """
    found = await proven_points(reader, members, session)
    return next((one for one in found if one.id == session.contact_point_id), None) or next(
        iter(found), None
    )


async def proven_points(
    reader: ReadSession, members: Members, session: PortalSession
) -> list[ContactPoint]:
    """Give the contacts of a session's member that were proven."""
    points = await members.contact_points.points_of(reader, MemberId(session.member_id or ""))
    return [point for point in points if point.verified_us is not None]


@dataclass(frozen=True, slots=True)
class ContactProof:
    """Asks for the code that opens one change of the contacts, and takes it."""

    database: Database
    members: Members
    sessions: Sessions
    clock: Clock
    limits: CodeLimits

    async def points(self, session: PortalSession) -> list[ContactPoint]:
        """Give the contacts that a code can go to."""
        async with self.database.read() as reader:
            return await proven_points(reader, self.members, session)

    async def send(self, session: PortalSession, point_id: str, address: str | None) -> None:
        """Send a code to a proven contact, or `ContactPointNotFoundError`."""
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            point = await self._point(work, session, point_id)
            if self.limits.ask(address, now_us) and self.limits.send(point.id.encode(), now_us):
                await self.members.contact_points.want_code(
                    work, point.id, point.kind, use=_use(session), now_us=now_us
                )

    async def take(self, caller: Caller, session: PortalSession, point_id: str, typed: str) -> bool:
        """Take a code; when it was right, this browser may make one change."""
        code = typed_code(typed)
        async with self.database.unit_of_work() as work:
            point = await self._point(work, session, point_id)
            if len(code) != _CODE_DIGITS:
                return False
            reason = await self.members.contact_points.verify(
                work,
                caller,
                point.member_id,
                point.id,
                code,
                use=_use(session),
                now_us=self.clock.now_us(),
            )
            if reason is None:
                await self.sessions.prove(work, session, CONTACTS)
        return reason is None

    async def _point(
        self, reader: ReadSession, session: PortalSession, point_id: str
    ) -> ContactPoint:
        for point in await proven_points(reader, self.members, session):
            if point.id == point_id:
                return point
        raise ContactPointNotFoundError(reason="contact_point_unknown")


def _use(session: PortalSession) -> str:
    """Name what the code is for: the contacts, in this browser and no other."""
    return f"{CONTACTS}:{session.token_hash.hex()}"
