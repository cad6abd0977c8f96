"""The record of processing activities, as a page: made from the pack, never typed in twice."""

from typing import Any

from fastapi import APIRouter, Request, Response

from kernel.i18n import Language
from service.console.desk import Console, Desk
from service.governance import ropa_of

_PLACE = "ropa"


def routes(console: Console) -> APIRouter:
    """Make the routes of the record."""
    ropa = APIRouter()

    @ropa.get("/ropa")
    async def record(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        said = await ropa_of(console.runtime)
        return console.show(
            request,
            "ropa",
            desk,
            current=_PLACE,
            controller=list(said["controller"].items()),
            location=said["transfers"]["storage_location"],
            members=said["data_subjects"]["records"],
            security=said["security"],
            digest=said["policy"]["digest"],
            activities=[_activity(console, desk, one) for one in said["activities"]],
        )

    return ropa


def _activity(console: Console, desk: Desk, said: dict[str, Any]) -> dict[str, Any]:
    basis = said["basis"].get(console.runtime.settings.jurisdiction, {})
    return {
        "key": said["purpose"],
        "title": _words(desk.language, said["title"]),
        "basis": basis.get("type", ""),
        "section": basis.get("section", ""),
        "categories": [_words(desk.language, one["title"]) for one in said["categories"]],
        "sensitive": said["sensitive"],
        "stated": _words(desk.language, said["recipients"]["stated"]),
        "clients": [one["name"] for one in said["recipients"]["clients"]],
        "retention": _words(desk.language, said["retention"]["title"]),
    }


def _words(language: Language, texts: dict[str, str]) -> str:
    return texts[language.value]
