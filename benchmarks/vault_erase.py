"""Erasing a member's keys, against one DELETE of one row in the same database.

Both are one transaction whose commit is on disk, by the clock on the wall: what a request waits
for. How much the member had must not matter.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
)
from sqlalchemy.dialects import postgresql

from benchmarks.report import number, table
from benchmarks.servers import Postgres, UnavailableError
from benchmarks.vault_world import TABLE, TENANT, ddl, make_tables
from kernel import Building, Database, Statement, new_id
from vault import (
    ORDINARY,
    PSEUDONYM,
    Identifier,
    PassingKeyProvider,
    UnreadableError,
    Vault,
    create_key_ring,
)

if TYPE_CHECKING:
    from benchmarks.vault import Results

KEPT_UNTIL_US = 4_000_000_000_000_000
WARM_UP = 10
MOST_POINTS = 10
_bare = Table("bare_row", MetaData(), Column("id", Integer, primary_key=True))
_cells = Table(
    "cells_row",
    _bare.metadata,
    Column("owner", Text, primary_key=True),
    Column("cells", LargeBinary, nullable=False),
)
_ADD_CELLS = Statement(insert(_cells).values(owner=bindparam("owner"), cells=bindparam("cells")))
_ADD = Statement(insert(_bare).values(id=bindparam("id")))
_DELETE = Statement(delete(_bare).where(_bare.c.id == bindparam("id")))


async def measure(results: "Results", times: int, folder: Path) -> None:
    """Measure both engines; PostgreSQL where its programs are."""
    from kernel.sqlite import SqliteDatabase

    file = folder / "erase.db"
    make_tables(file, _bare.metadata)
    await _one_engine(results, "SQLite", SqliteDatabase(file, owes=Building), times, folder)
    try:
        server = await asyncio.to_thread(Postgres.start, folder)
    except UnavailableError as error:
        for what in ("1 field", "100 fields"):
            name = f"vault.erase() of {what} / bare DELETE, PostgreSQL"
            results.at_most(name, None, 1.5, str(error))
        return
    try:
        from kernel.postgres import PostgresDatabase

        url = server.create_database("vault_erase")
        for statement in [*ddl(postgresql.dialect()), *ddl(postgresql.dialect(), _bare.metadata)]:
            server.sql("vault_erase", statement)
        database = PostgresDatabase(url, pool_size=4, owes=Building)
        await _one_engine(results, "PostgreSQL", database, times, folder)
    finally:
        await asyncio.to_thread(server.stop)


async def _one_engine(
    results: "Results", engine: str, database: Database, times: int, folder: Path
) -> None:
    ring = create_key_ring(folder / f"ring-{engine}", PassingKeyProvider(), TENANT)
    vault = Vault(ring)
    try:
        small = [await _owner(vault, database, 1) for _ in range(times + WARM_UP)]
        large = [await _owner(vault, database, 100) for _ in range(times + WARM_UP)]
        findable = [await _owner(vault, database, 1, MOST_POINTS) for _ in range(times + WARM_UP)]
        async with database.unit_of_work() as work:
            await work.run_many(_ADD, [{"id": at} for at in range(times + WARM_UP)])

        async def bare(at: int) -> None:
            async with database.unit_of_work() as work:
                await work.run(_DELETE, id=at)

        async def erase(owner: str) -> None:
            async with database.unit_of_work() as work:
                await vault.erase(work, owner, keep={PSEUDONYM: KEPT_UNTIL_US})

        contenders: dict[str, Callable[[int], Awaitable[None]]] = {
            "bare DELETE of one row": bare,
            "vault.erase(), 1 field": lambda at: erase(small[at]),
            "vault.erase(), 100 fields": lambda at: erase(large[at]),
            "vault.erase(), 10 contact points": lambda at: erase(findable[at]),
        }
        await _visible_at_once(vault, database, erase)
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for at in range(times + WARM_UP):
            for name, act in contenders.items():
                begun = time.perf_counter()
                await act(at)
                if at >= WARM_UP:
                    found[name].append((time.perf_counter() - begun) * 1e6)
    finally:
        await database.close()
    base = found["bare DELETE of one row"]
    rows = [
        [name, number(statistics.median(spent)), f"{_ratio(spent, base):.2f}"]
        for name, spent in found.items()
    ]
    header = ["what", "µs on the wall", "ratio to the bare DELETE"]
    results.tables.append((f"Erasing keys, {engine}, {times} times", table(header, rows)))
    for what in ("1 field", "100 fields"):
        name = f"vault.erase() of {what} / bare DELETE, {engine}"
        results.at_most(name, _ratio(found[f"vault.erase(), {what}"], base), 1.5)


def _ratio(spent: list[float], base: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(spent, base, strict=True))


async def _owner(vault: Vault, database: Database, fields: int, points: int = 1) -> str:
    """Make an owner with keys, a row of so many sealed fields, and so many findable ones."""
    owner = new_id("mem")
    async with database.unit_of_work() as work:
        keys = await vault.make_keys(work, owner, (ORDINARY, PSEUDONYM))
        values = {f"field_{at}": "x" * 18 for at in range(fields)}
        cells = msgpack.packb(vault.seal(keys[ORDINARY], TABLE, owner, values))
        await work.run(_ADD_CELLS, owner=owner, cells=cells)
        held = [
            (f"phone.{at}", Identifier("phone", lambda _: os.urandom(6).hex()))
            for at in range(points)
        ]
        await vault.tags.add(work, keys[ORDINARY], held)
    return owner


async def _visible_at_once(
    vault: Vault, database: Database, erase: Callable[[str], Awaitable[None]]
) -> None:
    """A second worker with warm bucket keys opens nothing of an owner right after the commit."""
    owner, other = await _owner(vault, database, 1), Vault(vault.buckets.ring)
    async with database.read() as session:
        held = await other.keys_of(session, owner)
    await erase(owner)
    async with database.read() as session:
        left = await other.keys_of(session, owner)
    if set(held) != {ORDINARY, PSEUDONYM} or set(left) != {PSEUDONYM}:
        raise UnreadableError
