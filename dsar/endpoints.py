"""Rights requests over HTTP: open, prove, decide, fetch the copy and the certificate.

Whoever opens a request learns nothing by it: answers hold states, dates and codes. The copy is
the one answer with personal data, and it asks for a code that the member sent a moment ago.
"""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from dsar.answers import request_answer, restriction_answer
from dsar.deadlines import end_of_day_us
from dsar.details import is_day
from dsar.errors import ExportGoneError, IdentityNotProvenError
from dsar.model import FieldResult, RequestState, Right, RightsRequest, Via
from dsar.schemas import (
    STATES,
    ExtendBody,
    OpenedAnswer,
    OpenRequestBody,
    PlanAnswer,
    ProveBody,
    RefuseBody,
    RestrictBody,
    RestrictionAnswer,
    RightsRequestAnswer,
    RightsRequestsAnswer,
)
from dsar.service import Rights
from kernel import (
    Caller,
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    ReadSession,
    UnitOfWork,
)
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import problems
from kernel.web import NO_STORE, Gatekeeper, JSONBytes, idempotency_key, once, replayed
from members import Members
from policies import PolicyPack

_RequestId = Annotated[str, Path(max_length=40, examples=["rr_01m834me6af2pbfz0y2mwcs81r"])]
_RestrictionId = Annotated[str, Path(max_length=40, examples=["rst_01m834me6af2pbfz0y2mwcs81r"])]
_Cursor = Annotated[str | None, Query(max_length=200)]
_PAGE = 50
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string"}}}}
}
_PREFIX = "/rights-requests"


class Courier(Protocol):
    """Delivers what waits in the outbox; the service has it."""

    async def settle(self) -> None:
        """Deliver now what can be delivered."""
        ...


class Log(Protocol):
    """The log that signs events; the service has it."""

    async def drain(self) -> int:
        """Sequence everything that waits now."""
        ...


