"""Deciding a request: fulfil it, or refuse it with a second person; and what an erasure does.

What needs no plaintext is done in the unit of work of the decision itself. A copy and a
correction need cells opened, and no cell opens before its event has committed: those are handed
to `dsar.carrying_out` as a job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from consent import GateState
from dsar import repository
from dsar.deadlines import end_of_day_us, local_day
from dsar.desk import DAY_US, Desk, require_proven, require_state
from dsar.erasure import RETAINED, ErasurePlan, plan_erasure
from dsar.errors import (
    IdentityNotProvenError,
    RequestInvalidError,
    RequestStateError,
    RequestUnknownError,
    SecondPersonError,
)
from dsar.model import OPEN, FieldResult, RequestState, Right, RightsRequest
from dsar.restrictions import Restrictions
from kernel import (
    Caller,
    FieldProblem,
    MemberId,
    ReadSession,
    UnitOfWork,
    Urgency,
    enqueue_job,
    rfc3339,
)
from members import NOT_MATCHABLE, Forgotten
from policies import BasisKind, Fact, PurposeKey

CARRY_OUT = "rights_carry_out"
_MOVED_BY = "moved_by"
_HAND_ON_AGAIN_US = 3_600_000_000
"""A decision that is not carried out by then has lost its job, and can be handed on again."""
_DECIDABLE = (RequestState.VERIFIED, RequestState.IN_PROGRESS)
_COPIES = frozenset({Right.ACCESS, Right.PORTABILITY})


class Forgetting:
    """Takes part in every erasure: requests lose their member, exports and restrictions end.

    The rows of requests stay, because that a right was exercised, and how it ended, must be
    shown for years; nothing in them leads to the person any more.
    """

    async def forget(
        self, work: UnitOfWork, member_id: MemberId, now_us: int
    ) -> Sequence[Forgotten]:
        """Forget the member in this unit of work (see `members.EraseParticipant`)."""
        for seen in await repository.of_member(work, member_id):
            request = await repository.hold(work, seen.id)  # a step beside this may be ahead of us
            if request is not None and request.state in OPEN:
                ended = replace(
                    request,
                    state=RequestState.WITHDRAWN,
                    reason="member_erased",
                    decided_us=now_us,
                )
                await repository.save(work, ended, request.version)
                await Desk.tell(work, ended, member_id, now_us)
        await repository.drop_exports_of(work, member_id)
        await repository.forget_restricted(work, member_id, now_us=now_us)
        await repository.forget_member(work, member_id)
        return [Forgotten("rights_requests", None, "member_link_cut")]


class Moving:
    """Takes part in merges: ended requests go with the member, open ones keep it where it is.

    A request runs for one member, with that member's codes and keys; whoever merges two ends
    their open requests first.
    """

    async def merge(
        self,
        work: UnitOfWork,
        caller: Caller,  # noqa: ARG002 (one shape for all who take part)
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,  # noqa: ARG002 (same)
    ) -> None:
        """Move ended requests to the survivor; `RequestStateError` while one is open."""
        requests = await repository.of_member(work, merged)
        if any(one.state in OPEN for one in requests):
            raise RequestStateError("a member with an open request", reason="open_request")
        if await repository.restrictions_of(work, merged):
            raise RequestStateError("a member under a restriction", reason="restricted")
        if await repository.holds_export(work, merged):
            # It is sealed for this record alone, and whoever signs in to the other is not proven
            # to be the same person.
            raise RequestStateError("a copy waits to be fetched", reason="copy_waiting")
        for one in requests:
            moved = replace(one, member_id=into, outcome={**one.outcome, _MOVED_BY: merge_id})
            if not await repository.save(work, moved, one.version):
                raise RequestStateError("a request changed in the meantime", reason="request_moved")

    async def undo_merge(
        self,
        work: UnitOfWork,
        caller: Caller,  # noqa: ARG002 (one shape for all who take part)
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,  # noqa: ARG002 (same)
    ) -> None:
        """Move back what the merge moved."""
        for one in await repository.of_member(work, into):
            if one.outcome.get(_MOVED_BY) == merge_id:
                rest = {key: value for key, value in one.outcome.items() if key != _MOVED_BY}
                back = replace(one, member_id=merged, outcome=rest)
                if not await repository.save(work, back, one.version):
                    raise RequestStateError(
                        "a request changed in the meantime", reason="request_moved"
                    )


class Decisions:
    """Decides requests whose member has proven to be the member."""

    def __init__(self, desk: Desk, restrictions: Restrictions) -> None:
        self._desk = desk
        self._restrictions = restrictions

    async def fulfil(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Decide to do what was asked, and do it here or hand it on.

        Raises:
            IdentityNotProvenError: nobody proved to be the member, or, for an erasure, not for
                this very request.
            RequestStateError: ended, paused; `decided_before` within the hour in which it is
                carried out; `access_first` while a copy is still owed to a
                member who is to be erased; `member_restricted` for a correction of a
                restricted member.
        """
        seen = await self._desk.held(work, caller, request_id)
        if not seen.state.final:
            require_proven(seen)
        require_state(seen, *_DECIDABLE)
        if seen.member_id is None:
            raise RequestUnknownError(reason="request_unknown")
        decided = replace(
            seen, decided_us=now_us, decided_by=caller.id, proposed_us=None, proposed_by=None,
            reason=None,
        )  # fmt: skip
        act = self._hand_on
        if seen.right is Right.ERASURE:
            act = self._erase
        elif seen.right is Right.RESTRICTION:
            act = self._restrict
        elif seen.right is Right.OBJECTION:
            act = self._object
        return await act(work, caller, seen, decided, seen.member_id, now_us)

    async def plan(
        self, session: ReadSession, request: RightsRequest, *, now_us: int
    ) -> ErasurePlan:
        """Say what fulfilling an erasure would do today, field by field; nothing is opened."""
        if request.right is not Right.ERASURE or request.member_id is None:
            raise RequestStateError("there is nothing to erase", reason="no_plan")
        require_proven(request)
        return await self._plan(session, request, request.member_id, now_us)

    async def refuse(
        self, work: UnitOfWork, caller: Caller, request_id: str, reason: str, *, now_us: int
    ) -> RightsRequest:
        """Propose a refusal, or approve the one proposed; the register has it from then on.

        The second person repeats it with the same reason; another id of the same person, such as
        a client whose secret they hold, is no second one. In a one-person shop the same person
        may, a day later.

        Raises:
            RequestInvalidError: the law of the request knows no such reason for this right.
            SecondPersonError: nobody shows that this is another person than the proposer.
            RequestStateError: ended; `another_reason` was proposed.
        """
        seen = await self._desk.held(work, caller, request_id)
        require_state(seen, *OPEN)
        ground = self._ground(seen, reason)
        if seen.proposed_us is None:
            proposed = replace(seen, proposed_us=now_us, proposed_by=caller.id, reason=reason)
            return await self._desk.step(
                work,
                caller,
                seen,
                proposed,
                "rights_request.propose_refusal",
                now_us=now_us,
                reason=reason,
            )
        if seen.reason != reason:
            raise RequestStateError("another reason was proposed", reason="another_reason")
        waited = self._desk.rules.one_person and now_us - seen.proposed_us >= DAY_US
        proposer = seen.proposed_by or caller.id
        if not waited and not await self._desk.eyes.apart(work, proposer, caller.id):
            raise SecondPersonError(reason="second_person_needed")
        refused = replace(
            seen,
            state=RequestState.REFUSED,
            decided_us=now_us,
            decided_by=caller.id,
            law=ground.source,
            outcome={**seen.outcome, "evidence": ground.evidence.value},
        )
        ended = await self._desk.step(
            work,
            caller,
            seen,
            refused,
            "rights_request.refuse",
            now_us=now_us,
            reason=reason,
            decision="deny",
        )
        await repository.drop_corrections(work, seen.id)
        return ended

    async def drop_proposal(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Let a proposed refusal fall that nobody approved; it may be proposed anew."""
        seen = await self._desk.held(work, caller, request_id)
        require_state(seen, *OPEN)
        dropped = replace(seen, proposed_us=None, proposed_by=None, reason=None)
        return await self._desk.step(
            work, caller, seen, dropped, "rights_request.drop_proposal", now_us=now_us
        )

    async def refusals(
        self, session: ReadSession, brand: str, *, before: str | None = None, most: int = 50
    ) -> Sequence[RightsRequest]:
        """Give the register of refused requests of a brand (PDPA s.39(7)), the newest first."""
        return await repository.refused(session, brand, before=before, most=most)

    # --- what each right asks for -----------------------------------------------------

    async def _hand_on(
        self,
        work: UnitOfWork,
        caller: Caller,
        seen: RightsRequest,
        decided: RightsRequest,
        member_id: MemberId,
        now_us: int,
    ) -> RightsRequest:
        if seen.decided_us is not None:
            if now_us - seen.decided_us < _HAND_ON_AGAIN_US:
                raise RequestStateError("it is being carried out", reason="decided_before")
            decided = replace(decided, decided_us=seen.decided_us, decided_by=seen.decided_by)
        gate = await self._desk.consent.gate(work, member_id)
        if seen.right is Right.RECTIFICATION and gate.state is GateState.RESTRICTED:
            raise RequestStateError(
                "end the restriction first, nothing is changed under one",
                reason="member_restricted",
            )
        await enqueue_job(
            work,
            CARRY_OUT,
            {"request_id": seen.id},
            now_us=now_us,
            urgency=Urgency.WAITED_FOR,
        )
        return await self._desk.step(
            work,
            caller,
            seen,
            replace(decided, state=RequestState.IN_PROGRESS),
            "rights_request.fulfil",
            now_us=now_us,
            decision="allow",
        )

    async def _restrict(
        self,
        work: UnitOfWork,
        caller: Caller,
        seen: RightsRequest,
        decided: RightsRequest,
        member_id: MemberId,
        now_us: int,
    ) -> RightsRequest:
        until = seen.details.get("until")
        clock = self._desk.clock(seen.jurisdiction, seen.right)
        until_us = None if until is None else end_of_day_us(clock, date.fromisoformat(until))
        made = await self._restrictions.begin(
            work,
            caller,
            member_id,
            seen.details["ground"],
            until_us=until_us,
            request_id=seen.id,
            now_us=now_us,
        )
        results = (FieldResult("processing", "restricted", until, decided.law),)
        outcome = {**seen.outcome, "restriction": made.id}
        return await self._done(work, caller, seen, decided, results, outcome, now_us)

    async def _object(
        self,
        work: UnitOfWork,
        caller: Caller,
        seen: RightsRequest,
        decided: RightsRequest,
        member_id: MemberId,
        now_us: int,
    ) -> RightsRequest:
        pseudonym = await self._desk.members.pseudonym(work, member_id)
        marketing = [p.key for p in self._desk.pack.purposes.values() if p.direct_marketing]
        named = seen.details.get("purpose")
        if named is None or PurposeKey(named) in marketing:
            events = await self._desk.consent.object(
                work, caller, member_id, pseudonym, named or marketing[0], now_us=now_us
            )
            stopped = sorted({event.purpose for event in events} or {named or marketing[0]})
            results = tuple(FieldResult(one, "stopped", None, decided.law) for one in stopped)
        elif BasisKind.CONSENT in self._bases(named):
            await self._desk.consent.withdraw(
                work, caller, member_id, pseudonym, named, None, now_us=now_us
            )
            results = (FieldResult(named, "stopped", None, decided.law),)
        else:  # no consent to take back: the data is kept and not used
            await self._restrictions.begin(
                work, caller, member_id, "objection_pending", request_id=seen.id, now_us=now_us
            )
            results = (FieldResult(named, "restricted", None, decided.law),)
        return await self._done(work, caller, seen, decided, results, seen.outcome, now_us)

    async def _erase(
        self,
        work: UnitOfWork,
        caller: Caller,
        seen: RightsRequest,
        decided: RightsRequest,
        member_id: MemberId,
        now_us: int,
    ) -> RightsRequest:
        """Erase in this unit of work; the request comes out of it fulfilled and nameless."""
        if seen.stepped_up_us is None:
            raise IdentityNotProvenError(
                "an erasure needs a code answered for it", reason="step_up_required"
            )
        others = await repository.of_member(work, member_id)
        if any(one.right in _COPIES and one.state in OPEN for one in others):
            raise RequestStateError("a copy is still owed to the member", reason="access_first")
        plan = await self._plan(work, seen, member_id, now_us)
        subject = await self._desk.pseudonym(work, member_id)
        fulfilled = RequestState.FULFILLED if plan.whole else RequestState.PARTLY_FULFILLED
        nameless = replace(decided, state=fulfilled, member_id=None)
        ended = await self._desk.step(
            work,
            caller,
            seen,
            nameless,
            "rights_request.fulfil",
            now_us=now_us,
            subject=subject,
            decision="allow",
        )
        objected = await self._desk.consent.objections(work, member_id)
        suppressed = [FieldResult("suppression", "kept_as_tag")] if objected else []
        erased = await self._desk.members.erase(work, caller, member_id, now_us=now_us)
        results = (
            *plan.fields,
            *plan.beside,
            *suppressed,
            *map(_forgotten, erased.forgotten),
        )
        outcome: dict[str, Any] = {
            **seen.outcome,
            "erased_at": rfc3339(now_us),
            "erase_event": erased.audit_id,
            "keys_destroyed": erased.keys_destroyed,
        }
        final = replace(ended, results=results, outcome=outcome)
        if not await repository.save(work, final, ended.version):
            raise RequestStateError("somebody changed it in the meantime", reason="request_moved")
        return replace(final, version=ended.version + 1)

    # --- helpers ----------------------------------------------------------------------

    async def _done(
        self,
        work: UnitOfWork,
        caller: Caller,
        seen: RightsRequest,
        decided: RightsRequest,
        results: tuple[FieldResult, ...],
        outcome: Mapping[str, Any],
        now_us: int,
    ) -> RightsRequest:
        changed = replace(decided, state=RequestState.FULFILLED, results=results, outcome=outcome)
        return await self._desk.step(
            work,
            caller,
            seen,
            changed,
            "rights_request.fulfil",
            now_us=now_us,
            decision="allow",
        )

    async def _plan(
        self, session: ReadSession, request: RightsRequest, member_id: MemberId, now_us: int
    ) -> ErasurePlan:
        row = await self._desk.members.read(session, member_id)
        clock = self._desk.clock(request.jurisdiction, request.right)
        return plan_erasure(
            self._desk.pack,
            self._desk.jurisdiction(request),
            row.cells,
            local_day(clock, now_us),
        )

    def _bases(self, purpose: str) -> set[BasisKind]:
        found = self._desk.pack.purposes[PurposeKey(purpose)]
        return {found.default_basis, *found.basis.values()}

    def _ground(self, request: RightsRequest, reason: str) -> Fact:
        """Find the law behind a reason, or refuse to refuse: the default answer is to comply."""
        grounds = self._desk.jurisdiction(request).refusals
        fact = grounds.get(reason)
        if fact is not None and isinstance(fact.value, tuple) and request.right in fact.value:
            return fact
        known = [
            key
            for key, ground in grounds.items()
            if isinstance(ground.value, tuple) and request.right in ground.value
        ]
        detail = f"one of {', '.join(sorted(known))}" if known else "no reason is known"
        raise RequestInvalidError(errors=[FieldProblem("/reason", "unknown_reason", detail)])


def _forgotten(one: Forgotten) -> FieldResult:
    """Turn what another room did into a line of the certificate."""
    until = None if one.kept_until is None else one.kept_until.isoformat()
    kept = until is not None and one.reason != NOT_MATCHABLE
    return FieldResult(one.what, RETAINED if kept else one.reason, until)
