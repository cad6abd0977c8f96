"""Bucket keys in RAM, and the ring root that opens them, as this process knows them now.

Bucket keys are cached, bounded and for minutes, each beside the stored bytes it was opened from:
whoever wraps compares those bytes, because a bucket key that was rolled back must never wrap a
member's key. Others may replace bucket keys and ring roots meanwhile. Who wraps therefore holds
what it wraps under until its transaction ends, so that nobody destroys it beneath; who reads and
comes too late reads the key once more where it rests now.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import ReadSession, UnavailableError, UnitOfWork
from vault import repository
from vault.contexts import bucket_context
from vault.errors import UnreadableError
from vault.keyring import KeyRing
from vault.repository import StoredBucket, WrappedKey
from vault.wrapping import KEY_BYTES

_CACHE_SIZE = 1024
_SECONDS = 600.0
_MOVES = 3
_ASK_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _BucketKey:
    """A bucket key in RAM: the stored bytes it came from, and whether those are known to last."""

    expires: float
    wrapped: bytes
    cipher: AESGCM
    committed: bool
    contexts: dict[tuple[str, int], tuple[bytes, bytes]] = field(default_factory=dict)
    """What stands before and behind the owner in a key's context, by kind and key version."""

    def settle(self) -> None:
        self.committed = True


class BucketKeys:
    """The bucket keys of one tenant, and the key ring that wraps them."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._ask_after = 0.0
        self._held: OrderedDict[tuple[int, int], _BucketKey] = OrderedDict()

    # --- to wrap under ----------------------------------------------------------------

    async def newest(self, work: UnitOfWork, bucket: int) -> tuple[int, AESGCM]:
        """Give version and cipher of a bucket's newest key, which stays until `work` has ended.

        A bucket that has no key yet gets one.
        """
        for _ in range(_MOVES):
            stored = await repository.hold_newest_bucket(work, bucket)
            if stored is not None:
                return stored.version, self._hold(work, stored).cipher
            if not await repository.bucket_versions(work, bucket):
                await self.make(work, {bucket: 1})
        raise UnavailableError("the bucket keys are being replaced", reason="rotating")

    async def make(self, work: UnitOfWork, versions: Mapping[int, int]) -> None:
        """Make and store bucket keys of these versions, unless another worker was first."""
        if not versions:
            return
        await self.settle(work)
        ring, fresh = self.ring, []
        for bucket, version in versions.items():
            context = bucket_context(ring.tenant, bucket, version)
            root, wrapped = ring.wrap_newest(os.urandom(KEY_BYTES), context)
            fresh.append(StoredBucket(bucket, version, root, wrapped))
        await repository.add_buckets(work, fresh)

    async def settle(self, work: UnitOfWork) -> None:
        """Make sure that the newest ring root is the one wrapped under, until `work` has ended."""
        known = await repository.hold_ring(work, self.ring.versions)
        if known.newest > self.ring.version:
            self.reopen()
        if known.newest > self.ring.version:
            raise UnavailableError(
                "the key ring on this machine is older than the database",
                reason="key_ring_outdated",
                remedy="Put the newest key ring file into the keys directory of this machine.",
            )

    # --- to open with -----------------------------------------------------------------

    async def load(self, session: ReadSession, key: WrappedKey) -> WrappedKey:
        """Load the bucket key that wraps `key`; gives the key as it rests now.

        A bucket key in RAM serves as it is when it is known to be stored.
        """
        for _ in range(_MOVES):
            held = self.cached(key.bucket, key.bucket_version)
            if held is not None and held.committed:
                return key
            for stored in await repository.bucket_versions(session, key.bucket):
                if stored.version == key.bucket_version:
                    self._hold(session, stored)
                    return key
            # It was moved to a newer bucket key after it was read, and the older one destroyed.
            moved = await repository.one_key(session, key.owner_id, key.kind, key.version)
            if moved is None or moved.bucket_version == key.bucket_version:
                raise UnreadableError
            key = moved
        raise UnreadableError

    def cached(self, bucket: int, version: int) -> _BucketKey | None:
        """Give a bucket key from RAM."""
        held = self._held.get((bucket, version))
        if held is not None and time.monotonic() > held.expires:
            del self._held[bucket, version]
            return None
        return held

    def unwrap_stored(self, stored: StoredBucket) -> AESGCM:
        """Open a bucket key where it rests, past the cache."""
        context = bucket_context(self.ring.tenant, stored.bucket, stored.version)
        return AESGCM(self.unwrap(stored.ring_version, stored.wrapped, context))

    def unwrap(self, ring_version: int, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap what a ring root wrapped; one that is newer than this process is fetched."""
        if ring_version > self.ring.version and time.monotonic() >= self._ask_after:
            self.reopen()
            if ring_version > self.ring.version:
                # A row that names a root that never was must not cost a look each time.
                self._ask_after = time.monotonic() + _ASK_AGAIN_SECONDS
        return self.ring.unwrap(ring_version, wrapped, context)

    def _hold(self, session: ReadSession, stored: StoredBucket) -> _BucketKey:
        """Give the bucket key behind the stored bytes, from RAM only if it came from the same."""
        held = self.cached(stored.bucket, stored.version)
        if held is not None and held.wrapped == stored.wrapped:
            return held
        cipher = self.unwrap_stored(stored)
        # A unit of work may be looking at a bucket of its own that is rolled back in the end.
        when_durable = getattr(session, "after_commit", None)
        held = _BucketKey(time.monotonic() + _SECONDS, stored.wrapped, cipher, when_durable is None)
        if when_durable is not None:
            when_durable(held.settle)
        self._held[stored.bucket, stored.version] = held
        while len(self._held) > _CACHE_SIZE:
            self._held.popitem(last=False)
        return held

    # --- the ring ---------------------------------------------------------------------

    async def follow(self, session: ReadSession) -> bool:
        """Let go of ring roots that were dropped, and of every bucket key; True when it did."""
        known = await repository.known_ring(session)
        if known is None or (
            known.newest <= self.ring.version and known.oldest <= self.ring.versions[0]
        ):
            return False
        self.reopen()
        return True

    def reopen(self) -> None:
        """Take over what the key ring file says now, and forget every bucket key."""
        self.ring.reopen()
        self.forget()

    def forget(self) -> None:
        """Forget every bucket key."""
        self._held.clear()
