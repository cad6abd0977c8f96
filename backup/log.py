"""Shipping the trail: with every backup, and soon after every entry of the rights ledger.

A restore goes on to the newest shipped state of the log, so what was done about a right is still
on record after it. The log proves itself: its checkpoints are signed over the tree of all events.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgpack

from audit import log_bodies, log_head, rotations
from backup import repository
from backup.envelope import pack
from backup.errors import NoSuchSetError
from backup.place import Place
from backup.store import ObjectExistsError
from kernel import Database

AUDIT_POSITION = "audit_size"
AUDIT_OBJECTS = "audit_objects"
AUDIT_PREFIX = "audit/"
_EVENTS_AN_OBJECT = 5_000


async def ship_log(database: Database, place: Place) -> tuple[int, bytes, int]:
    """Ship the log's new entries; gives size and root of the shipped head, and the objects."""
    async with database.read() as session:
        head = await log_head(session)
        keys = [asdict(each) for each in await rotations(session)]
        shipped = await repository.progress(session, AUDIT_POSITION)
        number = await repository.progress(session, AUDIT_OBJECTS)
    if head is None:
        raise NoSuchSetError("the log has not begun")
    size, root, note = head
    while shipped < size:
        end = min(shipped + _EVENTS_AN_OBJECT, size)
        async with database.read() as session:
            bodies = await log_bodies(session, shipped, end)
        end = shipped + len(bodies)
        body = msgpack.packb(bodies)
        header = {
            "kind": "audit",
            "from": shipped,
            "to": end,
            "note": note if end == size else "",
            "keys": [each for each in keys if each["size"] <= end],
        }
        number = await _put_next(place, number, header, body)
        async with database.unit_of_work() as work:
            await repository.set_progress(work, AUDIT_POSITION, end)
            await repository.set_progress(work, AUDIT_OBJECTS, number)
        shipped = end
    return size, root, number


async def _put_next(place: Place, number: int, header: Mapping[str, Any], body: bytes) -> int:
    while True:
        number += 1
        sealed = place.recipients.seal(pack({**header, "number": number}, body))
        try:
            await place.store.put(f"{AUDIT_PREFIX}{number:08d}.age", sealed)
        except ObjectExistsError:
            continue  # another process shipped it: read as a repetition
        return number
