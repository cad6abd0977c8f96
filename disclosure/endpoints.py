"""Data out over HTTP: the consented read, its batch form, the check, and who read what.

`GET …/view` is the hot path (`disclosure.reading`); the edge of the service may go there
directly, and this route documents it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from audit import BREAK_GLASS, AuditLog, fields_shown
from disclosure.reading import Reader
from disclosure.schemas import (
    BatchAnswer,
    BatchBody,
    CheckAnswer,
    CheckBody,
    DisclosuresAnswer,
    ViewAnswer,
)
from disclosure.service import DisclosureService, Epochs
from disclosure.telling import told_words
from kernel import Caller, Database, NotFoundError, rfc3339
from kernel.http import decode_id_cursor, encode_cursor, etag
from kernel.schemas import problems
from kernel.web import NO_STORE, Gatekeeper, JSONBytes, credentials
from members import Members

_SubId = Annotated[str, Path(max_length=40, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])]
_PAGE = 50
_VIEW_PARAMETERS = [
    {
        "name": "purpose",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "maxLength": 64},
        "example": "marketing",
    },
    {
        "name": "channel",
        "in": "query",
        "schema": {"type": "string", "maxLength": 64},
        "description": "required when the purpose is decided channel by channel",
        "example": "sms",
    },
    {
        "name": "fields",
        "in": "query",
        "schema": {"type": "string", "maxLength": 2000},
        "description": "field keys, separated by commas; all of the purpose when left out",
        "example": "given_name,phone",
    },
]


def router(
    database: Database,
    disclosure: DisclosureService,
    reader: Reader,
    members: Members,
    audit: AuditLog,
    gatekeeper: Gatekeeper,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Data out"])

    async def one(
        request: Request, member: str, *, masked: bool, headers: Mapping[str, str] = NO_STORE
    ) -> Response:
        body = await reader.view(
            member, request.scope["query_string"], *credentials(request), masked=masked
        )
        return Response(body, media_type="application/json", headers=headers)

    async def version_tag(request: Request, member: str) -> dict[str, str]:
        """Give the tag of the version that is there before the read: never a newer one."""
        caller = await gatekeeper.caller(request)
        async with database.read() as session:
            try:
                version = await members.version(
                    session, await members.resolve(session, member, caller)
                )
            except NotFoundError:  # the read itself says so, and puts it on record
                return {}
        return {"ETag": etag(version)}

    @routes.get(
        "/members/{member}/view",
        response_model=ViewAnswer,
        responses=problems(401, 403, 404, 422, 423, 429, 503),
        openapi_extra={"parameters": _VIEW_PARAMETERS},
        summary="Read a member for a purpose",
    )
    async def view(request: Request, member: _SubId) -> Response:
        return await one(request, member, masked=False)

    @routes.get(
        "/members/{member:id}",
        response_model=ViewAnswer,
        responses=problems(401, 403, 404, 422, 423, 429, 503),
        openapi_extra={"parameters": _VIEW_PARAMETERS},
        summary="See the outline of a member, masked",
        tags=["Registry"],
    )
    async def masked(request: Request, member: _SubId) -> Response:
        tag = await version_tag(request, member)
        return await one(request, member, masked=True, headers={**NO_STORE, **tag})

    @routes.post(
        "/members:view",
        response_model=BatchAnswer,
        responses=problems(401, 403, 422, 503),
        summary="Read up to 100 members for a purpose",
    )
    async def view_many(request: Request, body: BatchBody) -> JSONBytes:
        question = disclosure.question(body.purpose, body.channel, body.fields)

        async def act(caller: Caller, epochs: Epochs) -> dict[str, Any]:
            return await disclosure.view_many(caller, body.ids, question, epochs)

        return JSONBytes(await reader.under_present_epochs(*credentials(request), act))

    @routes.post(
        "/decisions:check",
        response_model=CheckAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 422, 503),
        summary="Ask for a decision without reading",
        tags=["Decisions"],
    )
    async def check(request: Request, body: CheckBody) -> JSONBytes:
        question = disclosure.question(body.purpose, body.channel, body.fields)

        async def act(caller: Caller, epochs: Epochs) -> dict[str, Any]:
            return await disclosure.check(caller, body.id, question, epochs)

        return JSONBytes(await reader.under_present_epochs(*credentials(request), act))

    @routes.get(
        "/members/{member}/disclosures",
        response_model=DisclosuresAnswer,
        responses=problems(401, 403, 404, 422),
        summary="See who read a member's data; looking is an event too",
        tags=["Audit"],
    )
    async def disclosures(
        request: Request,
        member: _SubId,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "read")
        before = decode_id_cursor("evt", cursor)
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)
            row = await members.read(work, member_id)
            pseudonym = await members.pseudonym(work, member_id)
            await audit.record(work, caller, "audit.search", subject=pseudonym, decision="allow")
        async with database.read() as session:
            found = await audit.disclosures(
                session,
                pseudonym,
                since_us=row.created_us,
                before=before,
                most=_PAGE + 1,
            )
            pruned_us = await audit.pruned_until(session, since_us=row.created_us)
        page = found[:_PAGE]
        more = encode_cursor(page[-1]["id"]) if len(found) > _PAGE else None
        return JSONBytes(
            {
                "id": member,
                "disclosures": [reading(event) for event in page],
                "next_cursor": more,
                "pruned_until": None if pruned_us is None else rfc3339(pruned_us),
            }
        )

    return routes


def reading(event: dict[str, Any]) -> dict[str, Any]:
    """Tell of one reading as the trail has it."""
    actor, fields = event["actor"], list(fields_shown(event))
    told = told_words(event["action"], fields)
    return {
        "audit_id": event["id"],
        "at": event["ts"],
        # Of people only the role: who it was stands in the trail.
        "by": {
            "id": actor["id"] if actor["role"] == "app" else actor["role"],
            "role": actor["role"],
        },
        "purpose": event.get("purpose"),
        "channel": event.get("channel"),
        "action": event["action"],
        "fields": [] if told else fields,
        "told": told,
        "decision": event["decision"],
        "reason": event.get("reason"),
        "emergency": event["action"] == BREAK_GLASS,
    }
