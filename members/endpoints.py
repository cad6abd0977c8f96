"""The members room over HTTP: register, change, find, introduce, contact points."""

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Header, Path, Request

from consent import ConsentRequest, Status
from kernel import (
    Caller,
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    PairwiseId,
    UnitOfWork,
    to_date,
)
from kernel.http import check_if_match, etag
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed
from members.answers import Registered
from members.errors import CodeRefusedError, ContactPointNotFoundError, MemberNotFoundError
from members.normalise import Formats
from members.registration import formats, prepare
from members.schemas import (
    AddedContactPoint,
    ConsentBody,
    ContactPointAnswer,
    ContactPointBody,
    FormatsBody,
    IdAnswer,
    IntroduceAnswer,
    IntroduceBody,
    LookupBody,
    RegisterAnswer,
    RegisterBody,
    UpdateAnswer,
    UpdateBody,
    VerifyBody,
)
from members.service import Members
from policies import PolicyPack

_SubId = Annotated[str, Path(max_length=40, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])]
_CpId = Annotated[str, Path(max_length=40, examples=["cp_01m834me8bfjwbgnk89sr02kdz"])]
_IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="the ETag of the member that was shown",
        examples=['"v1"'],
    ),
]


class ClientDirectory(Protocol):
    """Knows which clients there are; the service has it."""

    async def client_in_brand(self, work: UnitOfWork, client_id: str, brand: str) -> bool:
        """Say whether an active client of this brand has this id."""
        ...


class Courier(Protocol):
    """Delivers what waits in the outbox; the service has it."""

    async def settle(self) -> None:
        """Deliver now what can be delivered; the rest is tried again in the background."""
        ...


def consent_requests(bodies: list[ConsentBody]) -> list[ConsentRequest]:
    """Read decisions out of a request body."""
    return [
        ConsentRequest(
            body.purpose,
            body.channel or "",
            Status(body.decision),
            body.notice_revision,
            body.lang,
            dict(body.evidence),
        )
        for body in bodies
    ]


