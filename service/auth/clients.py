"""Internal apps: registering them, their secrets, and the opaque tokens they work with.

Secrets and tokens are 256 random bits and are stored as SHA-256 only: there is nothing to
guess, so nothing to slow down. A token is bound to its client's brand and to scopes, lives for
minutes, and dies with the client. A revocation is done when reads begun before it have drained.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Any

from audit import AuditLog, RightsKind, RightsLedger
from disclosure import AUTH_EPOCH
from kernel import (
    Caller,
    Clock,
    ConflictError,
    Database,
    FieldProblem,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    YinyomError,
    bump_epoch,
    new_id,
)
from policies import PolicyPack, parse_scopes
from service.auth import repository
from service.auth.replay import REVOKED, ROTATED
from service.auth.repository import ACTIVE, Client

_SECRET_BYTES = 32
_ED25519_KEY_BYTES = 32
_MAX_NAME = 64
PERSON = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}")
DRAIN_SECONDS = 1.0


class OAuthError(YinyomError):
    """The token endpoint refused, in the words of RFC 6749 section 5.2."""

    slug = "oauth"
    status = 400
    title = "No token"
    remedy = "Check grant type, client id, secret and scope."

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(reason=code)
        self.code = code
        self.status = status


def token_hash(token: str) -> bytes:
    """Give the form in which secrets and tokens are stored."""
    return hashlib.sha256(token.encode()).digest()


def _agent_key(text: str) -> bytes:
    """Read an Ed25519 public key: 32 bytes in base64, of either alphabet."""
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        key = b""
    if len(key) != _ED25519_KEY_BYTES:
        detail = "an Ed25519 public key is 32 bytes in base64"
        raise InvalidRequestError(errors=[FieldProblem("/drp_public_key", "key", detail)])
    return key


def _agent(one: Client) -> dict[str, str]:
    """Say by which key and for which business an authorised agent speaks; nothing of an app."""
    if one.agent_key is None:
        return {}
    key = base64.b64encode(one.agent_key).decode()
    return {"business_id": one.brand, "drp_public_key": key}


class Clients:
    """The registered internal apps, and the authorised agents of members."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        pack: PolicyPack,
        clock: Clock,
        rights: RightsLedger,
    ) -> None:
        self._rights = rights
        self._database = database
        self._audit = audit
        self._pack = pack
        self._clock = clock

    async def add(
        self,
        caller: Caller,
        name: str,
        scopes: Sequence[str],
        *,
        brand: str,
        person: str | None = None,
        members_a_day: int | None = None,
    ) -> dict[str, Any]:
        """Register an app; its secret is shown once, here.

        `members_a_day` is how many distinct members it may read in a day, None for the setting.

        With `person` it is the one of the staff who has that handle, wherever two persons are
        needed; without, it is nobody and can second nothing.
        """
        checked = parse_scopes(scopes, self._pack)
        if person is not None and not PERSON.fullmatch(person):
            raise InvalidRequestError(
                errors=[FieldProblem("/person", "person", "a handle of a-z and 0-9")]
            )
        now_us = self._clock.now_us()
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        client_id = new_id("cli", now_us)
        if members_a_day is not None and members_a_day < 1:
            raise InvalidRequestError(
                errors=[FieldProblem("/members_a_day", "too_small", "1 or more")]
            )
        new = Client(
            client_id,
            name,
            brand,
            token_hash(secret),
            checked.names,
            ACTIVE,
            now_us,
            person=person,
            members_a_day=members_a_day,
        )
        await self._store(caller, new)
        return {"client_id": client_id, "client_secret": secret, "scopes": list(checked.names)}

    async def add_agent(
        self, caller: Caller, name: str, public_key: str, *, brand: str
    ) -> dict[str, Any]:
        """Register an authorised agent of the Data Rights Protocol by its Ed25519 public key.

        It has no secret and no scope, so the token endpoint gives it nothing; the business it
        addresses is the brand.
        """
        key = _agent_key(public_key)
        now_us = self._clock.now_us()
        new = Client(new_id("cli", now_us), name, brand, b"", (), ACTIVE, now_us, key)
        await self._store(caller, new)
        return {"client_id": new.id, "scopes": []} | _agent(new)

    async def _store(self, caller: Caller, new: Client) -> None:
        if not 0 < len(new.name) <= _MAX_NAME or not new.name.isprintable():
            raise InvalidRequestError(errors=[FieldProblem("/name", "name", "1 to 64 letters")])
        try:
            async with self._database.unit_of_work() as work:
                await repository.add_client(work, new)
                await self._audit.record(work, caller, "client.add", resource=f"client:{new.id}")
        except IntegrityError:
            raise ConflictError(
                "an active client of this brand has this name",
                reason="client_exists",
                remedy="Choose another name, or rotate the secret of the one there is.",
            ) from None

    async def rotate(self, caller: Caller, client: str) -> dict[str, Any]:
        """Give an app a new secret; the old one and its tokens stop at once."""
        found = await self.find(client)
        if found.agent_key is not None:
            raise ConflictError(
                "an authorised agent has a key of its own and no secret",
                reason="client_has_no_secret",
                remedy="Revoke it, and add it anew with its new public key.",
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        async with self._database.unit_of_work() as work:
            await repository.set_secret(work, found.id, token_hash(secret))
            await bump_epoch(work, AUTH_EPOCH)
            told = {"client": found.id, "change": ROTATED}
            await self._rights.record(work, RightsKind.CLIENT, found.id, told)
            await self._audit.record(work, caller, "client.rotate", resource=f"client:{found.id}")
        await self._drain()
        return {"client_id": found.id, "client_secret": secret, "scopes": list(found.scopes)}

    async def revoke(self, caller: Caller, client: str) -> dict[str, Any]:
        """Revoke an app; when this returns, no read of it is under way any more."""
        found = await self.find(client)
        async with self._database.unit_of_work() as work:
            await repository.revoke(work, found.id)
            await bump_epoch(work, AUTH_EPOCH)
            told = {"client": found.id, "change": REVOKED}
            await self._rights.record(work, RightsKind.CLIENT, found.id, told)
            await self._audit.record(work, caller, "client.revoke", resource=f"client:{found.id}")
        await self._drain()
        return {"client_id": found.id, "state": "revoked"}

    async def list(self) -> list[dict[str, Any]]:
        """Describe every app, without secrets."""
        async with self._database.read() as session:
            found = await repository.all_clients(session)
        return [
            {
                "client_id": one.id,
                "name": one.name,
                "brand": one.brand,
                "scopes": list(one.scopes),
                "state": one.state,
            }
            | _agent(one)
            | ({} if one.person is None else {"person": one.person})
            | ({} if one.members_a_day is None else {"members_a_day": one.members_a_day})
            for one in found
        ]

    async def find(self, client: str) -> Client:
        """Find an active app by id or name, or `NotFoundError`."""
        async with self._database.read() as session:
            one = await repository.client_by_id(session, client)
            named = [] if one is not None else await repository.clients_by_name(session, client)
        found = one or (named[0] if len(named) == 1 else None)
        if found is None or found.state != ACTIVE:
            raise NotFoundError("no active client of this id or name", reason="client_unknown")
        return found

    async def client_in_brand(self, work: UnitOfWork, client_id: str, brand: str) -> bool:
        """Say whether an active client of this brand has this id."""
        found = await repository.client_by_id(work, client_id)
        return found is not None and found.brand == brand and found.state == ACTIVE

    @staticmethod
    async def members_a_day(session: ReadSession, client_id: str) -> int | None:
        """Give how many distinct members a client may read in a day, None for the setting."""
        found = await repository.client_by_id(session, client_id)
        return None if found is None else found.members_a_day

    async def scopes_of(self, session: ReadSession, client_id: str) -> frozenset[str] | None:
        """Give the scopes of an active client, or None."""
        found = await repository.client_by_id(session, client_id)
        return None if found is None or found.state != ACTIVE else frozenset(found.scopes)

    async def issue_token(
        self, client_id: str, secret: str, wanted: Sequence[str] | None, *, minutes: int
    ) -> dict[str, Any]:
        """Exchange a client's credentials for an access token (RFC 6749 section 4.4)."""
        token = secrets.token_urlsafe(_SECRET_BYTES)
        async with self._database.unit_of_work() as work:
            # Held until the token is stored: a rotation or revocation then finds and drops it.
            found = await repository.hold_client(work, client_id)
            stored = token_hash("") if found is None else found.secret_hash
            genuine = hmac.compare_digest(stored, token_hash(secret))
            if found is None or found.state != ACTIVE or not genuine:
                raise OAuthError("invalid_client", 401)
            scopes = found.scopes if wanted is None else tuple(sorted(set(wanted)))
            if not set(scopes) <= set(found.scopes):
                raise OAuthError("invalid_scope")
            expires_us = self._clock.now_us() + minutes * 60_000_000
            await repository.add_token(work, token_hash(token), found.id, scopes, expires_us)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": minutes * 60,
            "scope": " ".join(scopes),
        }

    async def _drain(self) -> None:
        """Reads compare the epoch when they write their event; wait for those under way."""
        await self._database.drain()
        if self._database.dialect != "sqlite":
            # What another worker has just put on record may still be on its way out.
            await asyncio.sleep(DRAIN_SECONDS)
