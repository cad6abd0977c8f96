"""Guardians over HTTP: name one, prove them by a code, see them, end them.

Whoever may record a consent may bring its guardian: the till with the parent present, an app.
No answer holds how a guardian is reached.
"""

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Request

from consent.errors import GuardianCodeError
from consent.guardian_rows import GuardianRow
from consent.guardians import Guardians
from consent.members_port import MemberDirectory
from consent.schemas import (
    GuardianAnswer,
    GuardianBody,
    GuardianCodeBody,
    GuardiansAnswer,
)
from kernel import Clock, Database, FieldProblem, InvalidRequestError, rfc3339
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, idempotency_key, once, replayed

_SubId = Annotated[str, Path(max_length=40, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])]
_GuardianId = Annotated[str, Path(max_length=40, examples=["grd_01m834me8bfjwbgnk89sr02kdz"])]


class Courier(Protocol):
    """Delivers what waits in the outbox; the service has it."""

    async def settle(self) -> None:
        """Deliver now what can be delivered; the rest is tried again in the background."""
        ...


def router(
    database: Database,
    guardians: Guardians,
    members: MemberDirectory,
    gatekeeper: Gatekeeper,
    courier: Courier,
    clock: Clock,
) -> APIRouter:
    """Make the routes of guardians."""
    routes = APIRouter(prefix="/v1", tags=["Consent"])

    @routes.post(
        "/members/{member}/guardians",
        status_code=201,
        response_model=GuardianAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Name a guardian of a minor; a code goes to them",
    )
    async def add(request: Request, member: _SubId, body: GuardianBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        if (body.contact is None) == (body.member is None):
            raise InvalidRequestError(
                "name either a contact or a member",
                errors=[FieldProblem("", "contact_or_member")],
            )
        key = await idempotency_key(request, caller, "POST /v1/members/{id}/guardians")
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                pseudonym = await members.pseudonym(work, member_id)
                relation = body.relation
                if body.contact is not None:
                    contact = body.contact.kind, body.contact.value, body.contact.region
                    row = await guardians.add_contact(
                        work, caller, member_id, pseudonym, relation, contact, now_us=now_us
                    )
                else:
                    other = await members.resolve(work, body.member or "", caller)
                    row = await guardians.add_member(
                        work, caller, member_id, pseudonym, relation, other, now_us=now_us
                    )
                return _guardian(row)

            answer, replay = await once(work, key, act, now_us=now_us, status=201)
        await courier.settle()
        return JSONBytes(answer, 201, replayed(replay=replay))

    @routes.post(
        "/members/{member}/guardians/{guardian}:verify",
        response_model=GuardianAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Prove a guardian with the code they were sent",
    )
    async def verify(
        request: Request, member: _SubId, guardian: _GuardianId, body: GuardianCodeBody
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        key = await idempotency_key(
            request, caller, "POST /v1/members/{id}/guardians/{guardian}:verify"
        )
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                pseudonym = await members.pseudonym(work, member_id)
                reason = await guardians.verify(
                    work, caller, member_id, pseudonym, guardian, body.code, now_us=now_us
                )
                return {"refused": reason}

            judged, replay = await once(work, key, act, now_us=now_us)
            row = await guardians.one(work, member_id, guardian)
        if judged["refused"] is not None:
            raise GuardianCodeError(reason=judged["refused"])
        return JSONBytes(_guardian(row), headers=replayed(replay=replay))

    @routes.post(
        "/members/{member}/guardians/{guardian}:end",
        response_model=GuardianAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="End a guardianship; the consents that rested on it run out",
    )
    async def end(request: Request, member: _SubId, guardian: _GuardianId) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "write")
        key = await idempotency_key(
            request, caller, "POST /v1/members/{id}/guardians/{guardian}:end"
        )
        now_us = clock.now_us()
        async with database.unit_of_work() as work:
            member_id = await members.resolve(work, member, caller)

            async def act() -> dict[str, Any]:
                pseudonym = await members.pseudonym(work, member_id)
                await guardians.end(work, caller, member_id, pseudonym, guardian, now_us=now_us)
                return _guardian(await guardians.one(work, member_id, guardian))

            answer, replay = await once(work, key, act, now_us=now_us)
        return JSONBytes(answer, headers=replayed(replay=replay))

    @routes.get(
        "/members/{member}/guardians",
        response_model=GuardiansAnswer,
        responses=problems(401, 403, 404, 422),
        summary="See the guardians of a minor",
    )
    async def listed(request: Request, member: _SubId) -> JSONBytes:
        caller = await gatekeeper.require(request, "consent", "read")
        async with database.read() as session:
            member_id = await members.resolve(session, member, caller)
            rows = await guardians.of_member(session, member_id)
        return JSONBytes({"id": member, "guardians": [_guardian(row) for row in rows]})

    return routes


def _guardian(row: GuardianRow) -> dict[str, Any]:
    """Describe a guardian without saying how they are reached, or who they are as a member."""
    return {
        "id": row.id,
        "relation": row.relation,
        "is_member": row.guardian_member_id is not None,
        "kind": row.kind,
        "method": "otp",
        "proven_at": None if row.proven_us is None else rfc3339(row.proven_us),
        "ended_at": None if row.ended_us is None else rfc3339(row.ended_us),
    }
