"""What somebody typed waits here, sealed under a key of its own, until a code proves it theirs.

Keeps out whoever types another person's number: before the code comes back nobody is a member,
no member's contact changes, and nothing was looked up that an answer could give away. A claim
that nobody proves is gone within the hour, key first.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence

from audit import AuditLog
from kernel import Caller, Clock, Database, MemberId, ReadSession, UnitOfWork, new_id, put_message
from members import Forgotten
from service.claims import repository
from service.claims.repository import Attempt, Claim
from vault import OwnerKey, Vault

CLAIM_CODE_WANTED = "contact_claim.code_wanted"
CODE_TRIES = 5
CODE_LIFETIME_US = 10 * 60 * 1_000_000
LIFETIME_US = 30 * 60 * 1_000_000
OPEN = "contact_claim.open"
PROVE = "contact_claim.prove"
EXPIRE = "contact_claim.expire"
_KEY_KIND = "claim"
_TABLE = "contact_claim"
_DIGITS = 6
_BATCH = 200


class Claims:
    """Opens claims, takes their codes, and forgets them."""

    def __init__(self, database: Database, vault: Vault, audit: AuditLog, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._clock = clock

    async def open(
        self,
        work: UnitOfWork,
        caller: Caller,
        kind: str,
        values: Mapping[str, str],
        *,
        member_id: MemberId | None = None,
        slot: str | None = None,
        subject: OwnerKey | None = None,
    ) -> Claim:
        """Seal what was typed (normal forms by field) and store it; `kind` names the contact.

        A member has one claim open at a time: an earlier one ends here.
        """
        now_us = self._clock.now_us()
        if member_id is not None:
            for earlier in await repository.ids_of_member(work, member_id):
                await self.drop(work, earlier)
        claim_id = new_id("cp", now_us)
        keys = await self._vault.make_keys(work, claim_id, [_KEY_KIND])
        sealed = self._vault.seal(keys[_KEY_KIND], _TABLE, claim_id, values)
        digest = self._vault.keyed_digest("claim-contact", values[kind].encode())
        claim = Claim(claim_id, member_id, kind, slot, 0, sealed, digest)
        await repository.add(work, claim, expires_us=now_us + LIFETIME_US)
        fields = tuple(sorted(sealed))
        await self._audit.record(work, caller, OPEN, subject=subject, fields=fields)
        return claim

    async def want_code(self, work: UnitOfWork, claim: Claim) -> None:
        """Ask for a code to be sent; the one before stops working at once."""
        await repository.forget_code(work, claim.id)
        await put_message(
            work,
            CLAIM_CODE_WANTED,
            {"contact_point_id": claim.id, "kind": claim.kind},
            now_us=self._clock.now_us(),
        )

    async def issue_code(
        self, work: UnitOfWork, wanted: Mapping[str, str], *, now_us: int
    ) -> str | None:
        """Make the code that a message asks for; None when the claim has gone."""
        claim_id = wanted["contact_point_id"]
        code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}d}"
        mac = self._mac(claim_id, code)
        until_us = now_us + CODE_LIFETIME_US
        stored = await repository.set_code(work, claim_id, mac, until_us=until_us)
        return code if stored else None

    async def read(self, session: ReadSession, claim_id: str) -> Claim | None:
        """Find a claim that has not run out."""
        return await repository.read(session, claim_id, now_us=self._clock.now_us())

    async def of_member(self, session: ReadSession, member_id: MemberId) -> Claim | None:
        """Find the claim that a member has open."""
        return await repository.of_member(session, member_id, now_us=self._clock.now_us())

    async def prove(
        self, caller: Caller, claim: Claim, code: str, *, subject: OwnerKey | None = None
    ) -> dict[str, str] | None:
        """Take a code; gives what was typed when it was right, else None.

        The attempt and its event are stored before anything is opened. A right code is used
        up by it; the claim stays until it is dropped.
        """
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            attempt = await repository.try_code(work, claim.id, now_us=now_us)
            reason = self._refusal(claim.id, attempt, code, now_us)
            event = self._audit.draft(
                caller,
                PROVE,
                subject=subject,
                fields=tuple(sorted(claim.sealed)) if reason is None else (),
                decision="deny" if reason else "allow",
                reason=reason,
            )
            await self._audit.record_many(work, [event])
            if reason is None:
                await repository.forget_code(work, claim.id)
        if reason is not None:
            return None
        async with self._database.read() as session:
            keys = await self._vault.keys_of(session, claim.id)
        if _KEY_KIND not in keys:
            return None
        ticket = self._audit.ticket(event, claim.id)
        return self._vault.open(ticket, keys[_KEY_KIND], _TABLE, claim.id, claim.sealed)

    async def drop(self, work: UnitOfWork, claim_id: str) -> None:
        """Forget a claim, its key with it."""
        await self._vault.erase(work, claim_id, keep={})
        await repository.drop(work, claim_id)

    async def forget(
        self, work: UnitOfWork, member_id: MemberId, _now_us: int
    ) -> Sequence[Forgotten]:
        """Forget what a member left unproven (see `members.EraseParticipant`)."""
        found = await repository.ids_of_member(work, member_id)
        for claim_id in found:
            await self.drop(work, claim_id)
        return [Forgotten("contact_claim", None, "erased")] if found else []

    async def sweep(self, caller: Caller) -> int:
        """Forget claims that have run out; gives how many."""
        dropped = 0
        while True:
            async with self._database.unit_of_work() as work:
                found = await repository.old(work, now_us=self._clock.now_us(), most=_BATCH)
                for claim_id in found:
                    await self.drop(work, claim_id)
                if found:
                    await self._audit.record(work, caller, EXPIRE, count=len(found))
            dropped += len(found)
            if len(found) < _BATCH:
                return dropped

    def _refusal(
        self, claim_id: str, attempt: Attempt | None, code: str, now_us: int
    ) -> str | None:
        if attempt is None or attempt.mac is None or attempt.expires_us is None:
            return "no_code"
        if attempt.attempts > CODE_TRIES:
            return "too_many_attempts"
        if now_us > attempt.expires_us:
            return "code_expired"
        if not hmac.compare_digest(attempt.mac, self._mac(claim_id, code)):
            return "code_wrong"
        return None

    def _mac(self, claim_id: str, code: str) -> bytes:
        return self._vault.keyed_digest("claim-code", claim_id.encode(), code.encode())
