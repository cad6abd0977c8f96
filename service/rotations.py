"""Rotations and seals at work: what they record, where the ring backup lies, when one is due.

Every process that has the registry open follows the ring: a ring root that was dropped leaves its
memory within seconds, wherever the command ran.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from audit import AuditLog
from kernel import Clock, ConfigurationError, Database, UnitOfWork, YinyomError, fact
from service.facts import FACT_KIT
from service.files import RING_BACKUP_FILE
from service.settings import Settings
from service.tasks import HOUR_US, system_caller
from vault import (
    ReopenedRing,
    Rotation,
    Rotations,
    Sealing,
    SecretKeeper,
    Vault,
    refresh_ring_backup,
    rotation_status,
)

_FOLLOW_SECONDS = 2.0


class RingBackupFile:
    """The ring backup beside the keys, sealed to the recovery kit alone."""

    def __init__(self, settings: Settings, database: Database, vault: Vault) -> None:
        self._path = settings.keys_dir / RING_BACKUP_FILE
        self._database = database
        self._vault = vault

    async def refresh(self, since: int) -> ReopenedRing:
        """Replace it by one of the ring roots from `since` on, and open that again."""
        async with self._database.read() as session:
            recipients = (await fact(session, FACT_KIT) or "").split()
        if not recipients:
            raise ConfigurationError(
                "no recovery kit is known, so the ring cannot be backed up before a seal",
                remedy="Run `yinyom init` with the recovery kit in the data directory.",
            )
        ring = self._vault.buckets.ring
        return await asyncio.to_thread(
            refresh_ring_backup, self._path, ring, recipients, since=since
        )


class RingFollower:
    """Lets go of ring roots and bucket keys that another process has replaced."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow from now on."""
        self._task = asyncio.create_task(self._run(), name="ring")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look(self) -> bool:
        """Look once; True when something was let go of."""
        async with self._database.read() as session:
            return await self._vault.buckets.follow(session)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS)
            try:
                await self.look()
            except YinyomError as error:
                structlog.get_logger().warning("ring", failure=error.slug)


class KeyCare:
    """Everything that replaces keys, put together for one registry."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        clock: Clock,
        keepers: Sequence[SecretKeeper],
    ) -> None:
        self._audit = audit
        self._database = database
        self._clock = clock
        self._every_us = settings.vault.seal_every_hours * HOUR_US
        keeping = RingBackupFile(settings, database, vault)
        self.rotations = Rotations(database, vault.buckets, keepers, self._record, clock)
        self.sealing = Sealing(database, vault.buckets, keepers, keeping, self._record, clock)
        self.follower = RingFollower(database, vault)

    async def seal_when_due(self) -> Rotation | None:
        """Seal when the last seal is old enough, or was cut short; None when it is not due."""
        if not self._every_us:
            return None
        async with self._database.read() as session:
            status = await rotation_status(session)
        last = status.last.get("seal")
        fresh = last is not None and self._clock.now_us() - last.began_us < self._every_us
        if fresh and "seal" not in status.under_way:
            return None
        return await self.sealing.run(lambda _done, _total: None)

    async def _record(self, work: UnitOfWork, done: Rotation) -> None:
        """Put a rotation on record: what it covered, and the ring roots that it destroyed."""
        roots = done.destroyed_roots
        await self._audit.record(
            work,
            system_caller("cli"),
            f"vault.{done.kind}",
            resource=f"ring-root:{roots[0]}-{roots[-1]}" if roots else "vault",
            reason=f"buckets:{done.buckets}" if done.buckets else None,
            count=done.erasures if done.kind == "seal" else done.moved or None,
            decision="allow",
        )
