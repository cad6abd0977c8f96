"""Rights requests as the other rooms and the service use them: one door for the whole path.

Intake and clocks come from `dsar.intake`; this adds deciding, carrying out, proving and what runs
in the background. An objection to direct marketing is never kept waiting: it is obeyed in the
unit of work in which identity is proven, for the law allows no weighing (PDPA s.32, GDPR 21(3)).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, Protocol

import orjson

from dsar import repository
from dsar.carrying_out import CarryingOut
from dsar.certificate import ProvenEvent, write_certificate
from dsar.deadlines import local_day
from dsar.decisions import Decisions
from dsar.desk import DAY_US, Desk
from dsar.erasure import ErasurePlan
from dsar.errors import RequestStateError
from dsar.intake import Intake
from dsar.model import RequestState, Right, RightsRequest, Via
from dsar.restrictions import Restrictions
from kernel import (
    Caller,
    Clock,
    Database,
    MemberId,
    ReadSession,
    UnavailableError,
    UnitOfWork,
    Urgency,
    enqueue_job,
    rfc3339,
)
from policies import PurposeKey

TELL_CONSUMERS = "rights_consumers"
_LOOK_AGAIN_US = 3_600_000_000
_FIRST_LOOK_US = 5_000_000
_MOST_LOOKS = 80
_SETTLED = frozenset({"acknowledged", "failed", "cancelled", "no_webhook"})
_METHOD = "AES-256-GCM keys destroyed, cells, contact points and index tags deleted"


class Acknowledged(Protocol):
    """Whether one consumer has heard of an erasure."""

    @property
    def client_id(self) -> str:
        """The consumer."""
        ...

    @property
    def state(self) -> str:
        """`acknowledged`, `waiting`, `failed`, `cancelled` or `no_webhook`."""
        ...

    @property
    def acknowledged_us(self) -> int | None:
        """When it said so."""
        ...


class ConsumerLedger(Protocol):
    """Knows who received a member's data and who has heard of its erasure."""

    async def acknowledgements(
        self, session: ReadSession, member_id: MemberId, kind: str = "member.erased"
    ) -> Sequence[Acknowledged]:
        """Say of every consumer whether it has heard."""
        ...


