"""Sessions of the portal: a random token in the browser, its hash with us, half an hour.

Kinds of visit: a stranger (a token that we do not store, so that looking at the sign-in page
writes nothing), a session that waits for a code, to sign in or to join, and a signed-in member.
The token changes at each step, so a token planted beforehand is worth nothing; every form carries
a second secret derived from the token, so another site's page cannot send one.
"""

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from fastapi import Request, Response

from consent import ConsentService
from kernel import Clock, Database, MemberId, NotFoundError, UnitOfWork
from service.auth import repository
from service.auth.clients import token_hash
from service.auth.repository import PortalSession
from service.portal.errors import FreshProofNeededError
from vault import Vault

COOKIE = "yinyom"
SECURE_COOKIE = "__Host-yinyom"
LIFETIME_US = 30 * 60 * 1_000_000
_TOKEN_BYTES = 32
_STORED = "s"
_STRANGER = "v"
_TOKEN = re.compile(rf"[{_STORED}{_STRANGER}][A-Za-z0-9_-]{{43}}")


class State(StrEnum):
    """How far a stored session has come.

    What a session is about stands in its `contact_point_id`: the point that gets the code or let
    the member in, the claim of somebody who joins, the request of somebody who was erased.
    """

    WAITING = "waiting"
    JOINING = "joining"
    SIGNED_IN = "signed_in"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who is at the door: the token, the secret its forms carry, the stored session if any.

    `is_new` means that the browser does not have the token yet; `ended` that it came with one
    whose session is over.
    """

    token: str
    csrf: str
    session: PortalSession | None
    is_new: bool
    ended: bool

    @property
    def state(self) -> State | None:
        """How far this visit has come; None for a stranger."""
        return None if self.session is None else State(self.session.state)


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        consent: ConsentService,
        clock: Clock,
        *,
        proof_us: int,
    ) -> None:
        self._proof_us = proof_us
        self._database = database
        self._vault = vault
        self._consent = consent
        self._clock = clock

    async def visit(self, request: Request) -> Visit:
        """Find out who is at the door; an erased member's session is over."""
        token = request.cookies.get(_cookie(request), "")
        if not _TOKEN.fullmatch(token):
            return self._stranger(ended=False)
        if token.startswith(_STRANGER):
            return Visit(token, self._csrf(token), None, is_new=False, ended=False)
        session = await self._living(token)
        if session is None:
            return self._stranger(ended=True)
        return Visit(token, self._csrf(token), session, is_new=False, ended=False)

    async def open(
        self,
        work: UnitOfWork,
        state: State,
        member_id: MemberId | None,
        contact_point_id: str | None,
        *,
        note: str | None = None,
    ) -> str:
        """Store a session under a fresh token; gives the token, which is not stored."""
        token = _STORED + secrets.token_urlsafe(_TOKEN_BYTES)
        hashed = token_hash(token)
        expires_us = self._clock.now_us() + LIFETIME_US
        session = PortalSession(hashed, state.value, member_id, contact_point_id, None, expires_us)
        await repository.add_session(work, session)
        if note is not None:
            await repository.set_note(work, hashed, note)
        return token

    async def leave_note(self, work: UnitOfWork, session: PortalSession, note: str | None) -> None:
        """Leave a code for the next page of a session."""
        await repository.set_note(work, session.token_hash, note)

    async def close(self, work: UnitOfWork, session: PortalSession) -> None:
        """End a session."""
        await repository.drop_session(work, session.token_hash)

    async def close_others(self, work: UnitOfWork, session: PortalSession) -> None:
        """End every other session of the member, however they were begun."""
        await repository.drop_other_sessions(work, session.member_id or "", session.token_hash)

    # --- fresh proof ------------------------------------------------------------------

    async def prove(self, work: UnitOfWork, session: PortalSession, what: str) -> None:
        """Remember that a fresh code was answered in this browser, for one thing."""
        await repository.note_proof(work, session.token_hash, what, self._clock.now_us())

    async def spend(self, work: UnitOfWork, session: PortalSession, what: str) -> None:
        """Use up the fresh proof for one thing, or `FreshProofNeededError`.

        Whoever finds another browser of the member signed in has answered no code in it.
        """
        since_us = self._clock.now_us() - self._proof_us
        if not await repository.spend_proof(work, session.token_hash, what, since_us):
            raise FreshProofNeededError(reason="step_up_required")

    def require(self, session: PortalSession, what: str) -> None:
        """Go on only with fresh proof for something, without using it up."""
        if not self.is_proven(session, what):
            raise FreshProofNeededError(reason="step_up_required")

    def is_proven(self, session: PortalSession, what: str) -> bool:
        """Say whether a session has fresh proof for something, as it stood when it was read."""
        since_us = self._clock.now_us() - self._proof_us
        return session.proven_for == what and (session.proven_us or 0) >= since_us

    def _stranger(self, *, ended: bool) -> Visit:
        token = _STRANGER + secrets.token_urlsafe(_TOKEN_BYTES)
        return Visit(token, self._csrf(token), None, is_new=True, ended=ended)

    async def _living(self, token: str) -> PortalSession | None:
        now_us = self._clock.now_us()
        async with self._database.read() as reader:
            session = await repository.session_by_hash(reader, token_hash(token), now_us=now_us)
            if session is None or session.state != State.SIGNED_IN or session.member_id is None:
                return session
            try:
                gate = await self._consent.gate(reader, MemberId(session.member_id))
            except NotFoundError:
                return None
        return None if gate.state.is_closed else session

    def _csrf(self, token: str) -> str:
        return self._vault.keyed_digest("portal-csrf", token.encode()).hex()


def put_cookie(response: Response, request: Request, token: str) -> None:
    """Hand the browser its token, for this origin, out of reach of scripts and other sites."""
    response.set_cookie(
        _cookie(request), token, path="/", secure=_secure(request), httponly=True, samesite="lax"
    )


def _cookie(request: Request) -> str:
    return SECURE_COOKIE if _secure(request) else COOKIE


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
