"""The purposes of the active policy pack and the words of their notices, in every version."""

from typing import Any

from fastapi import APIRouter, Request, Response

from kernel import to_datetime
from policies import JurisdictionCode, Purpose, lawful_basis
from service.console.desk import Console, Desk
from service.portal.screens import words_place

_PLACE = "purposes"


def routes(console: Console) -> APIRouter:
    """Make the routes of purposes and notices."""
    purposes = APIRouter()

    @purposes.get("/purposes")
    async def overview(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        pack = console.runtime.pack
        return console.show(
            request,
            "purposes",
            desk,
            current=_PLACE,
            purposes=[_purpose(console, desk, one) for one in pack.purposes.values()],
            notices=_notices(console, desk),
            digest=pack.digest,
        )

    return purposes


def _purpose(console: Console, desk: Desk, purpose: Purpose) -> dict[str, Any]:
    pack = console.runtime.pack
    basis = lawful_basis(
        purpose, pack.jurisdictions.get(JurisdictionCode(console.runtime.settings.jurisdiction))
    )
    retention = pack.retention_classes[purpose.retention_class]
    return {
        "key": purpose.key,
        "title": purpose.title.in_language(desk.language),
        "basis": basis.name.in_language(desk.language),
        "channels": list(purpose.channels),
        "fields": sorted(purpose.fields),
        "retention": retention.title.in_language(desk.language),
    }


def _notices(console: Console, desk: Desk) -> list[dict[str, Any]]:
    now = to_datetime(console.runtime.clock.now_us())
    pack = console.runtime.pack
    found = []
    for key, versions in pack.notices.items():
        current = {
            one.revision
            for one in versions
            if pack.current_notice(key, one.lang, now).revision == one.revision
        }
        found += [
            {
                "key": key,
                "version": one.version,
                "lang": one.lang.value,
                "from": f"{one.effective_from:%Y-%m-%d}",
                "is_current": one.revision in current,
                "place": words_place(desk.language, one.revision),
            }
            for one in versions
        ]
    return found
