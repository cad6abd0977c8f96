"""Keeping the ring backup fresh, and proving it: what brings members back without the KMS root.

Inside are the keys that live, never a ring root: a root that a seal destroys kills no backup, and
a kit opens nobody whose keys were destroyed before the newest set was made. Who registers since
is added within a minute. The kits are not here, so each set is also sealed to an identity that
exists for this one moment: with it the files are read back from the disk, opened and compared
before the set counts, and before a seal destroys anything.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyrage

from kernel import Clock, Database
from vault import recovery_repository as repository
from vault.errors import KeyRingError
from vault.kits import RecoveryKits, identities_of, parse_recipient
from vault.ring_backup import RingBackup, read_ring
from vault.ring_folder import RingFolder, RingPage, RingSet
from vault.service import Vault

_AT_ONCE = 5_000
_CANARIES = 10


@dataclass(frozen=True, slots=True)
class RingBackupState:
    """The newest set, how many owners are not in it yet, and how many sets there are."""

    newest: RingSet | None
    waiting: int
    sets: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What a kit brought back: the set, its keys, and how many of them were compared."""

    number: int
    made_us: int
    keys: int
    canaries: int
    waiting: int
    recipients: tuple[str, ...]


class RingBackups:
    """Makes ring backups, adds to them, proves them, and lets go of the old ones."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        folder: RingFolder,
        kits: RecoveryKits,
        clock: Clock,
        *,
        keep_us: int,
    ) -> None:
        self._database = database
        self._vault = vault
        self._folder = folder
        self.kits = kits
        self._clock = clock
        self._keep_us = keep_us

    async def refresh(self) -> RingSet:
        """Make a whole new set and prove it, read back from the disk; the old ones go in days.

        `KeyRingError` when what was read back is not what was sealed: the older set stays, and
        whoever wanted to destroy a key must not.
        """
        recipients = self.kits.recipients()
        witness = pyrage.x25519.Identity.generate()
        keys = [*map(parse_recipient, recipients), witness.to_public()]
        async with self._folder.writing():
            found = self._folder.sets()
            draft = await asyncio.to_thread(self._folder.begin)
            now_us = self._clock.now_us()
            # Noted before the first page is read: whoever gets a key meanwhile stays noted.
            async with self._database.read() as session:
                noted = await repository.unbacked(session)
            pages, plain = await self._write(draft, lambda page: pyrage.encrypt(page, keys))
            made = RingSet(
                found[-1].number + 1 if found else 1,
                now_us,
                self._vault.ring_id,
                tuple(recipients),
                tuple(pages),
            )
            await asyncio.to_thread(_read_back, draft, made, plain, witness)
            await asyncio.to_thread(self._folder.finish, draft, made)
            await self._forget(noted)
            await asyncio.to_thread(self._folder.drop_older, now_us - self._keep_us)
        return made

    async def append(self) -> int:
        """Add the keys of owners who are in no set yet to the newest one; gives how many owners.

        Makes the first set where there is none, or where the kits are others since.
        """
        newest = self._folder.newest()
        if newest is None or set(newest.recipients) != set(self.kits.recipients()):
            return (await self.refresh()).keys
        recipients = [parse_recipient(text) for text in newest.recipients]
        added = 0
        async with self._folder.writing():
            newest = self._folder.newest() or newest
            while True:
                async with self._database.read() as session:
                    noted = await repository.unbacked(session, _AT_ONCE)
                    owners = sorted({owner for _, owner in noted})
                    page, keys = await self._vault.key_page_of(session, owners)
                if not noted:
                    return added
                if keys:
                    sealed = pyrage.encrypt(page, recipients)
                    await asyncio.to_thread(self._folder.add, newest, sealed, keys)
                await self._forget(noted)
                added += len(owners)

    async def come_round(self, every_us: int) -> None:
        """Add what is new; make a whole new set when the newest is old enough."""
        newest = self._folder.newest()
        if newest is None or self._clock.now_us() - newest.made_us >= every_us:
            await self.refresh()
        else:
            await self.append()

    async def state(self) -> RingBackupState:
        """Say how the ring backup stands."""
        found = self._folder.sets()
        async with self._database.read() as session:
            waiting = await repository.waiting_owners(session)
        return RingBackupState(found[-1] if found else None, waiting, len(found))

    async def prove(self, kit: Path) -> Proof:
        """Open the newest set with a kit, whole, and hold keys of it against the living ones."""
        newest = self._folder.newest()
        if newest is None:
            raise KeyRingError(
                "there is no ring backup", remedy="Run `yinyom init` again; it makes one."
            )
        identities = identities_of(kit)
        ring = await asyncio.to_thread(self._folder.open, newest, identities)
        canaries = await self._compare(ring)
        recipients = tuple(str(one.to_public()) for one in identities)
        self.kits.proven(recipients, self._clock.now_us())
        waiting = (await self.state()).waiting
        return Proof(newest.number, newest.made_us, len(ring), canaries, waiting, recipients)

    async def _compare(self, ring: RingBackup) -> int:
        """Hold some keys spread over a ring backup against the living ones."""
        if ring.id != self._vault.ring_id:
            raise KeyRingError("this ring backup is of another registry")
        keys = list(ring.each())
        step = max(1, len(keys) // _CANARIES)
        alive = 0
        async with self._database.read() as session:
            for key in keys[::step][:_CANARIES]:
                same = await self._vault.holds(session, key)
                if same is False:
                    raise KeyRingError("the ring backup holds other keys than the database")
                alive += same is True
        return alive

    async def _write(
        self, draft: Path, seal: Callable[[bytes], bytes]
    ) -> tuple[list[RingPage], list[bytes]]:
        """Write sealed pages; gives them, and the hash of what each was before it was sealed."""
        pages: list[RingPage] = []
        plain: list[bytes] = []

        def sealing(page: bytes) -> bytes:
            plain.append(hashlib.sha256(page).digest())
            return seal(page)

        async with self._database.read() as session:
            async for sealed, keys in self._vault.sealed_pages(session, sealing):
                name = f"{len(pages):04d}.age"
                await asyncio.to_thread(self._folder.write, draft / name, sealed)
                pages.append(RingPage(name, hashlib.sha256(sealed).hexdigest(), keys))
        return pages, plain

    async def _forget(self, noted: list[tuple[str, str]]) -> None:
        async with self._database.unit_of_work() as work:
            await repository.are_backed(work, [note for note, _ in noted])


def _read_back(
    draft: Path, made: RingSet, plain: list[bytes], witness: pyrage.x25519.Identity
) -> None:
    """Read a draft from the disk and open it; what comes out must be what was sealed."""
    opened: list[bytes] = []
    for page, expected in zip(made.pages, plain, strict=True):
        try:
            found = pyrage.decrypt((draft / page.name).read_bytes(), [witness])
        except (pyrage.DecryptError, OSError) as error:
            raise KeyRingError("the ring backup that was just written does not open") from error
        if hashlib.sha256(found).digest() != expected:
            raise KeyRingError("the ring backup that was just written opens as something else")
        opened.append(found)
    if len(read_ring(opened)) != made.keys:
        raise KeyRingError("the ring backup that was just written is not whole")
