"""The four-eyes inbox: what waits for a second person, bound to exactly what is shown."""

from typing import Any

from fastapi import APIRouter, Request, Response

from kernel import is_id
from service.console.desk import HOME, Console, Desk, go_to
from service.staff import Approval, ApprovalRefusedError, ApprovalState

_PLACE = "approvals"


def routes(console: Console) -> APIRouter:
    """Make the routes of the inbox."""
    inbox = APIRouter()
    runtime = console.runtime

    @inbox.get("/approvals")
    async def approvals(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        async with runtime.database.read() as session:
            now_us = runtime.clock.now_us()
            found = await runtime.approvals.open(session, desk.account.brand, now_us=now_us)
            names = {one.id: one for one in await runtime.staff.accounts(session)}
            shown = [
                _described(console, desk, held, requester=names.get(held.requested_by))
                for held in found
                if held.requested_by == desk.account.id
                or runtime.approvals.may(desk.account.role, desk.account.brand, held)
            ]
        return console.show(request, "approvals", desk, current=_PLACE, approvals=shown)

    @inbox.post("/approvals/{approval}")
    async def answer(request: Request, approval: str) -> Response:
        desk, fields = await console.act(request, _PLACE)
        try:
            shown_hash = bytes.fromhex(fields.get("bound", ""))
        except ValueError:
            raise ApprovalRefusedError(reason="request_changed") from None
        decide = (
            runtime.approvals.approve
            if fields.get("answer") == "approve"
            else runtime.approvals.decline
        )
        try:
            async with runtime.database.unit_of_work() as work:
                await decide(work, desk.caller, approval, shown_hash, now_us=runtime.clock.now_us())
        except ApprovalRefusedError as error:
            resource = f"approval:{approval}" if is_id("apr", approval) else "approval"
            await console.refuse_answer(desk, resource, error)
        return go_to(f"{HOME}approvals")

    return inbox


def _place_of(held: Approval) -> str | None:
    """Say where a request is decided, when that is on a page of its own."""
    room, _, identifier = held.about.partition(":")
    return f"{HOME}requests/{identifier}" if room == "rights_request" and identifier else None


def _described(console: Console, desk: Desk, held: Approval, *, requester: Any) -> dict[str, Any]:
    now_us = console.runtime.clock.now_us()
    hours = max(0, held.expires_us - now_us) // 3_600_000_000
    return {
        "id": held.id,
        "kind": held.kind,
        "about": held.about,
        "place": _place_of(held),
        "bound": held.request_hash.hex(),
        "by": held.requested_by if requester is None else requester.name,
        "role": "" if requester is None else requester.role,
        "at": desk.when(held.requested_us),
        "hours": hours,
        "is_mine": held.requested_by == desk.account.id,
        "is_approved": held.state == ApprovalState.APPROVED,
    }
