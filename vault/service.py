"""The vault: makes keys, seals cells, opens them for a ticket, and destroys keys.

Member keys are never cached: a key destroyed in one process is gone in all of them at once.
Bucket keys are cached, bounded and for minutes, each beside the stored bytes it was opened
from: whoever seals compares those bytes, because a bucket key that was rolled back must never
wrap a member's key. That member could not be opened again by anybody.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC

from kernel import NotAllowedError, ReadSession, UnitOfWork, id_bytes
from vault import repository
from vault.cell import NONCE_BYTES, Places, length_prefixed, open_cells, seal_cells
from vault.errors import UnreadableError
from vault.index import INDEX_VERSION, BlindIndex
from vault.keyring import KeyRing
from vault.owner_key import OwnerKey
from vault.repository import StoredTag, WrappedKey
from vault.ring_backup import KEYS_A_PAGE, RingKey, first_page, key_page
from vault.ticket import AccessTicket
from vault.wrapping import KEY_BYTES, unwrap_into, wipe, wrap

ORDINARY = "ordinary"
ARCHIVE = "archive"
_KEK_CACHE_SIZE = 1024
_KEK_SECONDS = 600.0
_NUMBERS = Struct(">III")


@dataclass(slots=True)
class _BucketKey:
    """A bucket key in RAM: the stored bytes it came from, and whether those are known to last."""

    expires: float
    wrapped: bytes
    cipher: AESGCM
    committed: bool

    def settle(self) -> None:
        self.committed = True


SealedRow = tuple[AccessTicket, WrappedKey, str, Mapping[str, bytes]]
"""Cells of one row to be opened, with the ticket for them, the wrapped key and the row's id."""


