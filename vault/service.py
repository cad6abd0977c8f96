"""The vault: makes keys, seals cells, opens them for a ticket, and destroys keys.

Member keys are never cached: a key destroyed in one process is gone in all of them at once.
Bucket keys are (see `vault.buckets`).
"""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC

from kernel import NotAllowedError, ReadSession, UnitOfWork, id_bytes
from vault import repository
from vault.buckets import BucketKeys
from vault.cell import NONCE_BYTES, Places, length_prefixed, open_many, seal_many
from vault.contexts import around_owner, key_context, secret_context
from vault.erasing_repository import erase
from vault.errors import UnreadableError
from vault.keyring import KeyRing
from vault.owner_key import PSEUDONYM, OwnerKey
from vault.providers import ProviderHealth
from vault.recovery_repository import dated_keys, keys_between, living_key, note_unbacked
from vault.repository import WrappedKey
from vault.ring_backup import KEYS_A_PAGE, RingKey, first_page, key_page
from vault.sealed import Sealed, Value
from vault.tags import Tags
from vault.ticket import AccessTicket
from vault.wrapping import KEY_BYTES, unwrap_into, wipe, wrap

ORDINARY = "ordinary"
ARCHIVE = "archive"
_NOTHING = bytes(KEY_BYTES)
_NONCE = slice(None, NONCE_BYTES)
_BODY = slice(NONCE_BYTES, None)
_NOT_COVERED = "the access ticket does not cover these cells"
_Way = tuple[Callable[[bytes, bytes, bytes, bytearray], int], bytes, bytes, Places]


SealedRow = tuple[AccessTicket, WrappedKey, str, Mapping[str, bytes]]
"""Cells of one row to be opened, with the ticket for them, the wrapped key and the row's id."""


