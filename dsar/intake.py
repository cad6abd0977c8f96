"""Rights requests from the door to the decision: intake, identity, clocks, the queue.

Nothing is told and nothing is done for a request before somebody has proven to be the member.
What is decided and carried out then stands in `dsar.decisions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from consent import GuardianRequiredError, proven_guardians
from dsar import repository
from dsar.deadlines import Clock, counted_pause, local_day
from dsar.desk import DAY_US, Desk, require_proven, require_state
from dsar.details import CHECKS, GUARDIAN, Said, check_details
from dsar.errors import RequestInvalidError, RequestStateError, RequestUnknownError
from dsar.model import (
    OPEN,
    PREFIX,
    UNPROVEN,
    RequestState,
    Right,
    RightsRequest,
    RightsRequestId,
    Via,
)
from kernel import Caller, FieldProblem, MemberId, ReadSession, UnitOfWork, new_id, to_date
from members import ContactPoint, ContactPointNotFoundError, MemberNotFoundError
from policies import AgeTier
from vault import ORDINARY, PSEUDONYM

_NOT_ALONE = {
    AgeTier.GUARDIAN_ONLY: frozenset(Right) - {Right.OBJECTION, Right.RESTRICTION},
    AgeTier.MINOR_WITH_GUARDIAN: frozenset({Right.ERASURE}),
}
CORRECTIONS_TABLE = "rights_request"
EXTENSION_REASONS = ("clarification_awaited", "complexity", "number_of_requests")
_MOST_OPEN = 20
_MOST_CODES = 10
_LONGEST_BACKDATING_US = 366 * DAY_US
_CODES = "codes_sent"
_PAUSED_IN = "paused_in"


class Intake:
    """Takes rights requests, has identity proven, keeps the clocks, tells where they stand."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # --- taking a request -------------------------------------------------------------

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
            RequestStateError: `too_many_open`.
        """
        gate = await self._desk.consent.share_gate(work, member_id)
        row = await self._desk.members.read(work, member_id)
        if gate.state.is_closed or caller.brand not in {"*", row.brand}:
            raise MemberNotFoundError(reason="member_unknown")
        via = Via(via)
        said = check_details(self._desk.pack, right, details, to_date(now_us))
        await self._require_guardian(work, member_id, AgeTier(gate.age_tier), right, via, said)
        present = await repository.of_member(work, member_id)
        if sum(one.state in OPEN for one in present) >= _MOST_OPEN:
            raise RequestStateError("this member has many open requests", reason="too_many_open")
        proof = _proof(via, details)
        came_us = _received(via, now_us, received_us)
        epoch = to_date(0)  # until `timed` has counted the days
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
            safe_due=epoch,
            legal_due=epoch,
            target=epoch,
            acknowledge_due=None,
            alarm_us=0,
        )
        request = self._desk.timed(request)
        keys = await self._desk.vault.keys_of(work, member_id)
        sealed = None
        if request.corrected:
            sealed = self._desk.vault.seal(
                keys[ORDINARY], CORRECTIONS_TABLE, request.id, said.corrected.values
            )
        if proof is None and via is Via.API:
            request = await self._ask_for_code(work, request, None, now_us)
        await repository.add(work, request, sealed)
        await self._desk.record(
            work,
            caller,
            "rights_request.open",
            request,
            subject=keys[PSEUDONYM],
            fields=request.corrected,
        )
        await self._desk.enter(work, request, now_us)
        await self._desk.tell(work, request, member_id, now_us)
        return request

    # --- identity ---------------------------------------------------------------------

    async def contact_points(
        self, session: ReadSession, request: RightsRequest
    ) -> Sequence[ContactPoint]:
        """Give the contact points that can prove identity, verified ones first; never values."""
        if request.member_id is None:
            return []
        points = await self._desk.members.contact_points.points_of(session, request.member_id)
        return sorted(points, key=lambda point: point.verified_us is None)

    async def send_code(
        self,
        work: UnitOfWork,
        caller: Caller,
        request_id: str,
        contact_point: str | None,
        *,
        now_us: int,
    ) -> RightsRequest:
        """Ask for a code to a contact point of the member, or to the best there is.

        Raises:
            ContactPointNotFoundError: the member has no such contact point, or none at all.
            RequestStateError: `too_many_codes`.
        """
        seen = await self._desk.held(work, caller, request_id)
        changed = await self._ask_for_code(work, seen, contact_point, now_us)
        if changed is seen:
            raise ContactPointNotFoundError(reason="contact_point_unknown")
        return await self._desk.step(
            work, caller, seen, changed, "rights_request.send_code", now_us=now_us
        )

    async def verify(
        self,
        work: UnitOfWork,
        caller: Caller,
        request_id: str,
        contact_point: str,
        code: str,
        *,
        now_us: int,
    ) -> str | None:
        """Take a code; gives None when it was right, else why not. Commit in both cases.

        Only a code that was sent for this very request is right. It proves identity for it, and
        is the fresh proof that an erasure and the fetching of an export ask for.
        """
        seen = await self._desk.held(work, caller, request_id)
        if seen.member_id is None:
            raise RequestUnknownError(reason="request_unknown")
        reason = await self._desk.members.contact_points.verify(
            work, caller, seen.member_id, contact_point, code, use=seen.id, now_us=now_us
        )
        changed = seen
        if reason is None:
            changed = self._proven(seen, "otp", now_us)
        await self._desk.step(
            work,
            caller,
            seen,
            changed,
            "rights_request.verify",
            now_us=now_us,
            decision="deny" if reason else "allow",
            reason=reason or "otp",
        )
        return reason

    async def check_identity(
        self, work: UnitOfWork, caller: Caller, request_id: str, checked: str, *, now_us: int
    ) -> RightsRequest:
        """Note how staff checked identity face to face: a code, never a copy of a document."""
        if checked not in CHECKS:
            known = ", ".join(sorted(CHECKS))
            raise RequestInvalidError(
                errors=[FieldProblem("/checked", "unknown_code", f"one of {known}")]
            )
        seen = await self._desk.held(work, caller, request_id)
        if seen.state.final:
            raise RequestStateError(reason=f"state_{seen.state.value}")
        changed = self._proven(seen, f"counter:{checked}", now_us)
        return await self._desk.step(
            work,
            caller,
            seen,
            changed,
            "rights_request.verify",
            now_us=now_us,
            decision="allow",
            reason=checked,
        )

    # --- the clock --------------------------------------------------------------------

    async def take_up(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Begin to work on a request whose identity is proven."""
        seen = await self._desk.held(work, caller, request_id)
        require_proven(seen)
        require_state(seen, RequestState.VERIFIED)
        changed = replace(seen, state=RequestState.IN_PROGRESS)
        return await self._desk.step(
            work, caller, seen, changed, "rights_request.take_up", now_us=now_us
        )

    async def extend(
        self, work: UnitOfWork, caller: Caller, request_id: str, reason: str, *, now_us: int
    ) -> RightsRequest:
        """Extend the period once, before its first end, with a reason (GDPR 12(3), TW 13).

        Raises:
            RequestInvalidError: the reason is no code of ours.
            RequestStateError: `extended_before`, `too_late_to_extend`, `no_extension`.
        """
        if reason not in EXTENSION_REASONS:
            known = ", ".join(EXTENSION_REASONS)
            raise RequestInvalidError(
                errors=[FieldProblem("/reason", "unknown_code", f"one of {known}")]
            )
        seen = await self._desk.held(work, caller, request_id)
        require_state(seen, *OPEN)
        clock = self.clock(seen)
        if seen.extended_us is not None:
            raise RequestStateError("it was extended before", reason="extended_before")
        if clock.extension is None:
            raise RequestStateError("the law knows no extension here", reason="no_extension")
        if local_day(clock, now_us) > seen.safe_due:
            raise RequestStateError("the first period has ended", reason="too_late_to_extend")
        changed = replace(seen, extended_us=now_us, extension_reason=reason, flagged=None)
        return await self._desk.step(
            work,
            caller,
            seen,
            self._desk.timed(changed),
            "rights_request.extend",
            now_us=now_us,
            reason=reason,
        )

    async def pause(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Wait for the member to clarify; the clock stops only where the law lets it."""
        seen = await self._desk.held(work, caller, request_id)
        require_proven(seen)
        require_state(seen, RequestState.VERIFIED, RequestState.IN_PROGRESS)
        if seen.decided_us is not None:
            raise RequestStateError("it is being carried out", reason="decided_before")
        changed = replace(
            seen,
            state=RequestState.PAUSED,
            paused_us=now_us,
            outcome={**seen.outcome, _PAUSED_IN: seen.state.value},
        )
        return await self._desk.step(
            work, caller, seen, self._desk.timed(changed), "rights_request.pause", now_us=now_us
        )

    async def resume(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Go on where the pause began; what the law lets stand still is added to the days."""
        seen = await self._desk.held(work, caller, request_id)
        require_state(seen, RequestState.PAUSED)
        clock = self.clock(seen)
        begun_us = seen.paused_us if seen.paused_us is not None else now_us
        stood = counted_pause(clock, local_day(clock, begun_us), local_day(clock, now_us))
        outcome = dict(seen.outcome)
        changed = replace(
            seen,
            state=RequestState(outcome.pop(_PAUSED_IN, RequestState.VERIFIED.value)),
            paused_us=None,
            paused_days=seen.paused_days + stood,
            outcome=outcome,
        )
        return await self._desk.step(
            work, caller, seen, self._desk.timed(changed), "rights_request.resume", now_us=now_us
        )

    async def withdraw(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """End a request because the member no longer asks for it."""
        seen = await self._desk.held(work, caller, request_id)
        changed = replace(seen, state=RequestState.WITHDRAWN, decided_us=now_us)
        ended = await self._desk.step(
            work, caller, seen, changed, "rights_request.withdraw", now_us=now_us
        )
        await repository.drop_corrections(work, seen.id)
        return ended

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

    async def counts(
        self, session: ReadSession, brand: str = "*"
    ) -> Sequence[tuple[str, str, int]]:
        """Count requests of a brand (`*`: of all, for the metrics) by right and state."""
        return await repository.counts(session, brand)

    def clock(self, request: RightsRequest) -> Clock:
        """Give the law's numbers for a request, with their sources and how they were read."""
        return self._desk.clock(request.jurisdiction, request.right)

    def clock_for(self, jurisdiction: str, right: Right) -> Clock:
        """Give the law's numbers for a right in a jurisdiction of the pack."""
        return self._desk.clock(jurisdiction, right)

    # --- helpers ----------------------------------------------------------------------

    async def _require_guardian(
        self,
        session: ReadSession,
        member_id: MemberId,
        tier: AgeTier,
        right: Right,
        via: Via,
        said: Said,
    ) -> None:
        """Send a minor to their guardian where the minor cannot ask alone.

        Objecting and having the use paused only protect and are anybody's own. A child for whom
        a guardian decides asks for nothing else alone; a minor who decides with one does not
        erase alone, because nobody can bring anything back. At a counter staff see who asks.
        """
        named = said.codes.get(GUARDIAN)
        proven = await proven_guardians(session, member_id)
        if named is not None and named not in proven:
            raise GuardianRequiredError(reason="guardian_unproven")
        if named is None and via is not Via.COUNTER and right in _NOT_ALONE.get(tier, frozenset()):
            raise GuardianRequiredError(
                "a guardian asks for this, with a proof of their own or at a counter",
                reason="guardian_required",
            )

    async def _ask_for_code(
        self, work: UnitOfWork, request: RightsRequest, contact_point: str | None, now_us: int
    ) -> RightsRequest:
        """Ask for a code and count it; gives the very request back when nothing can take one."""
        points = await self.contact_points(work, request)
        if contact_point is not None:
            points = [point for point in points if point.id == contact_point]
        if not points:
            return request
        sent = int(request.outcome.get(_CODES, 0))
        if sent >= _MOST_CODES:
            raise RequestStateError("too many codes for one request", reason="too_many_codes")
        point = points[0]
        await self._desk.members.contact_points.want_code(
            work, point.id, point.kind, use=request.id, now_us=now_us
        )
        state = request.state
        if state is RequestState.RECEIVED:
            state = RequestState.IDENTITY_PENDING
        return replace(request, state=state, outcome={**request.outcome, _CODES: sent + 1})

    def _proven(self, seen: RightsRequest, how: str, now_us: int) -> RightsRequest:
        changed = replace(seen, stepped_up_us=now_us)
        if seen.state not in UNPROVEN:
            return changed
        changed = replace(changed, state=RequestState.VERIFIED, verified_us=now_us, verified_by=how)
        return self._desk.timed(changed)


def _received(via: Via, now_us: int, received_us: int | None) -> int:
    """Only staff write down that something came in earlier, and never that it will."""
    if received_us is None:
        return now_us
    if via is not Via.COUNTER or not now_us - _LONGEST_BACKDATING_US <= received_us <= now_us:
        raise RequestInvalidError(errors=[FieldProblem("/received_at", "moment")])
    return received_us


def _proof(via: Via, details: Mapping[str, Any] | None) -> str | None:
    """Name how identity was proven before the request came in, if it was."""
    if via is Via.PORTAL:
        return "session"
    checked = (details or {}).get("checked")
    return f"counter:{checked}" if via is Via.COUNTER and checked is not None else None
