"""The log as it travels: bodies out, and the whole log built again from them.

Only bodies travel. Leaves, tiles and search columns are derived, so a rebuilt log is right if and
only if its root is the one that the shipped checkpoint was signed over; whoever kept the bodies
could not change, drop or add one.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from audit import lease_repository, repository
from audit.merkle import leaf_hash
from audit.note import Signer, open_checkpoint
from audit.sequencer import LogDamagedError
from audit.tiles import TreeEdge
from kernel import Clock, Database, ReadSession, from_rfc3339


async def log_head(session: ReadSession) -> tuple[int, bytes, str] | None:
    """Give size, root and note of the newest checkpoint; None before the log began."""
    return await repository.last_checkpoint(session)


async def log_bodies(session: ReadSession, start: int, end: int) -> list[bytes]:
    """Give the bodies of the log's entries in a range, as they were hashed."""
    rows = await repository.entries(session, start, end)
    if [row["leaf_index"] for row in rows] != list(range(start, end)):
        raise LogDamagedError(f"of the events {start} to {end - 1} there are {len(rows)}")
    return [bytes(row["body"]) for row in rows]


async def rebuild_log(
    database: Database,
    signer: Signer,
    clock: Clock,
    portions: AsyncIterator[Sequence[bytes]],
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
    return edge.size


async def _append(database: Database, edge: TreeEdge, bodies: Sequence[bytes]) -> TreeEdge:
    if not bodies:
        return edge
    rows = [_row(body) for body in bodies]
    leaves = [leaf_hash(body) for body in bodies]
    grown, changed = edge.append(leaves)
    async with database.unit_of_work() as work:
        await repository.append_events(work, rows)
        placed = [(row["id"], leaf) for row, leaf in zip(rows, leaves, strict=True)]
        await repository.place_leaves(work, edge.size, placed)
        await repository.store_tiles(work, changed)
    return grown


def _split(portion: Sequence[bytes], at: int) -> list[Sequence[bytes]]:
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
