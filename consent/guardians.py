"""Guardians: who may decide for, or together with, a minor, and how that was proven.

A guardian is another member, or somebody who is reached by a contact of their own; either way
a code goes to that contact and comes back. A proof counts for one minor. What is kept is who,
in which relation, by which method and when (PDPA s.20, GDPR art. 8(2)); the contact is a cell
under the minor's key and goes with the minor. Kept out: the minor who plays their own guardian.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from audit import AuditLog, RightsKind, RightsLedger
from consent import guardian_rows
from consent.decision import NEEDS_GUARDIAN
from consent.errors import ConsentError, GuardianUnknownError
from consent.guardian_rows import GuardianRow
from consent.model import ConsentRequest, Gate, GateState, Status
from consent.service import ConsentService
from kernel import (
    Caller,
    FieldProblem,
    MemberId,
    ReadSession,
    RequestId,
    UnitOfWork,
    new_id,
    put_message,
)
from policies import AgeTier
from vault import ORDINARY, Identifier, OwnerKey, Vault

GUARDIAN_CODE_WANTED = "guardian.code_wanted"
GUARDIAN_TABLE = "guardian"
CODE_DIGITS = 6
CODE_LIFETIME_US = 10 * 60 * 1_000_000
CODE_ATTEMPTS = 5
_MOST_GUARDIANS = 6
_CONTACT = "contact"


class Relation(StrEnum):
    """In which right a guardian stands for a minor."""

    PARENT = "parent"
    ADOPTIVE_PARENT = "adoptive_parent"
    LEGAL_GUARDIAN = "legal_guardian"
    CURATOR = "curator"


@dataclass(frozen=True, slots=True)
class ContactForm:
    """A contact in normal form, with what makes it comparable to a member's own."""

    kind: str
    normal: str = field(repr=False)
    identifier: Identifier


@dataclass(frozen=True, slots=True)
class GuardianPoint:
    """A verified contact point of a member who is to be a guardian."""

    id: str
    kind: str
    field: str


class GuardianContacts(Protocol):
    """Knows contacts: how they are written, and those of members; the members room has it."""

    def form_of(self, kind: str, value: str, region: str | None) -> ContactForm:
        """Bring a contact to its normal form, or raise without repeating it."""
        ...

    async def verified_point(self, session: ReadSession, member_id: MemberId) -> GuardianPoint:
        """Give the contact point that proves a member, or raise when none is verified."""
        ...


