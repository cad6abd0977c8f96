"""Rotations: a new root at the KMS, a new ring root, new bucket keys; while everything goes on.

Each costs so many keys, never so much data: no cell is rewritten, and nothing here can open one.
Each may be interrupted anywhere and is gone on with by whoever asks next. A ring root is dropped
when nothing rests under it any more, which is looked at while nobody can put anything there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from kernel import Clock, Database, ReadSession, UnavailableError, UnitOfWork
from vault import rotation_log as log
from vault import rotation_repository as repository
from vault.buckets import BucketKeys
from vault.contexts import bucket_context, secret_context
from vault.repository import StoredBucket
from vault.rewrapping import Note, Progress, Rewrapping
from vault.rotation_log import Rotation

Record = Callable[[UnitOfWork, Rotation], Awaitable[None]]
"""Puts an ended rotation on record, in the transaction that ends it."""
Move = Callable[[str, str, int, bytes], tuple[int, bytes]]
"""Takes label, row id, ring version and wrapped bytes of a secret; gives the newer two."""
_AT_ONCE = 1_024
_ROUNDS = 600
_REST_SECONDS = 0.05


class SecretKeeper(Protocol):
    """A room whose rows hold secrets that the ring root wraps, such as the keys of webhooks."""

    async def move_secrets(self, work: UnitOfWork, root: int, move: Move) -> None:
        """Wrap what rests under a ring root before `root` under the newest one."""
        ...

    async def secrets_behind(self, session: ReadSession, root: int) -> int:
        """Count what rests under a ring root before `root`."""
        ...


class RingRoots:
    """Replaces the ring root: a new one, everything under it, the old ones dropped."""

    def __init__(
        self,
        database: Database,
        buckets: BucketKeys,
        keepers: Sequence[SecretKeeper],
        note: Note,
    ) -> None:
        self._database = database
        self._note = note
        self._buckets = buckets
        self._keepers = tuple(keepers)

    async def add_for(self, work: UnitOfWork, rotation: Rotation) -> Rotation:
        """Make the ring root of a rotation, unless it has one, and tell every process.

        A root that a dead process made and told nobody of is taken up.
        """
        ring = self._buckets.ring
        known = await repository.hold_ring_alone(work, ring.versions)
        rotation = await log.one(work, rotation.id)
        if rotation.newest_root:
            return rotation
        ring.reopen()
        if ring.version <= known.newest:
            ring.add_root()
        await repository.set_ring(work, ring.version, known.oldest)
        await log.set_roots(work, rotation, ring.versions[0], ring.version)
        return await log.one(work, rotation.id)

    async def move_everything(self, root: int, progress: Progress) -> None:
        """Wrap under the newest root whatever rests under one before `root`."""
        moved = 0
        while True:
            async with self._database.unit_of_work() as work:
                were = await repository.under_old_root(work, root, _AT_ONCE)
                become = [self._moved(one) for one in were]
                await repository.rewrap_buckets(work, were, become)
                if were:
                    await self._note(work, "bucket_keys_rewrapped", len(were))
            moved += len(were)
            progress(moved, moved)
            if len(were) < _AT_ONCE:
                break
        for keeper in self._keepers:
            async with self._database.unit_of_work() as work:
                secrets = await keeper.secrets_behind(work, root)
                await keeper.move_secrets(work, root, self._moved_secret)
                if secrets:
                    await self._note(work, "secrets_rewrapped", secrets)

    async def drop(self, root: int, progress: Progress) -> None:
        """Drop every ring root before `root`, from the file first, once nothing rests under one."""
        for _ in range(_ROUNDS):
            await self.move_everything(root, progress)
            async with self._database.unit_of_work() as work:
                known = await repository.hold_ring_alone(work, self._buckets.ring.versions)
                behind = len(await repository.under_old_root(work, root, 1)) + sum(
                    [await keeper.secrets_behind(work, root) for keeper in self._keepers]
                )
                if not behind:
                    self._buckets.ring.drop_roots(below=root)
                    await repository.set_ring(work, known.newest, max(root, known.oldest))
                    self._buckets.forget()
                    return
            await asyncio.sleep(_REST_SECONDS)
        raise UnavailableError("the bucket keys do not come to rest", reason="rotating")

    def _moved(self, one: StoredBucket) -> StoredBucket:
        ring = self._buckets.ring
        context = bucket_context(ring.tenant, one.bucket, one.version)
        key = self._buckets.unwrap(one.ring_version, one.wrapped, context)
        root, wrapped = ring.wrap_newest(key, context)
        return replace(one, ring_version=root, wrapped=wrapped)

    def _moved_secret(
        self, label: str, row_id: str, ring_version: int, wrapped: bytes
    ) -> tuple[int, bytes]:
        ring = self._buckets.ring
        context = secret_context(ring.tenant, label, row_id)
        secret = self._buckets.unwrap(ring_version, wrapped, context)
        return ring.wrap_newest(secret, context)


class Rotations:
    """Rotates the KMS root and the ring root, and rewraps every member key."""

    def __init__(
        self,
        database: Database,
        buckets: BucketKeys,
        keepers: Sequence[SecretKeeper],
        record: Record,
        note: Note,
        clock: Clock,
    ) -> None:
        self._database = database
        self._buckets = buckets
        self._roots = RingRoots(database, buckets, keepers, note)
        self._rewrapping = Rewrapping(database, buckets, note)
        self._record = record
        self._clock = clock

    async def rotate_kms(self) -> str:
        """Make a new root at the KMS and wrap the ring under it; gives the root's version."""
        version = await asyncio.to_thread(self._buckets.ring.rotate_kms)
        async with self._database.unit_of_work() as work:
            await self._end(work, await self._begun(work, log.KMS))
        return version

    async def rotate_ring(self, progress: Progress) -> Rotation:
        """Make a ring root, wrap every bucket key under it, drop the older roots."""
        async with self._database.unit_of_work() as work:
            rotation = await self._roots.add_for(work, await self._begun(work, log.RING))
        await self._roots.drop(rotation.newest_root, progress)
        async with self._database.unit_of_work() as work:
            return await self._end(work, rotation)

    async def rewrap(self, progress: Progress) -> Rotation:
        """Give every bucket a new key and move every member key to it."""
        async with self._database.unit_of_work() as work:
            if await log.begin(work, log.REWRAP, now_us=self._clock.now_us()):
                await repository.want_all(work)
            rotation = await self._begun(work, log.REWRAP)
        buckets, moved = await self._rewrapping.run(progress)
        async with self._database.unit_of_work() as work:
            await log.count(work, rotation, buckets, moved)
            return await self._end(work, rotation)

    async def _begun(self, work: UnitOfWork, kind: str) -> Rotation:
        """Give the rotation of this kind that is under way, or begin one."""
        await log.begin(work, kind, now_us=self._clock.now_us())
        found = await log.open_one(work, kind)
        if found is None:
            raise UnavailableError("somebody else has just ended this", reason="rotating")
        return found

    async def _end(self, work: UnitOfWork, rotation: Rotation) -> Rotation:
        """End a rotation and put it on record, unless somebody else has."""
        if await log.end(work, rotation, now_us=self._clock.now_us()):
            ended = await log.last(work, rotation.kind)
            if ended is not None:
                await self._record(work, ended)
                return ended
        return rotation
