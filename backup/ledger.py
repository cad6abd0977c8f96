"""Shipping the rights ledger: erasures before they are done, everything else within a second.

Objects are numbered without gaps and written only where nothing is yet, so whoever reads asks for
the next number until there is none; a store that lists less than it has hides nothing. What the
announcement of an erasure means when its transaction never commits: docs/adr/0010.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from audit import (
    GENESIS,
    PlacedEntry,
    RightsEntry,
    RightsEntryError,
    RightsLedger,
    link_of,
    read_entry,
)
from backup import repository
from backup.envelope import Identities, pack, unpack
from backup.errors import LedgerGapError, MissingObjectError
from backup.log import ship_log
from backup.manifest import Manifest, read_signed, sign
from backup.place import Place, Places
from backup.store import ObjectExistsError, ObjectStore
from kernel import (
    Clock,
    Database,
    IntegrityError,
    ReadSession,
    UnavailableError,
    YinyomError,
    id_moment_us,
)

POSITION = "ledger_position"
OBJECTS = "ledger_objects"
_PREFIX = "ledger/"
_ANNOUNCED = "announced/"
_BATCH = 500
_PATIENCE_SECONDS = 10.0
_PAUSE_US = 10_000_000
_LONGEST_TRANSACTION_US = 600_000_000
_SETTLE_EVERY_US = 60_000_000
_LOG_ROUNDS = 3
"""So often the log is shipped after an entry: its event is sequenced a moment later."""


def ledger_name(number: int) -> str:
    """Name an object of the ledger."""
    return f"{_PREFIX}{number:08d}.age"


@dataclass(slots=True)
class ShippingState:
    """What the health page may say about the ledger's way to the store."""

    reason: str | None = None
    behind_since_us: int | None = None


