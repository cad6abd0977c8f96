"""Bulk reads: many members × three fields, opened and written as JSON, from memory.

What an export does between the database and the socket. The open step is held against the bare
cipher calls it cannot do without: unwrap a key, set the cipher up, decrypt three cells.
"""

from typing import TYPE_CHECKING

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.turns import Turns
from benchmarks.vault_world import EXPORTED, FIELDS, TABLE, Member, World, cell_context

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


def _two_processes(results: "Results", members: int, world: World, values: dict[str, str]) -> None:
    pass
