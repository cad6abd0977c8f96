"""Loyalty over HTTP: points, purchases in batches, coupons and tags.

What a client is told of a member's account, `GET …/loyalty` and `GET …/coupons`, is a disclosure
and stands in that room.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Request

from kernel import Caller, Clock, Database, MemberId, NotAllowedError, ReadSession
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed
from loyalty.coupons import coupon_answer
from loyalty.model import Outcome, RowResult
from loyalty.schemas import (
    ChangedCoupon,
    CouponBody,
    MembersBody,
    PointsAnswer,
    PointsBody,
    PurchasesAnswer,
    PurchasesBody,
    TaggedAnswer,
    TagsAnswer,
)
from loyalty.service import Loyalty
from policies import PolicyPack, Tag

_SubId = Annotated[str, Path(max_length=40, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])]
_CouponId = Annotated[str, Path(max_length=40, examples=["cou_4m2pcahc52d26pfztp1nmz8kye"])]
_TagKey = Annotated[str, Path(max_length=64, examples=["event_guest"])]


class MemberDirectory(Protocol):
    """Knows members by what clients call them; the members room has it."""

    async def resolve(self, session: ReadSession, pairwise: str, caller: Caller) -> MemberId:
        """Resolve a pairwise id inside the caller's brand, or raise."""
        ...


def router(
    database: Database,
    loyalty: Loyalty,
    members: MemberDirectory,
    pack: PolicyPack,
    gatekeeper: Gatekeeper,
    clock: Clock,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Loyalty"])

    @routes.post(
        "/members/{member}/points",
        response_model=PointsAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 409, 422),
        summary="Add points to a member, or take them",
    )
    async def post_points(request: Request, member: _SubId, body: PointsBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "loyalty_account", "write")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/points")
        now_us = clock.now_us()
        act_on = loyalty.earn if body.kind == "earn" else loyalty.redeem
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                posted = await act_on(
                    work, caller, member_id, body.points, body.reference, now_us=now_us
                )
                return {
                    "id": member,
                    "entry": posted.entry_id,
                    "kind": posted.kind.value,
                    "points": posted.points,
                    "repeated": posted.repeated,
                    **({"audit_id": posted.audit_id} if posted.audit_id else {}),
                }

            answer, replay = await once(work, key, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    @routes.post(
        "/purchases",
        response_model=PurchasesAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 409, 422),
        summary="Record purchases, each row accounted for",
    )
    async def post_purchases(request: Request, body: PurchasesBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "loyalty_account", "write")
        key = await idempotency_key(request, caller, "POST /v1/purchases")
        rows = [row.model_dump() for row in body.purchases]
        now_us = clock.now_us()
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                report = await loyalty.add_purchases(work, caller, rows, now_us=now_us)
                return {
                    "rows": len(rows),
                    **{outcome.value: report.count(outcome) for outcome in Outcome},
                    "results": [result.as_dict() for result in report.results],
                    **({"audit_id": report.audit_id} if report.audit_id else {}),
                }

            answer, replay = await once(work, key, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    @routes.post(
        "/members/{member}/coupons",
        status_code=201,
        response_model=ChangedCoupon,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 409, 422, 423),
        summary="Give a member a coupon",
    )
    async def issue(request: Request, member: _SubId, body: CouponBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "loyalty_account", "write")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/coupons")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                coupon, audit_id = await loyalty.coupons.issue(
                    work, caller, member_id, body.offer, now_us=now_us
                )
                return {**coupon_answer(coupon, now_us), "audit_id": audit_id}

            answer, replay = await once(work, key, act, now_us=now_us, status=201)
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.post(
        "/members/{member}/coupons/{coupon}:use",
        response_model=ChangedCoupon,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 409, 422),
        summary="Use a coupon, once",
    )
    async def use(request: Request, member: _SubId, coupon: _CouponId) -> JSONBytes:
        caller = await gatekeeper.require(request, "loyalty_account", "write")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/coupons/{id}:use")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                used, audit_id = await loyalty.coupons.use(
                    work, caller, member_id, coupon, now_us=now_us
                )
                return {**coupon_answer(used, now_us), "audit_id": audit_id}

            answer, replay = await once(work, key, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    @routes.get(
        "/tags",
        response_model=TagsAnswer,
        responses=problems(401, 403),
        summary="See which tags there are",
    )
    async def tags(request: Request) -> JSONBytes:
        await gatekeeper.require(request, "loyalty_account", "read")
        declared = pack.loyalty.tags.values()
        return JSONBytes({"tags": [_tag(tag) for tag in declared]})

    async def on_members(
        request: Request,
        key: str,
        body: MembersBody,
        route: str,
        change: Callable[..., Awaitable[tuple[list[RowResult], str | None]]],
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "loyalty_account", "write")
        repeat = await idempotency_key(request, caller, route)
        now_us = clock.now_us()
        tag = await _allowed(caller, key)
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                results, audit_id = await change(work, caller, tag, body.members, now_us=now_us)
                changed = sum(result.outcome in {"set", "cleared"} for result in results)
                return {
                    "tag": tag.key,
                    "changed": changed,
                    "results": [result.as_dict() for result in results],
                    **({"audit_id": audit_id} if audit_id else {}),
                }

            answer, replay = await once(work, repeat, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    async def _allowed(caller: Caller, key: str) -> Tag:
        """Give the tag, or put on record that this caller may not handle it."""
        try:
            return loyalty.tags.tag(caller, key)
        except NotAllowedError as error:
            async with database.unit_of_work() as work:
                error.audit_id = await loyalty.tags.refused(work, caller, key)
            raise

    @routes.post(
        "/tags/{tag}:set",
        response_model=TaggedAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 409, 422),
        summary="Set a tag on members who allow its purpose",
    )
    async def set_tag(request: Request, tag: _TagKey, body: MembersBody) -> JSONBytes:
        return await on_members(request, tag, body, "POST /v1/tags/{tag}:set", loyalty.tags.set)

    @routes.post(
        "/tags/{tag}:clear",
        response_model=TaggedAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 409, 422),
        summary="Take a tag off members",
    )
    async def clear_tag(request: Request, tag: _TagKey, body: MembersBody) -> JSONBytes:
        return await on_members(request, tag, body, "POST /v1/tags/{tag}:clear", loyalty.tags.clear)

    return routes


def _tag(tag: Tag) -> dict[str, Any]:
    return {"key": tag.key, "purpose": tag.purpose, "title": tag.title.as_dict()}
