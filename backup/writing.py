"""Making a backup: one moment of the database, sealed chunk by chunk, named by a manifest last.

The host holds the recipients' public keys only, so whoever takes the host over cannot read one
backup more than the database gives him anyway. What fails on the way leaves objects that nothing
names; they are swept after a day.
"""

import asyncio
import hmac
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from audit import GENESIS, RightsLedger
from backup import repository
from backup.classes import BLANKED, TableClass, tables_of
from backup.envelope import pack
from backup.errors import CorruptObjectError
from backup.log import ship_log
from backup.manifest import Manifest, StoredObject, digest, manifest_name, write_manifest
from backup.place import Place
from backup.store import ObjectExistsError
from kernel import (
    ConflictError,
    Database,
    ReadSession,
    Row,
    Snapshot,
    UnavailableError,
    id_moment_us,
    metadata,
    new_id,
)
from vault import Vault

Progress = Callable[[int, int], None]
CHUNK_BYTES = 8 * 1024 * 1024
_ROWS_A_READ = 2_000
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class About:
    """What a manifest says of the installation; the log's key may be replaced meanwhile."""

    engine: str
    schema: str
    origin: str
    log_key: Callable[[], str]
    policy: str


@dataclass(frozen=True, slots=True)
class Made:
    """A backup just made: its manifest, the bytes of it, and what was written anew."""

    manifest: Manifest
    data: bytes
    written_objects: int
    written_bytes: int


