"""The console over HTTP: every page under `/console/`, forms answered by a redirect.

No address holds anything personal: a member is looked up in the body of a form, and the page
that answers it has no address of its own.
"""

from fastapi import APIRouter, Depends, Response

from kernel import NotFoundError
from service.console import (
    backups,
    consents,
    door,
    duplicates,
    emergency,
    event,
    evidence,
    findings,
    handling,
    inbox,
    keeping,
    lookup,
    people,
    purposes,
    refusals,
    requests,
    reviews,
    ropa,
    start,
    trail,
)
from service.console.desk import HOME, Console, go_to
from service.runtime import Runtime

_ROOMS = (
    door,
    start,
    handling,
    requests,
    refusals,
    inbox,
    duplicates,
    lookup,
    emergency,
    trail,
    evidence,
    event,
    reviews,
    consents,
    purposes,
    ropa,
    findings,
    keeping,
    backups,
    people,
)

_PREFIX = "/console"


def routers(runtime: Runtime) -> list[tuple[str, APIRouter]]:
    """Make the routes of the console over an open installation, each part with its prefix."""
    console = Console(runtime)
    routes = APIRouter(include_in_schema=False)

    @routes.get(_PREFIX)
    async def to_home() -> Response:
        return go_to(HOME)

    inside = APIRouter(include_in_schema=False, dependencies=[Depends(console.prepare)])
    for room in _ROOMS:
        inside.include_router(room.routes(console))

    @inside.api_route("/{place:path}", methods=["GET", "POST"])
    async def nowhere() -> Response:
        raise NotFoundError(reason="path_unknown")

    return [("", routes), (_PREFIX, inside)]
