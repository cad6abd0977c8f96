"""Searching the trail, and checking the log where it lies.

Each search is an event itself. A member's events are found by the tokens under their key, and
only by who may look members up; the member is named in the body of a form, never in an address.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from audit import EventFilter, FoundEvents, SavedView, brand_of, standing_of, verify_stored_log
from audit.search import ACTOR, DIGEST, REQUEST_ID, WORD
from kernel import MemberId, NotFoundError, is_id, rfc3339
from kernel.http import decode_id_cursor, encode_cursor
from service.console.desk import Console, Desk
from service.console.rows import actors_of, event_row
from service.trail_views import trail_views
from vault import OwnerKey

_PLACE = "trail"
_PAGE = 50
_COUNTED_DAYS = 7
_MOST_COUNTED = 99
_DAY_US = 86_400_000_000
_SHAPES = {
    "actor": re.compile(ACTOR),
    "request": re.compile(REQUEST_ID),
    "policy": re.compile(DIGEST),
    **dict.fromkeys(("action", "purpose", "decision", "field"), re.compile(WORD)),
}
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
        wanted = _filter(desk, typed, views)
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
        if not console.may(desk, "member", "lookup"):
            await console.refuse(desk, "members")
        member = fields.get("member", "")
        if not is_id("mem", member):
            raise NotFoundError(reason="member_unknown")
        before = decode_id_cursor("evt", fields.get("before") or None)
        async with runtime.database.read() as session:
            row = await runtime.members.read(session, MemberId(member))
            if row.brand != desk.account.brand:
                raise NotFoundError(reason="member_unknown")
            key = await runtime.members.pseudonym(session, row.id)
        wanted = EventFilter(subjects=runtime.audit.tokens(key, since_us=row.created_us))
        found = await look(desk, wanted, before, key)
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
            views=await _counts(console, desk, views),
            counted_days=_COUNTED_DAYS,
            hours=runtime.settings.audit.hours,
            members_a_day=runtime.settings.audit.members_a_day,
            next_cursor=found.next_before and encode_cursor(found.next_before),
            actors=actors,
            purposes=[(key, key) for key in runtime.pack.purposes],
            fields=[(key, key) for key in runtime.pack.fields],
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


def _filter(
    desk: Desk, typed: Mapping[str, str], views: Mapping[str, SavedView]
) -> EventFilter | None:
    """Read what was asked for; None when a word is none, so that nothing odd is looked for."""
    words = {name: typed[name] or None for name in _SHAPES}
    if any(word is not None and not _SHAPES[name].match(word) for name, word in words.items()):
        return None
    if typed["view"] and typed["view"] not in views:
        return None
    try:
        since = _day_us(desk, typed["from"], 0)
        until = _day_us(desk, typed["until"], 1)
    except (ValueError, OverflowError):  # a year that no clock has
        return None
    return EventFilter(
        actor=words["actor"],
        action=words["action"],
        purpose=words["purpose"],
        decision=words["decision"],
        field=words["field"],
        request_id=words["request"],
        policy=words["policy"],
        view=views.get(typed["view"]),
        from_us=since,
        until_us=until,
    )


def _day_us(desk: Desk, text: str, days: int) -> int | None:
    """Give the first moment of a day, as the reader's clock has it, some days on."""
    if not text:
        return None
    day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=desk.zone) + timedelta(days=days)
    return max(0, int(day.astimezone(UTC).timestamp()) * 1_000_000)
