"""The queue of rights requests, each with the law's clock, and the steps that its state allows.

The safe day comes first: the strictest reading, without rolling over holidays. What is done to a
request is in `service.console.handling`.
"""

from datetime import date
from typing import Any

from fastapi import APIRouter, Request, Response

from dsar import (
    CHECKS,
    EXTENSION_REASONS,
    OPEN,
    RequestState,
    Right,
    RightsRequest,
)
from kernel import to_datetime
from kernel.http import decode_id_cursor, encode_cursor
from kernel.i18n import format_date
from service.console.desk import HOME, Console, Desk
from service.console.handling import proposal_stands
from service.portal.moments import zone_of

_PLACE = "requests"
_PAGE = 50
_MOST_OPEN = 200
_SOON_DAYS = 3
_PREFIX = "rr"


def routes(console: Console) -> APIRouter:
    """Make the routes of rights requests."""
    requests = APIRouter()
    runtime = console.runtime
    rights = runtime.rights_requests

    @requests.get("/requests")
    async def queue(request: Request, state: str = "", before: str | None = None) -> Response:
        desk = await console.enter(request, _PLACE)
        asked = RequestState(state) if state in set(RequestState) else None
        most = _MOST_OPEN if asked is None else _PAGE
        async with runtime.database.read() as session:
            found = await rights.queue(
                session,
                desk.account.brand,
                state=asked,
                before=decode_id_cursor(_PREFIX, before),
                most=most + 1,
            )
        page = found[:most]
        shown = [_line(console, desk, one) for one in page if asked or one.state in OPEN]
        if asked is None:
            shown.sort(key=lambda line: line["safe_due"])
        return console.show(
            request,
            "requests",
            desk,
            current=_PLACE,
            requests=shown,
            states=[one.value for one in RequestState],
            state="" if asked is None else asked.value,
            late=sum(line["clock"] == "late" for line in shown),
            soon=sum(line["clock"] == "soon" for line in shown),
            next_cursor=encode_cursor(page[-1].id) if len(found) > len(page) else None,
        )

    @requests.get("/requests/{rights_request}")
    async def one(request: Request, rights_request: str) -> Response:
        desk = await console.enter(request, _PLACE)
        async with runtime.database.unit_of_work() as work:
            found = await rights.read(work, rights_request, desk.account.brand)
            await runtime.audit.record(
                work, desk.caller, "rights_request.view", resource=f"rights_request:{found.id}"
            )
            accounts = {one.id: one.name for one in await runtime.staff.accounts(work)}
            is_proposed = await proposal_stands(
                runtime.approvals, work, found, desk.account.id, now_us=runtime.clock.now_us()
            )
            is_planned = found.right is Right.ERASURE and not found.state.final
            plan = None
            if is_planned and found.identity_proven and found.member_id:
                plan = await rights.plan(work, found, now_us=runtime.clock.now_us())
        clock = rights.clock(found)
        return console.show(
            request,
            "request",
            desk,
            current=_PLACE,
            asked=found,
            line=_line(console, desk, found),
            clock=clock,
            plan=plan,
            proposer=accounts.get(found.proposed_by or ""),
            is_proposed=is_proposed,
            is_proposer=is_proposed and found.proposed_by == desk.account.id,
            grounds=_grounds(console, found),
            checks=sorted(CHECKS),
            extensions=sorted(EXTENSION_REASONS),
            steps=_open_steps(found, has_extension=clock.extension is not None)
            if console.may(desk, "rights_request", "handle")
            else [],
        )

    return requests


def _grounds(console: Console, found: RightsRequest) -> list[str]:
    rules = next(
        one for one in console.runtime.pack.jurisdictions.values() if one.code == found.jurisdiction
    )
    return sorted(
        key
        for key, ground in rules.refusals.items()
        if isinstance(ground.value, tuple) and found.right in ground.value
    )


def _open_steps(found: RightsRequest, *, has_extension: bool) -> list[str]:
    """Name the steps that the state allows; the room checks each again."""
    if found.state.final:
        return []
    if not found.identity_proven:
        return ["check", "refuse"]
    if found.state is RequestState.PAUSED:
        return ["resume", "refuse"]
    steps = ["take_up"] if found.state is RequestState.VERIFIED else []
    steps += ["fulfil", "pause"]
    if has_extension and found.extended_us is None:
        steps.append("extend")
    return [*steps, "refuse"]


def _line(console: Console, desk: Desk, found: RightsRequest) -> dict[str, Any]:
    now_us = console.runtime.clock.now_us()
    today = to_datetime(now_us).astimezone(zone_of(found.jurisdiction)).date()
    left = (found.safe_due - today).days
    clock = "" if left > _SOON_DAYS else "late" if left < 0 else "soon"
    if found.state.final or found.state is RequestState.PAUSED:
        clock = ""
    return {
        "id": found.id,
        "place": f"{HOME}requests/{found.id}",
        "right": found.right.value,
        "jurisdiction": found.jurisdiction,
        "state": found.state.value,
        "is_final": found.state.final,
        "is_paused": found.state is RequestState.PAUSED,
        "left": left,
        "over": -left,
        "clock": clock,
        "safe_due": found.safe_due,
        "safe_day": _day(found.safe_due, desk),
        "legal_day": _day(found.legal_due, desk),
        "target_day": _day(found.target, desk),
        "received": desk.when(found.received_us),
        "is_proven": found.identity_proven,
        "via": found.via.value,
    }


def _day(day: date, desk: Desk) -> str:
    return format_date(day, desk.language)
