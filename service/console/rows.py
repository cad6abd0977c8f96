"""Events of the trail as the console shows them: who by name, when by the reader's clock."""

from collections.abc import Mapping
from typing import Any

from audit import Standing, fields_shown, standing_of
from kernel import ReadSession, from_rfc3339
from service.console.desk import HOME, Console, Desk


async def actors_of(console: Console, desk: Desk, session: ReadSession) -> dict[str, str]:
    """Name everybody of the reader's brand who may stand in the trail as an actor."""
    clients = {
        one["client_id"]: one["name"]
        for one in await console.runtime.clients.list()
        if desk.sees(one["brand"])
    }
    staff = {
        one.id: one.name
        for one in await console.runtime.staff.accounts(session)
        if desk.sees(one.brand)
    }
    return {**clients, **staff}


async def doubtful(
    session: ReadSession, told: Mapping[str, Any], standings: Mapping[str, Standing]
) -> dict[str, int] | None:
    """Give how many witnesses are missed where an event is witnessed by no more than half of them.

    `told` is what `Witnesses.status` says. None where each is witnessed by more than half or bears
    no such mark.
    """
    if not told["short_of_majority"]:
        return None
    agreed = await standing_of(session, list(standings), witnessed=told["majority_size"] or 0)
    marked = Standing.WITNESSED
    if all(one is not marked or agreed[event] is marked for event, one in standings.items()):
        return None
    return {"majority": told["majority"], "witnesses": len(told["witnesses"])}


def event_row(
    console: Console, desk: Desk, body: Mapping[str, Any], actors: Mapping[str, str]
) -> dict[str, Any]:
    """Prepare one event for a page."""
    actor = body["actor"]
    subject = body.get("subject", body.get("row", {})).get("token")
    return {
        "id": body["id"],
        "place": f"{HOME}trail/{body['id']}",
        "at": desk.when(from_rfc3339(body["ts"])),
        "who": actors.get(actor["id"], console.say(desk, "actor", actor["id"])),
        "role": console.say(desk, "role", actor["role"]),
        "via": actor["via"],
        "action": body["action"],
        "purpose": body.get("purpose"),
        "channel": body.get("channel"),
        "subject": None if subject is None else subject[:8],
        "fields": fields_shown(body),
        "decision": body.get("decision"),
        "reason": body.get("reason"),
        "outcome": body["outcome"],
        "count": body.get("count"),
        "request": body.get("request_id"),
    }


def flat_members(body: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Give every member of an event by its dotted name, as text."""
    flat: list[tuple[str, str]] = []
    for name, value in body.items():
        if isinstance(value, dict):
            flat += flat_members(value, f"{prefix}{name}.")
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            flat.append((prefix + name, text))
    return flat
