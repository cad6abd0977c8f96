"""Consent: what a member decided, on which words, by what proof; and taking it back.

Every decision is an event that stays, and moves the member gate on under its row lock, so that
no read decided before it can be recorded after it returned. Withdrawing asks for no reason and
is never refused (PDPA s.19 para 5, GDPR art. 7(3)).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from audit import AuditLog, RightsKind, RightsLedger
from consent import guardian_rows, repository
from consent.checking import (
    channel_problem,
    check_guardians,
    consent_purpose,
    lifts,
    not_lifted,
    problems_of,
)
from consent.decision import NEEDS_GUARDIAN, find_reconfirm
from consent.errors import ConsentError
from consent.model import (
    NO_CHANNEL,
    ConsentEvent,
    ConsentRequest,
    ConsentState,
    Gate,
    GateState,
    NoticeRecord,
    Reconfirm,
    Status,
)
from consent.suppression import Suppressions
from kernel import (
    AuditEventId,
    Caller,
    ConsentEventId,
    FieldProblem,
    MemberId,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    from_rfc3339,
    new_id,
    put_message,
)
from policies import AgeTier, PolicyPack, PurposeKey
from vault import OwnerKey, Vault

_MAX_BATCH = 50
_NO = {
    Status.WITHDRAWN: RightsKind.WITHDRAWAL,
    Status.REFUSED: RightsKind.REFUSAL,
    Status.OBJECTED: RightsKind.OBJECTION,
}


class ConsentService:
    """Records and answers for consent; needs the pack, the trail and the suppression key."""

    def __init__(
        self, pack: PolicyPack, audit: AuditLog, rights: RightsLedger, vault: Vault
    ) -> None:
        self._pack = pack
        self._audit = audit
        self._rights = rights
        self.suppressions = Suppressions(pack, vault, rights)

    async def publish_notices(self, work: UnitOfWork) -> None:
        """Keep the exact words of every notice of the pack in the database."""
        for notice in self._pack.notices_by_revision.values():
            await repository.add_notice(
                work,
                NoticeRecord(
                    notice.revision,
                    notice.key,
                    notice.version,
                    notice.lang.value,
                    notice.text,
                    from_rfc3339(notice.effective_from.isoformat()),
                ),
            )

    def check(self, requests: Sequence[ConsentRequest], age_tier: AgeTier, *, pointer: str) -> None:
        """Refuse decisions that do not fit the pack; `pointer` is the JSON pointer of the list."""
        if len(requests) > _MAX_BATCH:
            raise ConsentError("too many decisions in one request", reason="too_many")
        seen, problems = set[tuple[str, str]](), list[FieldProblem]()
        for position, request in enumerate(requests):
            place = f"{pointer}/{position}"
            problems.extend(problems_of(self._pack, request, place, self._audit.now_us()))
            if (request.purpose, request.channel) in seen:
                problems.append(FieldProblem(place, "repeated", "one decision per channel"))
            seen.add((request.purpose, request.channel))
        if problems:
            raise ConsentError(errors=problems)
        named = frozenset(r.guardian for r in requests if r.guardian is not None)
        check_guardians(requests, age_tier, named)

    async def record(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        requests: Sequence[ConsentRequest],
        *,
        now_us: int,
    ) -> list[ConsentEvent]:
        """Record checked decisions: gate moved on, events appended, state set, trail written.

        Events of a member bear growing moments, whatever clocks do and however long this
        waited for another decision: replayed in order, they give the state that is stored.

        An objection outlasts every decision but one: a consent that the person themself gave
        after it, by an act that was seen. Where minor and guardian decide together, the event
        given back is the guardian's; the minor's stands before it.
        """
        if not requests:
            return []
        gate = await self._hold(work, member_id)
        proven = await guardian_rows.proven(work, member_id)
        check_guardians(requests, AgeTier(gate.age_tier), proven)
        held = {(s.purpose, s.channel): s for s in await repository.states_of(work, member_id)}
        at_us = max(now_us, await repository.last_moment(work, member_id) + 1)
        events: list[ConsentEvent] = []
        for position, request in enumerate(requests):
            before = held.get((request.purpose, request.channel))
            objected = before is not None and before.status is Status.OBJECTED
            status = request.status
            if before is not None and objected:
                if status is not Status.GIVEN:
                    status = Status.OBJECTED
                elif not lifts(before, request, now_us):
                    raise not_lifted(position)
            event = await self._append(
                work, caller, pseudonym, gate, request, status, at_us=at_us, now_us=now_us
            )
            await self._remember_no(work, event, now_us)
            if objected and status is Status.GIVEN:
                await self._lift(work, caller, member_id, pseudonym, request)
            if status is not Status.OBJECTED:
                await put_message(
                    work,
                    f"consent.{status.value}",
                    {"member_id": member_id, "event_id": event.id},
                    now_us=now_us,
                )
            events.append(event)
        return events

    async def withdraw(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        purpose: str,
        channel: str | None,
        *,
        now_us: int,
        evidence: dict[str, Any] | None = None,
        guardian: str | None = None,
    ) -> list[ConsentEvent]:
        """Take back consent for a purpose, on one channel or, without one, on all of them.

        Also records a withdrawal where nothing was given, so that a member who says no is on
        record as having said it. A guardian withdraws like the member.
        """
        found = consent_purpose(self._pack, purpose, "/purpose")
        if isinstance(found, FieldProblem):
            raise ConsentError(errors=[found])
        if channel is not None:
            problem = channel_problem(found, channel, "/channel")
            if problem is not None:
                raise ConsentError(errors=[problem])
        channels: Sequence[str]
        channels = [channel] if channel is not None else found.channels or [NO_CHANNEL]
        states = await repository.states_of(work, member_id)
        current = {s.channel: s for s in states if s.purpose == purpose}
        requests = [
            ConsentRequest(
                purpose,
                name,
                Status.WITHDRAWN,
                current[name].notice_revision if name in current else None,
                None,
                evidence or {},
                guardian,
            )
            for name in channels
        ]
        return await self.record(work, caller, member_id, pseudonym, requests, now_us=now_us)

    # --- objections -------------------------------------------------------------------

    async def object(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        purpose: str,
        *,
        now_us: int,
        evidence: dict[str, Any] | None = None,
        guardian: str | None = None,
    ) -> list[ConsentEvent]:
        """Record an objection to direct marketing: absolute, at once, on every channel.

        It takes in every purpose of direct marketing, profiling for it included, and keeps the
        member's addresses from them for good (PDPA s.32 para 2, GDPR art. 21(2)-(3), Taiwan
        PDPA art. 20 II). `ConsentError` for any other purpose: consent is withdrawn, and an
        objection on other grounds is weighed by people as a rights request.
        """
        named = self._pack.purposes.get(PurposeKey(purpose))
        if named is None:
            raise ConsentError(errors=[FieldProblem("/purpose", "unknown_purpose")])
        if not named.direct_marketing:
            remedy = "withdraw consent, or open a rights request"
            raise ConsentError(errors=[FieldProblem("/purpose", "not_direct_marketing", remedy)])
        requests = [
            ConsentRequest(entry.key, name, Status.OBJECTED, None, None, evidence or {}, guardian)
            for entry in self._pack.purposes.values()
            if entry.direct_marketing
            for name in entry.channels or [NO_CHANNEL]
        ]
        events = await self.record(work, caller, member_id, pseudonym, requests, now_us=now_us)
        await self._suppress(work, member_id, events, now_us=now_us)
        for key in dict.fromkeys(event.purpose for event in events):
            told = {"member_id": member_id, "purpose": key}
            await put_message(work, "objection.recorded", told, now_us=now_us)
        return events

    async def objections(self, session: ReadSession, member_id: MemberId) -> list[ConsentState]:
        """Give the objections of a member that stand."""
        states = await repository.states_of(session, member_id)
        return [state for state in states if state.status is Status.OBJECTED]

    async def carry_over(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        *,
        now_us: int,
    ) -> list[ConsentEvent]:
        """Bring the objections of an address that is known again over to who bears it now."""
        found = await self.suppressions.of_member(work, member_id)
        states = await repository.states_of(work, member_id) if found else []
        standing = {(s.purpose, s.channel) for s in states if s.status is Status.OBJECTED}
        requests = [
            ConsentRequest(purpose, channel, Status.OBJECTED, None, None, {"form": "suppression"})
            for purpose, channel in found
            if (purpose, channel) not in standing
        ]
        events = await self.record(work, caller, member_id, pseudonym, requests, now_us=now_us)
        await self._suppress(work, member_id, events, now_us=now_us)
        return events

    async def admissible(
        self, session: ReadSession, member_id: MemberId, requests: Sequence[ConsentRequest]
    ) -> list[ConsentRequest]:
        """Leave out what an objection outlasts or a guardian is missing for.

        For who brings decisions from elsewhere and cannot know: a registration, an undone merge.
        """
        objected = {(s.purpose, s.channel): s for s in await self.objections(session, member_id)}
        minor = AgeTier((await self.gate(session, member_id)).age_tier) in NEEDS_GUARDIAN
        proven = await guardian_rows.proven(session, member_id) if minor else frozenset[str]()
        return [
            request
            for request in requests
            if (standing := objected.get((request.purpose, request.channel))) is None
            or lifts(standing, request, self._audit.now_us())
            if not minor or request.status is not Status.GIVEN or request.guardian in proven
        ]

    # --- looking ----------------------------------------------------------------------

    async def to_reconfirm(
        self, session: ReadSession, member_id: MemberId, *, now_us: int
    ) -> list[Reconfirm]:
        """Give each consent that carries nothing until it is confirmed, and why."""
        gate = await self.gate(session, member_id)
        states = await repository.states_of(session, member_id)
        return find_reconfirm(self._pack, AgeTier(gate.age_tier), states, now_us)

    async def states(self, session: ReadSession, member_id: MemberId) -> list[ConsentState]:
        """Give the present state of everything a member was asked."""
        return await repository.states_of(session, member_id)

    async def states_as_of(
        self, session: ReadSession, member_id: MemberId, moment_us: int
    ) -> list[ConsentState]:
        """Replay the events up to a moment and give the state as it stood then."""
        latest: dict[tuple[str, str], ConsentState] = {}
        for event in await repository.events_of(session, member_id, until_us=moment_us):
            if event.joint_with is None:  # else the guardian's word beside it is the decision
                latest[event.purpose, event.channel] = event.state()
        return [latest[key] for key in sorted(latest)]

    async def event(self, session: ReadSession, event_id: str) -> ConsentEvent:
        """Find a consent event, or `NotFoundError`."""
        found = await repository.event_by_id(session, event_id)
        if found is None:
            raise NotFoundError("no such consent event", reason="consent_unknown")
        return found

    async def words(self, session: ReadSession, revision: str) -> NoticeRecord:
        """Give the exact words behind a revision, or `NotFoundError`."""
        found = await repository.notice_by_revision(session, revision)
        if found is None:
            raise NotFoundError("no such notice revision", reason="notice_unknown")
        return found

    # --- the gate ---------------------------------------------------------------------

    async def open_gate(self, work: UnitOfWork, member_id: MemberId, age_tier: AgeTier) -> None:
        """Make the gate of a new member."""
        await repository.open_gate(work, member_id, age_tier.value)

    async def gate(self, session: ReadSession, member_id: MemberId) -> Gate:
        """Read a member's gate, or `NotFoundError`."""
        return _known(await repository.read_gate(session, member_id))

    async def share_gate(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        """Read a gate that then stands still until the unit of work ends, or `NotFoundError`.

        What is read after it is as new as the gate: for whoever tells something of a member
        inside a unit of work.
        """
        return _known(await repository.share_gate(work, member_id))

    async def hold_gate(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        """Lock a member's gate and move it on; `NotFoundError` when closed or unknown."""
        return await self._hold(work, member_id)

    async def close_gate(self, work: UnitOfWork, member_id: MemberId) -> None:
        """Close a member for good: nothing is read or recorded any more.

        Objections stay with the addresses, by tag; how guardians are reached is forgotten, and
        so is whose guardian the member was. What they gave for a minor stands, as it was given.
        """
        await self.suppressions.add(work, member_id, await self.objections(work, member_id))
        await guardian_rows.forget_contacts(work, member_id)
        await guardian_rows.forget_guardian(work, member_id, now_us=self._audit.now_us())
        await repository.set_gate_state(work, member_id, GateState.ERASED)

    async def hold_gates(
        self, work: UnitOfWork, member_ids: Collection[MemberId]
    ) -> dict[MemberId, Gate]:
        """Lock several gates, always in the same order, and move each on; closed ones too.

        Who is unknown is missing in the answer. The order keeps two that want the same gates
        from waiting for each other.
        """
        held = [await repository.bump_gate(work, one) for one in sorted(set(member_ids))]
        return {gate.member_id: gate for gate in held if gate is not None}

    async def merge_gate(self, work: UnitOfWork, member_id: MemberId) -> None:
        """Close a member who is now a part of another; the ledger knows, for noes to come."""
        await repository.set_gate_state(work, member_id, GateState.MERGED)
        await self._rights.record(work, RightsKind.MERGE, member_id, {})

    async def reopen_gate(self, work: UnitOfWork, member_id: MemberId) -> None:
        """Open a member whose merge was undone."""
        await repository.set_gate_state(work, member_id, GateState.ACTIVE)

    async def set_age_tier(self, work: UnitOfWork, member_id: MemberId, age_tier: AgeTier) -> None:
        """Note that a member has come into another age tier."""
        await repository.set_age_tier(work, member_id, age_tier.value)

    async def minors(self, session: ReadSession, *, after: str, most: int) -> list[MemberId]:
        """Give members who are minors by their age tier, from the one after `after`."""
        tiers = (AgeTier.MINOR_WITH_GUARDIAN.value, AgeTier.GUARDIAN_ONLY.value)
        return await repository.members_in_tiers(session, tiers, after=after, most=most)

    async def restrict(self, work: UnitOfWork, member_id: MemberId, *, on: bool) -> None:
        """Restrict a member's data to storage, or end the restriction (PDPA s.34, GDPR art. 18)."""
        state = GateState.RESTRICTED if on else GateState.ACTIVE
        await repository.set_gate_state(work, member_id, state)
        await self._rights.record(work, RightsKind.RESTRICTION, member_id, {"on": on})

    # --- helpers ----------------------------------------------------------------------

    async def _remember_no(self, work: UnitOfWork, event: ConsentEvent, now_us: int) -> None:
        """Put what a restore must not forget into the rights ledger: every no, and no yes."""
        kind = _NO.get(event.status)
        if kind is not None:
            await self._rights.record(work, kind, event.member_id, event.told(), now_us)

    async def _hold(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        gate = await repository.bump_gate(work, member_id)
        if gate is None or gate.state.is_closed:
            raise NotFoundError("no such member", reason="member_unknown")
        return gate

    async def _append(
        self,
        work: UnitOfWork,
        caller: Caller,
        pseudonym: OwnerKey,
        gate: Gate,
        request: ConsentRequest,
        status: Status,
        *,
        at_us: int,
        now_us: int,
    ) -> ConsentEvent:
        """Append a decision with its event in the trail, and the minor's word before it."""
        event_id = ConsentEventId(new_id("con", now_us))
        audit_id = await self._recorded(work, caller, pseudonym, event_id, request, status)
        event = ConsentEvent(
            id=event_id,
            member_id=gate.member_id,
            purpose=request.purpose,
            channel=request.channel,
            status=status,
            notice_revision=request.notice_revision,
            lang=request.lang,
            evidence=request.evidence,
            recorded_by=caller.id,
            at_us=at_us,
            audit_id=audit_id,
            guardian_id=request.guardian,
        )
        together = gate.age_tier == AgeTier.MINOR_WITH_GUARDIAN.value
        if request.guardian is not None and status is Status.GIVEN and together:
            own_id = ConsentEventId(new_id("con", now_us))
            own_audit_id = await self._recorded(work, caller, pseudonym, own_id, request, status)
            minors = replace(
                event, id=own_id, audit_id=own_audit_id, guardian_id=None, joint_with=event_id
            )
            await repository.append_event(work, minors)
            event = replace(event, at_us=at_us + 1)
        await repository.add_event(work, event)
        return event

    async def _recorded(
        self,
        work: UnitOfWork,
        caller: Caller,
        pseudonym: OwnerKey,
        event_id: ConsentEventId,
        request: ConsentRequest,
        status: Status,
    ) -> AuditEventId:
        return await self._audit.record(
            work,
            caller,
            f"consent.{status.value}",
            subject=pseudonym,
            resource=f"consent:{event_id}",
            purpose=request.purpose,
            channel=request.channel or None,
        )

    async def _suppress(
        self,
        work: UnitOfWork,
        member_id: MemberId,
        events: Sequence[ConsentEvent],
        *,
        now_us: int,
    ) -> None:
        states = [ConsentState(e.purpose, e.channel, e.status, e.id, None, e.at_us) for e in events]
        await self.suppressions.add(work, member_id, states)
        for event in events:
            told = {"member_id": member_id, "purpose": event.purpose, "channel": event.channel}
            await put_message(work, "suppression.added", told, now_us=now_us)

    async def _lift(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        request: ConsentRequest,
    ) -> None:
        lifted = await self.suppressions.lift(work, member_id, request.purpose, request.channel)
        await self._audit.record(
            work,
            caller,
            "suppression.lift",
            subject=pseudonym,
            purpose=request.purpose,
            channel=request.channel or None,
            count=lifted,
        )


def _known(gate: Gate | None) -> Gate:
    if gate is None:
        raise NotFoundError("no such member", reason="member_unknown")
    return gate
