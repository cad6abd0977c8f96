"""Backups of a running registry: agreeing on a store, making backups, and saying how they stand.

Verifying and restoring need no registry, only the store and the kit, and live in `backup.reading`
and `backup.restoring`; what they found is noted here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit import AuditLog, RightsLedger
from backup import repository
from backup.envelope import Recipients
from backup.errors import MissingObjectError, NoSuchSetError, StoreError
from backup.ledger import OBJECTS, POSITION, LedgerShipping, count_objects
from backup.log import AUDIT_OBJECTS, AUDIT_POSITION, AUDIT_PREFIX
from backup.manifest import FORMAT_NAME, digest
from backup.place import FACT_ADDRESS, FACT_STORE_ID, Place, Places
from backup.reading import format_document, read_format, read_shelf
from backup.repository import BackupSet
from backup.store import FolderStore
from backup.writing import About, BackupWriter, Progress, sweep
from kernel import (
    Caller,
    Clock,
    ConflictError,
    Database,
    ReadSession,
    fact,
    new_random_id,
    rfc3339,
)
from vault import Vault

_LEASE = "lease"
_DRILLED = "drilled_us"
_DRILL_MS = "drill_ms"
_LEASE_US = 90_000_000  # a process that died is not waited for longer
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_KEEP = 1  # a backup made on the day of the erasure is swept by the one of the day after its end


@dataclass(frozen=True, slots=True)
class Pace:
    """How often backups are made, and how long their parts stay."""

    every_hours: int
    ring_days: int
    keep_days: int


class Backups:
    """Makes backups of one registry and answers for them."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        rights: RightsLedger,
        places: Places,
        shipping: LedgerShipping,
        about: About,
        pace: Pace,
        clock: Clock,
        drain: Callable[[], Awaitable[int]],
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._rights = rights
        self._places = places
        self._shipping = shipping
        self._about = about
        self._pace = pace
        self._clock = clock
        self._drain = drain
        self._turn = asyncio.Lock()

    @property
    def vkey(self) -> str:
        """The key that signs this registry's backups; a restore should be told it."""
        return self._places.signer.vkey

    # --- agreeing on a store ----------------------------------------------------------

    async def init(
        self, caller: Caller, address: str, recipients: Recipients, *, private: list[Path]
    ) -> dict[str, Any]:
        """Begin a store, or take up one that bears this registry's signature.

        `private` are the folders of data and keys: a store in or around one of them is refused,
        because whoever takes the one would have the other.
        """
        store = self._places.open(address)
        if isinstance(store, FolderStore):
            await asyncio.to_thread(_refuse_beside_keys, Path(store.address[7:]), private)
        taken = await store.size(FORMAT_NAME) is not None
        if taken:
            store_id, _ = await read_format(store, self.vkey)
        else:
            store_id = new_random_id("str")
            await store.put(FORMAT_NAME, format_document(store_id, self.vkey))
            await read_format(store, self.vkey)
        ledger = await count_objects(store, "ledger/", 0)
        log = await count_objects(store, AUDIT_PREFIX, 0)
        async with self._database.unit_of_work() as work:
            if store_id != await fact(work, FACT_STORE_ID):
                await repository.forget_sets(work)  # they lie in another store
            await self._places.agree(work, store.address, store_id, recipients)
            for name, value in {
                POSITION: 0,
                OBJECTS: ledger,
                AUDIT_POSITION: 0,
                AUDIT_OBJECTS: log,
            }.items():
                await repository.set_progress(work, name, value)
            kind = store.address.partition(":")[0]
            await self._audit.record(work, caller, "backup.init", resource=f"backup:{kind}")
        await self._shipping.flush()
        return {
            "store": store.address,
            "store_id": store_id,
            "recipients": list(recipients.texts),
            "signer": self.vkey,
            "taken_up": taken,
        }

    # --- making -----------------------------------------------------------------------

    async def create(self, caller: Caller, progress: Progress) -> dict[str, Any]:
        """Make a backup now; one runner at a time in the whole installation."""
        began_us = self._clock.now_us()
        async with self._database.read() as session:
            place = await self._agreed(session)
        if self._turn.locked():
            raise ConflictError("a backup is being made", reason="backup_running")
        async with self._turn, self._alone():
            return await self._create(caller, place, progress, began_us)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep other processes from making a backup meanwhile; SQLite has no others."""
        if self._database.dialect == "sqlite":
            yield
            return
        if not await self._take_lease():
            raise ConflictError("another process is making a backup", reason="backup_running")
        renewing = asyncio.create_task(self._renew(), name="backup lease")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            async with self._database.unit_of_work() as work:
                await repository.set_progress(work, _LEASE, 0)

    async def _take_lease(self) -> bool:
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            return await repository.take_lease(
                work, _LEASE, now_us=now_us, until_us=now_us + _LEASE_US
            )

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_US / 3_000_000)
            until_us = self._clock.now_us() + _LEASE_US
            async with self._database.unit_of_work() as work:
                await repository.set_progress(work, _LEASE, until_us)

    async def create_when_due(self, caller: Caller) -> bool:
        """Make a backup if a store is agreed on and the last one is old enough."""
        if not self._pace.every_hours:
            return False
        async with self._database.read() as session:
            agreed = await self._places.current(session)
            last = await repository.newest_set(session)
        now_us = self._clock.now_us()
        due_us = 0 if last is None else last.created_us + self._pace.every_hours * _HOUR_US
        if agreed is None or now_us < due_us:
            return False
        try:
            await self.create(caller, lambda _done, _total: None)
        except ConflictError:
            return False
        return True

    async def _create(
        self, caller: Caller, place: Place, progress: Progress, began_us: int
    ) -> dict[str, Any]:
        await self._drain()
        await self._shipping.flush()
        shelf = await read_shelf(place.store, self.vkey)
        async with self._database.read() as session:
            known = await repository.newest_set(session)
        previous = shelf.backups[-1] if shelf.backups else None
        found = 0 if previous is None else previous[0].generation
        if known is not None and known.generation > found:
            raise MissingObjectError(f"the store has lost generation {known.generation}")
        writer = BackupWriter(
            self._database,
            self._vault,
            self._rights,
            place,
            self._about,
            previous,
            progress,
            self._shipping.flush,
        )
        made = await writer.write(now_us=began_us)
        manifest = made.manifest
        async with self._database.unit_of_work() as work:
            await repository.add_set(
                work,
                BackupSet(
                    manifest.generation,
                    manifest.id,
                    manifest.created_us,
                    None,
                    bytes.fromhex(digest(made.data)),
                    manifest.stored_bytes,
                    manifest.rows,
                ),
            )
            await repository.mark_verified(work, manifest.generation, self._clock.now_us())
            await self._audit.record(
                work,
                caller,
                "backup.create",
                resource=f"backup:{manifest.id}",
                count=manifest.rows,
            )
        swept = await sweep(
            place,
            [*shelf.manifests, manifest],
            now_us=self._clock.now_us(),
            ring_days=self._pace.ring_days,
            keep_days=self._pace.keep_days,
        )
        return {
            "generation": manifest.generation,
            "set": manifest.id,
            "rows": manifest.rows,
            "objects": len(manifest.data_objects()) + len(manifest.ring),
            "written_objects": made.written_objects,
            "written_bytes": made.written_bytes,
            "stored_bytes": manifest.stored_bytes,
            "swept_objects": swept,
            "audit_size": manifest.audit_size,
            "rights_position": manifest.rights_position,
            "seconds": (self._clock.now_us() - began_us) / 1_000_000,
        }

    # --- noting -----------------------------------------------------------------------

    async def note_verified(self, caller: Caller, generation: int, level: int) -> None:
        """Note that a backup was read and found whole."""
        async with self._database.unit_of_work() as work:
            await repository.mark_verified(work, generation, self._clock.now_us())
            await self._audit.record(
                work, caller, "backup.verify", resource=f"backup:level-{level}", count=generation
            )

    async def note_drill(self, caller: Caller, generation: int, seconds: float) -> None:
        """Note that a backup was restored into a throw-away place, and how long that took."""
        async with self._database.unit_of_work() as work:
            await repository.set_progress(work, _DRILLED, self._clock.now_us())
            await repository.set_progress(work, _DRILL_MS, int(seconds * 1000))
            await self._audit.record(
                work, caller, "backup.drill", resource="backup:generation", count=generation
            )

    # --- telling ----------------------------------------------------------------------

    async def address(self) -> str | None:
        """Give the address of the store; None while none is agreed on."""
        async with self._database.read() as session:
            return await fact(session, FACT_ADDRESS) or None

    async def status(self) -> dict[str, Any]:
        """Say how backups stand, and when an erasure asked for now is final in all of them."""
        now_us = self._clock.now_us()
        async with self._database.read() as session:
            place = await self._places.current(session)
            last = await repository.newest_set(session)
            verified = await repository.newest_set(session, verified=True)
            drilled_us = await repository.progress(session, _DRILLED)
            drill_ms = await repository.progress(session, _DRILL_MS)
            shipped = await repository.progress(session, POSITION)
            position, _ = await self._rights.head(session)
            waiting = await self._rights.waiting(session)
        if place is None:
            return {"configured": False, "state": "off", "says": "no backup store is configured"}
        final_us = self._final_us(last, now_us)
        state, says = self._state(verified, now_us)
        return {
            "configured": True,
            "state": state,
            "says": says,
            "store": place.store.address,
            "store_id": place.store_id,
            "recipients": list(place.recipients.texts),
            "signer": self.vkey,
            "every_hours": self._pace.every_hours,
            "generation": None if last is None else last.generation,
            "last_created": None if last is None else rfc3339(last.created_us),
            "last_verified": None
            if verified is None or verified.verified_us is None
            else rfc3339(verified.verified_us),
            "stored_bytes": None if last is None else last.stored_bytes,
            "rows": None if last is None else last.row_count,
            "last_drill": rfc3339(drilled_us) if drilled_us else None,
            "drill_seconds": drill_ms / 1000 if drilled_us else None,
            "ledger_shipped": shipped,
            "ledger_waiting": position - shipped + waiting,
            "ledger_state": self._shipping.state.reason or "ok",
            "erasure_final_on": None if final_us is None else rfc3339(final_us)[:10],
        }

    async def erased_from_backups(self, session: ReadSession, erased_us: int) -> dict[str, Any]:
        """Say, for a certificate, when an erasure was or will be final in every backup.

        The key rings that knew the member go after the next verified ring; what is left of the
        rows, unreadable and without a name, goes with the last data backup.
        """
        if await self._places.current(session) is None:
            return {"state": "no_backups"}
        last = await repository.newest_set(session, verified=True)
        final_us = self._final_us(last, erased_us)
        superseded = last is not None and last.created_us > erased_us
        return {
            "state": "superseded" if superseded else "waiting_for_next_ring",
            "keys_gone_by": None if final_us is None else rfc3339(final_us)[:10],
            "rows_gone_by": rfc3339(erased_us + (_KEEP + self._pace.keep_days) * _DAY_US)[:10],
        }

    def _final_us(self, last: BackupSet | None, now_us: int) -> int | None:
        """When the last ring that knows a member erased now is gone: None if none is planned."""
        if not self._pace.every_hours:
            return None
        planned = now_us if last is None else last.created_us + self._pace.every_hours * _HOUR_US
        return max(planned, now_us) + self._pace.ring_days * _DAY_US

    def _state(self, verified: BackupSet | None, now_us: int) -> tuple[str, str]:
        if self._shipping.state.reason is not None:
            return "warn", "the rights ledger is behind: the store does not answer"
        if verified is None:
            return "warn", "no backup was made yet"
        late_us = 2 * (self._pace.every_hours or 24) * _HOUR_US
        if now_us - verified.created_us > late_us:
            return "warn", f"the last verified backup is of {rfc3339(verified.created_us)}"
        return "ok", f"generation {verified.generation} of {rfc3339(verified.created_us)}"

    async def _agreed(self, session: ReadSession) -> Place:
        place = await self._places.current(session)
        if place is None:
            raise StoreError("no backup store is configured")
        return place


def _refuse_beside_keys(folder: Path, private: list[Path]) -> None:
    where = folder.resolve()
    for kept in private:
        inside = kept.resolve()
        if where == inside or inside in where.parents or where in inside.parents:
            raise StoreError(
                "the store lies in or around the folder of data and keys",
                remedy="Choose another disk or machine: who takes the one must not have the other.",
            )
    if not where.parent.is_dir():
        raise NoSuchSetError(f"there is no folder {where.parent.name}/ to put the store into")
    where.mkdir(mode=0o700, exist_ok=True)
