"""The log as it travels: bodies out, and the whole log built again from them.

Only bodies travel, and of one that was deleted by rule its id and leaf hash. Leaves, tiles and
search columns are derived, so a rebuilt log is right if and only if its root is the one that the
shipped checkpoint was signed over; whoever kept the bodies could not change, drop or add one. A
body that was shipped before its time had come is deleted again where the log is rebuilt.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from audit import lease_repository, repository
from audit.merkle import leaf_hash
from audit.note import Signer, open_checkpoint
from audit.retention import bounds_us, said_of
from audit.retention_repository import delete_again, name_runs, pruning_of, prunings
from audit.sequencer import LogDamagedError
from audit.tiles import TreeEdge
from kernel import Clock, Database, ReadSession, from_rfc3339

_PRUNINGS_AT_ONCE = 100


async def log_head(session: ReadSession) -> tuple[int, bytes, str] | None:
    """Give size, root and note of the newest checkpoint; None before the log began."""
    return await repository.last_checkpoint(session)


Shipped = bytes | tuple[str, bytes]
"""The body of an event, or (id, leaf hash) of one whose body was deleted by rule."""


async def log_bodies(session: ReadSession, start: int, end: int) -> list[Shipped]:
    """Give the bodies of the log's entries in a range, as they were hashed."""
    rows = await repository.entries(session, start, end)
    if [row["leaf_index"] for row in rows] != list(range(start, end)):
        raise LogDamagedError(f"of the events {start} to {end - 1} there are {len(rows)}")
    found: list[Shipped] = []
    for row in rows:
        if row["body"] is not None:
            found.append(bytes(row["body"]))
        elif await pruning_of(session, row["leaf_index"]) is not None:
            found.append((row["id"], bytes(row["leaf_hash"])))
        else:
            raise LogDamagedError(f"event {row['leaf_index']} is gone, and not by rule")
    return found


async def rebuild_log(
    database: Database,
    signer: Signer,
    clock: Clock,
    portions: AsyncIterator[Sequence[Shipped]],
    note: str,
    known: tuple[int, bytes],
) -> int:
    """Build the log again in an empty database; gives its size.

    `note` is the newest checkpoint that was shipped, `known` size and root of an earlier head:
    the rebuilt tree must have had that root at that size, which proves the one continues the
    other. `LogDamagedError` when either does not hold.
    """
    signed = open_checkpoint(note, signer.verifier)
    edge = TreeEdge()
    met = known[0] == 0
    async for portion in portions:
        for part in _split(portion, known[0] - edge.size):
            edge = await _append(database, edge, part[: signed.size - edge.size])
            if edge.size == known[0]:
                met = edge.root() == known[1]
    if (edge.size, edge.root()) != (signed.size, signed.root):
        raise LogDamagedError(f"the shipped events do not make the tree of {signed.size} leaves")
    if not met:
        raise LogDamagedError(f"the log does not continue the one of {known[0]} events")
    async with database.unit_of_work() as work:
        await lease_repository.make_head(work, signer.name)
        await repository.advance_head(work, signer.name, 0, edge.size)
        await repository.add_checkpoint(work, signed.size, signed.root, note, clock.now_us())
    await _prune_again(database)
    return edge.size


async def _prune_again(database: Database) -> None:
    """Delete what the rebuilt log says was deleted, and know again of what did not travel.

    When it was due the log does not say; that it was, the event shows, so the month's end will do.
    A hold that was placed after a deletion covers nothing that is gone: what it covers now, and
    came back, stays.
    """
    after = ""
    while True:
        async with database.read() as session:
            rows = await prunings(session, after=after, most=_PRUNINGS_AT_ONCE)
        for row in rows:
            pruned = said_of(bytes(row["body"]))
            if pruned is None:  # nobody takes it for a deletion
                continue
            until_us = bounds_us(pruned.month)[1]
            async with database.unit_of_work() as work:
                await name_runs(work, row["id"], pruned.runs, pruned.month, due_us=until_us)
                await delete_again(work, row["id"])
        if len(rows) < _PRUNINGS_AT_ONCE:
            return
        after = rows[-1]["id"]


async def _append(database: Database, edge: TreeEdge, bodies: Sequence[Shipped]) -> TreeEdge:
    if not bodies:
        return edge
    rows = [_row(body) for body in bodies if isinstance(body, bytes)]
    fresh = iter(rows)
    placed = [
        (next(fresh)["id"], leaf_hash(body)) if isinstance(body, bytes) else (body[0], body[1])
        for body in bodies
    ]
    grown, changed = edge.append([leaf for _, leaf in placed])
    async with database.unit_of_work() as work:
        await repository.append_events(work, rows)
        await repository.place_leaves(work, edge.size, placed)
        await repository.store_tiles(work, changed)
    return grown


def _split(portion: Sequence[Shipped], at: int) -> list[Sequence[Shipped]]:
    return [portion[:at], portion[at:]] if 0 < at < len(portion) else [portion]


def _row(body: bytes) -> dict[str, Any]:
    """Derive the search columns, which only repeat what a body says."""
    try:
        said = orjson.loads(body)
        return {
            "id": said["id"],
            "recorded_us": from_rfc3339(said["ts"]),
            "subject": said.get("subject", {}).get("token"),
            "actor": said["actor"]["id"],
            "action": said["action"],
            "purpose": said.get("purpose"),
            "decision": said.get("decision"),
            "request_id": said.get("request_id"),
            "body": body,
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LogDamagedError("a shipped event is not of the format") from None
