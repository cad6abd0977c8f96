"""The trail over HTTP: its key and head for everybody, its tiles, its events for auditors."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import Field

from audit import log_key_repository, repository
from audit.cosigning import cosigned_checkpoint
from audit.errors import EventPrunedError, TileError
from audit.export import rotation_file, rotations_under
from audit.note import origin_of
from audit.retention_repository import pruned_runs
from audit.search import ACTOR, DIGEST, REQUEST_ID, WORD, EventFilter, brand_of, is_open_to
from audit.service import AuditLog
from audit.tiles import ENTRIES, WIDTH, TilePath, encode_entries
from audit.views import SavedView, ViewKey
from kernel import (
    Caller,
    Database,
    FieldProblem,
    InvalidRequestError,
    NotFoundError,
    ReadSession,
    from_rfc3339,
    rfc3339,
)
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import Answer, problems
from kernel.web import Gatekeeper, JSONBytes
from vault import OwnerKey

_PAGE = 100
_HASH_BYTES = 32
_YEAR_10000_US = 253_402_300_800 * 1_000_000

FindSubject = Callable[[ReadSession, str, Caller], Awaitable[tuple[OwnerKey, int]]]
"""Gives the pseudonym key of a client's `sub_…` and since when (µs) there may be events, or raises
that the caller knows no such member."""

_EventId = Annotated[
    str, Path(pattern="^evt_[0-9a-z]{26}$", examples=["evt_01k9z6m3q8x7v5t2r4n6p8s0w1"])
]


class RowAnswer(Answer):
    """One row of a manifest as it is hashed, with its path to the root that the event names."""

    place: int = Field(examples=[7])
    row: str = Field(examples=["0c1f9d20a4b6e3785d2f90c1b7a6e4d3 5"])
    hashes: list[str]


class ProofAnswer(Answer):
    """An event, base64 of its stored bytes, with its path to a signed head of the log.

    Of an event whose time has come, `event` is null and `leaf` the hash that is left of it.
    """

    id: str = Field(examples=["evt_01k9z6m3q8x7v5t2r4n6p8s0w1"])
    index: int = Field(examples=[41])
    event: str | None
    leaf: str | None = None
    hashes: list[str]
    checkpoint: str
    row: RowAnswer | None = Field(
        default=None, description="with `row`: that row of the event's manifest, and no other"
    )


_ROTATION_FILE = re.compile("rotation/([1-9][0-9]{0,3})/(checkpoint|keys)")


class EventsAnswer(Answer):
    """Events of the trail, the newest first, exactly as their bodies say.

    A page looks through a bounded part of the trail: while `next_cursor` is there, there is more,
    even behind an empty page. `searched_to` is the moment back to which all was looked through;
    null when nothing is left to look at.

    An event that tells of many members and was found for one of them bears `row` as well: `place`,
    `token` and `fields` of that member's row of its manifest.
    """

    events: list[dict[str, Any]]
    next_cursor: str | None
    searched_to: str | None = Field(examples=["2026-11-23T03:00:00.124000Z", None])


_Word = Annotated[
    str | None, Query(max_length=64, pattern=WORD, description="a word of the trail, whole")
]
_Moment = Annotated[
    str | None,
    Query(
        max_length=40,
        pattern="^[0-9TZtz:.+-]{20,40}$",
        description="RFC 3339; a period is from its first moment up to and without its last",
    ),
]


def router(
    database: Database,
    audit: AuditLog,
    gatekeeper: Gatekeeper,
    views: Mapping[str, SavedView],
    find_subject: FindSubject,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(tags=["Audit"])

    @routes.get(
        "/v1/audit/key",
        response_class=PlainTextResponse,
        summary="Fetch the key that verifies the log",
    )
    async def key() -> PlainTextResponse:
        return PlainTextResponse(audit.vkey + "\n")

    async def require_open(session: ReadSession, event: str, brand: str | None) -> None:
        """Let a brand's auditor through; whose an event was that is gone, nobody knows."""
        try:
            is_open = is_open_to(await audit.event(session, event), brand)
        except EventPrunedError:
            is_open = brand is None
        if not is_open:
            raise NotFoundError("no such event", reason="event_unknown")

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
            **problems(401, 403, 404, 410),
        },
        summary="Fetch a tile of the log (C2SP tlog-tiles)",
        description=(
            "Beside the tiles: `rotation/<n>/checkpoint` and `rotation/<n>/keys`, by which whoever "
            "has an earlier key of the log follows it to the present one."
        ),
    )
    async def tile(
        request: Request, path: Annotated[str, Path(max_length=120, examples=["tile/0/000"])]
    ) -> Response:
        rotation = _ROTATION_FILE.fullmatch(path)
        if rotation is not None:
            async with database.read() as session:
                text = await _rotation(session, int(rotation[1]), rotation[2])
            if text is None:
                raise NotFoundError("no such rotation", reason="rotation_unknown")
            return PlainTextResponse(text)
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
        summary="Search the trail; a search is an event too",
        description=(
            "What is given narrows the search down; nothing gives the whole trail. A page may be "
            "short or empty while `next_cursor` says that there is more to look through, which "
            "`searched_to` names the end of. `view` "
            "is a saved question: denied reads, bulk reads, reads by hand after hours, reads "
            "without consent (on another basis), and actors who read data of very many members "
            "in a day."
        ),
    )
    async def events(
        request: Request,
        member: Annotated[
            str | None, Query(pattern="^sub_[0-9a-z]{26}$", description="your name for a member")
        ] = None,
        actor: Annotated[
            str | None, Query(max_length=64, pattern=ACTOR, description="who did it")
        ] = None,
        action: _Word = None,
        purpose: _Word = None,
        decision: Annotated[
            Literal["allow", "deny"] | None, Query(description="how it was decided")
        ] = None,
        field: _Word = None,
        asked_in: Annotated[
            str | None,
            Query(alias="request_id", pattern=REQUEST_ID, description="the `X-Request-Id`"),
        ] = None,
        policy: Annotated[
            str | None, Query(pattern=DIGEST, description="the pack decided by")
        ] = None,
        since: Annotated[_Moment, Query(alias="from")] = None,
        until: Annotated[_Moment, Query(alias="to")] = None,
        view: Annotated[ViewKey | None, Query(description="a saved question")] = None,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "read")
        before = decode_id_cursor("evt", cursor)
        wanted = EventFilter(
            actor=actor,
            action=action,
            purpose=purpose,
            decision=decision,
            field=field,
            request_id=asked_in,
            policy=policy,
            from_us=_moment("from", since),
            until_us=_moment("to", until),
            view=None if view is None else views[view],
            brand=brand_of(caller.brand),
        )
        async with database.unit_of_work() as work:
            key = None
            if member is not None:
                key, since_us = await find_subject(work, member, caller)
                tokens = audit.tokens(key, since_us=since_us)
                wanted = replace(wanted, subjects=tokens, brand=None)
            await audit.record_search(work, caller, wanted, subject=key)
        async with database.read() as session:
            found = await audit.search(session, wanted, before=before, most=_PAGE)
        more = found.next_before and encode_cursor(found.next_before)
        searched_us = found.searched_to_us
        return JSONBytes(
            {
                "events": list(found.events),
                "next_cursor": more,
                "searched_to": None if searched_us is None else rfc3339(searched_us),
            }
        )

    @routes.get(
        "/v1/audit/events/{event}/proof",
        response_model=ProofAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Prove that an event is in the log; fetching a proof is an event too",
    )
    async def proof(
        request: Request,
        event: _EventId,
        row: Annotated[
            str | None,
            Query(
                pattern="^[0-9a-f]{32}$",
                description="a member's token of the month: prove their row of a manifest as well",
            ),
        ] = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "read")
        async with database.read() as session:
            await require_open(session, event, brand_of(caller.brand))
            found = await audit.proof(session, event, () if row is None else (row,))
        async with database.unit_of_work() as work:
            await audit.record(work, caller, "audit.prove", decision="allow", resource=event)
        return JSONBytes(found)

    return routes


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment_us = from_rfc3339(text)
    except (ValueError, OverflowError):
        moment_us = -1
    if not 0 <= moment_us < _YEAR_10000_US:
        raise InvalidRequestError(
            errors=[FieldProblem(f"/query/{name}", "moment", "an RFC 3339 moment with its offset")]
        )
    return moment_us


async def _rotation(session: ReadSession, n: int, part: str) -> str | None:
    """Give a file of the n-th rotation of the log's key under its present name."""
    last = await repository.last_checkpoint(session)
    if last is None:
        return None
    kept = await log_key_repository.rotations(session)
    under = rotations_under(kept, origin_of(last[2]), last[0])
    return rotation_file(under[n - 1], part) if n <= len(under) else None


async def _tile(session: ReadSession, wanted: TilePath) -> bytes | None:
    if wanted.level == ENTRIES:
        start = wanted.n * WIDTH
        rows = await repository.entries(session, start, start + wanted.width)
        if len(rows) < wanted.width:
            return None
        if any(row["body"] is None for row in rows):
            if await pruned_runs(session, start, start + wanted.width - 1):
                raise EventPrunedError(reason="event_pruned")
            return None
        return encode_entries([bytes(row["body"]) for row in rows])
    data = await repository.read_tile(session, wanted.level, wanted.n)
    size = wanted.width * _HASH_BYTES
    return data[:size] if len(data) >= size else None
