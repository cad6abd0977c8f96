"""Webhooks over HTTP: register, list, delete, replay, and the ledger of deliveries."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from disclosure.schemas import (
    DeliveriesAnswer,
    DeliveryAnswer,
    ReplayAnswer,
    ReplayBody,
    WebhookAnswer,
    WebhookBody,
    WebhookGoneAnswer,
    WebhooksAnswer,
)
from disclosure.webhook_repository import Delivery, Webhook
from disclosure.webhooks import Webhooks
from kernel import Clock, Database, FieldProblem, InvalidRequestError, from_rfc3339, rfc3339
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed

_WebhookId = Annotated[str, Path(max_length=40, examples=["whk_01kaqf1v4zfw4t2c2v9m3f1x7e"])]
_DeliveryId = Annotated[str, Path(max_length=40, examples=["msg_01kaqf1v4zfw4t2c2v9m3f1x7e"])]
_YEAR_10000_US = 253_402_300_800_000_000


def router(
    database: Database, webhooks: Webhooks, gatekeeper: Gatekeeper, clock: Clock
) -> APIRouter:
    """Make the routes of webhooks."""
    routes = APIRouter(prefix="/v1/webhooks", tags=["Webhooks"])

    @routes.post(
        "",
        status_code=201,
        response_model=WebhookAnswer,
        responses=problems(401, 403, 409, 422),
        summary="Register a webhook; its key is shown once",
    )
    async def add(request: Request, body: WebhookBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "webhook", "manage")
        key = await idempotency_key(request, caller, "POST /v1/webhooks")
        shown: dict[str, str] = {}
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                made, secret = await webhooks.add(work, caller, body.url, body.types)
                shown[made.id] = secret
                return {"id": made.id}

            result, replay = await once(work, key, act, now_us=clock.now_us(), status=201)
            found = await webhooks.find(work, caller, result["id"])
        answer = {**_webhook(found), "secret": shown.get(found.id)}
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.get(
        "",
        response_model=WebhooksAnswer,
        responses=problems(401, 403),
        summary="List your webhooks",
    )
    async def listed(request: Request) -> JSONBytes:
        caller = await gatekeeper.require(request, "webhook", "manage")
        async with database.read() as session:
            found = await webhooks.listed(session, caller)
        return JSONBytes({"webhooks": [_webhook(one) for one in found]})

    @routes.delete(
        "/{webhook:id}",
        response_model=WebhookGoneAnswer,
        responses=problems(401, 403, 404, 422),
        summary="Delete a webhook and what waits for it",
    )
    async def remove(request: Request, webhook: _WebhookId) -> JSONBytes:
        caller = await gatekeeper.require(request, "webhook", "manage")
        async with database.unit_of_work() as work:
            await webhooks.remove(work, caller, webhook)
        return JSONBytes({"id": webhook, "state": "deleted"})

    @routes.post(
        "/{webhook}:replay",
        response_model=ReplayAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Send again what happened since a moment",
    )
    async def replay_since(request: Request, webhook: _WebhookId, body: ReplayBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "webhook", "manage")
        since_us = _moment(body.since)
        key = await idempotency_key(request, caller, "POST /v1/webhooks/{id}:replay")
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                count = await webhooks.replay(work, caller, webhook, since_us)
                return {"id": webhook, "replayed": count}

            result, replay = await once(work, key, act, now_us=clock.now_us())
        return JSONBytes(result, 200, replayed(replay=replay))

    @routes.get(
        "/{webhook}/deliveries",
        response_model=DeliveriesAnswer,
        responses=problems(401, 403, 404, 422),
        summary="See what a webhook was told, and what it answered",
    )
    async def deliveries(
        request: Request,
        webhook: _WebhookId,
        cursor: Annotated[
            str | None, Query(max_length=200, description="of the page before")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=500, examples=[100])] = 100,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "webhook", "manage")
        before = decode_id_cursor("msg", cursor)
        async with database.read() as session:
            found = await webhooks.deliveries(
                session, caller, webhook, before=before, most=limit + 1
            )
        page = found[:limit]
        more = encode_cursor(page[-1].id) if len(found) > limit else None
        return JSONBytes({"deliveries": [_delivery(one) for one in page], "next_cursor": more})

    @routes.post(
        "/{webhook}/deliveries/{delivery}:acknowledge",
        response_model=DeliveryAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Say that you have acted on a delivery",
    )
    async def acknowledge(
        request: Request, webhook: _WebhookId, delivery: _DeliveryId
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "webhook", "manage")
        route = "POST /v1/webhooks/{id}/deliveries/{id}:acknowledge"
        key = await idempotency_key(request, caller, route)
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                return _delivery(await webhooks.acknowledge(work, caller, webhook, delivery))

            result, replay = await once(work, key, act, now_us=clock.now_us())
        return JSONBytes(result, 200, replayed(replay=replay))

    return routes


def _moment(text: str) -> int:
    try:
        moment_us = from_rfc3339(text)
    except (ValueError, OverflowError):
        moment_us = -1
    if not 0 <= moment_us < _YEAR_10000_US:
        raise InvalidRequestError(
            "a moment with its offset, as in 2026-11-23T03:00:00Z",
            errors=[FieldProblem("/since", "moment")],
        )
    return moment_us


def _webhook(found: Webhook) -> dict[str, Any]:
    return {
        "id": found.id,
        "url": found.url,
        "types": list(found.types),
        "created_at": rfc3339(found.created_us),
    }


def _delivery(one: Delivery) -> dict[str, Any]:
    waiting = one.state == "waiting"
    told_us = one.acknowledged_us
    return {
        "id": one.id,
        "type": one.type,
        "data": {"id": one.pairwise_id, "purpose": one.purpose, "channel": one.channel},
        "at": rfc3339(one.at_us),
        "state": one.state,
        "attempts": one.attempts,
        "status": one.status,
        "failure": one.failure,
        "next_attempt_at": rfc3339(one.due_us) if waiting else None,
        "acknowledged_at": None if told_us is None else rfc3339(told_us),
    }