class Vault:
    """The keys of one tenant at work; one instance a process."""

    def __init__(
        self, ring: KeyRing, *, bucket_bits: int = 0, pads: Mapping[str, int] | None = None
    ) -> None:
        self._ring = ring
        self._tenant = ring.tenant
        self._mask = (1 << bucket_bits) - 1
        self._pads = dict(pads or {})
        self._places: dict[tuple[str, int], Places] = {}
        self._keks: OrderedDict[tuple[int, int], _BucketKey] = OrderedDict()
        self.index = BlindIndex(ring.secret("index"))
        self._digest_key = HMAC(ring.secret("digest"), hashes.SHA256())
        self._suppression_key = HMAC(ring.secret("suppression"), hashes.SHA256())

    @property
    def tenant(self) -> str:
        """The controller whose members these are."""
        return self._tenant

    @property
    def ring_id(self) -> str:
        """The identity of the key ring; the database remembers it."""
        return self._ring.id

    @property
    def ring_version(self) -> int:
        """The newest version of the ring root."""
        return self._ring.version

    def signing_seed(self, name: str) -> bytes:
        """Give the Ed25519 seed for `audit-signing` or `receipt-signing`."""
        return self._ring.secret(name)

    def backup_seed(self) -> bytes:
        """Give the Ed25519 seed that signs backups."""
        return self._ring.backup_seed()

    def ledger_tag_key(self) -> bytes:
        """Give the key under which the rights ledger names members."""
        return self._ring.secret("ledger-tag")

    # --- secrets that are nobody's data -----------------------------------------------

    def keep_secret(self, label: str, row_id: str, secret: bytes) -> tuple[int, bytes]:
        """Wrap a secret of an installation for its row; gives ring version and wrapped bytes.

        For what must be used in the clear, such as the key a webhook is signed with: a copy of
        the database holds it wrapped under the ring root only.
        """
        return self._ring.version, self._ring.wrap(secret, self._secret_context(label, row_id))

    def recall_secret(self, label: str, row_id: str, ring_version: int, wrapped: bytes) -> bytes:
        """Unwrap what `keep_secret` wrapped for the same row, or raise `UnreadableError`."""
        return self._ring.unwrap(ring_version, wrapped, self._secret_context(label, row_id))

    def _secret_context(self, label: str, row_id: str) -> bytes:
        parts = (self._tenant, label, row_id)
        return b"secret1" + b"".join(length_prefixed(part) for part in parts)

    # --- keys -------------------------------------------------------------------------

    async def make_keys(
        self, work: UnitOfWork, owner_id: str, kinds: Iterable[str]
    ) -> dict[str, OwnerKey]:
        """Make, wrap and store one fresh key of each kind for an owner."""
        bucket = self._bucket(owner_id)
        version, kek = await self._newest_kek(work, bucket)
        made: dict[str, OwnerKey] = {}
        for kind in kinds:
            key = os.urandom(KEY_BYTES)
            context = _key_context(self._tenant, owner_id, kind, 1, bucket, version)
            wrapped = WrappedKey(owner_id, kind, 1, bucket, version, wrap(kek, key, context))
            await repository.add_key(work, wrapped, None)
            made[kind] = OwnerKey(owner_id, kind, 1, key)
        return made

    async def keys_of(self, session: ReadSession, owner_id: str) -> dict[str, OwnerKey]:
        """Unwrap every key an owner still has, by kind; for work inside the registry."""
        opened: dict[str, OwnerKey] = {}
        for key in await repository.keys_of(session, owner_id):
            await self.ensure_bucket(session, key)
            opened[key.kind] = self.unwrap(key)
        return opened

    async def ensure_bucket(self, session: ReadSession, key: WrappedKey) -> None:
        """Load the bucket key that wraps `key`, unless it is in RAM and known to be stored."""
        held = self._cached(key.bucket, key.bucket_version)
        if held is not None and held.committed:
            return
        for stored in await repository.bucket_versions(session, key.bucket):
            if stored[0] == key.bucket_version:
                self._hold(session, key.bucket, *stored)
                return
        raise UnreadableError

    def unwrap(self, key: WrappedKey) -> OwnerKey:
        """Unwrap a key whose bucket key is in RAM (see `ensure_bucket`)."""
        buffer = self._unwrapped(key)
        opened = OwnerKey(key.owner_id, key.kind, key.version, buffer)
        wipe(buffer)
        return opened

    def _unwrapped(self, key: WrappedKey) -> bytearray:
        held = self._cached(key.bucket, key.bucket_version)
        if held is None:
            raise UnreadableError
        context = _key_context(
            self._tenant, key.owner_id, key.kind, key.version, key.bucket, key.bucket_version
        )
        return unwrap_into(held.cipher, key.wrapped, context)

    async def sealed_ring(
        self, session: ReadSession, seal: Callable[[bytes], bytes]
    ) -> AsyncIterator[bytes]:
        """Give the pages of a ring backup, each sealed before it leaves the vault.

        `seal` encrypts to public recipients only. Inside are the ring's secrets and every key
        that lives at this moment, unwrapped: no ring root is needed to bring them back, and no
        ring root, destroyed or stolen, opens a page.
        """
        yield seal(first_page(self._ring))
        after = ("", "", 0)
        while keys := await repository.every_key(session, after, KEYS_A_PAGE):
            page: list[RingKey] = []
            for wrapped, destroy_after_us in keys:
                await self.ensure_bucket(session, wrapped)
                key = self._unwrapped(wrapped)
                page.append(
                    RingKey(
                        wrapped.owner_id,
                        wrapped.kind,
                        wrapped.version,
                        bytes(key),
                        destroy_after_us,
                    )
                )
                wipe(key)
            yield seal(key_page(page))
            last = keys[-1][0]
            after = (last.owner_id, last.kind, last.version)

    async def adopt_keys(self, work: UnitOfWork, keys: Iterable[RingKey]) -> int:
        """Wrap keys of a ring backup under this ring's own bucket keys; gives how many."""
        adopted = 0
        for key in keys:
            bucket = self._bucket(key.owner_id)
            version, kek = await self._newest_kek(work, bucket)
            context = _key_context(
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
        places, row = self._at(table, key.version), id_bytes(row_id)
        pads = {f: self._pads[_field_of(f)] for f in values if _field_of(f) in self._pads}
        return seal_cells(key.cipher, places, row, values, pads)

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
        places = self._at(table, key.version)
        return _texts(open_cells(key.cipher, places, id_bytes(row_id), cells))

    def open_many(self, table: str, rows: Iterable[SealedRow]) -> list[dict[str, str]]:
        """Open cells of many rows, each under its own ticket and key, in their order.

        The seam for bulk reads: one loop, no object per cell but its value. The bucket keys
        must be in RAM (see `ensure_bucket`). Nothing is given when one row does not open.
        """
        opened: list[dict[str, str]] = []
        for ticket, key, row_id, cells in rows:
            _require(ticket, key.owner_id, cells)
            buffer = self._unwrapped(key)
            cipher = AESGCM(buffer)
            wipe(buffer)
            places = self._at(table, key.version)
            opened.append(_texts(open_cells(cipher, places, id_bytes(row_id), cells)))
        return opened

    def _at(self, table: str, key_version: int) -> Places:
        places = self._places.get((table, key_version))
        if places is None:
            places = self._places[table, key_version] = Places(key_version, self._tenant, table)
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

    # --- blind indexes ----------------------------------------------------------------

    async def add_tags(
        self, work: UnitOfWork, owner_id: str, normal_forms: Iterable[tuple[str, str, str]]
    ) -> None:
        """Make an owner findable by (field, kind, normal form)."""
        tags = [(field, kind, self.index.tag(kind, form)) for field, kind, form in normal_forms]
        await repository.add_tags(work, owner_id, tags, INDEX_VERSION)

    async def drop_tag(self, work: UnitOfWork, owner_id: str, field: str) -> None:
        """Make an owner no longer findable by what one field held."""
        await repository.drop_tag(work, owner_id, field)

    async def tag_of(self, session: ReadSession, owner_id: str, field: str) -> bytes | None:
        """Give the tag under which a field makes its owner findable."""
        return await repository.tag_of(session, owner_id, field)

    async def sharing(self, session: ReadSession, owner_id: str, *, most: int) -> set[str]:
        """Give the other owners who carry a tag of this one.

        A tag that more than `most` others carry names nobody and is left out.
        """
        shared: dict[str, set[str]] = {}
        for kind, owner in await repository.owners_sharing(session, owner_id):
            shared.setdefault(kind, set()).add(owner)
        return {owner for owners in shared.values() if len(owners) <= most for owner in owners}

    async def tags_of(self, session: ReadSession, owner_id: str) -> list[StoredTag]:
        """Give every tag of an owner, to be put back one day."""
        return await repository.tags_of(session, owner_id)

    async def put_tags(self, work: UnitOfWork, owner_id: str, tags: Iterable[StoredTag]) -> None:
        """Put tags back under which an owner was findable."""
        await repository.put_tags(work, owner_id, tags)

    async def drop_tags(self, work: UnitOfWork, owner_id: str) -> None:
        """Make an owner no longer findable by anything."""
        await repository.drop_tags(work, owner_id)

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
        """Give (field, tag) by which an owner's addresses are known to the suppression list.

        The blind-index tag under a key of its own: the list outlives its people, and its thief
        must not be able to hold it against the index. Contact points past the first bear the
        name of their field.
        """
        return [
            (held.field.partition(".")[0], self._suppression_tag(held.kind, held.tag))
            for held in await repository.tags_of(session, owner_id)
        ]

    def _suppression_tag(self, kind: str, tag: bytes) -> bytes:
        mac = self._suppression_key.copy()
        mac.update(b"suppression1" + length_prefixed(kind) + tag)
        return mac.finalize()[:16]

    async def find(
        self, session: ReadSession, kind: str, normal_form: str, *, most: int = 50
    ) -> Sequence[str]:
        """Give the owners that carry this value, the oldest first."""
        tag = self.index.tag(kind, normal_form)
        return await repository.owners_of_tag(session, kind, tag, most=most)

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
        destroyed = 0
        for kind in {key.kind for key in await repository.keys_of(work, owner_id)}:
            if kind in keep:
                await repository.set_destroy_after(work, owner_id, kind, keep[kind])
            else:
                destroyed += await repository.destroy_keys(work, owner_id, kind)
        await repository.drop_tags(work, owner_id)
        return destroyed

    # --- bucket keys ------------------------------------------------------------------

    def forget_bucket_keys(self) -> None:
        """Drop every bucket key from RAM; the next use reads and unwraps it anew."""
        self._keks.clear()

    def _bucket(self, owner_id: str) -> int:
        digest = hashlib.sha256(id_bytes(owner_id)).digest()
        return int.from_bytes(digest[-4:]) & self._mask

    async def _newest_kek(self, work: UnitOfWork, bucket: int) -> tuple[int, AESGCM]:
        versions = await repository.bucket_versions(work, bucket)
        if not versions:
            fresh = os.urandom(KEY_BYTES)
            wrapped = self._ring.wrap(fresh, _bucket_context(self._tenant, bucket, 1))
            await repository.add_bucket(work, bucket, 1, self._ring.version, wrapped)
            versions = await repository.bucket_versions(work, bucket)
        newest = versions[0]
        return newest[0], self._hold(work, bucket, *newest).cipher

    def _hold(
        self, session: ReadSession, bucket: int, version: int, ring_version: int, wrapped: bytes
    ) -> _BucketKey:
        """Give the bucket key behind the stored bytes, from RAM only if it came from the same."""
        held = self._cached(bucket, version)
        if held is not None and held.wrapped == wrapped:
            return held
        context = _bucket_context(self._tenant, bucket, version)
        cipher = AESGCM(self._ring.unwrap(ring_version, wrapped, context))
        # A unit of work may be looking at a bucket of its own that is rolled back in the end.
        when_durable = getattr(session, "after_commit", None)
        held = _BucketKey(time.monotonic() + _KEK_SECONDS, wrapped, cipher, when_durable is None)
        if when_durable is not None:
            when_durable(held.settle)
        self._keks[bucket, version] = held
        while len(self._keks) > _KEK_CACHE_SIZE:
            self._keks.popitem(last=False)
        return held

    def _cached(self, bucket: int, version: int) -> _BucketKey | None:
        held = self._keks.get((bucket, version))
        if held is not None and time.monotonic() > held.expires:
            del self._keks[bucket, version]
            return None
        return held


def _require(ticket: AccessTicket, owner_id: str, cells: Mapping[str, bytes]) -> None:
    """Refuse to open what the ticket does not speak of, or without a ticket."""
    if (
        type(ticket) is not AccessTicket
        or ticket.owner_id != owner_id
        or not ticket.fields.issuperset(cells)
    ):
        raise NotAllowedError("the access ticket does not cover these cells")


def _texts(opened: Mapping[str, bytes]) -> dict[str, str]:
    try:
        return {field: value.decode() for field, value in opened.items()}
    except UnicodeDecodeError as error:
        raise UnreadableError from error


def _field_of(slot: str) -> str:
    """Give the catalogue field of a slot: a second phone lies in `phone.2`."""
    return slot.partition(".")[0]


def _bucket_context(tenant: str, bucket: int, version: int) -> bytes:
    return b"bucket1" + length_prefixed(tenant) + bucket.to_bytes(4) + version.to_bytes(4)


@lru_cache(maxsize=256)
def _key_labels(tenant: str, kind: str) -> tuple[bytes, bytes]:
    return b"key1" + length_prefixed(tenant), length_prefixed(kind)


def _key_context(
    tenant: str, owner_id: str, kind: str, version: int, bucket: int, bucket_version: int
) -> bytes:
    """Bind a wrapped key to its owner, kind, version and bucket (three 32-bit numbers)."""
    before, behind = _key_labels(tenant, kind)
    numbers = _NUMBERS.pack(version, bucket, bucket_version)
    return before + id_bytes(owner_id) + behind + numbers
