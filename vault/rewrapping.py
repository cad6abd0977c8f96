"""Rewrap: buckets get new keys, and members' keys move over to them, while everything goes on.

Whoever got hold of a bucket key has nothing for later: no cell is rewritten, every member key is.
What is here works on wrapped keys. It has no way to seal or to open a cell, so the right to
rewrap is not the right to read.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import Database, UnavailableError, UnitOfWork, id_bytes
from vault import rotation_repository as repository
from vault.buckets import BucketKeys
from vault.cell import NONCE_BYTES
from vault.contexts import NUMBERS, key_labels
from vault.errors import UnreadableError
from vault.repository import StoredBucket
from vault.rotation_repository import Wanted

Progress = Callable[[int, int], None]
Note = Callable[[UnitOfWork, str, int], Awaitable[None]]
"""Puts a step that changes stored keys on record in its transaction: what, and how many."""
_AT_ONCE = {"postgresql": 2_000, "sqlite": 500}
_MOVES = 3
_ROUNDS = 600
_REST_SECONDS = 0.05
Group = Sequence[Wanted]
_Crypt = Callable[[bytes, bytes, bytes], bytes]
_Way = tuple[bytes, bytes, bytes, _Crypt, _Crypt, int]


class Rewrapping:
    """Carries out what `vault_rekey` asks for, some buckets at a time; whoever comes next goes on.

    Two may do so at once, and each bucket is done when it has one key and nothing under another.
    """

    def __init__(self, database: Database, buckets: BucketKeys, note: Note) -> None:
        self._database = database
        self._buckets = buckets
        self._note = note
        self._at_once = _AT_ONCE[database.dialect]

    async def run(self, progress: Progress) -> tuple[int, int]:
        """Re-key every bucket that is asked for; gives how many buckets and member keys."""
        async with self._database.read() as session:
            todo = await repository.wanted(session)
        total, done = sum(one.keys for one in todo), 0

        def moved(keys: int) -> None:
            """Count keys that are committed under their new bucket key."""
            nonlocal done
            done += keys
            progress(done, max(done, total))

        for group in self._groups(todo):
            await self._group(group, moved)
        return len(todo), done

    def _groups(self, todo: Group) -> Iterator[Group]:
        """Put buckets together that make one transaction's worth of keys."""
        group: list[Wanted] = []
        for one in todo:
            if group and sum(other.keys for other in group) + one.keys > self._at_once:
                yield group
                group = []
            group.append(one)
        if group:
            yield group

    async def _group(self, group: Group, moved: Callable[[int], None]) -> None:
        """Give buckets new keys, move their members' keys, destroy the replaced ones."""
        first, last = group[0].bucket, group[-1].bucket
        for _ in range(_ROUNDS):
            async with self._database.unit_of_work() as work:
                group = await repository.wanted_in_range(work, first, last)
                if not group:
                    return
                newest = await self._hold(work, group)
                fresh = {
                    o.bucket: o.above + 1 for o in group if newest[o.bucket].version <= o.above
                }
                await self._buckets.make(work, fresh)
                if fresh:
                    await self._note(work, "bucket_keys_made", len(fresh))
            await self._move(group, moved)
            async with self._database.unit_of_work() as work:
                dropped = await repository.drop_replaced(work, group)
                if dropped:
                    await self._note(work, "bucket_keys_dropped", dropped)
                if not await repository.wanted_in_range(work, first, last):
                    return
            await asyncio.sleep(_REST_SECONDS)  # somebody held a key, or had just made one
        raise UnavailableError("a bucket of keys does not come to rest", reason="rotating")

    async def _move(self, group: Group, moved: Callable[[int], None]) -> None:
        """Move the members' keys of buckets, so many in one transaction."""
        after, full = repository.start_of(group[0].bucket), True
        while full:
            async with self._database.unit_of_work() as work:
                keys = await repository.keys_to_move(work, after, group[-1].bucket, self._at_once)
                if not keys:
                    return
                newest, older = await self._ciphers(work, group)
                versions, rewrapped = rewrap(self._buckets.ring.tenant, keys, older, newest)
                await repository.move_keys(work, keys, versions, rewrapped)
                await self._note(work, "keys_moved", len(keys))
            moved(len(keys))
            last = keys[-1]
            after = (last[0], last[1], last[2], last[3])
            full = len(keys) == self._at_once

    async def _hold(self, work: UnitOfWork, group: Group) -> dict[int, StoredBucket]:
        """Give the newest key of each bucket, which nobody destroys until `work` has ended."""
        for _ in range(_MOVES):
            newest = await repository.hold_newest(work, group[0].bucket, group[-1].bucket)
            if all(one.bucket in newest for one in group):
                return newest
        raise UnavailableError("the bucket keys are being replaced", reason="rotating")

    async def _ciphers(
        self, work: UnitOfWork, group: Group
    ) -> tuple[dict[int, tuple[int, AESGCM]], dict[tuple[int, int], AESGCM]]:
        """Open the newest keys of buckets, and the ones they replace."""
        newest = await self._hold(work, group)
        stored = await repository.stored(work, group[0].bucket, group[-1].bucket)
        opened = {(one.bucket, one.version): self._buckets.unwrap_stored(one) for one in stored}
        return {b: (one.version, opened[b, one.version]) for b, one in newest.items()}, opened


def rewrap(
    tenant: str,
    keys: Sequence[Any],
    older: Mapping[tuple[int, int], AESGCM],
    newest: Mapping[int, tuple[int, AESGCM]],
) -> tuple[list[int], list[bytes]]:
    """Wrap keys under the newest key of their bucket; each is open for one line of this.

    Takes rows of `keys_to_move`; gives the bucket key version and the wrapped bytes of each. One
    draw of randomness serves for all nonces, and what the contexts end in is made once a bucket.
    """
    nonces = os.urandom(NONCE_BYTES * len(keys))
    ways: dict[tuple[int, int, str, int], _Way] = {}
    versions: list[int] = []
    rewrapped: list[bytes] = []
    at = 0
    try:
        for bucket, owner_id, kind, version, number, wrapped in keys:
            way = ways.get((bucket, number, kind, version))
            if way is None:
                to, cipher = newest[bucket]
                before, behind = key_labels(tenant, kind)
                way = ways[bucket, number, kind, version] = (
                    before,
                    behind + NUMBERS.pack(version, bucket, number),
                    behind + NUMBERS.pack(version, bucket, to),
                    older[bucket, number].decrypt,
                    cipher.encrypt,
                    to,
                )
            before, old_end, new_end, decrypt, encrypt, to = way
            place = before + id_bytes(owner_id)
            nonce = nonces[at : at + NONCE_BYTES]
            at += NONCE_BYTES
            secret = decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place + old_end)
            rewrapped.append(nonce + encrypt(nonce, secret, place + new_end))
            versions.append(to)
    except (InvalidTag, KeyError, ValueError) as error:
        raise UnreadableError from error
    return versions, rewrapped
