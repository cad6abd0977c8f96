"""Reading a store that may lie: short reads, stale lists, other bytes, another writer.

Nothing is believed for being in the store. Manifests are asked for by number until there is no
next one and must be signed, chained and of this store; every object must have the hash that its
manifest names; what decrypts must belong in its place.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import orjson

from audit import KeyRotation, Shipped
from backup.envelope import FORMAT, Identities, unpack
from backup.errors import (
    BadSignatureError,
    CorruptObjectError,
    LedgerGapError,
    MissingObjectError,
    NoSuchSetError,
    OlderRefusedError,
    OtherSchemaError,
    StoreError,
    TruncatedManifestError,
)
from backup.ledger import count_objects
from backup.log import AUDIT_PREFIX
from backup.manifest import (
    FORMAT_NAME,
    Manifest,
    StoredObject,
    digest,
    manifest_name,
    read_manifest,
)
from backup.store import ObjectStore
from backup.writing import Progress
from kernel import metadata
from vault import RingBackup, read_ring


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store whose manifests were read and hold together, the oldest first."""

    store: ObjectStore
    store_id: str
    vkey: str
    backups: Sequence[tuple[Manifest, bytes]]

    @property
    def manifests(self) -> list[Manifest]:
        """Give the manifests without their bytes."""
        return [manifest for manifest, _ in self.backups]

    @property
    def newest(self) -> Manifest:
        """Give the newest manifest, or `NoSuchSetError`."""
        if not self.backups:
            raise NoSuchSetError("the store holds no backup yet")
        return self.backups[-1][0]

    def generation(
        self, wanted: int | None, *, allow_older: bool = False, known: int = 0
    ) -> Manifest:
        """Give the manifest of a generation; an older one than the newest must be meant.

        `known` is the newest generation that the registry remembers, where there is one: a store
        that ends before it hides what came later.
        """
        newest = self.newest
        if newest.generation < known:
            raise MissingObjectError(f"the store has lost generation {known}")
        if wanted is None or wanted == newest.generation:
            return newest
        found = next((m for m in self.manifests if m.generation == wanted), None)
        if found is None:
            raise NoSuchSetError(f"there is no generation {wanted}; {newest.generation} is newest")
        if not allow_older:
            raise OlderRefusedError(
                f"generation {wanted} was asked for, and {newest.generation} is there"
            )
        return found


def format_document(store_id: str, vkey: str) -> bytes:
    """Write what the store is and whose signatures it bears."""
    return orjson.dumps(
        {"format": FORMAT, "store": store_id, "signer": vkey}, option=orjson.OPT_INDENT_2
    )


async def read_format(store: ObjectStore, expected_vkey: str | None) -> tuple[str, str]:
    """Give (store id, verifier key) of a store; another key than expected is refused."""
    try:
        data = await store.get(FORMAT_NAME)
    except MissingObjectError:
        raise NoSuchSetError("the store holds no backups of Yinyom") from None
    try:
        said = orjson.loads(data)
        known, store_id, vkey = said["format"], str(said["store"]), str(said["signer"])
    except (ValueError, KeyError, TypeError):
        raise TruncatedManifestError(f"{FORMAT_NAME} is not of the format") from None
    if known != FORMAT:
        raise StoreError("the store is of a format that this version does not read")
    if expected_vkey is not None and vkey != expected_vkey:
        raise BadSignatureError(f"{FORMAT_NAME} names another signing key than the one expected")
    return store_id, vkey


async def read_shelf(store: ObjectStore, expected_vkey: str | None = None) -> Shelf:
    """Read every manifest of a store and hold them against one another."""
    store_id, vkey = await read_format(store, expected_vkey)
    listed = [name for name in await store.names("m/") if name.endswith(".json")]
    backups: list[tuple[Manifest, bytes]] = []
    previous = ""
    while True:
        name = manifest_name(len(backups) + 1)
        try:
            data = await store.get(name)
        except MissingObjectError:
            break
        manifest = read_manifest(name, data, vkey)
        if manifest.previous != previous or manifest.store != store_id:
            raise BadSignatureError(f"{name} does not continue the manifest before it")
        previous = digest(data)
        backups.append((manifest, data))
    if listed and listed[-1] > manifest_name(len(backups)):
        raise MissingObjectError(manifest_name(len(backups) + 1))
    return Shelf(store, store_id, vkey, backups)


def check_schema(manifest: Manifest, schema: str) -> None:
    """Refuse a backup of other tables: half of it would be loaded, and nobody would be told."""
    if manifest.schema != schema:
        raise OtherSchemaError(
            f"generation {manifest.generation} is of schema {manifest.schema}, "
            f"and this version is of schema {schema}"
        )
    strangers = sorted(set(manifest.tables) - set(metadata.tables))
    if strangers:
        raise OtherSchemaError(f"it holds tables unknown here: {', '.join(strangers)}")


