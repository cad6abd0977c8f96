"""What scans of free notes have found: kinds and counts, never a word of a note, never a member."""

from fastapi import APIRouter, Request, Response

from service.console.desk import Console

_PLACE = "findings"


def routes(console: Console) -> APIRouter:
    """Make the routes of the findings."""
    findings = APIRouter()
    runtime = console.runtime

    @findings.get("/findings")
    async def counts(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        async with runtime.database.read() as session:
            found = await runtime.findings.counts(session, desk.caller)
        return console.show(
            request,
            "findings",
            desk,
            current=_PLACE,
            findings=[(console.say(desk, "finding", kind), n, m) for kind, n, m in found],
        )

    return findings
