"""Bulk reads: many members × three fields, opened and written as JSON, from memory.

What an export does between the database and the socket. The open step is held against the bare
cipher calls it cannot do without: unwrap a key, set the cipher up, decrypt three cells.
"""

import gc
import multiprocessing
import statistics
import time
from typing import TYPE_CHECKING, Any

import msgpack
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.report import number, table
from benchmarks.turns import Turns
from benchmarks.vault_world import EXPORTED, FIELDS, TABLE, Member, World, cell_context
from vault import AccessTicket, WrappedKey

if TYPE_CHECKING:
    from benchmarks.vault import Results

OPEN_STEP_MEMBERS = 2_000
PAGE = 1_000
WALL_ROUNDS = 3


def measure(results: "Results", rounds: int, members: int, world: World) -> None:
    values = {name: FIELDS[name] for name in EXPORTED}
    sample = [world.member(values) for _ in range(OPEN_STEP_MEMBERS)]
    _open_step(results, rounds, world, sample)
    _two_processes(results, members, world, values)


def _open_step(results: "Results", rounds: int, world: World, sample: list[Member]) -> None:
    vault, kek = world.vault, world.kek
    rows = [(one.ticket, one.key, one.id, one.cells) for one in sample]
    ready = [
        (
            one.key.wrapped[:12],
            one.key.wrapped[12:],
            world.key_context(one.id),
            [(c[2:14], c[14:], cell_context(f, one.id, c)) for f, c in one.cells.items()],
        )
        for one in sample
    ]

    def raw() -> list[list[bytes]]:
        unwrap = kek.decrypt
        opened = []
        for nonce, body, context, cells in ready:
            decrypt = AESGCM(unwrap(nonce, body, context)).decrypt
            opened.append([decrypt(*cell) for cell in cells])
        return opened

    def ours() -> list[dict[str, str]]:
        return vault.open_many(TABLE, rows)

    def with_json() -> list[bytes]:
        return [orjson.dumps(one) for one in vault.open_many(TABLE, rows)]

    count = len(sample)
    base = "raw: unwrap, set up, decrypt 3"
    turns = Turns(
        {base: (raw, count), "our open_many": (ours, count), "and JSON": (with_json, count)}
    ).run(rounds)
    results.tables.append(("One member of an export, 3 fields", turns.table(base)))
    ratio = turns.ratio("our open_many", base)
    results.at_most("open step of an export / raw cipher calls", ratio, 1.3)


Packed = tuple[str, WrappedKey, bytes]


def _two_processes(results: "Results", members: int, world: World, values: dict[str, str]) -> None:
    """Open and write all members from memory, by one process and by two, in turn."""
    rows = [_packed(world, values) for _ in range(members)]
    gc.collect()
    gc.freeze()  # children share these pages and must not touch them for a count
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(WALL_ROUNDS):
        for processes, spent in found.items():
            spent.append(_wall(world, rows, processes))
    gc.unfreeze()
    lines = [
        [str(processes), number(statistics.median(spent)), number(members / min(spent) / 1000)]
        for processes, spent in found.items()
    ]
    header = ["processes", "s on the wall, median", "thousand members/s, best"]
    title = f"{members} members, 3 fields each, opened and written as JSON in memory"
    results.tables.append((title, table(header, lines)))
    pairs = zip(found[1], found[2], strict=True)
    gain = statistics.median(one / two for one, two in pairs)
    results.at_least(f"open + JSON of {members} members: 2 processes / 1", gain, 1.7)


def _packed(world: World, values: dict[str, str]) -> Packed:
    member = world.member(values)
    return member.id, member.key, msgpack.packb(dict(member.cells))


def _wall(world: World, rows: list[Packed], processes: int) -> float:
    """Give the seconds from the common start to the last end."""
    context = multiprocessing.get_context("fork")
    start, ends = context.Barrier(processes + 1), context.SimpleQueue()
    share = -(-len(rows) // processes)
    children = [
        context.Process(
            target=_work, args=(world, rows[at * share : (at + 1) * share], start, ends)
        )
        for at in range(processes)
    ]
    for child in children:
        child.start()
    start.wait()
    begun = time.perf_counter()
    written = sum(ends.get() for _ in children)
    spent = time.perf_counter() - begun
    for child in children:
        child.join()
    if written < len(rows) * len(EXPORTED):
        raise AssertionError("not every member was written")
    return spent


def _work(world: World, rows: list[Packed], start: Any, ends: Any) -> None:
    gc.disable()
    start.wait()
    fields, written = frozenset(EXPORTED), 0
    for at in range(0, len(rows), PAGE):
        page = [
            (AccessTicket("evt_x", owner, fields), key, owner, msgpack.unpackb(cells))
            for owner, key, cells in rows[at : at + PAGE]
        ]
        opened = world.vault.open_many(TABLE, page)
        written += len(b"\n".join([orjson.dumps(one) for one in opened]))
    ends.put(written)