class BackupWriter:
    """Writes one backup to one place."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        rights: RightsLedger,
        place: Place,
        about: About,
        previous: tuple[Manifest, bytes] | None,
        progress: Progress,
        ship_ledger: Callable[[], Awaitable[int]],
    ) -> None:
        self._database = database
        self._vault = vault
        self._rights = rights
        self._place = place
        self._about = about
        self._previous = previous
        self._progress = progress
        self._ship_ledger = ship_ledger
        self._known = {} if previous is None else _by_stem(previous[0])
        self._objects = 0
        self._bytes = 0

    async def write(self, *, now_us: int) -> Made:
        """Write data, ring and manifest; gives the backup once its manifest was read back."""
        generation = 1 if self._previous is None else self._previous[0].generation + 1
        set_id = new_id("bak", now_us)
        async with self._database.snapshot() as snapshot:
            position, link = await self._rights.head(snapshot)
            tables = await self._write_tables(snapshot, set_id)
            ring = await self._write_ring(snapshot, generation, set_id)
        # A manifest that names an entry which is not in the store yet could not be restored.
        if await self._ship_ledger() < position:
            raise UnavailableError("the rights ledger is behind", reason="store_unavailable")
        size, root, audit_objects = await ship_log(self._database, self._place)
        async with self._database.read() as session:
            rights_objects = await repository.progress(session, "ledger_objects")
        about = self._about
        manifest = Manifest(
            store=self._place.store_id,
            generation=generation,
            id=set_id,
            created_us=now_us,
            previous="" if self._previous is None else digest(self._previous[1]),
            engine=about.engine,
            schema=about.schema,
            origin=about.origin,
            log_key=about.log_key(),
            policy=about.policy,
            recipients=self._place.recipients.texts,
            tables=tables,
            ring=ring,
            audit_size=size,
            audit_root=root.hex(),
            rights_position=position,
            rights_link=(link if position else GENESIS).hex(),
            rights_objects=rights_objects,
            audit_objects=audit_objects,
        )
        data = write_manifest(manifest, self._place.signer)
        await self._read_ring_back(ring)
        try:
            await self._place.store.put(manifest_name(generation), data)
        except ObjectExistsError:
            raise ConflictError(
                "another process made this generation meanwhile", reason="backup_elsewhere"
            ) from None
        if await self._place.store.get(manifest_name(generation)) != data:
            raise CorruptObjectError(f"{manifest_name(generation)} reads back as something else")
        return Made(manifest, data, self._objects, self._bytes)

    # --- data -------------------------------------------------------------------------

    async def _write_tables(
        self, snapshot: Snapshot, set_id: str
    ) -> dict[str, tuple[StoredObject, ...]]:
        names = tables_of(TableClass.DATA, metadata.tables)
        total = await _count(snapshot, names)
        done = 0
        tables: dict[str, tuple[StoredObject, ...]] = {}
        for name in names:
            objects: list[StoredObject] = []
            async for rows, body in _chunks(snapshot, name):
                objects.append(await self._write_chunk(name, len(objects), rows, body, set_id))
                done += rows
                self._progress(done, total)
            tables[name] = tuple(objects)
        return tables

    async def _write_chunk(
        self, table: str, index: int, rows: int, body: bytes, set_id: str
    ) -> StoredObject:
        columns = [column.name for column in metadata.tables[table].columns]
        header = {"kind": "rows", "table": table, "index": index, "rows": rows, "columns": columns}
        stem = self._stem(header, body)
        known = self._known.get(stem)
        if known is not None and await self._is_there(known):
            return known
        sealed = await asyncio.to_thread(lambda: self._place.recipients.seal(pack(header, body)))
        return await self._put(f"c/{stem}.{set_id}.age", sealed, rows)

    async def _is_there(self, known: StoredObject) -> bool:
        return await self._place.store.size(known.name, known.version) == known.size

    def _stem(self, header: Mapping[str, Any], body: bytes) -> str:
        """Name a chunk after its content, under a key: an unchanged one is stored once."""
        said = msgpack.packb([sorted(header.items()), self._place.recipients.texts])
        mac = hmac.new(self._vault.backup_seed(), b"backup-name0" + said, "sha256")
        mac.update(body)
        return mac.hexdigest()[:32]

    # --- keys -------------------------------------------------------------------------

    async def _write_ring(
        self, snapshot: ReadSession, generation: int, set_id: str
    ) -> tuple[StoredObject, ...]:
        pages: list[StoredObject] = []
        async for sealed in self._vault.sealed_ring(snapshot, self._place.recipients.seal):
            name = f"keys/{generation:08d}/{len(pages):04d}.{set_id}.age"
            pages.append(await self._put(name, sealed, 0))
        return tuple(pages)

    async def _read_ring_back(self, ring: Sequence[StoredObject]) -> None:
        """Prove the ring that will make older ones go, before anything names it."""
        for page in ring:
            if digest(await self._place.store.get(page.name, page.version)) != page.sha256:
                raise CorruptObjectError(f"{page.name} reads back as something else")

    async def _put(self, name: str, sealed: bytes, rows: int) -> StoredObject:
        version = await self._place.store.put(name, sealed)
        self._objects += 1
        self._bytes += len(sealed)
        return StoredObject(name, version, len(sealed), digest(sealed), rows)


async def sweep(
    place: Place, manifests: Sequence[Manifest], *, now_us: int, ring_days: int, keep_days: int
) -> int:
    """Delete superseded rings, expired sets and what nothing names; gives how many objects.

    A ring goes `ring_days` after the next one was made and read back. Manifests stay: they hold
    nothing personal and carry the chain.
    """
    if not manifests:
        return 0
    newest = manifests[-1]
    kept = [m for m in manifests if m is newest or now_us - m.created_us < keep_days * _DAY_US]
    wanted = {stored.name for manifest in kept for stored in manifest.data_objects()}
    going: dict[str, str | None] = {}
    for manifest, successor in itertools.pairwise(manifests):
        rings_end = successor.created_us + ring_days * _DAY_US
        if now_us >= rings_end:
            going.update((page.name, page.version) for page in manifest.ring)
        going.update((s.name, s.version) for s in manifest.data_objects() if s.name not in wanted)
    named = {s.name for m in manifests for s in (*m.data_objects(), *m.ring)}
    present = [*await place.store.names("c/"), *await place.store.names("keys/")]
    for name in present:
        if name not in named and now_us - _made_us(name) > _DAY_US:
            going[name] = None
    gone = 0
    for name in present:
        if name in going:
            await place.store.delete(name, going[name])
            gone += 1
    return gone


def _made_us(name: str) -> int:
    """Read the moment of an object from the set id in its name."""
    try:
        return id_moment_us(name.rsplit(".", 2)[1])
    except (IndexError, ValueError):
        return 0


def _by_stem(manifest: Manifest) -> dict[str, StoredObject]:
    return {stored.name[2:].split(".")[0]: stored for stored in manifest.data_objects()}


async def _count(snapshot: ReadSession, names: Iterable[str]) -> int:
    return sum([await repository.count_rows(snapshot, name) for name in names])


async def _chunks(snapshot: Snapshot, table: str) -> AsyncIterator[tuple[int, bytes]]:
    """Give (rows, packed rows) of about a chunk's size, in the order of the primary key."""
    columns = [column.name for column in metadata.tables[table].columns]
    blanks = {name: BLANKED[table, name] for name in columns if (table, name) in BLANKED}
    parts: list[bytes] = []
    size = 0
    async for rows in snapshot.stream(repository.rows_of(table), most=_ROWS_A_READ):
        for row in rows:
            parts.append(_packed(row, columns, blanks))
            size += len(parts[-1])
            if size >= CHUNK_BYTES:
                yield len(parts), b"".join(parts)
                parts, size = [], 0
    if parts:
        yield len(parts), b"".join(parts)


def _packed(row: Row, columns: Sequence[str], blanks: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb([blanks[c] if c in blanks else row[c] for c in columns])
    return packed
