"""Seal: what was erased stays erased in every copy, because no key above it lives any more.

Erasing deletes a wrapped key; copies of that row lie on in free pages, in write-ahead logs, in
replicas and dumps. They are noise when the bucket key that wraps them is gone, and that is gone
when the ring root is, and that when the key of the old key ring files is. The order is such that
a crash anywhere loses nothing: first everything that lives stands under new keys, then every
living key is opened through the files as they are, backed up to the recovery kits, and the
backup read back and opened, and only then does the old root go.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kernel import Clock, Database, UnavailableError
from vault import rotation_log as log
from vault import rotation_repository as repository
from vault.buckets import BucketKeys
from vault.rewrapping import Note, Progress, Rewrapping
from vault.rotation import Record, RingRoots, SecretKeeper
from vault.rotation_log import Rotation

_ROUNDS = 100


class RingKeeping(Protocol):
    """Keeps the ring backups; `RingBackups` does."""

    async def refresh(self) -> object:
        """Make a ring backup of every living key, read back and opened, or raise."""
        ...


class Sealing:
    """Seals what was erased since the last time; whoever asks next goes on with one cut short."""

    def __init__(
        self,
        database: Database,
        buckets: BucketKeys,
        keepers: Sequence[SecretKeeper],
        keeping: RingKeeping,
        record: Record,
        note: Note,
        clock: Clock,
    ) -> None:
        self._database = database
        self._buckets = buckets
        self._keeping = keeping
        self._roots = RingRoots(database, buckets, keepers, note)
        self._rewrapping = Rewrapping(database, buckets, note)
        self._record = record
        self._clock = clock

    async def run(self, progress: Progress) -> Rotation | None:
        """Seal; None when nothing was destroyed since the last seal and none was cut short."""
        sealed: Rotation | None = None
        for _ in range(_ROUNDS):
            rotation = await self._begun()
            if rotation is None:
                return sealed
            sealed = await self._seal(rotation, progress)
        raise UnavailableError("keys are destroyed faster than they are sealed", reason="rotating")

    async def _begun(self) -> Rotation | None:
        """Go on with a seal that was cut short, or begin one for what was destroyed."""
        async with self._database.unit_of_work() as work:
            found = await log.open_one(work, log.SEAL)
            if found is not None:
                return found
            destroyed = await repository.take_destroyed(work)
            if not destroyed:
                return None
            now_us = self._clock.now_us()
            begun = await log.begin(
                work, log.SEAL, now_us=now_us, buckets=len(destroyed), erasures=destroyed.total()
            )
            if not begun:
                raise UnavailableError("another seal has just begun", reason="rotating")
            await repository.want(work, list(destroyed))
            return await log.open_one(work, log.SEAL)

    async def _seal(self, rotation: Rotation, progress: Progress) -> Rotation:
        async with self._database.unit_of_work() as work:
            rotation = await self._roots.add_for(work, rotation)
        root = rotation.newest_root
        _buckets, moved = await self._rewrapping.run(progress)
        await self._roots.move_everything(root, _silent)
        self._buckets.reopen()  # nothing in RAM may stand in for what the files say
        await self._keeping.refresh()
        await self._roots.drop(root, _silent)
        await asyncio.to_thread(self._buckets.ring.seal_outer)
        async with self._database.unit_of_work() as work:
            await log.count(work, rotation, 0, moved)
            if not await log.end(work, rotation, now_us=self._clock.now_us()):
                return rotation
            ended = await log.last(work, log.SEAL)
            if ended is None:
                raise UnavailableError("the seal cannot be told", reason="rotating")
            await self._record(work, ended)
            return ended


def _silent(_done: int, _total: int) -> None:
    """The bucket keys are a thousand at most: nothing to report beside the members' keys."""
