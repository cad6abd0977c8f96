"""Signing in with a one-time code, without telling anybody who is a member.

Whether somebody has the number that was typed must not show: not in the answer, not in the page
behind it, not in how long either takes. So a session waits in every case, every refusal of a
code reads alike, and both steps take at least a fixed time, longer than their work does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from audit import AuditLog
from disclosure import self_caller
from kernel import Caller, Clock, Database, MemberId, NotFoundError, RequestId, UnitOfWork, to_date
from members import ContactPoint, Members, formats
from policies import ContactKind
from service.auth.repository import PortalSession
from service.limits import CodeLimits
from service.portal.sessions import Sessions, State
from service.portal.typed import typed_code

CODE_TRIES = 5
NOTE_NEW_CODE = "new_code"
SIGN_IN_USE = "sign_in"
VIA = "portal"
_CODE_DIGITS = 6
_PACE_SECONDS = 0.25


def tries_of(session: PortalSession) -> int:
    """Count the codes that were tried in a waiting session."""
    return int(session.note) if session.note is not None and session.note.isdecimal() else 0


class SignIn:
    """Asks for codes and takes them."""

    def __init__(
        self,
        database: Database,
        members: Members,
        audit: AuditLog,
        sessions: Sessions,
        clock: Clock,
        limits: CodeLimits,
        *,
        pace_seconds: float = _PACE_SECONDS,
    ) -> None:
        self._database = database
        self._members = members
        self._points = members.contact_points
        self._audit = audit
        self._sessions = sessions
        self._clock = clock
        self._pace_seconds = pace_seconds
        self._limits = limits

    async def request_code(
        self,
        kind: ContactKind,
        typed: str,
        region: str,
        address: str | None,
        *,
        former: PortalSession | None,
    ) -> str:
        """Send a code if somebody has this contact point; gives the waiting session's token.

        The former session of the same browser, if there is one, ends here.
        """
        async with self._paced():
            now_us = self._clock.now_us()
            declared = formats(region, None, None, to_date(now_us))
            async with self._database.read() as session:
                point = await self._points.sign_in_point(session, kind.value, typed, declared)
            async with self._database.unit_of_work() as work:
                await self._want_code(work, point, address, now_us)
                if former is not None:
                    await self._sessions.close(work, former)
                return await self._wait(work, point)

    async def new_code(self, session: PortalSession, address: str | None) -> str:
        """Send another code to where a waiting session's first one went, and wait anew."""
        async with self._paced():
            now_us = self._clock.now_us()
            async with self._database.unit_of_work() as work:
                point = await self._point_of(work, session)
                await self._want_code(work, point, address, now_us)
                await self._sessions.close(work, session)
                return await self._wait(work, point, note=NOTE_NEW_CODE)

    async def try_code(self, session: PortalSession, typed: str, request_id: str) -> str | None:
        """Take a code; gives the token of the session it opens, or None when it was refused."""
        async with self._paced():
            if tries_of(session) >= CODE_TRIES:
                return None
            try:
                return await self._verify(session, typed_code(typed), request_id)
            except NotFoundError:  # erased since the code was sent
                async with self._database.unit_of_work() as work:
                    await self._refuse(work, session, request_id)
                return None

    async def _verify(self, session: PortalSession, code: str, request_id: str) -> str | None:
        """Verify in one transaction; a refused attempt is stored, an opened session too."""
        async with self._database.unit_of_work() as work:
            point_id, member_id = session.contact_point_id, session.member_id
            if point_id is None or member_id is None or len(code) != _CODE_DIGITS:
                await self._refuse(work, session, request_id)
                return None
            member = MemberId(member_id)
            reason = await self._points.verify(
                work,
                _visitor(request_id),
                member,
                point_id,
                code,
                use=SIGN_IN_USE,
                now_us=self._clock.now_us(),
            )
            if reason is not None:
                await self._count_try(work, session)
                return None
            row = await self._members.read(work, member)
            await self._audit.record(
                work,
                self_caller(row.brand, VIA, request_id),
                "session.begin",
                subject=await self._members.pseudonym(work, member),
            )
            await self._sessions.close(work, session)
            return await self._sessions.open(work, State.SIGNED_IN, member, point_id)

    async def _refuse(self, work: UnitOfWork, session: PortalSession, request_id: str) -> None:
        """Refuse a code that nobody could have been sent, with the same traces as any other."""
        await self._audit.record(
            work,
            _visitor(request_id),
            "contact_point.verify",
            decision="deny",
            reason="code_wrong",
        )
        await self._count_try(work, session)

    async def _count_try(self, work: UnitOfWork, session: PortalSession) -> None:
        await self._sessions.leave_note(work, session, str(tries_of(session) + 1))

    async def _want_code(
        self, work: UnitOfWork, point: ContactPoint | None, address: str | None, now_us: int
    ) -> None:
        may = self._limits.ask(address, now_us)
        if may and point is not None and self._limits.send(point.id.encode(), now_us):
            await self._points.want_code(work, point.id, point.kind, use=SIGN_IN_USE, now_us=now_us)

    async def _wait(
        self, work: UnitOfWork, point: ContactPoint | None, *, note: str | None = None
    ) -> str:
        member_id = None if point is None else point.member_id
        point_id = None if point is None else point.id
        return await self._sessions.open(work, State.WAITING, member_id, point_id, note=note)

    async def _point_of(self, work: UnitOfWork, session: PortalSession) -> ContactPoint | None:
        if session.member_id is None:
            return None
        points = await self._points.points_of(work, MemberId(session.member_id))
        return next((point for point in points if point.id == session.contact_point_id), None)

    @asynccontextmanager
    async def _paced(self) -> AsyncIterator[None]:
        """Take at least the pace, whatever happens inside."""
        enough = asyncio.create_task(asyncio.sleep(self._pace_seconds))
        try:
            yield
        finally:
            await enough


def _visitor(request_id: str) -> Caller:
    """Give the caller of a code that nobody has proven to own yet."""
    return Caller("visitor", "visitor", VIA, "*", RequestId(request_id))
