"""What a client is told of a member's loyalty: account and coupons, for a purpose, on record.

The same decision as every other read, asked about the plain fields only: no key is unwrapped,
and whoever may not read for the purpose gets a refusal that is an event.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from disclosure.reading import Reader
from disclosure.schemas import CouponsAnswer, ViewAnswer
from disclosure.service import DisclosureService, Epochs, Question
from kernel import Caller, Clock, Database, NotFoundError
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, credentials
from loyalty import COUPONS, Loyalty, coupon_answer
from members import Members
from policies import PolicyPack, Storage

_SubId = Annotated[str, Path(max_length=40, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])]
_Purpose = Annotated[str, Query(max_length=64, description="what it is read for")]
_Channel = Annotated[
    str | None,
    Query(max_length=64, description="required when the purpose is decided channel by channel"),
]
_DEFAULT_PURPOSE = "membership"


def router(
    database: Database,
    disclosure: DisclosureService,
    reader: Reader,
    loyalty: Loyalty,
    members: Members,
    pack: PolicyPack,
    gatekeeper: Gatekeeper,
    clock: Clock,
) -> APIRouter:
    """Make the routes of loyalty that disclose."""
    routes = APIRouter(prefix="/v1", tags=["Loyalty"])
    plain = [key for key, one in pack.fields.items() if one.storage is Storage.PLAIN]

    async def read(request: Request, member: str, question: Question) -> dict[str, Any]:
        async def act(caller: Caller, epochs: Epochs) -> dict[str, Any]:
            return await disclosure.view(caller, member, question, epochs)

        return await reader.under_present_epochs(*credentials(request), act)

    @routes.get(
        "/members/{member}/loyalty",
        response_model=ViewAnswer,
        responses=problems(401, 403, 404, 422, 423, 503),
        summary="Read a member's points, tier and tags",
    )
    async def account(
        request: Request,
        member: _SubId,
        purpose: _Purpose = _DEFAULT_PURPOSE,
        channel: _Channel = None,
    ) -> JSONBytes:
        await gatekeeper.require(request, "loyalty_account", "read")
        question = disclosure.question(purpose, channel, plain)
        return JSONBytes(await read(request, member, question))

    @routes.get(
        "/members/{member}/coupons",
        response_model=CouponsAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 404, 422, 423, 503),
        summary="Read a member's coupons",
    )
    async def coupons(
        request: Request,
        member: _SubId,
        purpose: _Purpose = _DEFAULT_PURPOSE,
        channel: _Channel = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "loyalty_account", "read")
        question = disclosure.question(purpose, channel, [COUPONS])
        shown = await read(request, member, question)
        found: list[dict[str, Any]] = []
        if COUPONS in shown["data"]:
            async with database.read() as session:
                try:
                    member_id = await members.resolve(session, member, caller)
                except NotFoundError:  # erased since: there is nothing any more
                    member_id = None
                if member_id is not None:
                    held = await loyalty.coupons.of(session, member_id)
                    found = [coupon_answer(coupon, clock.now_us()) for coupon in held]
        del shown["data"]
        return JSONBytes({**shown, "coupons": found})

    return routes
