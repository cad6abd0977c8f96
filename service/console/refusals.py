"""The register of refusals that the law asks for (PDPA s.39(7)): which right, why, by which law.

It names requests and grounds, never members; so auditors may read it too.
"""

from fastapi import APIRouter, Request, Response

from kernel.http import decode_id_cursor, encode_cursor
from service.console.desk import Console

_PLACE = "refusals"
_PAGE = 50


def routes(console: Console) -> APIRouter:
    """Make the routes of the register."""
    refusals = APIRouter()
    runtime = console.runtime

    @refusals.get("/refusals")
    async def register(request: Request, before: str | None = None) -> Response:
        desk = await console.enter(request, _PLACE)
        async with runtime.database.read() as session:
            found = await runtime.rights_requests.refusals(
                session,
                desk.account.brand,
                before=decode_id_cursor("rr", before),
                most=_PAGE + 1,
            )
        page = found[:_PAGE]
        lines = [
            {
                "id": one.id,
                "right": one.right.value,
                "jurisdiction": one.jurisdiction,
                "reason": one.reason or "",
                "law": one.law,
                "evidence": one.outcome.get("evidence"),
                "decided": None if one.decided_us is None else desk.when(one.decided_us),
                "audit_id": one.audit_id,
            }
            for one in page
        ]
        return console.show(
            request,
            "refusals",
            desk,
            current=_PLACE,
            refusals=lines,
            next_cursor=encode_cursor(page[-1].id) if len(found) > len(page) else None,
        )

    return refusals
