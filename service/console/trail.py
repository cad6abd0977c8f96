"""Searching the trail, and checking the log where it lies.

Each search is an event itself. A member's events are found by the tokens under their key, and
only by who may look members up; the member is named in the body of a form, never in an address.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from audit import EventFilter, FoundEvents, SavedView, brand_of, standing_of, verify_stored_log
from kernel import rfc3339
from kernel.http import decode_id_cursor, encode_cursor
from service.console.desk import Console, Desk
from service.console.questions import member_key, read_question
from service.console.rows import actors_of, doubtful, event_row
from service.trail_views import trail_views
from vault import OwnerKey

_PLACE = "trail"
_PAGE = 50
_COUNTED_DAYS = 7
_MOST_COUNTED = 99
_DAY_US = 86_400_000_000
_Text = Annotated[str, Query(max_length=64)]


def routes(console: Console) -> APIRouter:
    """Make the routes of the trail."""
    trail = APIRouter()
    runtime = console.runtime
    views = trail_views(runtime.settings)

    @trail.get("/trail")
    async def search(
        request: Request,
        actor: _Text = "",
        action: _Text = "",
        purpose: _Text = "",
        decision: _Text = "",
        field: _Text = "",
        view: _Text = "",
        asked_in: Annotated[str, Query(alias="request", max_length=64)] = "",
        policy: Annotated[str, Query(max_length=71)] = "",
        since: Annotated[str, Query(alias="from", max_length=10)] = "",
        until: Annotated[str, Query(max_length=10)] = "",
        before: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        desk = await console.enter(request, _PLACE)
        typed = {
            "actor": actor,
            "action": action,
            "purpose": purpose,
            "decision": decision,
            "field": field,
            "view": view,
            "request": asked_in,
            "policy": policy,
            "from": since,
            "until": until,
        }
        wanted = read_question(desk, typed, views)
        if wanted is None:
            empty = FoundEvents((), None)
            return await page(request, desk, empty, status=422, is_faulty=True)
        wanted = replace(wanted, brand=brand_of(desk.account.brand))
        found = await look(desk, wanted, decode_id_cursor("evt", before), None)
        query = {name: text for name, text in typed.items() if text}
        return await page(request, desk, found, typed=typed, query=query)

    @trail.post("/trail/member")
    async def of_member(request: Request) -> Response:
        desk, fields = await console.act(request, _PLACE)
        member = fields.get("member", "")
        key, tokens = await member_key(console, desk, member)
        before = decode_id_cursor("evt", fields.get("before") or None)
        found = await look(desk, EventFilter(subjects=tokens), before, key)
        return await page(request, desk, found, member=member)

    async def look(
        desk: Desk, wanted: EventFilter, before: str | None, subject: OwnerKey | None
    ) -> FoundEvents:
        async with runtime.database.unit_of_work() as work:
            await runtime.audit.record_search(work, desk.caller, wanted, subject=subject)
        async with runtime.database.read() as session:
            return await runtime.audit.search(session, wanted, before=before, most=_PAGE)

    async def page(
        request: Request, desk: Desk, found: FoundEvents, *, status: int = 200, **context: Any
    ) -> Response:
        told = await runtime.witnesses.status()
        async with runtime.database.read() as session:
            actors = await actors_of(console, desk, session)
            ids = [body["id"] for body in found.events]
            standings = await standing_of(
                session,
                ids,
                witnessed=told["verified_size"] or 0,
                anchored=await runtime.anchors.reach(session),
            )
            minority = await doubtful(session, told, standings)
            pruned_us = await runtime.audit.pruned_until(session)
        defaults: dict[str, Any] = {
            "typed": {},
            "query": {},
            "member": None,
            "is_faulty": False,
            "report": None,
            "pruned_until": None if pruned_us is None else rfc3339(pruned_us)[:10],
        }
        return console.show(
            request,
            "trail",
            desk,
            current=_PLACE,
            status=status,
            events=[
                event_row(console, desk, body, actors) | {"standing": standings[body["id"]].value}
                for body in found.events
            ],
            minority=minority,
            views=await _counts(console, desk, views),
            counted_days=_COUNTED_DAYS,
            hours=runtime.settings.audit.hours,
            members_a_day=runtime.settings.audit.members_a_day,
            next_cursor=found.next_before and encode_cursor(found.next_before),
            searched_to=None if found.searched_to_us is None else desk.when(found.searched_to_us),
            actors=actors,
            purposes=[(key, key) for key in runtime.pack.purposes],
            fields=[(key, key) for key in runtime.pack.fields],
            may_export=console.may(desk, "audit", "export"),
            may_find=console.may(desk, "member", "lookup"),
            **{"is_faulty": False, **defaults, **context},
        )

    @trail.post("/trail/verify")
    async def verify_log(request: Request) -> Response:
        desk, _ = await console.act(request, _PLACE)
        await runtime.sequencer.drain()
        report, misleading = await verify_stored_log(runtime.database, runtime.audit)
        sound = report.ok and not misleading
        async with runtime.database.unit_of_work() as work:
            await runtime.audit.record(
                work,
                desk.caller,
                "audit.verify",
                outcome="ok" if sound else "error",
                count=report.size,
            )
        findings = [str(finding) for finding in (*report.findings, *misleading)]
        said = {"ok": sound, "size": report.size, "root": report.root, "findings": findings}
        return await page(request, desk, FoundEvents((), None), report=said)

    return trail


async def _counts(
    console: Console, desk: Desk, views: Mapping[str, SavedView]
) -> list[dict[str, str]]:
    """Count what each view finds in the last days, as far as a quick look goes."""
    runtime = console.runtime
    since = max(0, runtime.clock.now_us() - _COUNTED_DAYS * _DAY_US)
    tabs = []
    async with runtime.database.read() as session:
        for key, view in views.items():
            wanted = EventFilter(view=view, from_us=since, brand=brand_of(desk.account.brand))
            found = await runtime.audit.search(session, wanted, most=_MOST_COUNTED)
            more = "+" if found.next_before else ""
            tabs.append({"key": key, "count": f"{len(found.events)}{more}"})
    return tabs
