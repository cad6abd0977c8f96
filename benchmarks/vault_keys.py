"""Rotation of a large registry: what it costs us in CPU and the registry in time.

`python -m benchmarks.vault_keys DATA_DIR --members 100000 [--database-url URL]` makes a registry
there unless one is there, fills it with members who have one ordinary key and one cell each, and
rotates, rewraps and seals it with a thousand members erased. The registry stays: `yinyom
--data-dir DATA_DIR vault status` and the other commands can be tried on it.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, insert

from benchmarks.report import Bound, Target
from kernel import Statement, UnitOfWork, new_id
from members.repository import count_members
from members.tables import member
from service.runtime import Runtime
from service.settings import DatabaseSettings, Settings, VaultSettings
from service.setup import set_up
from service.tasks import system_caller
from vault import ORDINARY

_MEMBERS_AT_ONCE = 2_000
_ERASED = 1_000
_RING_MS = 50.0
_REWRAP_SECONDS_A_MILLION = 5.0
_ADD = Statement(insert(member).values({c.name: bindparam(c.name) for c in member.columns}))


def main() -> int:
    """Measure, print a table, and end with 1 when a target is missed."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.vault_keys")
    asked.add_argument("data_dir", type=Path)
    asked.add_argument("--members", type=int, default=100_000)
    asked.add_argument("--database-url", default="")
    asked.add_argument("--bucket-bits", type=int, default=10)
    given = asked.parse_args()
    settings = Settings(
        data_dir=given.data_dir,
        database=DatabaseSettings(url=given.database_url),
        vault=VaultSettings(bucket_bits=given.bucket_bits),
    )
    targets = asyncio.run(_measured(settings, given.members))
    for target in targets:
        value = "" if target.value is None else f"{target.value:.2f} {target.unit}"
        bound = f"{target.bound.value} {target.target:g}"
        print(f"| {target.name} | {value} | {bound} | {target.verdict} |")
    return int(any(target.verdict == "miss" for target in targets))


async def _measured(settings: Settings, members: int) -> list[Target]:
    await set_up(settings)
    runtime = await Runtime.open(settings)
    try:
        await runtime.start(background=False)
        await _fill(runtime, members)
        rotations = runtime.keys.rotations
        ring = await _timed("rotate --ring", lambda: rotations.rotate_ring(_silent))
        await _timed("rotate --kms", rotations.rotate_kms)
        rewrap = await _timed("rewrap", lambda: rotations.rewrap(_silent))
        gone = await _erase(runtime)
        await _timed(f"seal after {gone} erasures", lambda: runtime.keys.sealing.run(_silent))
        async with runtime.database.read() as session:
            there = await count_members(session)
    finally:
        await runtime.close()
    return [
        Target("new ring root, CPU", ring * 1_000, Bound.AT_MOST, _RING_MS, "ms"),
        Target(
            "member keys rewrapped, CPU of a million",
            rewrap * 1_000_000 / there,
            Bound.AT_MOST,
            _REWRAP_SECONDS_A_MILLION,
            "s",
        ),
    ]


async def _timed(name: str, act: Callable[[], Awaitable[Any]]) -> float:
    """Give the CPU seconds of this process; on SQLite the database's own work is among them."""
    wall, cpu = time.perf_counter(), time.process_time()
    await act()
    cpu = time.process_time() - cpu
    print(f"{name}: {time.perf_counter() - wall:.2f} s, {cpu:.3f} s CPU", flush=True)
    return cpu


async def _fill(runtime: Runtime, wanted: int) -> None:
    async with runtime.database.read() as session:
        there = await count_members(session)
    while there < wanted:
        some = min(_MEMBERS_AT_ONCE, wanted - there)
        async with runtime.database.unit_of_work() as work:
            for _ in range(some):
                await _add(runtime, work)
            await runtime.audit.record(work, system_caller("cli"), "benchmark.fill", count=some)
        there += some
        print(f"\r{there} members", end="", flush=True)
    print()


async def _add(runtime: Runtime, work: UnitOfWork) -> None:
    owner, now_us = new_id("mem"), runtime.clock.now_us()
    await runtime.vault.make_keys(work, owner, (ORDINARY,))
    row = {
        "id": owner,
        "brand": "main",
        "jurisdiction": "TH",
        "cells": b"\x80",
        "provenance": b"\x80",
        "version": 1,
        "created_us": now_us,
        "updated_us": now_us,
    }
    await work.run(_ADD, **{c.name: row.get(c.name) for c in member.columns})


async def _erase(runtime: Runtime) -> int:
    """Destroy the keys of some members, as an erasure does; their rows stay as they are."""
    keys = Statement(member.select().with_only_columns(member.c.id).limit(_ERASED))
    async with runtime.database.read() as session:
        owners = [row["id"] for row in await session.all(keys)]
    async with runtime.database.unit_of_work() as work:
        for owner in owners:
            await runtime.vault.erase(work, owner, keep={})
        caller = system_caller("cli")
        await runtime.audit.record(work, caller, "benchmark.erase", count=len(owners))
    return len(owners)


def _silent(_done: int, _total: int) -> None:
    """Nobody looks."""


if __name__ == "__main__":
    raise SystemExit(main())
