"""Whether the trail takes an event at this moment, tried and taken back.

Reads may pass while nothing can be put on record: a full disk, a database that is read only, a
table that somebody holds. Whoever asks whether the registry is ready must hear of that before the
next member's data is asked for.
"""

from typing import Any

from audit import repository
from kernel import Clock, Database, new_id

_TRIED: dict[str, Any] = {
    "subject": None,
    "actor": "sys_registry",
    "action": "audit.trial",
    "purpose": None,
    "decision": None,
    "request_id": None,
    "body": b"{}",
}


async def try_trail(database: Database, clock: Clock) -> str | None:
    """Try to append an event; gives None, or a word of `Database.try_write` for what is wrong."""
    now_us = clock.now_us()
    values = {"id": new_id("evt", now_us), "recorded_us": now_us, **_TRIED}
    return await repository.try_append(database, values)
