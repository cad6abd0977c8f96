"""What every step of a request shares: it is held, allowed, written down and told, at once.

A step is an event of the trail, a new version of the row, an entry in the ledger that restores
obey and a message, all in the unit of work of the step. A step that the state machine does not
know is refused here, in one place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from audit import AuditLog, Decision, Eyes, RightsKind, RightsLedger
from consent import ConsentService
from dsar import repository
from dsar.deadlines import (
    Clock,
    NoClockError,
    Targets,
    clock_of,
    deadlines,
    end_of_day_us,
    local_day,
)
from dsar.errors import (
    IdentityNotProvenError,
    RequestInvalidError,
    RequestStateError,
    RequestUnknownError,
)
from dsar.model import NEXT, RequestState, Right, RightsRequest
from kernel import Caller, FieldProblem, MemberId, ReadSession, UnitOfWork, put_message
from members import Members
from policies import Jurisdiction, JurisdictionCode, PolicyPack
from vault import PSEUDONYM, OwnerKey, Vault

UPDATED = "rights_request.updated"
DAY_US = 86_400_000_000
NEVER_US = 253_402_300_799_000_000
"""The end of the year 9999: the alarm of a clock that stands still."""


@dataclass(frozen=True, slots=True)
class RightsRules:
    """How this house handles requests: its own pace and cautions, from the settings."""

    targets: Targets
    warn_days: int
    step_up_us: int
    export_us: int
    one_person: bool


class Desk:
    """The rooms that a request is worked on with, and the way every step is taken."""

    def __init__(
        self,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        members: Members,
        ledger: RightsLedger,
        rules: RightsRules,
        eyes: Eyes,
    ) -> None:
        self.eyes = eyes
        self.pack = pack
        self.vault = vault
        self.audit = audit
        self.consent = consent
        self.members = members
        self.rules = rules
        self._ledger = ledger

    async def held(self, work: UnitOfWork, caller: Caller, request_id: str) -> RightsRequest:
        """Hold a request of the caller's brand until the unit of work ends, or raise."""
        found = await repository.hold(work, request_id)
        if found is None or caller.brand not in {"*", found.brand}:
            raise RequestUnknownError(reason="request_unknown")
        return found

    async def pseudonym(self, session: ReadSession, member_id: MemberId | None) -> OwnerKey | None:
        """Give the key that names the member in the trail, while there is one."""
        if member_id is None:
            return None
        return (await self.vault.keys_of(session, member_id)).get(PSEUDONYM)

    async def step(
        self,
        work: UnitOfWork,
        caller: Caller,
        seen: RightsRequest,
        changed: RightsRequest,
        action: str,
        *,
        now_us: int,
        subject: OwnerKey | None = None,
        reason: str | None = None,
        decision: Decision | None = None,
        fields: tuple[str, ...] = (),
    ) -> RightsRequest:
        """Take a step: event, row, ledger and message; gives the request as it stands then.

        A step into a final state remembers its event, which the certificate will prove.
        """
        if changed.state is not seen.state and changed.state not in NEXT[seen.state]:
            raise RequestStateError(reason=f"state_{seen.state.value}")
        audit_id = await self.record(
            work, caller, action, seen, subject=subject, reason=reason,
            decision=decision, fields=fields,
        )  # fmt: skip
        if changed.state.final and not seen.state.final and changed.audit_id is None:
            changed = replace(changed, audit_id=audit_id)
        if not await repository.save(work, changed, seen.version):
            raise RequestStateError("somebody changed it in the meantime", reason="request_moved")
        if changed.member_id is not None:
            await self.enter(work, changed, now_us)
        if changed.state is not seen.state:
            await self.tell(work, changed, seen.member_id, now_us)
        return replace(changed, version=seen.version + 1)

    async def record(
        self,
        work: UnitOfWork,
        caller: Caller,
        action: str,
        request: RightsRequest,
        *,
        subject: OwnerKey | None = None,
        reason: str | None = None,
        decision: Decision | None = None,
        fields: tuple[str, ...] = (),
    ) -> str:
        """Put on record that something was done about a request; gives the event's id."""
        return await self.audit.record(
            work,
            caller,
            action,
            subject=subject or await self.pseudonym(work, request.member_id),
            resource=f"rights_request:{request.id}",
            decision=decision,
            reason=reason or request.right.value,
            fields=fields,
        )

    async def enter(self, work: UnitOfWork, request: RightsRequest, now_us: int) -> None:
        """Enter a request and its clock where restores look, while it has a member."""
        if request.member_id is None:
            return
        refused = request.state is RequestState.REFUSED
        kind = RightsKind.REQUEST_REFUSAL if refused else RightsKind.REQUEST
        detail: dict[str, Any] = {
            "request": request.id,
            "right": request.right.value,
            "state": request.state.value,
            "due": request.safe_due.isoformat(),
            "reason": request.reason,
        }
        await self._ledger.record(work, kind, request.member_id, detail, now_us)

    async def remember(
        self,
        work: UnitOfWork,
        kind: RightsKind,
        member_id: MemberId,
        detail: Mapping[str, Any],
        now_us: int,
    ) -> None:
        """Enter something where restores look."""
        await self._ledger.record(work, kind, member_id, detail, now_us)

    @staticmethod
    async def tell(
        work: UnitOfWork, request: RightsRequest, member_id: MemberId | None, now_us: int
    ) -> None:
        """Leave a message that a request stands elsewhere now."""
        payload = {
            "request_id": request.id,
            "member_id": member_id,
            "state": request.state.value,
        }
        await put_message(work, UPDATED, payload, now_us=now_us)

    # --- the law ----------------------------------------------------------------------

    def jurisdiction(self, request: RightsRequest) -> Jurisdiction:
        """Give the rules of the request's jurisdiction."""
        return self.pack.jurisdictions[JurisdictionCode(request.jurisdiction)]

    def clock(self, jurisdiction: str, right: Right) -> Clock:
        """Give the law's numbers for a right, or refuse a right that the pack has no clock for."""
        try:
            return clock_of(self.pack.jurisdictions[JurisdictionCode(jurisdiction)], right)
        except NoClockError:
            raise RequestInvalidError(
                "the policy pack has no clock for this right in this jurisdiction",
                errors=[FieldProblem("/right", "no_clock")],
            ) from None

    def timed(self, request: RightsRequest) -> RightsRequest:
        """Give the request with its days counted anew, from everything it says now."""
        clock = self.clock(request.jurisdiction, request.right)
        verified_us = request.verified_us
        days = deadlines(
            clock,
            local_day(clock, request.received_us),
            self.rules.targets,
            identified=None if verified_us is None else local_day(clock, verified_us),
            extended=request.extended_us is not None,
            paused_days=request.paused_days,
        )
        stands_still = request.paused_us is not None and clock.pause is not None
        return replace(
            request,
            safe_due=days.safe_due,
            legal_due=days.legal_due,
            target=days.target,
            acknowledge_due=days.acknowledge_due,
            alarm_us=NEVER_US if stands_still else end_of_day_us(clock, days.safe_due),
            law=request.law or days.law,
        )


def require_proven(request: RightsRequest) -> None:
    """Stop before anything is done for somebody who has not proven to be the member."""
    if not request.identity_proven:
        raise IdentityNotProvenError(reason="identity_not_proven")


def require_state(request: RightsRequest, *states: RequestState) -> None:
    """Stop when a request does not stand where a step begins."""
    if request.state not in states:
        raise RequestStateError(reason=f"state_{request.state.value}")