class Guardians:
    """Adds, proves and ends guardians."""

    def __init__(
        self,
        vault: Vault,
        audit: AuditLog,
        rights: RightsLedger,
        consent: ConsentService,
        contacts: GuardianContacts,
    ) -> None:
        self._vault = vault
        self._audit = audit
        self._rights = rights
        self._consent = consent
        self._contacts = contacts

    async def add_contact(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        relation: Relation,
        contact: tuple[str, str, str | None],
        *,
        now_us: int,
    ) -> GuardianRow:
        """Add a guardian who is reached by (kind, value, region), and ask for a code to be sent.

        `ConsentError` where the contact is the minor's own: it would prove the minor. For a
        child for whom a guardian decides alone it may be: the number a small child is reached
        by is the guardian's.
        """
        gate = await self._minor(work, member_id)
        form = self._contacts.form_of(*contact)
        owners = await self._vault.tags.find(work, form.identifier)
        if member_id in owners and gate.age_tier == AgeTier.MINOR_WITH_GUARDIAN.value:
            raise _own_contact()
        keys = await self._vault.keys_of(work, member_id)
        row = self._row(caller, member_id, relation, form.kind, now_us)
        sealed = self._vault.seal(keys[ORDINARY], GUARDIAN_TABLE, row.id, {_CONTACT: form.normal})
        await self._store(work, caller, row, pseudonym, sealed[_CONTACT], now_us)
        return row

    async def add_member(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        relation: Relation,
        guardian_id: MemberId,
        *,
        now_us: int,
    ) -> GuardianRow:
        """Add a member of age as the guardian of another, and ask for a code to be sent."""
        gate = await self._minor(work, member_id)
        other = await self._consent.gate(work, guardian_id)
        if other.state is not GateState.ACTIVE or other.age_tier != AgeTier.ADULT.value:
            raise ConsentError(
                "the guardian is not known to be of age", reason="guardian_not_adult"
            )
        point = await self._contacts.verified_point(work, guardian_id)
        theirs = await self._vault.suppression_tags(work, guardian_id)
        own = {tag for _, tag in await self._vault.suppression_tags(work, member_id)}
        shared = any(tag in own for name, tag in theirs if name == point.field.partition(".")[0])
        if shared and gate.age_tier == AgeTier.MINOR_WITH_GUARDIAN.value:
            raise _own_contact()
        row = self._row(caller, member_id, relation, point.kind, now_us, guardian_id, point.id)
        await self._store(work, caller, row, pseudonym, None, now_us)
        return row

    async def issue_code(
        self, work: UnitOfWork, wanted: Mapping[str, str], *, now_us: int
    ) -> str | None:
        """Make the code that a message asks for; None when none is wanted any more.

        The outbox names the guardian in the place of a contact point.
        """
        guardian_id = wanted["contact_point_id"]
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
        stored = await guardian_rows.set_code(
            work, guardian_id, self._mac(guardian_id, code), expires_us=now_us + CODE_LIFETIME_US
        )
        if not stored:
            return None
        registry = Caller("sys_registry", "system", "worker", "*", RequestId(new_id("req")))
        await self._audit.record(
            work, registry, "guardian.code", resource=f"guardian:{guardian_id}"
        )
        return code

    async def verify(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        guardian_id: str,
        code: str,
        *,
        now_us: int,
    ) -> str | None:
        """Take a guardian's code; gives None when it was right, else why not.

        A failed attempt must be stored, so the reason is given back and not raised: commit.
        """
        row = await self.one(work, member_id, guardian_id)
        await self._consent.hold_gate(work, member_id)
        reason = await self._refusal(work, guardian_id, code, now_us)
        await self._audit.record(
            work,
            caller,
            "guardian.verify",
            subject=pseudonym,
            resource=f"guardian:{row.id}",
            decision="deny" if reason else "allow",
            reason=reason,
        )
        if reason is None:
            await guardian_rows.prove(work, guardian_id, now_us=now_us)
        return reason

    async def end(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        guardian_id: str,
        *,
        now_us: int,
    ) -> None:
        """End a guardianship; what rested on it runs out in the same transaction."""
        row = await self.one(work, member_id, guardian_id)
        # First, or a yes that is given beside this would outlive the guardianship.
        await self._consent.hold_gate(work, member_id)
        states = await self._consent.states(work, member_id)
        requests = [
            ConsentRequest(s.purpose, s.channel, Status.EXPIRED, s.notice_revision, None)
            for s in states
            if s.guardian_id == row.id and s.status is Status.GIVEN
        ]
        await self._consent.record(work, caller, member_id, pseudonym, requests, now_us=now_us)
        if await guardian_rows.end(work, row.id, now_us=now_us):
            detail = {"guardian": row.id, "on": False}
            await self._rights.record(work, RightsKind.GUARDIAN, member_id, detail, now_us)
        await self._audit.record(
            work, caller, "guardian.end", subject=pseudonym, resource=f"guardian:{row.id}"
        )

    async def of_member(self, session: ReadSession, member_id: MemberId) -> list[GuardianRow]:
        """Give every guardian a member ever had, the oldest first."""
        return await guardian_rows.of_member(session, member_id)

    async def one(self, session: ReadSession, member_id: MemberId, guardian_id: str) -> GuardianRow:
        """Find one guardian of this member and of no other, or `GuardianUnknownError`."""
        row = await guardian_rows.by_id(session, guardian_id)
        if row is None or row.member_id != member_id:
            raise GuardianUnknownError(reason="guardian_unknown")
        return row

    async def wards(self, session: ReadSession, member_id: MemberId) -> list[GuardianRow]:
        """Give the guardianships that a member holds now, for the guardian's own view."""
        return await guardian_rows.wards(session, member_id)

    # --- helpers ----------------------------------------------------------------------

    async def _minor(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        gate = await self._consent.hold_gate(work, member_id)
        if AgeTier(gate.age_tier) not in NEEDS_GUARDIAN:
            raise ConsentError("the member decides alone", reason="guardian_not_applicable")
        if gate.state is not GateState.ACTIVE:
            raise ConsentError("the member is restricted to storage", reason="restricted")
        standing = [g for g in await self.of_member(work, member_id) if g.ended_us is None]
        if len(standing) >= _MOST_GUARDIANS:
            raise ConsentError("this member has six guardians already", reason="too_many")
        return gate

    @staticmethod
    def _row(
        caller: Caller,
        member_id: MemberId,
        relation: Relation,
        kind: str,
        now_us: int,
        guardian_member_id: MemberId | None = None,
        contact_point_id: str | None = None,
    ) -> GuardianRow:
        return GuardianRow(
            new_id("grd", now_us),
            member_id,
            relation.value,
            kind,
            guardian_member_id,
            contact_point_id,
            None,
            None,
            caller.id,
            now_us,
        )

    async def _store(
        self,
        work: UnitOfWork,
        caller: Caller,
        row: GuardianRow,
        pseudonym: OwnerKey,
        cell: bytes | None,
        now_us: int,
    ) -> None:
        await guardian_rows.add(work, row, cell)
        wanted = {"contact_point_id": row.id, "kind": row.kind}
        await put_message(work, GUARDIAN_CODE_WANTED, wanted, now_us=now_us)
        await self._audit.record(
            work,
            caller,
            "guardian.add",
            subject=pseudonym,
            resource=f"guardian:{row.id}",
            reason=row.relation,
        )

    async def _refusal(
        self, work: UnitOfWork, guardian_id: str, code: str, now_us: int
    ) -> str | None:
        attempt = await guardian_rows.try_code(work, guardian_id)
        if attempt is None:
            return "no_code"
        if attempt.attempts > CODE_ATTEMPTS:
            return "too_many_attempts"
        if now_us > attempt.expires_us:
            return "code_expired"
        if not hmac.compare_digest(attempt.code_mac, self._mac(guardian_id, code)):
            return "code_wrong"
        return None

    def _mac(self, guardian_id: str, code: str) -> bytes:
        return self._vault.keyed_digest("guardian-code", guardian_id.encode(), code.encode())


async def proven_guardians(session: ReadSession, member_id: MemberId) -> frozenset[str]:
    """Give the ids of who may decide for a minor now."""
    return await guardian_rows.proven(session, member_id)


def _own_contact() -> ConsentError:
    problem = FieldProblem("/contact", "guardian_is_member", "a contact of the guardian's own")
    return ConsentError("this contact is the minor's own", errors=[problem])
