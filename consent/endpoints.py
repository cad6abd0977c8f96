"""Consent over HTTP: record, withdraw, look at it now or as of a moment, fetch a receipt."""

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Query, Request

from consent.model import NO_CHANNEL, ConsentEvent, ConsentRequest, ConsentState, Status
from consent.receipt import ReceiptSigner
from consent.schemas import (
    ConsentsAnswer,
    DecisionBody,
    ReceiptAnswer,
    RecordBody,
    RecordedAnswer,
    WithdrawBody,
)
from consent.service import ConsentService
from kernel import (
    Caller,
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    MemberId,
    NotFoundError,
    ReadSession,
    from_rfc3339,
    rfc3339,
)
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed
from policies import AgeTier
from vault import OwnerKey

_SubId = Annotated[str, Path(max_length=40, examples=["sub_…"])]


class MemberDirectory(Protocol):
    """Knows members by what clients call them; the members room has it."""

    async def resolve(self, session: ReadSession, pairwise: str, caller: Caller) -> MemberId:
        """Resolve a pairwise id inside the caller's brand, or raise."""
        ...

    async def pseudonym(self, session: ReadSession, member_id: MemberId) -> OwnerKey:
        """Give the key under which the member appears in the trail, or raise."""
        ...

    async def is_known_to(self, session: ReadSession, member_id: MemberId, caller: Caller) -> bool:
        """Say whether this caller knows the member."""
        ...


def request_of(body: DecisionBody) -> ConsentRequest:
    """Read one decision out of a request body."""
    return ConsentRequest(
        body.purpose,
        body.channel or NO_CHANNEL,
        Status(body.decision),
        body.notice_revision,
        body.lang,
        dict(body.evidence),
    )


def router(
    database: Database,
    consent: ConsentService,
    receipts: ReceiptSigner,
    members: MemberDirectory,
    gatekeeper: Gatekeeper,
    clock: Clock,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Consent"])

    @routes.post(
        "/members/{member}/consents",
        status_code=201,
        response_model=RecordedAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Record decisions of a member",
    )
    async def record(request: Request, member: _SubId, body: RecordBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        requests = [request_of(one) for one in body.consents]
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/consents")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)
            gate = await consent.gate(work, member_id)
            consent.check(requests, AgeTier(gate.age_tier), pointer="/consents")

            async def act() -> dict[str, Any]:
                pseudonym = await members.pseudonym(work, member_id)
                events = await consent.record(
                    work, caller, member_id, pseudonym, requests, now_us=now_us
                )
                return {"id": member, "consents": [_recorded(event) for event in events]}

            answer, replay = await once(work, key, act, now_us=now_us, status=201)
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.post(
        "/members/{member}/consents:withdraw",
        response_model=RecordedAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Withdraw consent; the very next read is refused",
    )
    async def withdraw(request: Request, member: _SubId, body: WithdrawBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/consents:withdraw")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                pseudonym = await members.pseudonym(work, member_id)
                events = await consent.withdraw(
                    work,
                    caller,
                    member_id,
                    pseudonym,
                    body.purpose,
                    body.channel,
                    now_us=now_us,
                )
                return {"id": member, "consents": [_recorded(event) for event in events]}

            answer, replay = await once(work, key, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    @routes.get(
        "/members/{member}/consents",
        response_model=ConsentsAnswer,
        responses=problems(401, 403, 404, 422),
        summary="See a member's consent, now or as of a moment",
    )
    async def states(
        request: Request,
        member: _SubId,
        as_of: Annotated[
            str | None, Query(max_length=40, examples=["2026-11-23T03:00:00Z"])
        ] = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "read")
        moment_us = clock.now_us() if as_of is None else _moment(as_of)
        async with database.read() as session:
            member_id = await members.resolve(session, member, caller)
            found = await consent.states_as_of(session, member_id, moment_us)
        return JSONBytes(
            {
                "id": member,
                "as_of": rfc3339(moment_us),
                "consents": [_state(state) for state in found],
            }
        )

    @routes.get(
        "/consents/{consent_id}/receipt",
        response_model=ReceiptAnswer,
        responses=problems(401, 403, 404, 422),
        summary="Fetch the signed receipt of a decision",
    )
    async def receipt(
        request: Request, consent_id: Annotated[str, Path(max_length=40, examples=["con_…"])]
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "read")
        async with database.read() as session:
            event = await consent.event(session, consent_id)
            if not await members.is_known_to(session, event.member_id, caller):
                raise NotFoundError("no such consent event", reason="consent_unknown")
            notice = (
                None
                if event.notice_revision is None
                else await consent.words(session, event.notice_revision)
            )
        return JSONBytes(receipts.receipt(event, notice))

    return routes


def _moment(text: str) -> int:
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            errors=[FieldProblem("/query/as_of", "moment", "an RFC 3339 moment with its offset")]
        ) from None


def _state(state: ConsentState) -> dict[str, Any]:
    return {
        "id": state.event_id,
        "purpose": state.purpose,
        "channel": state.channel or None,
        "status": state.status.value,
        "notice_revision": state.notice_revision,
        "since": rfc3339(state.since_us),
    }


def _recorded(event: ConsentEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "purpose": event.purpose,
        "channel": event.channel or None,
        "status": event.status.value,
        "notice_revision": event.notice_revision,
        "since": rfc3339(event.at_us),
        "receipt": f"/v1/consents/{event.id}/receipt",
        "audit_id": event.audit_id,
    }
