"""Consent over HTTP: record, withdraw, look at it now or as of a moment, fetch a receipt."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request

from consent.checking import evidence_problems
from consent.errors import ConsentError
from consent.members_port import MemberDirectory
from consent.model import NO_CHANNEL, ConsentEvent, ConsentRequest, ConsentState, Status
from consent.schemas import (
    ConsentsAnswer,
    DecisionBody,
    ObjectBody,
    ObjectionsAnswer,
    RecordBody,
    RecordedAnswer,
    WithdrawBody,
)
from consent.service import ConsentService
from kernel import (
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    MemberId,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    from_rfc3339,
    rfc3339,
)
from kernel.http import check_if_match, etag
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed
from policies import AgeTier

_SubId = Annotated[str, Path(max_length=40, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])]
_IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="the ETag of the consents that were shown",
        examples=['"v1"'],
    ),
]
_YEAR_10000_US = 253_402_300_800_000_000


async def _past_a_merge(attempt: Callable[[], Awaitable[JSONBytes]]) -> JSONBytes:
    """Try, and once more where the member was merged into another between looking and holding.

    What a client calls the member then leads to the other one, and a "no" arrives. Of an attempt
    that found nobody nothing is left.
    """
    try:
        return await attempt()
    except NotFoundError:
        return await attempt()


def request_of(body: DecisionBody) -> ConsentRequest:
    """Read one decision out of a request body."""
    return ConsentRequest(
        body.purpose,
        body.channel or NO_CHANNEL,
        Status(body.decision),
        body.notice_revision,
        body.lang,
        dict(body.evidence),
        body.guardian,
    )


def router(
    database: Database,
    consent: ConsentService,
    members: MemberDirectory,
    gatekeeper: Gatekeeper,
    clock: Clock,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Consent"])

    async def hold_as_seen(work: UnitOfWork, member_id: MemberId, if_match: str | None) -> None:
        """Hold the member's gate if it stands where the caller saw it, or raise."""
        if if_match is not None:
            held = await consent.hold_gate(work, member_id)
            check_if_match(if_match, held.version - 1)  # holding it moved it on

    async def tag(session: ReadSession, member_id: MemberId) -> dict[str, str]:
        return {"ETag": etag((await consent.gate(session, member_id)).version)}

    @routes.post(
        "/members/{member}/consents",
        status_code=201,
        response_model=RecordedAnswer,
        responses=problems(401, 403, 404, 409, 412, 422),
        summary="Record decisions of a member",
    )
    async def record(
        request: Request, member: _SubId, body: RecordBody, if_match: _IfMatch = None
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        requests = [request_of(one) for one in body.consents]
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/consents")
        now_us = clock.now_us()

        async def attempt() -> JSONBytes:
            async with database.unit_of_work() as work:
                member_id = await members.resolve(work, member, caller)
                gate = await consent.gate(work, member_id)
                consent.check(requests, AgeTier(gate.age_tier), pointer="/consents")

                async def act() -> dict[str, Any]:
                    await hold_as_seen(work, member_id, if_match)
                    pseudonym = await members.pseudonym(work, member_id)
                    events = await consent.record(
                        work, caller, member_id, pseudonym, requests, now_us=now_us
                    )
                    return {"id": member, "consents": [_recorded(event) for event in events]}

                answer, replay = await once(work, key, act, now_us=now_us, status=201)
                headers = replayed(replay=replay) | await tag(work, member_id)
            return JSONBytes(answer, 201, headers)

        return await _past_a_merge(attempt)

    @routes.post(
        "/members/{member}/consents:withdraw",
        response_model=RecordedAnswer,
        responses=problems(401, 403, 404, 409, 412, 422),
        summary="Withdraw consent; the very next read is refused",
    )
    async def withdraw(
        request: Request, member: _SubId, body: WithdrawBody, if_match: _IfMatch = None
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/consents:withdraw")
        now_us = clock.now_us()

        async def attempt() -> JSONBytes:
            async with database.unit_of_work() as work:
                member_id = await members.resolve(work, member, caller)

                async def act() -> dict[str, Any]:
                    await hold_as_seen(work, member_id, if_match)
                    pseudonym = await members.pseudonym(work, member_id)
                    events = await consent.withdraw(
                        work,
                        caller,
                        member_id,
                        pseudonym,
                        body.purpose,
                        body.channel,
                        now_us=now_us,
                        guardian=body.guardian,
                    )
                    return {"id": member, "consents": [_recorded(event) for event in events]}

                answer, replay = await once(work, key, act, now_us=now_us)
                headers = replayed(replay=replay) | await tag(work, member_id)
            return JSONBytes(answer, headers=headers)

        return await _past_a_merge(attempt)

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
            headers = await tag(session, member_id)
            found = await consent.states_as_of(session, member_id, moment_us)
            waits: dict[str, str] = {}
            if as_of is None:
                for one in await consent.to_reconfirm(session, member_id, now_us=moment_us):
                    waits[one.state.event_id] = one.reason.value
        answer = {
            "id": member,
            "as_of": rfc3339(moment_us),
            "consents": [_state(state, waits.get(state.event_id)) for state in found],
        }
        return JSONBytes(answer, headers=headers if as_of is None else None)

    @routes.post(
        "/members/{member}/objections",
        status_code=201,
        response_model=ObjectionsAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Object to direct marketing; every channel stops with the very next read",
    )
    async def object_to(request: Request, member: _SubId, body: ObjectBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        faults = evidence_problems(body.evidence, "/evidence", clock.now_us())
        if faults:
            raise ConsentError(errors=faults)
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/objections")
        now_us = clock.now_us()

        async def attempt() -> JSONBytes:
            async with database.unit_of_work() as work:
                member_id = await members.resolve(work, member, caller)

                async def act() -> dict[str, Any]:
                    pseudonym = await members.pseudonym(work, member_id)
                    await consent.object(
                        work,
                        caller,
                        member_id,
                        pseudonym,
                        body.purpose,
                        now_us=now_us,
                        evidence=body.evidence,
                        guardian=body.guardian,
                    )
                    return _objections(member, await consent.objections(work, member_id))

                answer, replay = await once(work, key, act, now_us=now_us, status=201)
                headers = replayed(replay=replay) | await tag(work, member_id)
            return JSONBytes(answer, 201, headers)

        return await _past_a_merge(attempt)

    @routes.get(
        "/members/{member}/objections",
        response_model=ObjectionsAnswer,
        responses=problems(401, 403, 404, 422),
        summary="See the objections of a member",
    )
    async def objections(request: Request, member: _SubId) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "read")
        async with database.read() as session:
            member_id = await members.resolve(session, member, caller)
            found = await consent.objections(session, member_id)
        return JSONBytes(_objections(member, found))

    return routes


def _moment(text: str) -> int:
    try:
        moment_us = from_rfc3339(text)
    except (ValueError, OverflowError):
        moment_us = -1
    if not 0 <= moment_us < _YEAR_10000_US:
        raise InvalidRequestError(
            errors=[FieldProblem("/query/as_of", "moment", "an RFC 3339 moment with its offset")]
        )
    return moment_us


def _state(state: ConsentState, reconfirm: str | None) -> dict[str, Any]:
    return {
        "id": state.event_id,
        "purpose": state.purpose,
        "channel": state.channel or None,
        "status": state.status.value if reconfirm is None else "reconfirm_needed",
        "notice_revision": state.notice_revision,
        "since": rfc3339(state.since_us),
        "reconfirm": reconfirm,
        "guardian": state.guardian_id,
    }


def _objections(member: str, found: Sequence[ConsentState]) -> dict[str, Any]:
    return {
        "id": member,
        "objections": [
            {
                "id": state.event_id,
                "purpose": state.purpose,
                "channel": state.channel or None,
                "since": rfc3339(state.since_us),
            }
            for state in found
        ],
    }


def _recorded(event: ConsentEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "purpose": event.purpose,
        "channel": event.channel or None,
        "status": event.status.value,
        "notice_revision": event.notice_revision,
        "since": rfc3339(event.at_us),
        "guardian": event.guardian_id,
        "receipt": f"/v1/consents/{event.id}/receipt",
        "audit_id": event.audit_id,
    }
