"""The history of decisions, and their receipts."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from kernel.i18n import Language
from service.pages import PAGE_HEADERS
from service.portal.parts import Portal, home_of
from service.portal.screens import go_to

_EVENT = "^con_[0-9a-z]{26}$"
_EventId = Annotated[str, Path(pattern=_EVENT)]


def add_routes(routes: APIRouter, language: Language, portal: Portal) -> None:
    """Add the history to the routes of one language."""
    home = home_of(language)

    @routes.get("/history")
    async def history(
        request: Request, before: Annotated[str | None, Query(pattern=_EVENT)] = None
    ) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.history.page(member, language, before)
        here = "history" if before is None else f"history?before={before}"
        return portal.screens.show(
            request, language, visit, "history", here=here, current="history", **context
        )

    @routes.get("/history/{event_id}")
    async def receipt(request: Request, event_id: _EventId) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.history.receipt(member, language, event_id)
        return portal.screens.show(
            request,
            language,
            visit,
            "receipt",
            here=f"history/{event_id}",
            current="history",
            **context,
        )

    @routes.get("/history/{event_id}/receipt.json")
    async def receipt_file(request: Request, event_id: _EventId) -> Response:
        _, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        headers = {
            **PAGE_HEADERS,
            "Content-Disposition": f'attachment; filename="receipt-{event_id}.json"',
        }
        content = await portal.history.receipt_file(member, event_id)
        return Response(content, 200, headers, "application/json")
