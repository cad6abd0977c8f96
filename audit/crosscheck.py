"""What the tables of the log say of one another, which no bundle of it can show.

A bundle is made of some tables; whoever changes another one that people read (a search column, an
older head, a witness's line) would mislead them while every bundle verified. So each table that
repeats or rests on another is held against it here.
"""

from collections.abc import Iterator

import orjson

from audit import crosscheck_repository, log_key_repository, manifest_repository, repository
from audit.anchoring import root_at
from audit.cosigning import cosignature_in, is_stranger
from audit.errors import ManifestError, NoteError, TileError
from audit.log_key import KEY_ROTATED, KeyRotation, KnownKeys, short_digest, vkey_digest
from audit.manifest import tokens_of
from audit.merkle import HASH_SIZE, leaf_hash
from audit.note import Checkpoint, Verifier, split_note
from audit.retention import said_of
from audit.retention_repository import all_runs, pruned_runs, prunings
from audit.tiles import WIDTH, TreeEdge, edge_of
from audit.verify import Finding
from kernel import Database, ReadSession, Row, from_rfc3339

MOST_FINDINGS = 20
_MOST_CHECKPOINTS = 5_000
_PAGE = 4096
_PRUNINGS_AT_ONCE = 100
_NOT_IN_TILE = "its leaf is not the one in the tile"
_SEARCHED = (
    "id", "recorded_us", "subject", "actor", "action", "purpose", "decision", "request_id",
)  # fmt: skip


async def cross_check(database: Database, log: Verifier) -> list[Finding]:
    """Compare sizes, tiles, the newest heads and witnesses' lines; the first findings of each.

    Codes: `head`, `leaf`, `checkpoint` and `tile` when tables disagree about the size, the leaves,
    the roots or the tiles of the log, `lost` for an event that is neither in the log nor in its
    queue, `pruned` where the kept places of deletions are not those that events name, `witness` for
    a line under a head that no stranger has signed, `rotation` where the kept succession of
    keys is not the one that the log's key, its tree and its events tell of.
    """
    found = await _sizes(database)
    async with database.read() as session:
        known = await log_key_repository.known_keys(session, log)
    found += await _checkpoints(database, known)
    found += await _rotations(database, known)
    found += await _prunings(database)
    found += await _rows_without_event(database)
    async with database.read() as session:
        lines = await crosscheck_repository.cosignatures(session)
        own = await log_key_repository.own_keys(session)
    for row in lines:
        if not _cosigned(row, own | known.publics):
            detail = f"the line kept under size {row['size']} is no witness's own of that head"
            found.append(Finding("witness", None, None, detail))
    return found[:MOST_FINDINGS]