async def check_presence(shelf: Shelf, manifest: Manifest, progress: Progress) -> int:
    """Ask for every object of a backup, its newest ring, log and ledger; gives how many."""
    objects = [*manifest.data_objects(), *shelf.newest.ring]
    for at, stored in enumerate(objects, 1):
        size = await shelf.store.size(stored.name, stored.version)
        if size is None:
            raise MissingObjectError(stored.name)
        if size != stored.size:
            raise CorruptObjectError(f"{stored.name} has {size} bytes, not {stored.size}")
        progress(at, len(objects))
    ledger = await count_objects(shelf.store, "ledger/", shelf.newest.rights_objects)
    log = await count_objects(shelf.store, AUDIT_PREFIX, shelf.newest.audit_objects)
    return len(objects) + ledger + log


async def check_hashes(shelf: Shelf, manifest: Manifest, progress: Progress) -> int:
    """Fetch every object of a backup and its newest ring; gives the bytes that were read."""
    objects = [*manifest.data_objects(), *shelf.newest.ring]
    read = 0
    for at, stored in enumerate(objects, 1):
        read += len(await fetch(shelf.store, stored))
        progress(at, len(objects))
    return read


async def fetch(store: ObjectStore, stored: StoredObject) -> bytes:
    """Fetch an object and hold it against its manifest."""
    data = await store.get(stored.name, stored.version)
    if len(data) != stored.size or digest(data) != stored.sha256:
        raise CorruptObjectError(f"{stored.name} is not what its manifest says")
    return data


async def read_rows(
    shelf: Shelf, manifest: Manifest, identities: Identities, table: str, index: int
) -> tuple[list[str], list[list[Any]]]:
    """Give columns and rows of one chunk of a table."""
    stored = manifest.tables[table][index]
    plain = identities.open(stored.name, await fetch(shelf.store, stored), manifest.recipients)
    place = {"kind": "rows", "table": table, "index": index, "rows": stored.rows}
    opened = unpack(stored.name, plain, place)
    try:
        rows = list(msgpack.Unpacker(_Reader(opened.body), use_list=True))
    except (ValueError, msgpack.UnpackException):
        raise CorruptObjectError(f"{stored.name} holds no rows") from None
    if len(rows) != stored.rows:
        raise CorruptObjectError(f"{stored.name} holds {len(rows)} rows, not {stored.rows}")
    return list(opened.header["columns"]), rows


async def read_newest_ring(shelf: Shelf, identities: Identities) -> RingBackup:
    """Open the newest key ring: what it has lost is lost for every backup, as it must be."""
    newest = shelf.newest
    pages = [
        identities.open(page.name, await fetch(shelf.store, page), newest.recipients)
        for page in newest.ring
    ]
    return read_ring(pages)


@dataclass(frozen=True, slots=True)
class ShippedLog:
    """How far the log was shipped, its newest checkpoint in the store, and how keys followed keys.

    The rotations are as somebody put them there: `rebuild_log` believes none that does not hold.
    """

    objects: int
    size: int
    note: str
    rotations: tuple[KeyRotation, ...] = ()


async def find_log(shelf: Shelf, identities: Identities) -> ShippedLog:
    """Find the newest shipped checkpoint; what came after it without one is left out."""
    objects = await count_objects(shelf.store, AUDIT_PREFIX, shelf.newest.audit_objects)
    for number in range(objects, 0, -1):
        header, _ = await _segment(shelf, identities, number)
        if header["note"]:
            return ShippedLog(objects, header["to"], header["note"], header["keys"])
    raise LedgerGapError("the store holds no checkpoint of the log")


async def log_portions(
    shelf: Shelf, identities: Identities, log: ShippedLog
) -> AsyncIterator[list[Shipped]]:
    """Give the shipped events in their order, each once."""
    have = 0
    for number in range(1, log.objects + 1):
        header, bodies = await _segment(shelf, identities, number)
        if header["from"] > have:
            raise LedgerGapError(f"of the log, the events from {have} on are missing")
        fresh = bodies[have - header["from"] :]
        have += len(fresh)
        if fresh:
            yield fresh


async def _segment(
    shelf: Shelf, identities: Identities, number: int
) -> tuple[dict[str, Any], list[Shipped]]:
    name = f"{AUDIT_PREFIX}{number:08d}.age"
    plain = identities.open(name, await shelf.store.get(name), shelf.newest.recipients)
    opened = unpack(name, plain, {"kind": "audit", "number": number})
    try:
        bodies: list[Shipped] = list(msgpack.unpackb(opened.body, use_list=False))
        header = {key: opened.header[key] for key in ("from", "to", "note")}
        header["keys"] = tuple(KeyRotation(**each) for each in opened.header.get("keys", ()))
        whole = header["to"] - header["from"] == len(bodies)
    except (ValueError, KeyError, TypeError, msgpack.UnpackException):
        whole, header, bodies = False, {}, []
    if not whole:
        raise CorruptObjectError(f"{name} does not hold the events it names")
    return header, bodies


class _Reader:
    """A file over bytes, for an unpacker that must not copy them whole."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        part = bytes(self._data[self._at : end])
        self._at += len(part)
        return part
