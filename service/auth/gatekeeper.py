"""The gatekeeper: who a bearer token belongs to, and whether it may do what it asks.

Tokens are looked up once and kept until their epoch or their minutes run out; the consented
read compares the epoch inside its own statement, so a revoked client is stopped by the database
and not by this cache. A refusal is written to the trail before it is answered.
"""

from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request

from audit import AuditLog
from disclosure import Epochs, epochs
from kernel import (
    Caller,
    Clock,
    Database,
    NotAllowedError,
    NotAuthenticatedError,
    RequestId,
    UnavailableError,
    fact,
)
from kernel.web import credentials
from policies import AccessSnapshot, PolicyPack, parse_scopes, scope_grammar
from service.auth import repository
from service.auth.clients import token_hash
from service.facts import FACT_POLICY

_MOST_TOKENS = 10_000
_BEARER = "bearer "
_LONGEST_TOKEN = 256
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Known:
    """A token whose owner was looked up."""

    client_id: str
    brand: str
    scopes: frozenset[str]
    grants: frozenset[tuple[str, str]]
    expires_us: int


class TokenGatekeeper:
    """Authenticates clients by opaque bearer tokens."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        pack: PolicyPack,
        access: AccessSnapshot,
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._pack = pack
        self._access = access
        self._clock = clock
        self._grammar = frozenset(scope_grammar(pack))
        self._epochs = Epochs(0, 0)
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def epochs(self) -> Epochs:
        """Give the epochs under which the cached tokens were looked up."""
        return self._epochs

    async def refresh(self) -> None:
        """Forget every token and read the epochs again.

        When another policy pack was activated, this process must not decide any more: it
        compiled the old one.
        """
        async with self._database.read() as session:
            found = await epochs(session)
            active = await fact(session, FACT_POLICY)
        if active != self._pack.digest:
            raise UnavailableError(
                "another policy pack was activated",
                reason="policy_changed",
                remedy="Restart the service; it loads the active pack.",
            )
        self._known.clear()
        self._epochs = Epochs(*found)

    async def caller(self, request: Request) -> Caller:
        """Give the client behind the bearer token, or `NotAuthenticatedError`."""
        return await self.authenticate(*credentials(request))

    async def authenticate(self, authorization: str, request_id: str) -> Caller:
        """Give the client behind an Authorization header, or `NotAuthenticatedError`."""
        header = authorization
        if header[:7].lower() != _BEARER or len(header) > _LONGEST_TOKEN:
            raise NotAuthenticatedError("a bearer token is needed", reason="token_missing")
        token = header[7:].strip()
        known = self._known.get(token)
        if known is None:
            known = await self._look_up(token)
        if known.expires_us <= self._clock.now_us():
            self._known.pop(token, None)
            raise NotAuthenticatedError("the token has run out", reason="token_expired")
        return Caller(
            known.client_id,
            "app",
            "api",
            known.brand,
            RequestId(request_id),
            known.scopes,
            known.grants,
        )

    async def require(
        self, request: Request, resource: str, action: str, purpose: str | None = None
    ) -> Caller:
        """Give the caller if its scopes and role allow this; a refusal is an event."""
        caller = await self.caller(request)
        under = self._epochs
        async with self._database.read() as session:
            present = Epochs(*await epochs(session))
        if present != under:
            await self.refresh()
            caller = await self.caller(request)
        if (resource, action) in caller.grants and self._access.allows(
            caller.role, caller.brand, resource, action, purpose
        ):
            return caller
        async with self._database.unit_of_work() as work:
            audit_id = await self._audit.record(
                work,
                caller,
                f"{resource}.{action}",
                decision="deny",
                reason="scope_missing",
                purpose=purpose,
            )
        raise NotAllowedError(reason="scope_missing", audit_id=audit_id)

    async def _look_up(self, token: str) -> _Known:
        found = await self._find(token)
        if found is None:
            raise NotAuthenticatedError("the token is not known", reason="token_unknown")
        stored, brand = found
        # A pack may have dropped a purpose since: then the scope for it means nothing any more.
        known_scopes = [name for name in stored.scopes if name in self._grammar]
        scopes = parse_scopes(known_scopes, self._pack)
        known = _Known(
            stored.client_id, brand, frozenset(scopes.names), scopes.grants, stored.expires_us
        )
        self._known[token] = known
        while len(self._known) > _MOST_TOKENS:
            self._known.popitem(last=False)
        return known

    async def _find(self, token: str) -> tuple[repository.Token, str] | None:
        """Look a token up under the epochs that this process goes by.

        What was read under other epochs is not used: its client may have been revoked since,
        and would be taken for one that was looked up after that. No session is held while
        another is asked for, or a busy worker could run out of both.
        """
        for _ in range(_ATTEMPTS):
            under = self._epochs
            async with self._database.read() as session:
                present = Epochs(*await epochs(session))
                found = await repository.token_by_hash(session, token_hash(token))
            if present == under == self._epochs:
                return found
            await self.refresh()
        raise UnavailableError("clients and policies are changing", reason="epochs_moving")
