"""How backups stand: when one was last verified, what waits, and when an erasure is final in all.

Making and restoring backups is work on the machine (`yinyom backup`); here one sees whether it
was done. No name of a member and no key is shown.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from kernel import from_rfc3339
from service.console.desk import Console, Desk

_PLACE = "backups"
_NUMBERS = ("generation", "rows", "stored_bytes", "ledger_shipped", "ledger_waiting")


def routes(console: Console) -> APIRouter:
    """Make the routes of the backups."""
    backups = APIRouter()

    @backups.get("/backups")
    async def status(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        said = await console.runtime.backups.status()
        return console.show(
            request,
            "backups",
            desk,
            current=_PLACE,
            is_configured=said["configured"],
            state=said["state"],
            says=said["says"],
            moments=[
                (name, _moment(desk, said.get(name)))
                for name in ("last_created", "last_verified", "last_drill")
            ],
            numbers=[(name, said.get(name)) for name in _NUMBERS],
            store=said.get("store"),
            recipients=said.get("recipients", []),
            final_on=said.get("erasure_final_on"),
        )

    return backups


def _moment(desk: Desk, text: str | None) -> Any:
    return None if text is None else desk.when(from_rfc3339(text))
