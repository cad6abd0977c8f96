"""The worst day: the KMS root is lost, and living keys come back under a new ring.

What wrapped the keys of the live database is gone for good. A recovery kit opens the newest ring
backup, and each key that still has its row is wrapped once more, under new bucket keys. The rows
decide: a key without one belongs to somebody who was erased since, and stays gone. No cell is
touched. A process that dies leaves rows of both kinds, and the next one goes on.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import Database, ReadSession, UnitOfWork
from vault import recovery_repository as repository
from vault import rotation_repository as rotation
from vault.contexts import bucket_context, key_context
from vault.errors import UnreadableError
from vault.keyring import KeyRing
from vault.repository import StoredBucket, WrappedKey, add_buckets, every_key
from vault.rewrapping import Note
from vault.ring_backup import RingBackup
from vault.wrapping import KEY_BYTES, wrap

_PAGE = 2_000
_START = ("", "", 0)
_Place = tuple[str, str, int]
Progress = Callable[[int, int], None]
Last = Callable[[UnitOfWork, "Recovered"], Awaitable[None]]
"""Does what belongs into the transaction that ends a recovery, such as its event."""


@dataclass(frozen=True, slots=True)
class Recoverable:
    """What a ring backup can bring back, and what it cannot: keys, and owners who lose one."""

    keys: int
    lost: int
    owners_lost: int
    erased: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did: keys wrapped anew, keys that nothing brings back, keys of the erased."""

    keys: int
    lost: int
    erased: int
    again: bool


class Recovering:
    """Wraps the keys of a database under a new ring; the ring's root must be newer than all."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        backup: RingBackup,
        was_erased: Callable[[str], bool],
        note: Note,
    ) -> None:
        self._database = database
        self._note = note
        self._ring = ring
        self._keys: Mapping[_Place, bytes] = {
            (key.owner_id, key.kind, key.version): key.key for key in backup.each()
        }
        self._was_erased = was_erased

    async def look(self) -> Recoverable:
        """Count what would come back, before anything is changed."""
        keys = lost = erased = 0
        owners: set[str] = set()
        async with self._database.read() as session:
            newest = await self._newest(session)
            after = _START
            while page := await every_key(session, after, _PAGE):
                for key, dated_us in page:
                    if self._may_not(key, dated_us):
                        erased += 1
                    elif self._is_moved(key, newest) or self._place(key) in self._keys:
                        keys += 1
                    else:
                        lost += 1
                        owners.add(key.owner_id)
                after = self._place(page[-1][0])
        return Recoverable(keys, lost, len(owners), erased)

    async def run(self, progress: Progress, last: Last) -> Recovered:
        """Bring every key back that can be; what cannot is dropped in the last transaction."""
        ring = self._ring
        found = await self.look()
        async with self._database.unit_of_work() as work:
            known = await rotation.hold_ring_alone(work, ring.versions)
            await rotation.set_ring(work, ring.version, known.oldest)
            made = await self._make_buckets(work)
            if made:
                await self._note(work, "bucket_keys_made", made)
        after, done = _START, 0
        while True:
            async with self._database.unit_of_work() as work:
                page = await every_key(work, after, _PAGE)
                newest = await self._newest(work)
                moved = await self._move(
                    work, [k for k, dated in page if not self._may_not(k, dated)], newest
                )
                if moved:
                    await self._note(work, "keys_moved", moved)
            done += len(page)
            progress(done, found.keys + found.lost + found.erased)
            if len(page) < _PAGE:
                break
            after = self._place(page[-1][0])
        async with self._database.unit_of_work() as work:
            known = await rotation.hold_ring_alone(work, ring.versions)
            again = known.oldest == ring.version
            await repository.drop_under_old_roots(work, ring.version)
            await rotation.set_ring(work, ring.version, ring.version)
            recovered = Recovered(found.keys, found.lost, found.erased, again)
            await last(work, recovered)
        return recovered

    async def _make_buckets(self, work: UnitOfWork) -> int:
        """Give every bucket a key under the new root, unless it has one; gives how many."""
        fresh = []
        for bucket, stored in (await self._newest(work)).items():
            if stored.ring_version != self._ring.version:
                version = stored.version + 1
                context = bucket_context(self._ring.tenant, bucket, version)
                root, wrapped = self._ring.wrap_newest(os.urandom(KEY_BYTES), context)
                fresh.append(StoredBucket(bucket, version, root, wrapped))
        await add_buckets(work, fresh)
        return len(fresh)

    async def _move(
        self, work: UnitOfWork, keys: list[WrappedKey], newest: Mapping[int, StoredBucket]
    ) -> int:
        rows, versions, rewrapped = [], [], []
        ciphers: dict[int, AESGCM] = {}
        for key in keys:
            secret = self._keys.get(self._place(key))
            if secret is None or self._is_moved(key, newest):
                continue
            bucket = newest[key.bucket]
            if key.bucket not in ciphers:
                ciphers[key.bucket] = self._opened(bucket)
            context = key_context(
                self._ring.tenant, key.owner_id, key.kind, key.version, key.bucket, bucket.version
            )
            rows.append((key.bucket, key.owner_id, key.kind, key.version))
            versions.append(bucket.version)
            rewrapped.append(wrap(ciphers[key.bucket], secret, context))
        if rows:
            await rotation.move_keys(work, rows, versions, rewrapped)
        return len(rows)

    def _opened(self, bucket: StoredBucket) -> AESGCM:
        context = bucket_context(self._ring.tenant, bucket.bucket, bucket.version)
        return AESGCM(self._ring.unwrap(bucket.ring_version, bucket.wrapped, context))

    async def _newest(self, session: ReadSession) -> dict[int, StoredBucket]:
        return await repository.newest_buckets(session)

    def _is_moved(self, key: WrappedKey, newest: Mapping[int, StoredBucket]) -> bool:
        """Whether an earlier run has wrapped a key under the new ring already."""
        bucket = newest.get(key.bucket)
        if bucket is None:
            raise UnreadableError
        return bucket.ring_version == self._ring.version and key.bucket_version == bucket.version

    def _may_not(self, key: WrappedKey, destroy_after_us: int | None) -> bool:
        """Whether a row speaks for somebody whom the rights ledger knows to be erased.

        What a law retains of them bears the day of its destruction; whatever else stands there
        was put back by somebody who writes to the database.
        """
        return destroy_after_us is None and self._was_erased(key.owner_id)

    @staticmethod
    def _place(key: WrappedKey) -> _Place:
        return key.owner_id, key.kind, key.version
