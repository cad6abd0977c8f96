"""The trail over HTTP: its key and head for everybody, its tiles, its events for auditors."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import Field

from audit import repository
from audit.cosigning import cosigned_checkpoint
from audit.errors import TileError
from audit.search import EventFilter, brand_of, is_open_to
from audit.service import AuditLog
from audit.tiles import ENTRIES, WIDTH, TilePath, encode_entries
from kernel import Database, NotFoundError, ReadSession
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import Answer, problems
from kernel.web import Gatekeeper, JSONBytes

_PAGE = 100
_HASH_BYTES = 32


_EventId = Annotated[
    str, Path(pattern="^evt_[0-9a-z]{26}$", examples=["evt_01k9z6m3q8x7v5t2r4n6p8s0w1"])
]


class ProofAnswer(Answer):
    """An event, base64 of its stored bytes, with its path to a signed head of the log."""

    id: str = Field(examples=["evt_01k9z6m3q8x7v5t2r4n6p8s0w1"])
    index: int = Field(examples=[41])
    event: str
    hashes: list[str]
    checkpoint: str


class EventsAnswer(Answer):
    """Events of the trail, the newest first, exactly as their bodies say."""

    events: list[dict[str, Any]]
    next_cursor: str | None


def router(database: Database, audit: AuditLog, gatekeeper: Gatekeeper) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(tags=["Audit"])

    @routes.get(
        "/v1/audit/key",
        response_class=PlainTextResponse,
        summary="Fetch the key that verifies the log",
    )
    async def key() -> PlainTextResponse:
        return PlainTextResponse(audit.vkey + "\n")

    async def checkpoint_note() -> PlainTextResponse:
        async with database.read() as session:
            newest = await cosigned_checkpoint(session)
        if newest is None:
            raise NotFoundError("the log has not begun", reason="log_empty")
        return PlainTextResponse(newest[1], headers={"Cache-Control": "no-cache"})

    @routes.get(
        "/v1/audit/checkpoint",
        response_class=PlainTextResponse,
        responses=problems(404),
        summary="Fetch the signed head of the log",
    )
    async def checkpoint() -> PlainTextResponse:
        return await checkpoint_note()

    @routes.get(
        "/audit/log/checkpoint",
        response_class=PlainTextResponse,
        responses=problems(404),
        summary="The signed head where C2SP clients look for it",
    )
    async def log_checkpoint() -> PlainTextResponse:
        return await checkpoint_note()

    @routes.get(
        "/audit/log/{path:path}",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
            **problems(401, 403, 404),
        },
        summary="Fetch a tile of the log (C2SP tlog-tiles)",
    )
    async def tile(
        request: Request, path: Annotated[str, Path(max_length=120, examples=["tile/0/000"])]
    ) -> Response:
        try:
            wanted = TilePath.parse(path)
        except TileError:
            raise NotFoundError("no such tile", reason="tile_unknown") from None
        if wanted.level == ENTRIES:
            await gatekeeper.require(request, "audit", "read")
        async with database.read() as session:
            data = await _tile(session, wanted)
        if data is None:
            raise NotFoundError("no such tile", reason="tile_unknown")
        return Response(data, media_type="application/octet-stream")

    @routes.get(
        "/v1/audit/events",
        response_model=EventsAnswer,
        responses=problems(401, 403, 422),
        summary="Read the trail; reading it is an event too",
    )
    async def events(
        request: Request, cursor: Annotated[str | None, Query(max_length=200)] = None
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "read")
        before = decode_id_cursor("evt", cursor)
        async with database.unit_of_work() as work:
            await audit.record(work, caller, "audit.search", decision="allow")
        async with database.read() as session:
            wanted = EventFilter(brand=brand_of(caller.brand))
            found = await audit.search(session, wanted, before=before, most=_PAGE)
        more = found.next_before and encode_cursor(found.next_before)
        return JSONBytes({"events": list(found.events), "next_cursor": more})

    @routes.get(
        "/v1/audit/events/{event}/proof",
        response_model=ProofAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Prove that an event is in the log; fetching a proof is an event too",
    )
    async def proof(request: Request, event: _EventId) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "read")
        async with database.read() as session:
            if not is_open_to(await audit.event(session, event), brand_of(caller.brand)):
                raise NotFoundError("no such event", reason="event_unknown")
            found = await audit.proof(session, event)
        async with database.unit_of_work() as work:
            await audit.record(work, caller, "audit.prove", decision="allow", resource=event)
        return JSONBytes(found)

    return routes


async def _tile(session: ReadSession, wanted: TilePath) -> bytes | None:
    if wanted.level == ENTRIES:
        start = wanted.n * WIDTH
        rows = await repository.entries(session, start, start + wanted.width)
        if len(rows) < wanted.width:
            return None
        return encode_entries([bytes(row["body"]) for row in rows])
    data = await repository.read_tile(session, wanted.level, wanted.n)
    size = wanted.width * _HASH_BYTES
    return data[:size] if len(data) >= size else None
