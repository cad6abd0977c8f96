"""Proofs from tiles in a database, none of them in any memory of ours when a proof begins.

The tree is of synthetic leaves; only as many have events as are asked for. An inclusion proof is
made as the API makes it, from the event's id; a consistency proof as a witness is sent one.
"""

import random
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from audit.merkle import verify_consistency, verify_inclusion
from audit.note import Checkpoint, sign_checkpoint
from audit.proof import prove_consistency, prove_inclusion
from audit.tiles import TreeEdge
from benchmarks.audit_world import Place, make_place, percentile
from benchmarks.report import number, table
from benchmarks.rounds import say
from benchmarks.servers import Postgres
from kernel import Database

if TYPE_CHECKING:
    from benchmarks.audit import Results

STEP = 256 * 256


async def measure(
    results: "Results", folder: Path, server: Postgres | None, leaves: int, asked: int
) -> None:
    """Build a tree in the database and ask it for proofs."""
    place = await make_place("proofs", folder, server)
    rng = random.Random(3)
    indexes = sorted(rng.sample(range(leaves), asked))
    edge, olds = await _build(place, leaves, indexes)
    root = edge.root()
    async with place.opened() as database:

        async def inclusion(at: int) -> object:
            async with database.read() as session:
                return await prove_inclusion(session, f"evt_{indexes[at]}")

        async def consistency(at: int) -> object:
            return await _consistency(database, olds[at % len(olds)][0], leaves)

        await _check(inclusion, indexes, leaves, root)
        for size, old_root in olds[:20]:
            steps = await _consistency(database, size, leaves)
            verify_consistency(size, leaves, old_root, root, steps)
        rows = []
        for name, act in (("inclusion", inclusion), ("consistency", consistency)):
            spent = await _spent(act, asked)
            results.at_most(
                f"{name} proof at {leaves} leaves, p99, {place.engine}",
                percentile(spent, 0.99), 3, "ms",
            )  # fmt: skip
            middle = number(percentile(spent, 0.5))
            rows.append([name, middle, number(percentile(spent, 0.99)), number(max(spent))])
    title = f"Proofs at {leaves} leaves, {place.engine}, {asked} at random, one after the other"
    results.tables.append((title, table(["proof", "p50 ms", "p99 ms", "longest ms"], rows)))


async def _spent(act: Callable[[int], Awaitable[object]], asked: int) -> list[float]:
    spent = []
    for at in range(asked):
        begun = time.perf_counter()
        await act(at)
        spent.append((time.perf_counter() - begun) * 1000)
    return spent


async def _check(
    prove: Callable[[int], Awaitable[object]], indexes: list[int], size: int, root: bytes
) -> None:
    """See that what is timed is right."""
    for at in range(0, len(indexes), max(1, len(indexes) // 20)):
        proof = await prove(at)
        verify_inclusion(indexes[at], size, _leaf(indexes[at]), proof.hashes, root)  # type: ignore[attr-defined]


async def _consistency(database: Database, old: int, size: int) -> list[bytes]:
    async with database.read() as session:
        return await prove_consistency(session, old, size)


def _leaf(index: int) -> bytes:
    return sha256(b"leaf %d" % index).digest()


async def _build(
    place: Place, leaves: int, indexes: list[int]
) -> tuple[TreeEdge, list[tuple[int, bytes]]]:
    """Write tiles, some leaves and a signed head; gives the edge, and older sizes and roots."""
    begun, edge, partial = time.perf_counter(), TreeEdge(), {}
    olds: list[tuple[int, bytes]] = []
    for start in range(0, leaves, STEP):
        count = min(STEP - (start // STEP) % 7, leaves - start, leaves - edge.size)
        edge, changed = edge.append([_leaf(edge.size + at) for at in range(count)])
        await _keep(place, partial, changed)
        olds.append((edge.size, edge.root()))
    while edge.size < leaves:
        count = min(STEP, leaves - edge.size)
        edge, changed = edge.append([_leaf(edge.size + at) for at in range(count)])
        await _keep(place, partial, changed)
    await place.copy("audit_tile", list(partial.values()))
    rows = [{"leaf_index": at, "event_id": f"evt_{at}", "leaf_hash": _leaf(at)} for at in indexes]
    await place.copy("audit_leaf", rows)
    note = sign_checkpoint(Checkpoint(place.signer.name, leaves, edge.root()), place.signer)
    head = {"size": leaves, "root": edge.root(), "note": note, "created_us": 0}
    await place.copy("audit_checkpoint", [head])
    if place.server is not None:
        place.run("VACUUM ANALYZE audit_tile")
        place.run("VACUUM ANALYZE audit_leaf")
    say(f"{place.engine}: {leaves} leaves in tiles after {time.perf_counter() - begun:.0f} s")
    return edge, [old for old in olds if 0 < old[0] < leaves]


async def _keep(
    place: Place, partial: dict[tuple[int, int], dict[str, object]], changed: list[object]
) -> None:
    """Write full tiles, and keep the others until they are."""
    full = []
    for tile in changed:
        row = tile._asdict()  # type: ignore[attr-defined]
        key = (row["level"], row["n"])
        partial.pop(key, None)
        if len(row["data"]) == 8192:
            full.append(row)
        else:
            partial[key] = row
    if full:
        await place.copy("audit_tile", full)