class LedgerShipping:
    """Announces erasures, and ships in the background what waits; one a process."""

    def __init__(
        self,
        database: Database,
        rights: RightsLedger,
        places: Places,
        clock: Clock,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self._database = database
        self._rights = rights
        self._places = places
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._last_number = 0
        self._not_before_us = 0
        self._settled_us = 0
        self._log_rounds = 0
        self.state = ShippingState()

    # --- erasures ---------------------------------------------------------------------

    async def announce(self, session: ReadSession, entry: RightsEntry) -> None:
        """Make an erasure durable in the store now, or `UnavailableError`."""
        place = await self._places.current(session)
        if place is None:
            return
        if self._clock.now_us() < self._not_before_us:
            raise UnavailableError(
                "the backup store did not answer a moment ago", reason="store_unavailable"
            )
        after = await repository.progress(session, OBJECTS)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                # The id goes first, in the clear: the host cannot read its own objects, and
                # must find out later whether this erasure ever committed.
                with contextlib.suppress(ObjectExistsError):
                    await place.store.put(f"{_ANNOUNCED}{entry.id}", b"announced\n")
                await self._append(place, after, {"announced": [entry.body.decode()]})
        except (UnavailableError, TimeoutError):
            self._not_before_us = self._clock.now_us() + _PAUSE_US
            self._note("store_unavailable")
            raise UnavailableError(
                "the backup store does not take the erasure, so nothing was erased",
                reason="store_unavailable",
                remedy="The request stays open. Try again when `yinyom backup status` is well.",
            ) from None

    # --- everything -------------------------------------------------------------------

    def nudge(self) -> None:
        """Say that an entry has committed."""
        self._wake.set()

    def start(self) -> None:
        """Ship in the background."""
        self._task = asyncio.create_task(self._run(), name="rights ledger")

    async def stop(self) -> None:
        """Ship what waits, quietly, and stop."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        with contextlib.suppress(YinyomError):
            await self.flush()

    async def flush(self) -> int:
        """Chain what waits and ship what is chained; gives the position that is in the store."""
        async with self._turn:
            await self._chain()
            async with self._database.read() as session:
                place = await self._places.current(session)
                shipped = await repository.progress(session, POSITION)
                after = await repository.progress(session, OBJECTS)
            if place is None:
                return shipped
            while True:
                async with self._database.read() as session:
                    entries = await self._rights.placed(session, shipped, _BATCH)
                if not entries:
                    break
                after = await self._append(place, after, {"entries": [_told(e) for e in entries]})
                shipped = entries[-1].position
                await self._remember(shipped, after)
                self._log_rounds = _LOG_ROUNDS
            if self._log_rounds:
                await ship_log(self._database, place)
                self._log_rounds -= 1
            await self._settle(place, after)
        self.state = ShippingState()
        return shipped

    async def _chain(self) -> None:
        try:
            while True:
                async with self._database.unit_of_work() as work:
                    if not await self._rights.place_waiting(work):
                        return
        except IntegrityError:
            return  # another process is at this very work

    async def _remember(self, position: int, number: int) -> None:
        async with self._database.unit_of_work() as work:
            await repository.set_progress(work, POSITION, position)
            await repository.set_progress(work, OBJECTS, number)

    async def _settle(self, place: Place, after: int) -> None:
        """Void announcements whose erasure never committed, and forget those that did."""
        now_us = self._clock.now_us()
        if now_us - self._settled_us < _SETTLE_EVERY_US:
            return
        self._settled_us = now_us
        done: list[str] = []
        void: list[str] = []
        for name in await place.store.names(_ANNOUNCED):
            entry_id = name.removeprefix(_ANNOUNCED)
            async with self._database.read() as session:
                if await self._rights.holds(session, entry_id):
                    done.append(name)
                elif now_us - id_moment_us(entry_id) > _LONGEST_TRANSACTION_US:
                    void.append(name)
        if void:
            ids = [name.removeprefix(_ANNOUNCED) for name in void]
            number = await self._append(place, after, {"voided": ids})
            async with self._database.unit_of_work() as work:
                await repository.set_progress(work, OBJECTS, number)
        for name in (*done, *void):
            await place.store.delete(name)

    async def _append(self, place: Place, after: int, told: Mapping[str, Any]) -> int:
        """Write the next object of the ledger, wherever other processes have come to."""
        number = max(after, self._last_number) + 1
        while True:
            signed = sign({"number": number, **told}, place.signer)
            sealed = place.recipients.seal(pack({"kind": "ledger", "number": number}, signed))
            try:
                await place.store.put(ledger_name(number), sealed)
            except ObjectExistsError:
                number += 1
            else:
                self._last_number = number
                return number

    async def _run(self) -> None:
        while True:
            try:
                await self.flush()
            except YinyomError as error:
                self._note(error.reason or error.slug)
            except Exception as error:  # noqa: BLE001 (a dead courier would tell nobody)
                structlog.get_logger().warning("rights", error_type=type(error).__name__)
                self._note("internal")
            if self._stopping:
                return
            self._wake.clear()
            # A store that fails is left alone for a while, whoever has something to ship.
            pause = self._poll_seconds if self.state.reason is None else 5 * self._poll_seconds
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    def _note(self, reason: str) -> None:
        since = self.state.behind_since_us or self._clock.now_us()
        self.state = ShippingState(reason, since)


def _told(placed: PlacedEntry) -> list[Any]:
    return [placed.position, placed.link.hex(), placed.entry.body.decode()]


# --- reading --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShippedLedger:
    """The ledger as it lies in a store, chained and checked."""

    placed: Sequence[PlacedEntry]
    unplaced: Sequence[RightsEntry]
    objects: int


async def count_objects(store: ObjectStore, prefix: str, at_least: int) -> int:
    """Count numbered objects by asking for the next, and refuse a number that is missing.

    `at_least` is what the newest manifest counted; a list of the store may only add to it.
    """
    number = 0
    listed = [name for name in await store.names(prefix) if name.endswith(".age")]
    told = max([at_least, *(int(name[len(prefix) :][:8]) for name in listed)])
    while await store.size(f"{prefix}{number + 1:08d}.age") is not None:
        number += 1
    if number < told:
        raise LedgerGapError(f"{prefix}{number + 1:08d}.age is missing, and there are later ones")
    return number


async def read_ledger(
    store: ObjectStore, identities: Identities, vkey: str, newest: Manifest
) -> ShippedLedger:
    """Read the whole ledger from a store, or say why it is not whole."""
    objects = await count_objects(store, _PREFIX, newest.rights_objects)
    chained: dict[int, tuple[str, str]] = {}
    announced: dict[str, RightsEntry] = {}
    voided: set[str] = set()
    for number in range(1, objects + 1):
        name = ledger_name(number)
        try:
            sealed = await store.get(name)
        except MissingObjectError:
            raise LedgerGapError(f"{name} is missing") from None
        plain = identities.open(name, sealed, newest.recipients)
        opened = unpack(name, plain, {"kind": "ledger", "number": number})
        told = read_signed(name, opened.body, vkey)
        if told.get("number") != number:
            raise LedgerGapError(f"{name} was written as another number")
        for position, link, body in told.get("entries", ()):
            if chained.setdefault(position, (link, body)) != (link, body):
                raise LedgerGapError(f"{name} tells another history of entry {position}")
        for body in told.get("announced", ()):
            entry = _entry(name, body)
            announced[entry.id] = entry
        voided.update(told.get("voided", ()))
    placed = _chained(chained, newest)
    known = {one.entry.id for one in placed}
    rest = [e for e in announced.values() if e.id not in known and e.id not in voided]
    return ShippedLedger(placed, sorted(rest, key=lambda e: e.id), objects)


def _chained(chained: Mapping[int, tuple[str, str]], newest: Manifest) -> list[PlacedEntry]:
    placed: list[PlacedEntry] = []
    link = GENESIS
    for position in range(1, len(chained) + 1):
        if position not in chained:
            raise LedgerGapError(f"entry {position} of the ledger is missing")
        told, body = chained[position]
        link = link_of(link, body.encode())
        if link.hex() != told:
            raise LedgerGapError(f"entry {position} of the ledger does not fit the one before")
        if position == newest.rights_position and told != newest.rights_link:
            raise LedgerGapError(f"the manifest knows another entry {position}")
        placed.append(PlacedEntry(position, link, _entry("the ledger", body)))
    if len(placed) < newest.rights_position:
        raise LedgerGapError(f"the ledger ends before entry {newest.rights_position}")
    return placed


def _entry(name: str, body: str) -> RightsEntry:
    try:
        return read_entry(body.encode())
    except RightsEntryError:
        raise LedgerGapError(f"{name} holds what is no entry") from None
