"""The log as it travels: bodies out, and the whole log built again from them.

Only bodies travel, and of one that was deleted by rule its id and leaf hash. Leaves, tiles and
search columns are derived, so a rebuilt log is right if and only if its root is the one that the
shipped checkpoint was signed over; whoever kept the bodies could not change, drop or add one. A
body that was shipped before its time had come is deleted again where the log is rebuilt.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from audit import lease_repository, log_key_repository, manifest_repository, repository
from audit.anchoring import root_at
from audit.errors import ManifestError
from audit.log_key import KeyRotation, KnownKeys
from audit.manifest import Manifest, manifest_of, row_width, tokens_of
from audit.merkle import leaf_hash
from audit.note import Signer, open_checkpoint
from audit.retention import bounds_us, said_of
from audit.retention_repository import delete_again, name_runs, pruning_of, prunings
from audit.sequencer import LogDamagedError
from audit.tiles import TreeEdge
from kernel import Clock, Database, ReadSession, from_rfc3339

_PRUNINGS_AT_ONCE = 100
_MOST_BYTES = 32 << 20  # rows read at a time


async def log_head(session: ReadSession) -> tuple[int, bytes, str] | None:
    """Give size, root and note of the newest checkpoint; None before the log began."""
    return await repository.last_checkpoint(session)


Shipped = bytes | tuple[str, bytes] | tuple[bytes, bytes]
"""The body of an event, or it with the rows of its manifest, or (id, leaf hash) of one whose body
was deleted by rule."""


async def log_bodies(session: ReadSession, start: int, end: int) -> list[Shipped]:
    """Give the bodies of the log's entries in a range, as they were hashed.

    Where rows of manifests make that very much, only the first of them.
    """
    held = 0
    for index, size in await manifest_repository.sizes_between(session, start, end):
        held += size
        if held > _MOST_BYTES:
            end = index + 1
            break
    rows = await repository.entries(session, start, end)
    manifests = dict(await manifest_repository.rows_between(session, start, end))
    if [row["leaf_index"] for row in rows] != list(range(start, end)):
        raise LogDamagedError(f"of the events {start} to {end - 1} there are {len(rows)}")
    found: list[Shipped] = []
    for row in rows:
        manifest = manifests.get(row["leaf_index"])
        if row["body"] is not None and manifest is not None:
            found.append((bytes(row["body"]), manifest))
        elif row["body"] is not None:
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
    rotations: Sequence[KeyRotation] = (),
) -> int:
    """Build the log again in an empty database; gives its size.

    `note` is the newest checkpoint that was shipped, `known` size and root of an earlier head:
    the rebuilt tree must have had that root at that size, which proves the one continues the
    other. `LogDamagedError` when either does not hold. Of `rotations` those are kept that lead to
    the signer's key.
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
    keys = KnownKeys.leading_to(signer.verifier, rotations)
    async with database.unit_of_work() as work:
        for rotation in reversed(keys.rotations):
            if await root_at(work, rotation.size) != rotation.overlap().root:
                raise LogDamagedError("a shipped overlap checkpoint is not of this tree")
            await log_key_repository.add_rotation(work, rotation)
        await lease_repository.make_head(work, signer.name, signer.vkey)
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
    rows: list[dict[str, Any]] = []
    manifests: list[tuple[str, bytes, int]] = []
    placed: list[tuple[str, bytes]] = []
    for shipped in bodies:
        if not isinstance(shipped, bytes) and isinstance(shipped[0], str):
            placed.append((shipped[0], shipped[1]))
            continue
        body, lines = (shipped, None) if isinstance(shipped, bytes) else shipped
        row = _row(body)
        rows.append(row)
        placed.append((row["id"], leaf_hash(body)))
        said = _manifest_in(body)
        if said is not None or lines is not None:
            if said is None or lines is None or not _fit(lines, said[0]):
                raise LogDamagedError(f"the rows of {row['id']} are not those that it names")
            manifests.append((row["id"], lines, row_width(said[1])))
    grown, changed = edge.append([leaf for _, leaf in placed])
    async with database.unit_of_work() as work:
        await repository.append_events(work, rows)
        for event_id, lines, width in manifests:
            tokens = tokens_of(lines)
            await manifest_repository.add_manifest(work, event_id, width, lines, tokens)
        await repository.place_leaves(work, edge.size, placed)
        await repository.store_tiles(work, changed)
    return grown


def _manifest_in(body: bytes) -> tuple[Manifest, int] | None:
    """Give the manifest that a body names, and of how many fields its rows tell."""
    if b'"manifest":{' not in body:
        return None
    said = orjson.loads(body)
    named = said.get("manifest", {})
    try:
        return Manifest(named["rows"], named["root"]), len(said.get("fields", ()))
    except (KeyError, TypeError):
        raise LogDamagedError("a shipped event is not of the format") from None


def _fit(lines: bytes, named: Manifest) -> bool:
    try:
        return manifest_of(lines) == named
    except ManifestError:
        return False


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