async def compare_rows(database: Database, size: int) -> tuple[list[Finding], list[Finding]]:
    """Compare leaves and search columns with the bodies of the log's events, row by row.

    Gives what is wrong with the log (`leaf`, `gone`), and apart from it where search columns say
    something else than the body (`columns`).
    """
    wrong: list[Finding] = []
    misleading: list[Finding] = []
    for start in range(0, size, _PAGE):
        indexes = range(start, min(start + _PAGE, size))
        async with database.read() as session:
            rows = await repository.search_columns(session, indexes.start, indexes.stop)
            tiles = await repository.read_tiles(session, 0, start // WIDTH, _PAGE // WIDTH)
            runs = await pruned_runs(session, indexes.start, indexes.stop - 1)
            sizes = await manifest_repository.sizes_between(session, indexes.start, indexes.stop)
        bearing = {index for index, _ in sizes}
        pruned = {index for first, last in runs for index in range(first, last + 1)}
        in_tiles = {
            n * WIDTH + at // HASH_SIZE: data[at : at + HASH_SIZE]
            for n, data in tiles
            for at in range(0, len(data), HASH_SIZE)
        }
        there = {row["leaf_index"]: row for row in rows}
        for index in indexes:
            row = there.get(index)
            if row is None or (row["body"] is None and index not in pruned):
                wrong.append(Finding("gone", index, None, "its leaf or its event is not there"))
                continue
            leaf = bytes(row["leaf_hash"])
            if row["body"] is None:
                if leaf != in_tiles.get(index):
                    wrong.append(Finding("leaf", index, None, _NOT_IN_TILE))
                continue
            if leaf != leaf_hash(bytes(row["body"])):
                detail = "its leaf is not the hash of its body"
                wrong.append(Finding("leaf", index, None, detail))
            elif leaf != in_tiles.get(index):
                wrong.append(Finding("leaf", index, None, _NOT_IN_TILE))
            if b'"manifest":{' in row["body"]:
                misleading += await _rows_of(database, index, row["id"])
            elif index in bearing:
                wrong.append(Finding("manifest", index, None, "it names no rows and has some"))
            if _said(bytes(row["body"])) != tuple(row[name] for name in _SEARCHED):
                detail = f"search columns of {row['id']} differ from its body"
                misleading.append(Finding("columns", index, None, detail))
    return wrong[:MOST_FINDINGS], misleading


async def _sizes(database: Database) -> list[Finding]:
    """Compare the tables at one moment each."""
    async with database.read() as session:
        told = await repository.sizes(session)
        lost = await repository.lost_events(session, MOST_FINDINGS)
        levels = await crosscheck_repository.tile_levels(session)
    found = [Finding("lost", None, None, f"{event} was never sequenced") for event in lost]
    signed = told.checkpoint
    if signed is not None and told.head != signed:
        found.append(Finding("head", None, None, f"it counts {told.head} events, not {signed}"))
    if told.leaves != told.head or told.last_leaf != told.leaves - 1:
        detail = f"there are {told.leaves} leaves, the last is {told.last_leaf}"
        found.append(Finding("leaf", None, None, detail))
    return [*found, *_surplus(levels)]


def _surplus(levels: list[Row]) -> Iterator[Finding]:
    """Find tiles and hashes that a log of the head's size has not got."""
    for row in levels:
        width = row["size"] >> 8 * row["level"]
        there = row["tiles"], row["last"], row["bytes"]
        if there != (-(-width // WIDTH), (width - 1) // WIDTH, width * HASH_SIZE):
            detail = f"level {row['level']} holds {row['bytes']} bytes in {row['tiles']} tiles, "
            detail += f"the last is {row['last']}: that is not a log of {row['size']} events"
            yield Finding("tile", None, None, detail)


async def _prunings(database: Database) -> list[Finding]:
    """Hold the places that bodies are said to have gone from against the events that say so."""
    named: set[tuple[str, int, int]] = set()
    after = ""
    async with database.snapshot() as session:
        while rows := await prunings(session, after=after, most=_PRUNINGS_AT_ONCE):
            for row in rows:
                said = said_of(bytes(row["body"]))
                runs = [] if said is None else said.runs
                named.update((row["id"], first, last) for first, last in runs)
            after = rows[-1]["id"]
        stored = {
            (row["event_id"], row["first_index"], row["last_index"])
            for row in await all_runs(session)
        }
    return [
        Finding("pruned", first, None, f"{event} does not name the places {first} to {last}")
        if (event, first, last) in stored
        else Finding("pruned", first, None, f"the places {first} to {last} of {event} are not kept")
        for event, first, last in sorted(named ^ stored, key=lambda run: run[1])
    ]


async def _checkpoints(database: Database, log: KnownKeys) -> list[Finding]:
    """Hold the newest heads against the tree: each must be one that the log had."""
    found = []
    async with database.read() as session:
        for row in await crosscheck_repository.newest_checkpoints(session, _MOST_CHECKPOINTS):
            wrong = await _wrong_with(session, row, log)
            if wrong is not None:
                detail = f"{wrong} in the one of size {row['size']}"
                found.append(Finding("checkpoint", None, None, detail))
            if len(found) >= MOST_FINDINGS:
                break
    return found


async def _rotations(database: Database, known: KnownKeys) -> list[Finding]:
    """Hold the kept rotations against signatures, tree and events, and the head's key against them.

    A row that the log's own key does not lead back to would let another key sign for it.
    """
    found = []
    async with database.read() as session:
        kept = await log_key_repository.rotations(session)
        signs = await log_key_repository.signed_by(session)
        for rotation in kept:
            wrong = None
            if rotation not in known.rotations:
                wrong = "is not signed by keys that lead to the log's key"
            elif await root_at(session, rotation.size) != rotation.overlap().root:
                wrong = "is of another tree"
            elif not await _tells(session, rotation):
                wrong = "has no event that tells of it as its last"
            if wrong is not None:
                detail = f"the overlap checkpoint of size {rotation.size} {wrong}"
                found.append(Finding("rotation", None, None, detail))
    if signs is not None and signs != known.current.vkey:
        detail = "the head is to be signed by another key than the log's"
        found.append(Finding("rotation", None, None, detail))
    return found


async def _tells(session: ReadSession, rotation: KeyRotation) -> bool:
    """Say whether the last event under an overlap checkpoint names both keys."""
    rows = await repository.entries(session, rotation.size - 1, rotation.size)
    bodies = [row["body"] for row in rows if row["id"] == rotation.event_id]
    if bodies in ([], [None]):
        return False
    try:
        body = orjson.loads(bytes(bodies[0]))
        named = body["action"], body["resource"], body["before"]["log_key"]
    except (ValueError, KeyError, TypeError):
        return False
    old, new = short_digest(rotation.old_vkey), vkey_digest(rotation.new_vkey)
    return bool(named == (KEY_ROTATED, new, old))


async def _wrong_with(session: ReadSession, row: Row, log: KnownKeys) -> str | None:
    root = bytes(row["root"])
    try:
        text, signatures = split_note(row["note"])
        head = Checkpoint.parse(text)
        if any(name == log.current.name for name, _, _ in signatures):
            log.open(row["note"])
        tiles = {
            path[:2]: await repository.read_tile(session, path.level, path.n)
            for path in edge_of(head.size)
        }
        tree = TreeEdge.from_tiles(head.size, lambda level, n: tiles[level, n])
    except NoteError:
        return "malformed text or wrong signature"
    except TileError:
        return "another size than there are tiles for"
    if (head.size, head.root) != (row["size"], root):
        return "a size or root column that is not what it signs,"
    return None if tree.root() == root else "another root than the tree had"


async def _rows_of(database: Database, index: int, event_id: str) -> list[Finding]:
    """Compare the index over tokens with the rows that it repeats; the bundle checks the rows."""
    async with database.read() as session:
        rows = await manifest_repository.rows_of(session, event_id)
        indexed = await manifest_repository.indexed_tokens(session, event_id)
    try:
        tokens = [] if rows is None else tokens_of(rows)
    except ManifestError:
        return []
    if [(row["token"], row["place"]) for row in indexed] == [(t, n) for n, t in enumerate(tokens)]:
        return []
    detail = f"the index over tokens says something else than the rows of {event_id}"
    return [Finding("columns", index, None, detail)]


async def _rows_without_event(database: Database) -> list[Finding]:
    async with database.read() as session:
        strays = await manifest_repository.strays(session)
    return [
        Finding("manifest", None, None, f"rows for {event}, which has none") for event in strays
    ]


def _cosigned(row: Row, own: frozenset[bytes]) -> bool:
    try:
        witness = Verifier.from_vkey(row["witness"])
        line = cosignature_in(row["note"], row["line"], witness)
        return line is not None and is_stranger(witness, own)
    except NoteError:
        return False


def _said(raw: bytes) -> tuple[object, ...] | None:
    """Give what a body says where the search columns repeat it; None when it is no event."""
    try:
        body = orjson.loads(raw)
        return (
            body["id"],
            from_rfc3339(body["ts"]),
            body.get("subject", {}).get("token"),
            body["actor"]["id"],
            body["action"],
            body.get("purpose"),
            body.get("decision"),
            body.get("request_id"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
