"""Consent: what a member decided, on which words, by what proof; and taking it back.

Every decision is an event that stays, and moves the member gate on under its row lock, so that
no read decided before it can be recorded after it returned. Withdrawing asks for no reason and
is never refused (PDPA s.19 para 5, GDPR art. 7(3)).
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

from audit import AuditLog, RightsKind, RightsLedger
from consent import repository
from consent.errors import ConsentError, GuardianRequiredError
from consent.model import (
    NO_CHANNEL,
    ConsentEvent,
    ConsentRequest,
    ConsentState,
    Gate,
    GateState,
    NoticeRecord,
    Status,
)
from kernel import (
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
from policies import AgeTier, BasisKind, Channel, PolicyPack, Purpose, PurposeKey
from vault import OwnerKey

_CODE = re.compile(r"(?!.*[0-9]{7})[a-z][a-z0-9_.-]{0,63}")
_EVIDENCE_CODES = ("ui_action", "form", "place", "device")
_EVIDENCE_MOMENTS = ("shown_at", "decided_at")
_MAX_BATCH = 50
_NO = {Status.WITHDRAWN: RightsKind.WITHDRAWAL, Status.REFUSED: RightsKind.REFUSAL}


class ConsentService:
    """Records and answers for consent; needs the pack and the trail."""

    def __init__(self, pack: PolicyPack, audit: AuditLog, rights: RightsLedger) -> None:
        self._pack = pack
        self._audit = audit
        self._rights = rights

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
        seen: set[tuple[str, str]] = set()
        problems: list[FieldProblem] = []
        for position, request in enumerate(requests):
            place = f"{pointer}/{position}"
            problems.extend(self._problems(request, place))
            if (request.purpose, request.channel) in seen:
                problems.append(FieldProblem(place, "repeated", "one decision per channel"))
            seen.add((request.purpose, request.channel))
        if problems:
            raise ConsentError(errors=problems)
        minor = age_tier in {AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY}
        if minor and any(request.status is Status.GIVEN for request in requests):
            raise GuardianRequiredError(reason="guardian_required")

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
        """
        if not requests:
            return []
        await self._hold(work, member_id)
        at_us = max(now_us, await repository.last_moment(work, member_id) + 1)
        events: list[ConsentEvent] = []
        for request in requests:
            event_id = ConsentEventId(new_id("con", now_us))
            audit_id = await self._audit.record(
                work,
                caller,
                f"consent.{request.status.value}",
                subject=pseudonym,
                resource=f"consent:{event_id}",
                purpose=request.purpose,
                channel=request.channel or None,
            )
            event = ConsentEvent(
                id=event_id,
                member_id=member_id,
                purpose=request.purpose,
                channel=request.channel,
                status=request.status,
                notice_revision=request.notice_revision,
                lang=request.lang,
                evidence=request.evidence,
                recorded_by=caller.id,
                at_us=at_us,
                audit_id=audit_id,
            )
            await repository.add_event(work, event)
            await self._remember_no(work, event, now_us)
            await put_message(
                work,
                f"consent.{request.status.value}",
                {"member_id": member_id, "event_id": event_id},
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
    ) -> list[ConsentEvent]:
        """Take back consent for a purpose, on one channel or, without one, on all of them.

        Also records a withdrawal where nothing was given, so that a member who says no is on
        record as having said it.
        """
        found = self._consent_purpose(purpose, "/purpose")
        if isinstance(found, FieldProblem):
            raise ConsentError(errors=[found])
        if channel is not None:
            problem = self._channel_problem(found, channel, "/channel")
            if problem is not None:
                raise ConsentError(errors=[problem])
        channels: Sequence[str]
        channels = [channel] if channel is not None else found.channels or [NO_CHANNEL]
        current = {s.channel: s for s in await self._states(work, member_id, purpose)}
        requests = [
            ConsentRequest(
                purpose,
                name,
                Status.WITHDRAWN,
                current[name].notice_revision if name in current else None,
                None,
                evidence or {},
            )
            for name in channels
        ]
        return await self.record(work, caller, member_id, pseudonym, requests, now_us=now_us)

    async def states(self, session: ReadSession, member_id: MemberId) -> list[ConsentState]:
        """Give the present state of everything a member was asked."""
        return await repository.states_of(session, member_id)

    async def states_as_of(
        self, session: ReadSession, member_id: MemberId, moment_us: int
    ) -> list[ConsentState]:
        """Replay the events up to a moment and give the state as it stood then."""
        latest: dict[tuple[str, str], ConsentState] = {}
        for event in await repository.events_of(session, member_id, until_us=moment_us):
            latest[event.purpose, event.channel] = ConsentState(
                event.purpose,
                event.channel,
                event.status,
                event.id,
                event.notice_revision,
                event.at_us,
            )
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
        found = await repository.read_gate(session, member_id)
        if found is None:
            raise NotFoundError("no such member", reason="member_unknown")
        return found

    async def share_gate(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        """Read a gate that then stands still until the unit of work ends, or `NotFoundError`.

        What is read after it is as new as the gate: for whoever tells something of a member
        inside a unit of work.
        """
        found = await repository.share_gate(work, member_id)
        if found is None:
            raise NotFoundError("no such member", reason="member_unknown")
        return found

    async def hold_gate(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        """Lock a member's gate and move it on; `NotFoundError` when closed or unknown."""
        return await self._hold(work, member_id)

    async def close_gate(self, work: UnitOfWork, member_id: MemberId) -> None:
        """Close a member for good: nothing is read or recorded any more."""
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
        """Close a member who is from now on a part of another."""
        await repository.set_gate_state(work, member_id, GateState.MERGED)

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
            await self._rights.record(work, kind, event.member_id, _told(event), now_us)

    async def _hold(self, work: UnitOfWork, member_id: MemberId) -> Gate:
        gate = await repository.bump_gate(work, member_id)
        if gate is None or gate.state.is_closed:
            raise NotFoundError("no such member", reason="member_unknown")
        return gate

    async def _states(
        self, session: ReadSession, member_id: MemberId, purpose: str
    ) -> list[ConsentState]:
        states = await repository.states_of(session, member_id)
        return [state for state in states if state.purpose == purpose]

    def _consent_purpose(self, key: str, place: str) -> Purpose | FieldProblem:
        purpose = self._pack.purposes.get(PurposeKey(key))
        if purpose is None:
            return FieldProblem(place, "unknown_purpose", "no such purpose")
        kinds = {purpose.default_basis, *purpose.basis.values()}
        if BasisKind.CONSENT not in kinds:
            return FieldProblem(place, "not_by_consent", "this purpose does not rest on consent")
        return purpose

    def _channel_problem(self, purpose: Purpose, channel: str, place: str) -> FieldProblem | None:
        if purpose.channelled and Channel(channel) not in purpose.channels:
            code = "unknown_channel" if channel else "channel_required"
            return FieldProblem(place, code, f"use one of {', '.join(purpose.channels)}")
        if not purpose.channelled and channel:
            return FieldProblem(place, "channel_not_applicable", "this purpose has no channels")
        return None

    def _problems(self, request: ConsentRequest, place: str) -> list[FieldProblem]:
        purpose = self._consent_purpose(request.purpose, f"{place}/purpose")
        if isinstance(purpose, FieldProblem):
            return [purpose]
        problems: list[FieldProblem] = []
        channel = self._channel_problem(purpose, request.channel, f"{place}/channel")
        if channel is not None:
            problems.append(channel)
        notice = (
            None
            if request.notice_revision is None
            else self._pack.notice_of(request.notice_revision)
        )
        if notice is None or notice.key != purpose.notice:
            problems.append(
                FieldProblem(
                    f"{place}/notice_revision",
                    "unknown_notice_revision",
                    "name the revision of the words that were shown (GET /v1/notices/…)",
                )
            )
        elif request.lang != notice.lang.value:
            problems.append(
                FieldProblem(
                    f"{place}/lang", "wrong_language", "the revision is in another language"
                )
            )
        problems.extend(_evidence_problems(request.evidence, f"{place}/evidence"))
        return problems


def _told(event: ConsentEvent) -> dict[str, Any]:
    """Give the event without its member and its evidence, so that it can be written again."""
    return {
        "event": event.id,
        "purpose": event.purpose,
        "channel": event.channel,
        "decision": event.status.value,
        "notice_revision": event.notice_revision,
        "lang": event.lang,
        "recorded_by": event.recorded_by,
        "at_us": event.at_us,
        "audit_id": event.audit_id,
    }


def _evidence_problems(evidence: dict[str, Any], place: str) -> list[FieldProblem]:
    """Evidence is codes and moments, so that no personal text can hide in it."""
    problems: list[FieldProblem] = []
    for key, value in evidence.items():
        if key in _EVIDENCE_CODES:
            fine = isinstance(value, str) and _CODE.fullmatch(value) is not None
        elif key in _EVIDENCE_MOMENTS:
            fine = isinstance(value, str) and _is_moment(value)
        else:
            problems.append(FieldProblem(place, "unknown_evidence", "a key is not known"))
            continue
        if not fine:
            problems.append(FieldProblem(f"{place}/{key}", "evidence", "not a code or moment"))
    return problems


def _is_moment(text: str) -> bool:
    try:
        from_rfc3339(text)
    except (ValueError, OverflowError):
        return False
    return True
