"""Sessions of the console: a random token in the browser, its hash with us.

They end half an hour after the last page, after a working day in any case, and at once when the
account is disabled, changes its role or gets another password. The token is new at each sign-in,
so one planted beforehand is worth nothing; every form carries a second secret derived from it.
"""

import re
import secrets
from dataclasses import dataclass

from fastapi import Request, Response

from kernel import Clock, Database
from service.auth.clients import token_hash
from service.staff import repository
from service.staff.repository import Account, StaffSession
from vault import Vault

COOKIE = "yinyom-console"
SECURE_COOKIE = "__Host-yinyom-console"
IDLE_US = 30 * 60_000_000
_SEEN_EVERY_US = 60_000_000
_TOKEN_BYTES = 32
_STRANGER = "v"
_TOKEN = re.compile(r"[sv][A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class StaffVisit:
    """Who is at the console: the token, the secret of its forms, the account if signed in.

    `is_new` means that the browser does not have the token yet; `ended` that it came with one
    whose session is over.
    """

    token: str
    csrf: str
    session: StaffSession | None
    account: Account | None
    is_new: bool
    ended: bool


class StaffSessions:
    """Finds sessions, and leaves notes in them for their next page."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock

    async def visit(self, request: Request) -> StaffVisit:
        """Find out who is at the door; the account is read anew for each request."""
        token = request.cookies.get(_cookie(request), "")
        if not _TOKEN.fullmatch(token):
            return self._stranger(ended=False)
        if token.startswith(_STRANGER):
            return StaffVisit(token, self._csrf(token), None, None, is_new=False, ended=False)
        now_us = self._clock.now_us()
        async with self._database.read() as reader:
            session = await repository.session_by_hash(
                reader, token_hash(token), now_us=now_us, idle_since_us=now_us - IDLE_US
            )
            account = (
                None
                if session is None
                else await repository.account_by_id(reader, session.staff_id)
            )
        if session is None or account is None or not account.is_active:
            return self._stranger(ended=True)
        if session.seen_us < now_us - _SEEN_EVERY_US:
            async with self._database.unit_of_work() as work:
                await repository.set_seen(work, session.token_hash, now_us)
        return StaffVisit(token, self._csrf(token), session, account, is_new=False, ended=False)

    async def leave_note(self, session: StaffSession, note: str | None) -> None:
        """Leave a code for the next page of a session."""
        async with self._database.unit_of_work() as work:
            await repository.set_note(work, session.token_hash, note)

    def _stranger(self, *, ended: bool) -> StaffVisit:
        token = _STRANGER + secrets.token_urlsafe(_TOKEN_BYTES)
        return StaffVisit(token, self._csrf(token), None, None, is_new=True, ended=ended)

    def _csrf(self, token: str) -> str:
        return self._vault.keyed_digest("console-csrf", token.encode()).hex()


def put_cookie(response: Response, request: Request, token: str) -> None:
    """Hand the browser its token, for this origin, out of reach of scripts and other sites."""
    response.set_cookie(
        _cookie(request), token, path="/", secure=_secure(request), httponly=True, samesite="strict"
    )


def _cookie(request: Request) -> str:
    return SECURE_COOKIE if _secure(request) else COOKIE


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