class BackupHorizon(Protocol):
    """Knows until when a backup may still hold what was erased."""

    async def erased_from_backups(self, session: ReadSession, erased_us: int) -> Mapping[str, Any]:
        """Give `state` (`no_backups` where there are none) and the days, as plain JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Flagged:
    """What one round of looking after requests did."""

    due_soon: int
    late: int
    restrictions_ended: int
    exports_dropped: int


class Rights(Intake):
    """Takes, decides, carries out and proves requests of members."""

    def __init__(
        self,
        desk: Desk,
        database: Database,
        clock: Clock,
        carrying_out: CarryingOut,
        consumers: ConsumerLedger,
        backups: BackupHorizon,
    ) -> None:
        super().__init__(desk)
        self.restrictions = Restrictions(desk)
        self._database = database
        self._now = clock
        self._decisions = Decisions(desk, self.restrictions)
        self._carrying_out = carrying_out
        self._consumers = consumers
        self._backups = backups

    # --- intake, where an objection is obeyed at once ---------------------------------

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
        """Take a request of a member (see `Intake.open`); a proven objection is obeyed here."""
        opened = await super().open(
            work,
            caller,
            member_id,
            right,
            via=via,
            details=details,
            now_us=now_us,
            received_us=received_us,
        )
        if self._is_absolute(opened) and opened.identity_proven:
            return await self._decisions.fulfil(work, caller, opened.id, now_us=now_us)
        return opened

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
        """Take a code (see `Intake.verify`); an objection is obeyed once it was right."""
        reason = await super().verify(work, caller, request_id, contact_point, code, now_us=now_us)
        if reason is None:
            request = await self.read(work, request_id, caller.brand)
            if self._is_absolute(request) and not request.state.final:
                await self._decisions.fulfil(work, caller, request_id, now_us=now_us)
        return reason

    # --- deciding ---------------------------------------------------------------------

    async def fulfil(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Decide to do what was asked, and do it or hand it on (see `Decisions.fulfil`)."""
        seen = await self.read(work, request_id, caller.brand)
        member_id = seen.member_id
        done = await self._decisions.fulfil(work, caller, request_id, now_us=now_us)
        if done.right is not Right.ERASURE or member_id is None:
            return done
        await self._tell_later(work, done.id, member_id, 0, now_us)
        return await self._noted(work, done, member_id)

    async def plan(
        self, session: ReadSession, request: RightsRequest, *, now_us: int
    ) -> ErasurePlan:
        """Say what an erasure would do, before it does it (see `Decisions.plan`)."""
        return await self._decisions.plan(session, request, now_us=now_us)

    async def refuse(
        self, work: UnitOfWork, caller: Caller, request_id: str, reason: str, *, now_us: int
    ) -> RightsRequest:
        """Propose or approve a refusal (see `Decisions.refuse`)."""
        return await self._decisions.refuse(work, caller, request_id, reason, now_us=now_us)

    async def drop_proposal(
        self, work: UnitOfWork, caller: Caller, request_id: str, *, now_us: int
    ) -> RightsRequest:
        """Let a proposed refusal fall (see `Decisions.drop_proposal`)."""
        return await self._decisions.drop_proposal(work, caller, request_id, now_us=now_us)

    async def refusals(
        self, session: ReadSession, brand: str, *, before: str | None = None, most: int = 50
    ) -> Sequence[RightsRequest]:
        """Give the register of refused requests of a brand, the newest first."""
        return await self._decisions.refusals(session, brand, before=before, most=most)

    # --- carrying out -----------------------------------------------------------------

    async def carry_out(self, request_id: str, caller: Caller) -> RightsRequest | None:
        """Make the copy or the correction that was decided, in units of work of its own."""
        return await self._carrying_out.carry_out(request_id, caller)

    async def export(self, caller: Caller, request_id: str) -> bytes:
        """Hand the copy over, once, as a ZIP (see `CarryingOut.fetch`)."""
        return await self._carrying_out.fetch(caller, request_id)

    async def ask_consumers(
        self, caller: Caller, request_id: str, member_id: MemberId, looks: int
    ) -> None:
        """Note on the request who has heard of its erasure, and look again while some have not."""
        async with self._database.unit_of_work() as work:
            request = await repository.hold(work, request_id)
            if request is None:
                return
            noted = await self._noted(work, request, member_id)
            await self._desk.record(work, caller, "rights_request.note_consumers", request)
            states = {one["state"] for one in noted.outcome["consumers"]}
            if not states <= _SETTLED and looks < _MOST_LOOKS:
                await self._tell_later(work, request.id, member_id, looks + 1, self._now.now_us())

    # --- proving ----------------------------------------------------------------------

    async def certificate(self, request_id: str, brand: str = "*") -> str:
        """Write and sign the certificate of an ended request (docs/formats/certificate.md).

        Raises:
            RequestStateError: it has not ended, or ended without a decision of its own.
            UnavailableError: the log has not signed its event yet; ask again in a moment.
        """
        async with self._database.read() as session:
            request = await self.read(session, request_id, brand)
            if not request.state.final or request.audit_id is None:
                raise RequestStateError("there is no decision to certify", reason="not_decided")
            wanted = [("decision", request.audit_id)]
            if "erase_event" in request.outcome:
                wanted.append(("erasure", str(request.outcome["erase_event"])))
            events = []
            for stands_for, event_id in wanted:
                proof = await self._desk.audit.prove(session, event_id)
                if proof is None:
                    raise UnavailableError(
                        "the log has not signed this yet", reason="not_sequenced"
                    )
                entry = await self._desk.audit.entry(session, event_id)
                events.append(
                    ProvenEvent(stands_for, event_id, entry, proof.index, proof.hashes, proof.note)
                )
            body = await self._certified(session, request)
        return self._desk.audit.sign(write_certificate(body, events))

    # --- in the background ------------------------------------------------------------

    async def look_after(self, caller: Caller) -> Flagged:
        """Flag requests that are due soon or late, end restrictions, drop copies not fetched."""
        now_us = self._now.now_us()
        async with self._database.read() as session:
            horizon = now_us + self._desk.rules.warn_days * DAY_US
            due = await repository.overdue(session, horizon)
            ended = await repository.restrictions_run_out(session, now_us=now_us)
        counts = {"due_soon": 0, "late": 0}
        for request in due:
            flag = "late" if request.alarm_us <= now_us else "due_soon"
            if request.flagged != flag:
                counts[flag] += await self._flag(caller, request.id, flag, now_us)
        for restriction in ended:
            async with self._database.unit_of_work() as work:
                await self.restrictions.end(work, caller, restriction.id, now_us=now_us)
        async with self._database.unit_of_work() as work:
            dropped = await repository.drop_expired_exports(work, now_us=now_us)
            if dropped:
                await self._desk.audit.record(work, caller, "rights_export.expire", count=dropped)
        return Flagged(counts["due_soon"], counts["late"], len(ended), dropped)

    # --- helpers ----------------------------------------------------------------------

    def _is_absolute(self, request: RightsRequest) -> bool:
        """Say whether a request is an objection to direct marketing, which nobody weighs."""
        named = request.details.get("purpose")
        return request.right is Right.OBJECTION and (
            named is None or self._desk.pack.purposes[PurposeKey(named)].direct_marketing
        )

    async def _flag(self, caller: Caller, request_id: str, flag: str, now_us: int) -> int:
        async with self._database.unit_of_work() as work:
            seen = await self._desk.held(work, caller, request_id)
            if seen.state.final or seen.flagged == flag:
                return 0
            await self._desk.step(
                work,
                caller,
                seen,
                replace(seen, flagged=flag),
                f"rights_request.{flag}",
                now_us=now_us,
            )
            await self._desk.tell(work, seen, seen.member_id, now_us)
        return 1

    async def _noted(
        self, work: UnitOfWork, request: RightsRequest, member_id: MemberId
    ) -> RightsRequest:
        """Write on the request who has heard so far."""
        heard = await self._consumers.acknowledgements(work, member_id)
        told = [
            {
                "client": one.client_id,
                "state": one.state,
                "acknowledged_at": None
                if one.acknowledged_us is None
                else rfc3339(one.acknowledged_us),
            }
            for one in heard
        ]
        noted = replace(request, outcome={**request.outcome, "consumers": told})
        if not await repository.save(work, noted, request.version):
            raise RequestStateError("somebody changed it in the meantime", reason="request_moved")
        return replace(noted, version=request.version + 1)

    @staticmethod
    async def _tell_later(
        work: UnitOfWork, request_id: str, member_id: MemberId, looks: int, now_us: int
    ) -> None:
        wait_us = _LOOK_AGAIN_US if looks else _FIRST_LOOK_US
        await enqueue_job(
            work,
            TELL_CONSUMERS,
            {"request_id": request_id, "member_id": member_id, "looks": looks},
            now_us=now_us,
            run_at_us=now_us + wait_us,
            urgency=Urgency.WAITED_FOR,
        )

    async def _certified(self, session: ReadSession, request: RightsRequest) -> dict[str, Any]:
        clock = self.clock(request)
        results = [result.as_dict() for result in request.results]
        body: dict[str, Any] = {
            "issued_at": rfc3339(self._now.now_us()),
            "controller": self._desk.vault.tenant,
            "log": self._desk.audit.origin,
            "request": {
                "id": request.id,
                "right": request.right.value,
                "jurisdiction": request.jurisdiction,
                "via": request.via.value,
                "received_at": rfc3339(request.received_us),
                "identity": request.verified_by,
                "safe_due": request.safe_due.isoformat(),
                "legal_due": request.legal_due.isoformat(),
                "clock": {
                    "law": clock.period.source,
                    "evidence": clock.period.evidence.value,
                    "unverified": clock.unverified,
                    "weekends_only": clock.holidays is None,
                },
                "extended": request.extension_reason,
                "paused_days": request.paused_days,
            },
            "decision": {
                "state": request.state.value,
                "decided_at": rfc3339(request.decided_us or request.received_us),
                "decided_by": request.decided_by,
                "in_time": self._in_time(request),
                "reason": request.reason,
                "law": request.law,
            },
            "results": results,
            "manifest": "sha256:" + sha256(orjson.dumps(results)).hexdigest(),
        }
        if request.right is Right.ERASURE and "erased_at" in request.outcome:
            body["erasure"] = await self._erased(session, request)
        if request.state is RequestState.REFUSED:
            authority = self._desk.jurisdiction(request).authority
            body["complain_to"] = authority.as_dict()
        return body

    async def _erased(self, session: ReadSession, request: RightsRequest) -> dict[str, Any]:
        backups = await self._backups.erased_from_backups(
            session, request.decided_us or request.received_us
        )
        return {
            "erased_at": request.outcome["erased_at"],
            "method": _METHOD,
            "keys_destroyed": request.outcome["keys_destroyed"],
            "consumers": request.outcome.get("consumers", []),
            "backups": dict(backups),
        }

    def _in_time(self, request: RightsRequest) -> bool:
        clock = self.clock(request)
        decided = local_day(clock, request.decided_us or request.received_us)
        return decided < request.safe_due + timedelta(days=1)
