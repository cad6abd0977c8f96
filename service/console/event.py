"""One event with its proof, made from the stored tiles and checked against the log's own key.

The sealed detail of an event opens here, for whoever may, by a form and on record.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from audit import BREAK_GLASS, AuditError, Details, brand_of, is_open_to, standing_of
from kernel import NotFoundError
from service.console.desk import HOME, Console, Desk
from service.console.path import picture
from service.console.rows import actors_of, doubtful, event_row, flat_members

_PLACE = "trail"
_EventId = Annotated[str, Path(pattern="^evt_[0-9a-z]{26}$")]


def routes(console: Console) -> APIRouter:
    """Make the routes of one event."""
    events = APIRouter()
    runtime = console.runtime
    details = Details(runtime.database, runtime.vault, runtime.audit)

    async def event_page(
        request: Request, desk: Desk, event_id: str, checked: Any, **opened: Any
    ) -> Response:
        told = await runtime.witnesses.status()
        async with runtime.database.read() as session:
            body = await runtime.audit.event(session, event_id)
            if not is_open_to(body, brand_of(desk.account.brand)):
                raise NotFoundError("no such event", reason="event_unknown")
            actors = await actors_of(console, desk, session)
            try:
                proof = await runtime.audit.prove(session, event_id)
            except AuditError:
                proof, checked = None, "broken"
            standing = await standing_of(
                session,
                [event_id],
                witnessed=told["verified_size"] or 0,
                anchored=await runtime.anchors.reach(session),
            )
            minority = await doubtful(session, told, standing)
        return console.show(
            request,
            "event",
            desk,
            current=_PLACE,
            event=event_row(console, desk, body, actors),
            body=sorted(flat_members(body)),
            proof=proof,
            picture=proof and picture(proof.index, proof.checkpoint.size, proof.hashes),
            standing=standing[event_id].value,
            minority=minority,
            checked=checked,
            vkey=runtime.audit.vkey,
            review_place=_review_place(console, desk, body),
            may_open_detail="detail_ref" in body and console.may(desk, "audit", "open_detail"),
            **{"detail": None, "detail_gone": False, **opened},
        )

    @events.get("/trail/{event}")
    async def event(request: Request, event: _EventId) -> Response:
        desk = await console.enter(request, _PLACE)
        return await event_page(request, desk, event, None)

    @events.post("/trail/{event}")
    async def verify_event(request: Request, event: _EventId) -> Response:
        desk, _ = await console.act(request, _PLACE)
        await runtime.sequencer.drain()
        async with runtime.database.read() as session:
            try:
                proof = await runtime.audit.verify(session, event)
                checked = "waiting" if proof is None else "holds"
            except AuditError:
                checked = "broken"
        async with runtime.database.unit_of_work() as work:
            await runtime.audit.record(
                work,
                desk.caller,
                "audit.verify",
                resource=event,
                outcome="error" if checked == "broken" else "ok",
            )
        return await event_page(request, desk, event, checked)

    @events.post("/trail/{event}/detail")
    async def open_detail(request: Request, event: _EventId) -> Response:
        desk, _ = await console.act(request, _PLACE)
        if not console.may(desk, "audit", "open_detail"):
            await console.refuse(desk, "detail")
        async with runtime.database.read() as session:
            body = await runtime.audit.event(session, event)
        if not is_open_to(body, brand_of(desk.account.brand)):
            raise NotFoundError("no such event", reason="event_unknown")
        try:
            opened: dict[str, Any] = {"detail": await details.read(desk.caller, event)}
        except NotFoundError as error:
            if error.reason != "detail_gone":
                raise
            opened = {"detail_gone": True}
        return await event_page(request, desk, event, None, **opened)

    return events


def _review_place(console: Console, desk: Desk, body: Mapping[str, Any]) -> str | None:
    """Say where an emergency read is reviewed, to whoever may."""
    is_read = (body["action"], body.get("decision")) == (BREAK_GLASS, "allow")
    may = is_read and console.may(desk, "audit", "review")
    return f"{HOME}reviews/{body['id']}" if may else None
