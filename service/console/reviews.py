"""Emergency reads that wait for a second person, and the page where that person says what it was.

Nobody reviews their own read, not with a second account either; who tries is on record. The words
of whoever read open here for whoever may open them, as an event, and stand in no list.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from audit import REVIEW_OUTCOMES, Details, ToReview
from kernel import InvalidRequestError, NotAllowedError, NotFoundError, from_rfc3339
from kernel.http import decode_id_cursor, encode_cursor
from service.console.desk import HOME, Console, Desk, go_to
from service.console.rows import actors_of
from service.reviews import reviews_of

_PLACE = "reviews"
_PAGE = 50
_EventId = Annotated[str, Path(pattern="^evt_[0-9a-z]{26}$")]


def routes(console: Console) -> APIRouter:
    """Make the routes of reviews."""
    pages = APIRouter()
    runtime = console.runtime
    reviews = reviews_of(runtime)
    details = Details(runtime.database, runtime.vault, runtime.audit)

    @pages.get("/reviews")
    async def waiting(
        request: Request, after: Annotated[str | None, Query(max_length=200)] = None
    ) -> Response:
        desk = await console.enter(request, _PLACE)
        behind = decode_id_cursor("evt", after)
        async with runtime.database.unit_of_work() as work:
            await reviews.record_search(work, desk.caller)
        async with runtime.database.read() as session:
            brand = desk.account.brand
            found = await reviews.waiting(session, brand, after=behind, most=_PAGE + 1)
            actors = await actors_of(console, desk, session)
        more = len(found) > _PAGE
        return console.show(
            request,
            "reviews",
            desk,
            current=_PLACE,
            reads=[_row(console, desk, one, actors) for one in found[:_PAGE]],
            is_first=behind is None,
            next_cursor=encode_cursor(found[_PAGE - 1].event["id"]) if more else None,
            period=_period(console, desk),
        )

    @pages.get("/reviews/{event}")
    async def one_read(request: Request, event: _EventId) -> Response:
        return await page(request, await console.enter(request, _PLACE), event)

    @pages.post("/reviews/{event}/detail")
    async def open_detail(request: Request, event: _EventId) -> Response:
        desk, _ = await console.act(request, _PLACE)
        if not console.may(desk, "audit", "open_detail"):
            await console.refuse(desk, "detail")
        async with runtime.database.read() as session:
            await reviews.read(session, event, desk.account.brand)
        try:
            opened: dict[str, Any] = {"detail": await details.read(desk.caller, event)}
        except NotFoundError as error:
            if error.reason != "detail_gone":
                raise
            opened = {"is_gone": True}
        return await page(request, desk, event, **opened)

    @pages.post("/reviews/{event}")
    async def review(request: Request, event: _EventId) -> Response:
        desk, fields = await console.act(request, _PLACE)
        try:
            async with runtime.database.unit_of_work() as work:
                await reviews.review(work, desk.caller, event, fields.get("outcome", ""))
        except InvalidRequestError:
            return await page(request, desk, event, status=422, is_faulty=True)
        except NotAllowedError as error:
            await console.refuse_answer(desk, event, error)
        return go_to(f"{HOME}{_PLACE}/{event}")

    async def page(
        request: Request, desk: Desk, event_id: str, *, status: int = 200, **context: Any
    ) -> Response:
        async with runtime.database.read() as session:
            read = await reviews.read(session, event_id, desk.account.brand)
            found = await reviews.review_of(session, event_id)
            is_others = await reviews.is_others(session, desk.caller, read)
            actors = await actors_of(console, desk, session)
        said = None if found is None or found.event is None else found.event
        return console.show(
            request,
            "review",
            desk,
            current=_PLACE,
            status=status,
            read=_row(console, desk, read, actors),
            is_reviewed=found is not None,
            review=None
            if said is None
            else {
                "who": actors.get(said["actor"]["id"], said["actor"]["id"]),
                "at": desk.when(from_rfc3339(said["ts"])),
                "outcome": said["reason"],
                "id": said["id"],
            },
            is_others=is_others,
            outcomes=REVIEW_OUTCOMES,
            may_open_detail=console.may(desk, "audit", "open_detail"),
            may_read_trail=console.may(desk, "audit", "read"),
            **{"detail": None, "is_gone": not read.sealed, "is_faulty": False, **context},
        )

    return pages


def _row(console: Console, desk: Desk, one: ToReview, actors: dict[str, str]) -> dict[str, Any]:
    body = one.event
    actor, reason = body["actor"], body.get("reason", "")
    words = console.runtime.pack.emergency_reasons.get(reason)
    catalogue = console.runtime.pack.fields
    return {
        "id": body["id"],
        "place": f"{HOME}{_PLACE}/{body['id']}",
        "at": desk.when(from_rfc3339(body["ts"])),
        "who": actors.get(actor["id"], actor["id"]),
        "role": console.say(desk, "role", actor["role"]),
        "reason": reason if words is None else words.in_language(desk.language),
        "fields": [
            catalogue[key].title.in_language(desk.language) if key in catalogue else key
            for key in body.get("fields", ())
        ],
        "due": desk.when(one.due_us),
        "is_overdue": one.due_us <= console.runtime.clock.now_us(),
        "is_mine": actor["id"] == desk.account.id,
    }


def _period(console: Console, desk: Desk) -> dict[str, Any]:
    """Say within what time somebody looks, by which rule, and whether anybody has checked it."""
    fact = console.runtime.pack.emergency_review
    return {
        "text": f"{fact.value} {console.say(desk, 'unit', fact.unit or '')}".strip(),
        "source": fact.source,
        "is_unverified": fact.unverified,
    }
