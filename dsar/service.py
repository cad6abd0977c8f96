"""Rights requests from the door to the decision: intake, identity, clocks, the queue.

Nothing is told and nothing is done for a request before somebody has proven to be the member.
Every step is an event and a message in the transaction of the step itself, and an ended request
never moves again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit import AuditLog
from consent import ConsentService, GateState
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
from dsar.details import check_details
from dsar.errors import (
    RequestInvalidError,
    RequestStateError,
    RequestUnknownError,
)
from dsar.model import (
    OPEN,
    PREFIX,
    RequestState,
    Right,
    RightsRequest,
    RightsRequestId,
    Via,
)
from kernel import (
    Caller,
    FieldProblem,
    MemberId,
    ReadSession,
    UnitOfWork,
    new_id,
    put_message,
    to_date,
)
from members import MemberNotFoundError, Members
from policies import JurisdictionCode, PolicyPack
from vault import ORDINARY, PSEUDONYM, OwnerKey, Vault

UPDATED = "rights_request.updated"
CORRECTIONS_TABLE = "rights_request"
DAY_US = 86_400_000_000
_MOST_OPEN = 20
_LONGEST_BACKDATING_US = 366 * DAY_US
EXTENSION_REASONS = frozenset({"complexity", "number_of_requests", "clarification_awaited"})


@dataclass(frozen=True, slots=True)
class RightsRules:
    """How this house handles requests: its own pace and cautions, from the settings."""

    targets: Targets
    warn_days: int
    step_up_us: int
    export_us: int
    one_person: bool


class Rights:
    """Takes rights requests, keeps their clocks and tells where they stand."""

    def __init__(
        self,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        members: Members,
        rules: RightsRules,
    ) -> None:
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._members = members
        self._rules = rules

    # --- intake -----------------------------------------------------------------------

    async def open(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        right: Right,
        *,
        via: Via | str,
        details: Mapping[str, Any] | None = None,
        now_us: int,
        received_us: int | None = None,
    ) -> RightsRequest:
        """Take a request of a member.

        Args:
            work: The unit of work of the request.
            caller: The member (`self_caller`), a client or staff, of the member's brand.
            member_id: Whose data it is about.
            right: What is asked for.
            via: `portal`: the session is the proof of identity. `counter`: staff name their
                check in `details["checked"]`, or identity is still to be proven. `api`: a code
                is sent to a contact point and comes back through `verify`.
            details: Codes, and for a rectification `fields` with `formats` (see `dsar.details`).
            now_us: The present moment.
            received_us: When it reached the house, if that was earlier (post, counter); the
                clock runs from there.

        Raises:
            MemberNotFoundError: unknown, erased or of another brand.
            RequestInvalidError: the details do not fit the right.
        """
        gate = await self._consent.share_gate(work, member_id)
        row = await self._members.read(work, member_id)
        if gate.state is GateState.ERASED or caller.brand not in {"*", row.brand}:
            raise MemberNotFoundError(reason="member_unknown")
        via = Via(via)
        said = check_details(self._pack, right, details, to_date(now_us))
        present = await repository.of_member(work, member_id)
        if sum(one.state in OPEN for one in present) >= _MOST_OPEN:
            raise RequestStateError("this member has many open requests", reason="too_many_open")
        came_us = self._received(via, now_us, received_us)
        clock = self._clock(row.jurisdiction, right)
        days = deadlines(clock, local_day(clock, came_us), self._rules.targets)
        proof = _proof(via, details)
        request = RightsRequest(
            id=RightsRequestId(new_id(PREFIX, now_us)),
            member_id=member_id,
            brand=row.brand,
            jurisdiction=row.jurisdiction,
            right=right,
            state=RequestState.RECEIVED if proof is None else RequestState.VERIFIED,
            via=via,
            opened_by=caller.id,
            details=said.codes,
            corrected=tuple(sorted(said.corrected.values)),
            received_us=came_us,
            verified_us=None if proof is None else now_us,
            verified_by=proof,
            stepped_up_us=now_us if via is Via.COUNTER and proof is not None else None,
            paused_us=None,
            paused_days=0,
            extended_us=None,
            extension_reason=None,
            safe_due=days.safe_due,
            legal_due=days.legal_due,
            target=days.target,
            acknowledge_due=days.acknowledge_due,
            alarm_us=end_of_day_us(clock, days.safe_due),
            flagged=None,
            decided_us=None,
            decided_by=None,
            proposed_us=None,
            proposed_by=None,
            reason=None,
            law=days.law,
            audit_id=None,
            version=1,
        )
        keys = await self._vault.keys_of(work, member_id)
        sealed = None
        if request.corrected:
            sealed = self._vault.seal(
                keys[ORDINARY], CORRECTIONS_TABLE, request.id, said.corrected.values
            )
        await repository.add(work, request, sealed)
        await self._record(work, caller, "rights_request.open", request, keys[PSEUDONYM])
        await self._tell(work, request, now_us)
        return request

    # --- reading ----------------------------------------------------------------------

    async def read(self, session: ReadSession, request_id: str, brand: str = "*") -> RightsRequest:
        """Give a request of a brand (`*`: of any), or `RequestUnknownError`."""
        found = await repository.read(session, request_id)
        if found is None or brand not in {"*", found.brand}:
            raise RequestUnknownError(reason="request_unknown")
        return found

    async def queue(
        self,
        session: ReadSession,
        brand: str,
        *,
        state: RequestState | None = None,
        before: str | None = None,
        most: int = 50,
    ) -> Sequence[RightsRequest]:
        """Give requests of a brand, the newest first, from the one before `before`."""
        return await repository.queue(session, brand, state, before=before, most=most)

    async def of_member(self, session: ReadSession, member_id: MemberId) -> Sequence[RightsRequest]:
        """Give the requests of one member, the newest first."""
        return await repository.of_member(session, member_id)

    async def overdue(self, session: ReadSession, now_us: int) -> Sequence[RightsRequest]:
        """Give open requests whose safe day has passed, the most urgent first."""
        return await repository.overdue(session, now_us)

    async def counts(self, session: ReadSession) -> Sequence[tuple[str, str, int]]:
        """Count requests by right and state, for the metrics."""
        return await repository.counts(session)

    def clock(self, request: RightsRequest) -> Clock:
        """Give the law's numbers for a request, with their sources and how they were read."""
        return self._clock(request.jurisdiction, request.right)

    # --- helpers ----------------------------------------------------------------------

    def _clock(self, jurisdiction: str, right: Right) -> Clock:
        rules = self._pack.jurisdictions[JurisdictionCode(jurisdiction)]
        try:
            return clock_of(rules, right)
        except NoClockError:
            raise RequestInvalidError(
                "the policy pack has no clock for this right in this jurisdiction",
                errors=[FieldProblem("/right", "no_clock")],
            ) from None

    @staticmethod
    def _received(via: Via, now_us: int, received_us: int | None) -> int:
        """Only staff write down that something came in earlier, and never that it will."""
        if received_us is None:
            return now_us
        if via is not Via.COUNTER or not now_us - _LONGEST_BACKDATING_US <= received_us <= now_us:
            raise RequestInvalidError(errors=[FieldProblem("/received_at", "moment")])
        return received_us

    async def _record(
        self,
        work: UnitOfWork,
        caller: Caller,
        action: str,
        request: RightsRequest,
        subject: OwnerKey | None,
        *,
        decision: str | None = None,
        reason: str | None = None,
    ) -> str:
        return await self._audit.record(
            work,
            caller,
            action,
            subject=subject,
            resource=f"rights_request:{request.id}",
            purpose=None,
            fields=request.corrected,
            decision=decision,
            reason=reason or request.right.value,
        )

    @staticmethod
    async def _tell(work: UnitOfWork, request: RightsRequest, now_us: int) -> None:
        await put_message(
            work,
            UPDATED,
            {
                "request_id": request.id,
                "member_id": request.member_id,
                "state": request.state.value,
            },
            now_us=now_us,
        )


def _proof(via: Via, details: Mapping[str, Any] | None) -> str | None:
    """Name how identity was proven before the request came in, if it was."""
    if via is Via.PORTAL:
        return "session"
    checked = (details or {}).get("checked")
    return f"counter:{checked}" if via is Via.COUNTER and checked is not None else None
