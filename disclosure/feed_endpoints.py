"""Outgoing feeds over HTTP: audiences counted and exported, changes, suppressions."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from audit import AuditLog
from disclosure.audience import Audiences, Export
from disclosure.errors import PurposeNotAllowedError
from disclosure.feed import PURPOSE_PREFIX, Feed
from disclosure.reading import Reader
from disclosure.schemas import (
    AudienceBody,
    ChangesAnswer,
    CountAnswer,
    ExportBody,
    SuppressionsAnswer,
)
from disclosure.service import DisclosureService, Epochs, Question
from kernel import Caller, Database
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import problems
from kernel.web import NO_STORE, Gatekeeper, JSONBytes, credentials

NDJSON = "application/x-ndjson"
_Cursor = Annotated[
    str | None,
    Query(max_length=200, description="where the page before this one said that it goes on"),
]
_Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many", examples=[100])]


class ExportStream(StreamingResponse):
    """Sends an export, and sees to it that the trail says where it ended."""

    media_type = NDJSON

    def __init__(self, export: Export) -> None:
        super().__init__(export.lines(), headers=NO_STORE)
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines until they end or the client is gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._export.close()


def router(
    database: Database,
    disclosure: DisclosureService,
    reader: Reader,
    audiences: Audiences,
    feed: Feed,
    audit: AuditLog,
    gatekeeper: Gatekeeper,
) -> APIRouter:
    """Make the routes of the outgoing feeds."""
    routes = APIRouter(prefix="/v1", tags=["Data out"])

    async def allowed(request: Request, resource: str, action: str, question: Question) -> Caller:
        """Give the caller if scopes and role allow this for the purpose; a refusal is an event."""
        purpose = question.purpose.key
        caller = await gatekeeper.require(request, resource, action, purpose)
        if PURPOSE_PREFIX + purpose in caller.scopes:
            return caller
        async with database.unit_of_work() as work:
            audit_id = await audit.record(
                work,
                caller,
                f"{resource}.{action}",
                purpose=purpose,
                channel=question.channel,
                decision="deny",
                reason="scope_missing",
            )
        raise PurposeNotAllowedError(reason="scope_missing", audit_id=audit_id)

    @routes.post(
        "/audiences:query",
        response_model=CountAnswer,
        responses=problems(401, 403, 422, 503),
        summary="Count whom a purpose may reach now",
    )
    async def query(request: Request, body: AudienceBody) -> JSONBytes:
        await gatekeeper.caller(request)
        selection = audiences.selection(body.purpose, body.channel, body.where.model_dump())
        caller = await allowed(request, "audience", "count", selection.question)
        return JSONBytes(await audiences.count(caller, selection))

    @routes.post(
        "/audiences:export",
        status_code=200,
        response_class=ExportStream,
        responses={
            200: {
                "description": "one JSON object a line",
                "content": {NDJSON: {"schema": {"type": "string"}}},
            },
            **problems(401, 403, 422, 503),
        },
        summary="Export whom a purpose may reach, as a stream",
    )
    async def export(request: Request, body: ExportBody) -> ExportStream:
        await gatekeeper.caller(request)
        selection = audiences.selection(body.purpose, body.channel, body.where.model_dump())
        caller = await allowed(request, "audience", "export", selection.question)
        authorization, request_id = credentials(request)

        async def under_epochs(act: Callable[[Caller, Epochs], Awaitable[Any]]) -> Any:
            return await reader.under_present_epochs(authorization, request_id, act)

        return ExportStream(
            await audiences.export(caller, selection, under_epochs, after=body.after or "")
        )

    @routes.get(
        "/changes",
        response_model=ChangesAnswer,
        responses=problems(401, 403, 410, 422, 503),
        summary="Follow what changes for members you know",
    )
    async def changes(request: Request, cursor: _Cursor = None, limit: _Limit = 100) -> JSONBytes:
        caller = await gatekeeper.require(request, "change", "read")
        page = await feed.changes(caller, cursor, most=limit)
        return JSONBytes({"changes": page.rows, "next_cursor": page.next_cursor})

    @routes.get(
        "/suppressions",
        response_model=SuppressionsAnswer,
        responses=problems(401, 403, 422, 503),
        summary="List whom not to contact for a purpose",
    )
    async def suppressions(
        request: Request,
        purpose: Annotated[str, Query(max_length=64, examples=["marketing"])],
        channel: Annotated[str | None, Query(max_length=64, examples=["sms"])] = None,
        cursor: _Cursor = None,
        limit: _Limit = 500,
    ) -> JSONBytes:
        await gatekeeper.caller(request)
        question = disclosure.question(purpose, channel, None)
        caller = await allowed(request, "suppression", "read", question)
        page = await feed.suppressions(
            caller, question, decode_id_cursor("sub", cursor), most=limit
        )
        return JSONBytes(
            {
                "purpose": question.purpose.key,
                "channel": question.channel,
                "suppressions": page.rows,
                "next_cursor": page.next_cursor and encode_cursor(page.next_cursor),
            }
        )

    return routes