def router(
    database: Database,
    members: Members,
    pack: PolicyPack,
    gatekeeper: Gatekeeper,
    clients: ClientDirectory,
    courier: Courier,
    clock: Clock,
) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Registry"])

    def declared(body: FormatsBody) -> Formats:
        return formats(body.phone_region, body.date_era, body.id_country, to_date(clock.now_us()))

    def region_only(region: str | None) -> Formats:
        return formats(region, None, None, to_date(clock.now_us()))

    @routes.post(
        "/members",
        status_code=201,
        response_model=RegisterAnswer,
        response_model_exclude_none=True,
        responses=problems(401, 403, 409, 422),
        summary="Register a member",
    )
    async def register(request: Request, body: RegisterBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "member", "register")
        _same_brand(caller, body.brand)
        requests = consent_requests(body.consents)
        prepared = members.prepare(body.jurisdiction, body.fields, declared(body.formats), requests)
        key = await idempotency_key(request, caller, "POST /v1/members")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:

            async def act() -> dict[str, Any]:
                registered = await members.register(
                    work,
                    caller,
                    brand=body.brand,
                    jurisdiction=body.jurisdiction,
                    prepared=prepared,
                    consents=requests,
                    now_us=now_us,
                )
                return await _registered_answer(work, caller, registered, now_us)

            answer, replay = await once(work, key, act, now_us=now_us, status=201)
            if replay:
                await members.resolve(work, answer["id"], caller)
        await courier.settle()
        return JSONBytes(answer, 201, replayed(replay=replay))

    async def _registered_answer(
        work: UnitOfWork, caller: Caller, registered: Registered, now_us: int
    ) -> dict[str, Any]:
        pairwise = await members.pairwise_for(work, caller.id, registered.member_id, now_us=now_us)
        answer: dict[str, Any] = {
            "id": pairwise,
            "consents": [
                {"id": event.id, "receipt": f"/v1/consents/{event.id}/receipt"}
                for event in registered.consents
            ],
            "contact_points": [
                {"id": point.id, "kind": point.kind, "verified": False}
                for point in registered.contact_points
            ],
            "audit_id": registered.audit_id,
        }
        if ("duplicates", "read") in caller.grants:
            answer["duplicates"] = [
                {
                    "id": await members.pairwise_for(
                        work, caller.id, duplicate.member_id, now_us=now_us
                    ),
                    "fields": list(duplicate.fields),
                }
                for duplicate in registered.duplicates
            ]
        return answer

    @routes.patch(
        "/members/{member:id}",
        response_model=UpdateAnswer,
        responses=problems(401, 403, 404, 409, 412, 422),
        summary="Replace fields of a member",
    )
    async def update(
        request: Request,
        member: _SubId,
        body: UpdateBody,
        if_match: _IfMatch = None,
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "member", "update")
        prepared = prepare(pack, body.fields, declared(body.formats))
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)
            version = await members.version(work, member_id)
            check_if_match(if_match, version)
            version, audit_id = await members.update(
                work,
                caller,
                member_id,
                prepared,
                now_us=clock.now_us(),
                expected_version=None if if_match is None else version,
            )
        await courier.settle()
        answer = {"id": member, "version": version, "audit_id": audit_id}
        return JSONBytes(answer, headers={"ETag": etag(version)})

    @routes.post(
        "/members:lookup",
        response_model=IdAnswer,
        responses=problems(401, 403, 404, 422),
        summary="Find a member by an identifier",
    )
    async def lookup(request: Request, body: LookupBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "member", "lookup")
        now_us = clock.now_us()
        pairwise: PairwiseId | None = None
        async with database.unit_of_work() as work:
            found = await members.lookup(
                work, caller, body.kind, body.value, region_only(body.region), body.purpose
            )
            if found.member_id is not None:
                pairwise = await members.pairwise_for(
                    work, caller.id, found.member_id, now_us=now_us
                )
        if found.reason == "scope_missing":
            raise NotAllowedError(reason=found.reason, audit_id=found.audit_id)
        if pairwise is None:
            raise MemberNotFoundError(reason="member_unknown", audit_id=found.audit_id)
        return JSONBytes({"id": pairwise})

    @routes.post(
        "/members/{member}:introduce",
        response_model=IntroduceAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Let another client know a member",
    )
    async def introduce(request: Request, member: _SubId, body: IntroduceBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "member", "introduce")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}:introduce")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)
            if not await clients.client_in_brand(work, body.to, caller.brand):
                raise NotFoundError("no such client in this brand", reason="client_unknown")

            async def act() -> dict[str, Any]:
                pairwise, _ = await members.introduce(
                    work, caller, member_id, body.to, now_us=now_us
                )
                return {"to": body.to, "id": pairwise}

            answer, replay = await once(work, key, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    @routes.post(
        "/members/{member}/contact-points",
        status_code=201,
        response_model=AddedContactPoint,
        responses=problems(401, 403, 404, 409, 422),
        summary="Add a contact point",
    )
    async def add_contact_point(
        request: Request, member: _SubId, body: ContactPointBody
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "contact_point", "add")
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/contact-points")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                point, audit_id = await members.contact_points.add(
                    work,
                    caller,
                    member_id,
                    body.kind,
                    body.value,
                    region_only(body.region),
                    now_us=now_us,
                )
                return {
                    "id": point.id,
                    "kind": point.kind,
                    "verified": False,
                    "audit_id": audit_id,
                }

            answer, replay = await once(work, key, act, now_us=now_us, status=201)
        await courier.settle()
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.post(
        "/members/{member}/contact-points/{contact_point}:verify",
        response_model=ContactPointAnswer,
        responses=problems(401, 403, 404, 422),
        summary="Verify a contact point with the code that was sent to it",
    )
    async def verify(
        request: Request, member: _SubId, contact_point: _CpId, body: VerifyBody
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "contact_point", "verify")
        key = await idempotency_key(
            request, caller, "POST /v1/members/{id}/contact-points/{id}:verify"
        )
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                reason = await members.contact_points.verify(
                    work, caller, member_id, contact_point, body.code, now_us=now_us
                )
                return {"refused": reason}

            judged, replay = await once(work, key, act, now_us=now_us)
            points = await members.contact_points.points_of(work, member_id)
        if judged["refused"] is not None:
            raise CodeRefusedError(reason=judged["refused"])
        kind = next((point.kind for point in points if point.id == contact_point), None)
        if kind is None:
            raise ContactPointNotFoundError(reason="contact_point_unknown")
        answer = {"id": contact_point, "kind": kind, "verified": True}
        return JSONBytes(answer, headers=replayed(replay=replay))

    return routes


def _same_brand(caller: Caller, brand: str) -> None:
    if brand != caller.brand:
        raise InvalidRequestError(
            "the token is bound to another brand", errors=[FieldProblem("/brand", "other_brand")]
        )