def router(
    database: Database,
    rights: Rights,
    members: Members,
    pack: PolicyPack,
    gatekeeper: Gatekeeper,
    courier: Courier,
    log: Log,
    clock: Clock,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Rights"])

    async def known_as(work: ReadSession, caller: Caller, request: RightsRequest) -> str | None:
        """Give what the caller already calls the member; a request introduces nobody."""
        member_id = request.member_id
        return None if member_id is None else await members.known_as(work, member_id, caller)

    def shown(request: RightsRequest, member: str | None) -> dict[str, Any]:
        return request_answer(rights, pack, request, member)

    async def step(
        request: Request,
        request_id: str,
        name: str,
        act: Callable[[UnitOfWork, Caller, int], Awaitable[RightsRequest]],
    ) -> JSONBytes:
        """Take one step for staff or for an app that handles requests."""
        caller = await gatekeeper.require(request, "rights_request", "handle")
        key = await idempotency_key(request, caller, f"POST /v1/rights-requests/{{id}}:{name}")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:

            async def once_only() -> dict[str, Any]:
                await act(work, caller, now_us)
                return {}

            _, replay = await once(work, key, once_only, now_us=now_us)
            changed = await rights.read(work, request_id, caller.brand)
            answer = shown(changed, await known_as(work, caller, changed))
        return JSONBytes(answer, headers=replayed(replay=replay))

    # --- taking and proving -----------------------------------------------------------

    @routes.post(
        _PREFIX,
        status_code=201,
        response_model=OpenedAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Open a rights request for a member",
    )
    async def open_request(request: Request, body: OpenRequestBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "rights_request", "open")
        key = await idempotency_key(request, caller, "POST /v1/rights-requests")
        right = _right(body.right)
        details = body.details.model_dump(exclude_none=True)
        details = {name: value for name, value in details.items() if value != {}}
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, body.member, caller)

            async def act() -> dict[str, Any]:
                opened = await rights.open(
                    work, caller, member_id, right, via=Via.API, details=details, now_us=now_us
                )
                return {"id": opened.id}

            made, replay = await once(work, key, act, now_us=now_us, status=201)
            opened = await rights.read(work, made["id"], caller.brand)
            points = await rights.contact_points(work, opened)
            answer = shown(opened, await known_as(work, caller, opened)) | {
                "contact_points": [
                    {
                        "id": point.id,
                        "kind": point.kind,
                        "verified": point.verified_us is not None,
                    }
                    for point in points
                ]
            }
        await courier.settle()
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.post(
        _PREFIX + "/{request_id}:verify",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Prove identity with a code, or have one sent",
    )
    async def verify(request: Request, request_id: _RequestId, body: ProveBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "rights_request", "open")
        key = await idempotency_key(request, caller, "POST /v1/rights-requests/{id}:verify")
        now_us = clock.now_us()
        code, point = body.code, body.contact_point
        if code is not None and point is None:
            raise InvalidRequestError(errors=[FieldProblem("/contact_point", "missing")])
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                if code is None or point is None:
                    await rights.send_code(work, caller, request_id, point, now_us=now_us)
                    return {"refused": None}
                refused = await rights.verify(work, caller, request_id, point, code, now_us=now_us)
                return {"refused": refused}

            judged, replay = await once(work, key, act, now_us=now_us)
            proven = await rights.read(work, request_id, caller.brand)
            answer = shown(proven, await known_as(work, caller, proven))
        await courier.settle()
        if judged["refused"] is not None:
            raise IdentityNotProvenError(reason=judged["refused"])
        return JSONBytes(answer, headers=replayed(replay=replay))

    # --- the queue --------------------------------------------------------------------

    async def page(
        caller: Caller,
        cursor: str | None,
        find: Callable[[ReadSession, str | None], Awaitable[Any]],
    ) -> JSONBytes:
        before = decode_id_cursor("rr", cursor)
        async with database.unit_of_work() as work:
            found = list(await find(work, before))
            answers = [shown(one, await known_as(work, caller, one)) for one in found[:_PAGE]]
        more = encode_cursor(answers[-1]["id"]) if len(found) > _PAGE else None
        return JSONBytes({"requests": answers, "next_cursor": more})

    @routes.get(
        _PREFIX,
        response_model=RightsRequestsAnswer,
        responses=problems(401, 403, 422),
        summary="See the queue of rights requests",
    )
    async def queue(
        request: Request,
        state: Annotated[
            str | None, Query(max_length=32, json_schema_extra={"enum": STATES})
        ] = None,
        cursor: _Cursor = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "rights_request", "read")
        if state is not None and state not in STATES:
            raise InvalidRequestError(errors=[FieldProblem("/query/state", "unknown_state")])
        wanted = None if state is None else RequestState(state)
        return await page(
            caller,
            cursor,
            lambda session, before: rights.queue(
                session, caller.brand, state=wanted, before=before, most=_PAGE + 1
            ),
        )

    @routes.get(
        "/refusals",
        response_model=RightsRequestsAnswer,
        responses=problems(401, 403, 422),
        summary="See the register of refused requests",
        tags=["Govern"],
    )
    async def refusals(request: Request, cursor: _Cursor = None) -> JSONBytes:
        caller = await gatekeeper.require(request, "governance", "read")
        return await page(
            caller,
            cursor,
            lambda session, before: rights.refusals(
                session, caller.brand, before=before, most=_PAGE + 1
            ),
        )

    @routes.get(
        _PREFIX + "/{request_id:id}",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 422),
        summary="See where a rights request stands",
    )
    async def read(request: Request, request_id: _RequestId) -> JSONBytes:
        caller = await gatekeeper.require(request, "rights_request", "read")
        async with database.unit_of_work() as work:
            found = await rights.read(work, request_id, caller.brand)
            answer = shown(found, await known_as(work, caller, found))
        return JSONBytes(answer)

    @routes.get(
        _PREFIX + "/{request_id}/plan",
        response_model=PlanAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="See what an erasure would do, before it does it",
    )
    async def plan(request: Request, request_id: _RequestId) -> JSONBytes:
        caller = await gatekeeper.require(request, "rights_request", "read")
        async with database.read() as session:
            found = await rights.read(session, request_id, caller.brand)
            planned = await rights.plan(session, found, now_us=clock.now_us())
        results = [one.as_dict() for one in (*planned.fields, *planned.beside)]
        return JSONBytes({"id": found.id, "whole": planned.whole, "results": results})

    # --- deciding ---------------------------------------------------------------------

    @routes.post(
        _PREFIX + "/{request_id}:extend",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Extend the period once, with a reason",
    )
    async def extend(request: Request, request_id: _RequestId, body: ExtendBody) -> JSONBytes:
        return await step(
            request,
            request_id,
            "extend",
            lambda work, caller, now_us: rights.extend(
                work, caller, request_id, body.reason, now_us=now_us
            ),
        )

    @routes.post(
        _PREFIX + "/{request_id}:pause",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Wait for the member to clarify",
    )
    async def pause(request: Request, request_id: _RequestId) -> JSONBytes:
        return await step(
            request,
            request_id,
            "pause",
            lambda work, caller, now_us: rights.pause(work, caller, request_id, now_us=now_us),
        )

    @routes.post(
        _PREFIX + "/{request_id}:resume",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Go on after a pause",
    )
    async def resume(request: Request, request_id: _RequestId) -> JSONBytes:
        return await step(
            request,
            request_id,
            "resume",
            lambda work, caller, now_us: rights.resume(work, caller, request_id, now_us=now_us),
        )

    @routes.post(
        _PREFIX + "/{request_id}:fulfil",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Do what was asked",
    )
    async def fulfil(request: Request, request_id: _RequestId) -> JSONBytes:
        return await step(
            request,
            request_id,
            "fulfil",
            lambda work, caller, now_us: rights.fulfil(work, caller, request_id, now_us=now_us),
        )

    @routes.post(
        _PREFIX + "/{request_id}:refuse",
        response_model=RightsRequestAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Propose a refusal, or approve the one proposed",
    )
    async def refuse(request: Request, request_id: _RequestId, body: RefuseBody) -> JSONBytes:
        return await step(
            request,
            request_id,
            "refuse",
            lambda work, caller, now_us: rights.refuse(
                work, caller, request_id, body.reason, now_us=now_us
            ),
        )

    # --- what comes of it -------------------------------------------------------------

    @routes.get(
        _PREFIX + "/{request_id}/export",
        response_class=Response,
        responses={**_ZIP, **problems(401, 403, 404, 422)},
        summary="Fetch the copy, once, right after a fresh code",
    )
    async def export(request: Request, request_id: _RequestId) -> Response:
        caller = await gatekeeper.require(request, "rights_request", "open")
        async with database.read() as session:
            found = await rights.read(session, request_id, caller.brand)
            member_id = found.member_id
            known = member_id and await members.known_as(session, member_id, caller)
        if not known:  # the code was answered to another app's question
            raise ExportGoneError(reason="export_gone")
        archive = await rights.export(caller, request_id)
        name = f'attachment; filename="{request_id}.zip"'
        headers = {**NO_STORE, "Content-Disposition": name}
        return Response(archive, media_type="application/zip", headers=headers)

    @routes.get(
        _PREFIX + "/{request_id}/certificate",
        response_class=PlainTextResponse,
        responses=problems(401, 403, 404, 409, 422, 503),
        summary="Fetch the signed certificate of an ended request",
    )
    async def certificate(request: Request, request_id: _RequestId) -> PlainTextResponse:
        caller = await gatekeeper.require(request, "rights_request", "read")
        await log.drain()
        note = await rights.certificate(request_id, caller.brand)
        return PlainTextResponse(note, headers=NO_STORE)

    # --- restrictions -----------------------------------------------------------------

    @routes.post(
        "/restrictions",
        status_code=201,
        response_model=RestrictionAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Restrict a member's data to storage",
        tags=["Holds"],
    )
    async def restrict(request: Request, body: RestrictBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "restriction", "write")
        key = await idempotency_key(request, caller, "POST /v1/restrictions")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, body.member, caller)

            async def act() -> dict[str, Any]:
                row = await members.read(work, member_id)
                made = await rights.restrictions.begin(
                    work,
                    caller,
                    member_id,
                    body.ground,
                    until_us=_end_of(rights, row.jurisdiction, body.until),
                    now_us=now_us,
                )
                return restriction_answer(made, body.member)

            answer, replay = await once(work, key, act, now_us=now_us, status=201)
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.delete(
        "/restrictions/{restriction}",
        response_model=RestrictionAnswer,
        responses=problems(401, 403, 404, 422),
        summary="End a restriction",
        tags=["Holds"],
    )
    async def lift(request: Request, restriction: _RestrictionId) -> JSONBytes:
        caller = await gatekeeper.require(request, "restriction", "write")
        async with database.unit_of_work() as work:
            found = await rights.restrictions.end(work, caller, restriction, now_us=clock.now_us())
        return JSONBytes(restriction_answer(found, None) | {"ended": True})

    return routes


def _right(text: str) -> Right:
    try:
        return Right(text)
    except ValueError:
        known = ", ".join(one.value for one in Right)
        raise InvalidRequestError(
            errors=[FieldProblem("/right", "unknown_right", f"one of {known}")]
        ) from None


def _end_of(rights: Rights, jurisdiction: str, until: str | None) -> int | None:
    if until is None:
        return None
    if not is_day(until):
        raise InvalidRequestError(errors=[FieldProblem("/until", "date", "a day as YYYY-MM-DD")])
    clock = rights.clock_for(jurisdiction, Right.RESTRICTION)
    return end_of_day_us(clock, date.fromisoformat(until))


def _result(one: FieldResult) -> dict[str, str | None]:
    return one.as_dict()
