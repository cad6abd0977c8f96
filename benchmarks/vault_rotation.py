"""Rotations of keys, for as many members as are asked for: CPU time, and what is not rewritten.

A ring root is rotated over 1,024 bucket keys, as a production tenant has them, whatever the
number of members. Every member key is rewrapped by the step that the rotation itself calls.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Bound, Target, number, table
from benchmarks.vault_world import TENANT, World, make_tables
from kernel import Building, SystemClock, UnitOfWork, new_id
from vault import ORDINARY, PSEUDONYM, PassingKeyProvider, Vault, create_key_ring
from vault.rewrapping import rewrap
from vault.rotation import Rotations
from vault.rotation_log import Rotation

if TYPE_CHECKING:
    from benchmarks.vault import Results

BUCKET_BITS = 10
ROUNDS = 5
SAMPLE = 20_000
STORED = 2_000


async def measure(results: "Results", members: int, world: World, folder: Path) -> None:
    """Measure a rotation of the ring root, and the rewrapping of every member key."""
    from kernel.sqlite import SqliteDatabase

    file = folder / "rotation.db"
    make_tables(file)
    database = SqliteDatabase(file, owes=Building)
    vault = Vault(
        create_key_ring(folder / "ring-rotation", PassingKeyProvider(), TENANT),
        bucket_bits=BUCKET_BITS,
    )

    async def record(_work: UnitOfWork, _rotation: Rotation) -> None:
        return None

    async def note(_work: UnitOfWork, _step: str, _many: int) -> None:
        return None

    rotations = Rotations(database, vault.buckets, (), record, note, SystemClock())
    try:
        async with database.unit_of_work() as work:
            await vault.buckets.make(work, dict.fromkeys(range(1 << BUCKET_BITS), 1))
        for _ in range(STORED):
            async with database.unit_of_work() as work:
                await vault.make_keys(work, new_id("mem"), (ORDINARY, PSEUDONYM))
        ring = [await _cpu(rotations.rotate_ring) for _ in range(ROUNDS)]
        every = [await _cpu(rotations.rewrap) for _ in range(ROUNDS)]
        async with database.read() as session:
            await vault.keys_of(session, new_id("mem"))
    finally:
        await database.close()
    pure = min(_rewrap_cpu(world) for _ in range(ROUNDS)) / SAMPLE * members
    rows = [
        ["ring root over 1,024 bucket keys, SQLite", number(min(ring) * 1e3), "ms"],
        [f"{members} member keys rewrapped, the step itself", number(pure), "s"],
        [
            f"{2 * STORED} keys in 1,024 buckets rewrapped whole, SQLite",
            number(min(every) * 1e3),
            "ms",
        ],
    ]
    results.tables.append(("Rotations, CPU", table(["what", "CPU", "unit"], rows)))
    results.targets.append(
        Target("ring-root rotation, CPU", min(ring) * 1e3, Bound.AT_MOST, 50, "ms")
    )
    name = f"{members} member keys rewrapped, CPU"
    results.targets.append(Target(name, pure, Bound.AT_MOST, 5e-6 * members, "s"))


async def _cpu(act) -> float:
    begun = time.process_time()
    await act(lambda _done, _total: None)
    return time.process_time() - begun


def _rewrap_cpu(world: World) -> float:
    """CPU seconds of rewrapping a sample of keys of one bucket."""
    sample = [world.member({}).key for _ in range(SAMPLE)]
    keys = [
        (key.bucket, key.owner_id, key.kind, key.version, key.bucket_version, key.wrapped)
        for key in sample
    ]
    bucket, number = sample[0].bucket, sample[0].bucket_version
    begun = time.process_time()
    rewrap(TENANT, keys, {(bucket, number): world.kek}, {bucket: (number + 1, world.kek)})
    return time.process_time() - begun