class Vault:
    """The keys of one tenant at work; one instance a process."""

    def __init__(
        self, ring: KeyRing, *, bucket_bits: int = 0, pads: Mapping[str, int] | None = None
    ) -> None:
        self.buckets = BucketKeys(ring)
        self._tenant = ring.tenant
        self._mask = (1 << bucket_bits) - 1
        self._pads = dict(pads or {})
        self._places: dict[tuple[str, int], Places] = {}
        self.tags = Tags(lambda: self.buckets.ring)
        self._digest_key = HMAC(ring.secret("digest"), hashes.SHA256())

    @property
    def tenant(self) -> str:
        """The controller whose members these are."""
        return self._tenant

    @property
    def ring_id(self) -> str:
        """The identity of the key ring; the database remembers it."""
        return self.buckets.ring.id

    @property
    def ring_version(self) -> int:
        """The newest version of the ring root."""
        return self.buckets.ring.version

    def kms_health(self) -> ProviderHealth:
        """Ask the KMS how it does; waits for it."""
        return self.buckets.ring.provider.health()

    def signing_seed(self, name: str) -> bytes:
        """Give the Ed25519 seed for `receipt-signing`."""
        return self.buckets.ring.secret(name)

    def log_seeds(self) -> dict[int, bytes]:
        """Give the Ed25519 seeds of the log by version, the oldest first."""
        return self.buckets.ring.log_seeds()

    def backup_seed(self) -> bytes:
        """Give the Ed25519 seed that signs backups."""
        return self.buckets.ring.backup_seed()

    def ledger_tag_key(self) -> bytes:
        """Give the key under which the rights ledger names members."""
        return self.buckets.ring.secret("ledger-tag")

    # --- secrets that are nobody's data -----------------------------------------------

    async def keep_secret(
        self, work: UnitOfWork, label: str, row_id: str, secret: bytes
    ) -> tuple[int, bytes]:
        """Wrap a secret of an installation for its row; gives ring version and wrapped bytes.

        For what must be used in the clear, such as the key a webhook is signed with: a copy of
        the database holds it wrapped under the ring root only.
        """
        await self.buckets.settle(work)
        context = secret_context(self._tenant, label, row_id)
        return self.buckets.ring.wrap_newest(secret, context)

    def recall_secret(self, label: str, row_id: str, ring_version: int, wrapped: bytes) -> bytes:
        """Unwrap what `keep_secret` wrapped for the same row, or raise `UnreadableError`."""
        context = secret_context(self._tenant, label, row_id)
        return self.buckets.unwrap(ring_version, wrapped, context)

    # --- keys -------------------------------------------------------------------------

    async def make_keys(
        self, work: UnitOfWork, owner_id: str, kinds: Iterable[str]
    ) -> dict[str, OwnerKey]:
        """Make, wrap and store one fresh key of each kind for an owner."""
        bucket = self._bucket(owner_id)
        version, kek = await self.buckets.newest(work, bucket)
        made: dict[str, OwnerKey] = {}
        for kind in kinds:
            key = os.urandom(KEY_BYTES)
            context = key_context(self._tenant, owner_id, kind, 1, bucket, version)
            wrapped = WrappedKey(owner_id, kind, 1, bucket, version, wrap(kek, key, context))
            await repository.add_key(work, wrapped, None)
            made[kind] = OwnerKey(owner_id, kind, 1, key)
        if made:
            await note_unbacked(work, owner_id)
        return made

    async def keys_of(self, session: ReadSession, owner_id: str) -> dict[str, OwnerKey]:
        """Unwrap every key an owner still has, by kind; for work inside the registry."""
        opened: dict[str, OwnerKey] = {}
        for key in await repository.keys_of(session, owner_id):
            opened[key.kind] = self.unwrap(await self.ensure_bucket(session, key))
        return opened

    async def pseudonyms(
        self, session: ReadSession, after: str, until: str
    ) -> dict[str, OwnerKey | None]:
        """Unwrap the pseudonym keys of owners with ids in (after, until]; no cell is touched.

        None stands for a key that does not open: it lies in another's place, or is an old one.
        """
        found: dict[str, OwnerKey | None] = {}
        for key in await keys_between(session, after, until, PSEUDONYM):
            try:
                found[key.owner_id] = self.unwrap(await self.ensure_bucket(session, key))
            except UnreadableError:
                found[key.owner_id] = None
        return found

    async def ensure_bucket(self, session: ReadSession, key: WrappedKey) -> WrappedKey:
        """Load the bucket key that wraps `key`; gives the key as it rests now, to be unwrapped.

        It rests elsewhere than where it was read when it was rewrapped in between.
        """
        return await self.buckets.load(session, key)

    def unwrap(self, key: WrappedKey) -> OwnerKey:
        """Unwrap a key whose bucket key is in RAM (see `ensure_bucket`)."""
        buffer = self._unwrapped(key)
        opened = OwnerKey(key.owner_id, key.kind, key.version, buffer)
        buffer[:] = _NOTHING
        return opened

    def _unwrapped(self, key: WrappedKey) -> bytearray:
        held = self.buckets.cached(key.bucket, key.bucket_version)
        if held is None:
            raise UnreadableError
        return unwrap_into(held.cipher, key.wrapped, key_context(self._tenant, *key[:5]))

    async def sealed_ring(
        self, session: ReadSession, seal: Callable[[bytes], bytes]
    ) -> AsyncIterator[bytes]:
        """Give the pages of a ring backup, each sealed before it leaves the vault.

        `seal` encrypts to public recipients only. Inside are the ring's secrets and every key
        that lives at this moment, unwrapped: no ring root is needed to bring them back, and no
        ring root, destroyed or stolen, opens a page.
        """
        async for page, _ in self.sealed_pages(session, seal):
            yield page

    async def sealed_pages(
        self, session: ReadSession, seal: Callable[[bytes], bytes]
    ) -> AsyncIterator[tuple[bytes, int]]:
        """Give the pages of `sealed_ring`, each with the number of its keys."""
        yield seal(first_page(self.buckets.ring)), 0
        after = ("", "", 0)
        while keys := await repository.every_key(session, after, KEYS_A_PAGE):
            page = [await self._ring_key(session, *key) for key in keys]
            yield seal(key_page(page)), len(page)
            last = keys[-1][0]
            after = (last.owner_id, last.kind, last.version)

    async def key_page_of(self, session: ReadSession, owners: Iterable[str]) -> tuple[bytes, int]:
        """Give a page of all keys of some owners, to be sealed at once, and how many there are."""
        page = [
            await self._ring_key(session, *key)
            for owner in owners
            for key in await dated_keys(session, owner)
        ]
        return key_page(page), len(page)

    async def holds(self, session: ReadSession, key: RingKey) -> bool | None:
        """Say whether a key of a ring backup is the living one; None when none lives."""
        stored = await living_key(session, key.owner_id, key.kind, key.version)
        if stored is None:
            return None
        living = await self._ring_key(session, stored, None)
        return hmac.compare_digest(living.key, key.key)

    async def _ring_key(
        self, session: ReadSession, wrapped: WrappedKey, destroy_after_us: int | None
    ) -> RingKey:
        buffer = self._unwrapped(await self.ensure_bucket(session, wrapped))
        key = bytes(buffer)
        wipe(buffer)
        return RingKey(wrapped.owner_id, wrapped.kind, wrapped.version, key, destroy_after_us)

    async def adopt_keys(self, work: UnitOfWork, keys: Iterable[RingKey]) -> int:
        """Wrap keys of a ring backup under this ring's own bucket keys; gives how many."""
        adopted = 0
        for key in keys:
            bucket = self._bucket(key.owner_id)
            version, kek = await self.buckets.newest(work, bucket)
            context = key_context(
                self._tenant, key.owner_id, key.kind, key.version, bucket, version
            )
            wrapped = WrappedKey(
                key.owner_id, key.kind, key.version, bucket, version, wrap(kek, key.key, context)
            )
            await repository.add_key(work, wrapped, key.destroy_after_us)
            adopted += 1
        return adopted

    # --- cells ------------------------------------------------------------------------

    def seal(
        self, key: OwnerKey, table: str, row_id: str, values: Mapping[str, str]
    ) -> dict[str, bytes]:
        """Seal values of one row by field name; those that the catalogue pads are padded."""
        return seal_many(key.cipher, self._at(table, key.version), id_bytes(row_id), values)

    def open(
        self,
        ticket: AccessTicket,
        key: OwnerKey,
        table: str,
        row_id: str,
        cells: Mapping[str, bytes],
    ) -> dict[str, str]:
        """Open cells of one row; the ticket must speak of this owner and cover each field."""
        _require(ticket, key.owner_id, cells)
        return open_many(key.cipher, self._at(table, key.version), id_bytes(row_id), cells)

    def open_value(
        self,
        ticket: AccessTicket,
        key: OwnerKey,
        table: str,
        row_id: str,
        sealed: Sealed[Value],
    ) -> Value:
        """Open one typed value; the ticket must speak of this owner and cover its field."""
        opened = self.open(ticket, key, table, row_id, {sealed.field: sealed.cell})
        return sealed.read(opened[sealed.field])

    def open_many(self, table: str, rows: Iterable[SealedRow]) -> list[dict[str, str]]:
        """Open cells of many rows, each under its own ticket and key, in their order.

        The seam for bulk reads: one loop, no object per cell but its value. The bucket keys
        must be in RAM (see `ensure_bucket`). Nothing is given when one row does not open.
        """
        opened: list[dict[str, str]] = []
        ways: dict[tuple[str, int, int, int], _Way] = {}
        buffer = bytearray(KEY_BYTES)
        try:
            for ticket, key, row_id, cells in rows:
                owner = key[0]
                if (
                    type(ticket) is not AccessTicket
                    or ticket[1] != owner
                    or not ticket[2].issuperset(cells)
                ):
                    raise NotAllowedError(_NOT_COVERED)
                way = ways.get(key[1:5])
                if way is None:
                    way = ways[key[1:5]] = self._way(table, key)
                unwrap, before, behind, places = way
                place, wrapped = id_bytes(owner), key[5]
                unwrap(wrapped[_NONCE], wrapped[_BODY], before + place + behind, buffer)
                row = place if row_id == owner else id_bytes(row_id)
                opened.append(open_many(AESGCM(buffer), places, row, cells))
        except (InvalidTag, ValueError) as error:
            raise UnreadableError from error
        finally:
            buffer[:] = _NOTHING
        return opened

    def _way(self, table: str, key: WrappedKey) -> _Way:
        """Give what all keys of one kind, version and bucket key are opened with."""
        _, kind, version, bucket, bucket_version, _ = key
        held = self.buckets.cached(bucket, bucket_version)
        if held is None:
            raise UnreadableError
        around = held.contexts.get((kind, version))
        if around is None:
            around = around_owner(self._tenant, kind, version, bucket, bucket_version)
            held.contexts[kind, version] = around
        return held.cipher.decrypt_into, around[0], around[1], self._at(table, version)

    def _at(self, table: str, key_version: int) -> Places:
        places = self._places.get((table, key_version))
        if places is None:
            places = Places(key_version, self._tenant, table, self._pads)
            self._places[table, key_version] = places
        return places

    def seal_archive(
        self, key: OwnerKey, table: str, row_id: str, data: bytes
    ) -> tuple[bytes, bytes]:
        """Seal bytes of one row under a fresh key; gives that key as a cell, and the bytes."""
        fresh, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
        sealed = AESGCM(fresh).encrypt(nonce, data, self._archive_context(table, row_id))
        return self.seal(key, table, row_id, {ARCHIVE: fresh.hex()})[ARCHIVE], nonce + sealed

    def open_archive(
        self,
        ticket: AccessTicket,
        key: OwnerKey,
        table: str,
        row_id: str,
        wrapped: bytes,
        sealed: bytes,
    ) -> bytes:
        """Open what `seal_archive` gave; the ticket must cover the field `archive`."""
        fresh = bytes.fromhex(self.open(ticket, key, table, row_id, {ARCHIVE: wrapped})[ARCHIVE])
        context = self._archive_context(table, row_id)
        try:
            return AESGCM(fresh).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise UnreadableError from error

    def _archive_context(self, table: str, row_id: str) -> bytes:
        parts = length_prefixed(self._tenant) + length_prefixed(table)
        return b"archive1" + parts + id_bytes(row_id)

    # --- digests ----------------------------------------------------------------------

    def keyed_digest(self, label: str, *parts: bytes) -> bytes:
        """Digest parts under a key of the ring, for what must not be guessable in the database.

        One-time codes and repeated import rows have too little entropy for a plain hash.
        """
        mac = self._digest_key.copy()
        mac.update(b"".join((length_prefixed(label), *(len(p).to_bytes(4) + p for p in parts))))
        return mac.finalize()[:16]

    async def suppression_tags(
        self, session: ReadSession, owner_id: str
    ) -> list[tuple[str, bytes]]:
        """Give (field, tag) by which an owner's addresses are known to the suppression list."""
        key = (await self.keys_of(session, owner_id)).get(ORDINARY)
        return [] if key is None else await self.tags.suppression(session, key)

    # --- erasure ----------------------------------------------------------------------

    async def erase(
        self,
        work: UnitOfWork,
        owner_id: str,
        *,
        keep: Mapping[str, int],
    ) -> int:
        """Destroy an owner's keys and tags in this transaction; give how many keys died.

        `keep` names the kinds of key that a law or the trail still needs, each with the
        moment (µs) at which the worker destroys it.
        """
        return await erase(work, owner_id, keep)

    def forget_bucket_keys(self) -> None:
        """Drop every bucket key from RAM; the next use reads and unwraps it anew."""
        self.buckets.forget()

    def _bucket(self, owner_id: str) -> int:
        digest = hashlib.sha256(id_bytes(owner_id)).digest()
        return int.from_bytes(digest[-4:]) & self._mask


def _require(ticket: AccessTicket, owner_id: str, cells: Mapping[str, bytes]) -> None:
    """Refuse to open what the ticket does not speak of, or without a ticket."""
    if (
        type(ticket) is not AccessTicket
        or ticket.owner_id != owner_id
        or not ticket.fields.issuperset(cells)
    ):
        raise NotAllowedError(_NOT_COVERED)
