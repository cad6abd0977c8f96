"""Seal: what was erased stays erased in every copy, because no key above it lives any more.

Erasing deletes a wrapped key; copies of that row lie on in free pages, in write-ahead logs, in
replicas and dumps. They are noise when the bucket key that wraps them is gone, and that is gone
when the ring root is, and that when the key of the old key ring files is. The order is such that
a crash anywhere loses nothing: first everything that lives stands under new keys, then the ring
is backed up and the backup opened again and tried on keys of members, and only then does the old
root go.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import Clock, Database, UnavailableError
from vault import rotation_log as log
from vault import rotation_repository as repository
from vault.buckets import BucketKeys
from vault.contexts import bucket_context, key_context
from vault.errors import KeyRingError, UnreadableError
from vault.rewrapping import Progress, Rewrapping
from vault.rotation import Record, RingRoots, SecretKeeper
from vault.rotation_log import Rotation
from vault.wrapping import unwrap_into, wipe

CANARIES = 10
_ROUNDS = 100


class ReopenedRing(Protocol):
    """A ring as it came out of its backup."""

    def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap a key under a ring root version; `UnreadableError` when that one is not in it."""
        ...


class RingKeeping(Protocol):
    """Keeps the backup of the key ring; the service has it."""

    async def refresh(self, since: int) -> ReopenedRing:
        """Replace the backup by one of the ring roots from `since` on, and open that again."""
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
        clock: Clock,
    ) -> None:
        self._database = database
        self._buckets = buckets
        self._keeping = keeping
        self._roots = RingRoots(database, buckets, keepers)
        self._rewrapping = Rewrapping(database, buckets)
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
            buckets = set(destroyed)
            now_us = self._clock.now_us()
            begun = await log.begin(
                work, log.SEAL, now_us=now_us, buckets=len(buckets), erasures=len(destroyed)
            )
            if not begun:
                raise UnavailableError("another seal has just begun", reason="rotating")
            await repository.want(work, list(buckets))
            return await log.open_one(work, log.SEAL)

    async def _seal(self, rotation: Rotation, progress: Progress) -> Rotation:
        async with self._database.unit_of_work() as work:
            rotation = await self._roots.add_for(work, rotation)
        root = rotation.newest_root
        _buckets, moved = await self._rewrapping.run(progress)
        await self._roots.move_everything(root, _silent)
        await self._try(await self._keeping.refresh(root))
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

    async def _try(self, ring: ReopenedRing) -> None:
        """Open keys of members with the ring that came out of its backup, or refuse to go on."""
        tenant = self._buckets.ring.tenant
        async with self._database.read() as session:
            canaries = await repository.canaries(session, CANARIES)
        try:
            for bucket, key in canaries:
                context = bucket_context(tenant, bucket.bucket, bucket.version)
                cipher = AESGCM(ring.unwrap(bucket.ring_version, bucket.wrapped, context))
                place = key_context(
                    tenant, key.owner_id, key.kind, key.version, key.bucket, key.bucket_version
                )
                wipe(unwrap_into(cipher, key.wrapped, place))
        except UnreadableError as error:
            raise KeyRingError(
                "the new ring backup does not open the members' keys; nothing was destroyed",
                remedy="Look at `yinyom vault doctor`, then seal again.",
            ) from error


def _silent(_done: int, _total: int) -> None:
    """The bucket keys are a thousand at most: nothing to report beside the members' keys."""
