"""Legal holds over HTTP: place, list, release. Whoever asks keeps evidence and deletes none.

An app names a member by its own `sub_…`, and no answer names one: the register knows tokens only.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from audit.endpoints import FindSubject
from audit.event import epoch_of
from audit.holds import HoldReason, Holds, HoldScope
from audit.service import AuditLog
from kernel import Clock, Database, from_rfc3339
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import Answer, IdText, RequestBody, problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed

_PATH = "/v1/legal-holds"
_Month = Annotated[
    str | None,
    Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", description="a month, YYYY-MM", max_length=7),
]
_HoldId = Annotated[
    str, Path(pattern="^hld_[0-9a-z]{26}$", examples=["hld_01k9z6m3q8x7v5t2r4n6p8s0w1"])
]


class HoldBody(RequestBody):
    """What is to be kept: all that is named must fit, and what names nothing keeps everything."""

    reason: HoldReason = Field(examples=["litigation"])
    first: _Month = Field(default=None, alias="from", examples=["2026-01"])
    last: _Month = Field(default=None, alias="to", examples=["2026-12"])
    action: str | None = Field(
        default=None,
        max_length=64,
        pattern=r"^[a-z][a-z0-9_.:/-]{0,63}$",
        examples=["member.view"],
        description="events of this action only, in the words of the trail",
    )
    member: str | None = Field(
        default=None,
        max_length=40,
        pattern="^sub_[0-9a-z]{26}$",
        description="events of this member only",
    )


class HoldAnswer(Answer):
    """A hold; months are `YYYY-MM`, both included, and nobody is named."""

    id: IdText
    reason: str = Field(examples=["litigation"])
    first: str | None = Field(alias="from", examples=["2026-01"])
    last: str | None = Field(alias="to", examples=["2026-12"])
    action: str | None
    of_a_member: bool
    brand: str | None = Field(description="who may release it; null: the whole installation's")
    placed_at: str
    released_at: str | None


class HoldsAnswer(Answer):
    """Holds of the brand and of the whole installation, the newest first."""

    holds: list[HoldAnswer]
    next_cursor: str | None


def router(
    database: Database,
    audit: AuditLog,
    gatekeeper: Gatekeeper,
    find_subject: FindSubject,
    clock: Clock,
) -> APIRouter:
    """Make the routes of legal holds."""
    routes = APIRouter(tags=["Holds"])
    holds = Holds(database, audit, clock)

    @routes.post(
        _PATH,
        status_code=201,
        response_model=HoldAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Keep events although their time comes",
    )
    async def place(request: Request, body: HoldBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "hold")
        key = await idempotency_key(request, caller, f"POST {_PATH}")
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                subject = body.member and (await find_subject(work, body.member, caller))[0]
                scope = HoldScope(body.first, body.last, body.action, subject or None)
                made = await holds.add(work, caller, scope, body.reason)
                return _told(await holds.one(work, made))

            answer, replay = await once(work, key, act, now_us=clock.now_us(), status=201)
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.get(
        _PATH,
        response_model=HoldsAnswer,
        responses=problems(401, 403, 422),
        summary="List holds, those that have ended as well",
    )
    async def listed(
        request: Request,
        cursor: Annotated[
            str | None, Query(max_length=200, description="of the page before")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=500, examples=[100])] = 100,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "hold")
        before = decode_id_cursor("hld", cursor)
        async with database.read() as session:
            found = await holds.page(session, caller.brand, before=before, most=limit + 1)
        page = found[:limit]
        more = encode_cursor(page[-1]["id"]) if len(found) > limit else None
        return JSONBytes({"holds": [_told(one) for one in page], "next_cursor": more})

    @routes.delete(
        _PATH + "/{hold}",
        response_model=HoldAnswer,
        responses=problems(401, 403, 404, 422),
        summary="Release a hold of your brand",
    )
    async def release(request: Request, hold: _HoldId) -> JSONBytes:
        caller = await gatekeeper.require(request, "audit", "hold")
        async with database.unit_of_work() as work:
            await holds.release(work, caller, hold)
            answer = _told(await holds.one(work, hold))
        return JSONBytes(answer)

    return routes


def _told(said: dict[str, Any]) -> dict[str, Any]:
    first, behind = (said[name] and from_rfc3339(said[name]) for name in ("from", "until"))
    return {
        "id": said["id"],
        "reason": said["reason"],
        "from": None if first is None else epoch_of(first),
        "to": None if behind is None else epoch_of(behind - 1),
        "action": said["action"],
        "of_a_member": said["of_a_member"],
        "brand": said["brand"],
        "placed_at": said["placed"],
        "released_at": said["released"],
    }
