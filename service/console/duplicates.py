"""The duplicates queue: two records side by side, masked, and a person's decision.

Nothing is merged by itself, consent never grows by merging, and a merge can be undone for as
long as the house allows. Both records are opened by the staff road, an event each.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from kernel import NotFoundError, is_id
from kernel.http import decode_id_cursor, encode_cursor
from members import DuplicatePair, PairState
from service.console.desk import HOME, Console, Desk, go_to
from service.console.lookup import outline, shown, staff_access

_PLACE = "duplicates"
_PAGE = 50
_MERGED = "merged:"
_DISMISSED = "dismissed"
_PREFIX = "dup"


def routes(console: Console) -> APIRouter:
    """Make the routes of the queue."""
    duplicates = APIRouter()
    runtime = console.runtime
    access = staff_access(console)

    @duplicates.get("/duplicates")
    async def queue(request: Request, after: str | None = None) -> Response:
        desk = await console.enter(request, _PLACE)
        async with runtime.database.read() as session:
            found = await runtime.duplicates.queue(
                session,
                desk.caller,
                PairState.OPEN,
                after=decode_id_cursor(_PREFIX, after) or "",
                most=_PAGE + 1,
            )
        page = found[:_PAGE]
        note = desk.session.note or ""
        return console.show(
            request,
            "duplicates",
            desk,
            current=_PLACE,
            pairs=[_pair(console, desk, one) for one in page],
            next_cursor=encode_cursor(page[-1].id) if len(found) > len(page) else None,
            undo=note.removeprefix(_MERGED) if note.startswith(_MERGED) else None,
            is_dismissed=note == _DISMISSED,
        )

    @duplicates.get("/duplicates/{pair}")
    async def side_by_side(request: Request, pair: str) -> Response:
        desk = await console.enter(request, _PLACE)
        async with runtime.database.read() as session:
            found = await runtime.duplicates.read(session, desk.caller, pair)
        if found.state is not PairState.OPEN:
            raise NotFoundError(reason="duplicate_decided")
        views = [
            shown(console, desk, one, await outline(console, access, desk, one))
            for one in (found.first_id, found.second_id)
        ]
        return console.show(
            request,
            "duplicate",
            desk,
            current=_PLACE,
            pair=_pair(console, desk, found),
            sides=views,
            rows=_rows(views),
            may_resolve=console.may(desk, "duplicates", "resolve"),
        )

    @duplicates.post("/duplicates/undo")
    async def undo(request: Request) -> Response:
        desk, _ = await console.act(request, _PLACE)
        note = desk.session.note or ""
        if note.startswith(_MERGED):
            await runtime.duplicates.undo(desk.caller, note.removeprefix(_MERGED))
            await console.sessions.leave_note(desk.session, None)
        return go_to(f"{HOME}duplicates")

    @duplicates.post("/duplicates/{pair}")
    async def decide(request: Request, pair: str) -> Response:
        desk, fields = await console.act(request, _PLACE)
        if not is_id(_PREFIX, pair):
            raise NotFoundError(reason="duplicate_unknown")
        if fields.get("answer") == "merge":
            merged = await runtime.duplicates.merge(desk.caller, pair)
            note = _MERGED + merged.merge_id
        else:
            await runtime.duplicates.dismiss(desk.caller, pair)
            note = _DISMISSED
        await console.sessions.leave_note(desk.session, note)
        return go_to(f"{HOME}duplicates")

    return duplicates


def _pair(console: Console, desk: Desk, pair: DuplicatePair) -> dict[str, Any]:
    catalogue = {str(key): entry for key, entry in console.runtime.pack.fields.items()}
    return {
        "id": pair.id,
        "place": f"{HOME}duplicates/{pair.id}",
        "score": pair.score,
        "reasons": [
            catalogue[one].title.in_language(desk.language) if one in catalogue else one
            for one in pair.reasons
        ],
        "at": desk.when(pair.created_us),
    }


def _rows(views: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Line the two records up field by field; a second phone is one more value of its line."""
    titles = dict.fromkeys(value["title"] for view in views for value in view["values"])
    return [
        (
            title,
            [[one for one in view["values"] if one["title"] == title] for view in views],
        )
        for title in titles
    ]
