"""What those who answer for the data read: the record of processing, and consent in numbers."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from consent import consent_report
from kernel import rfc3339, to_datetime
from kernel.schemas import Answer, problems
from kernel.web import JSONBytes
from members import count_members
from policies import Recipient, record_of_processing
from service.runtime import Runtime

_PURPOSE = "purpose:"


class RopaAnswer(Answer):
    """The record of processing activities; `columns` says which letter of the law is where."""

    generated_at: str
    policy: dict[str, Any]
    columns: dict[str, dict[str, str]]
    controller: dict[str, str] = Field(examples=[{"name": "not configured"}])
    data_subjects: dict[str, Any]
    transfers: dict[str, str]
    rights: dict[str, Any]
    refusals: str
    security: list[str]
    activities: list[dict[str, Any]]


class ConsentReportAnswer(Answer):
    """How many members stand where, and what each day brought."""

    at: str
    states: list[dict[str, Any]]
    days: list[dict[str, Any]]


def router(runtime: Runtime) -> APIRouter:
    """Make the routes of governance."""
    routes = APIRouter(prefix="/v1", tags=["Govern"])

    @routes.get(
        "/ropa",
        response_model=RopaAnswer,
        responses=problems(401, 403),
        summary="Read the record of processing activities",
    )
    async def ropa(request: Request) -> JSONBytes:
        await runtime.gatekeeper.require(request, "governance", "read")
        return JSONBytes(await ropa_of(runtime))

    @routes.get(
        "/reports/consent",
        response_model=ConsentReportAnswer,
        responses=problems(401, 403, 422),
        summary="Read consent in numbers",
    )
    async def report(
        request: Request,
        days: Annotated[
            int, Query(ge=1, le=366, description="how many days back the series goes")
        ] = 30,
    ) -> JSONBytes:
        await runtime.gatekeeper.require(request, "governance", "read")
        now_us = runtime.clock.now_us()
        async with runtime.database.read() as session:
            found = await consent_report(session, now_us=now_us, days=days)
        return JSONBytes(
            {
                "at": rfc3339(now_us),
                "states": [
                    {
                        "purpose": one.purpose,
                        "channel": one.channel or None,
                        "status": one.status.value,
                        "members": one.members,
                    }
                    for one in found.states
                ],
                "days": [{"day": one.day, **one.counts} for one in found.days],
            }
        )

    return routes


async def ropa_of(runtime: Runtime) -> dict[str, Any]:
    """Write the record of processing with the clients and members of now."""
    recipients = [
        Recipient(
            client["name"],
            client["brand"],
            tuple(s.removeprefix(_PURPOSE) for s in client["scopes"] if s.startswith(_PURPOSE)),
        )
        for client in await runtime.clients.list()
        if client["state"] == "active"
    ]
    async with runtime.database.read() as session:
        members = await count_members(session)
    return record_of_processing(
        runtime.pack,
        runtime.controller,
        recipients,
        members=members,
        at=to_datetime(runtime.clock.now_us()),
    )
