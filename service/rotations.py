"""Rotations and seals at work: what they record, where the ring backup lies, when one is due.

Every process that has the registry open follows the ring: a ring root that was dropped leaves its
memory within seconds, wherever the command ran.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from audit import AuditLog
from kernel import Clock, Database, UnitOfWork, YinyomError
from service.ring_backups import wire_ring_backups
from service.settings import Settings
from service.tasks import HOUR_US, Worker, system_caller
from vault import (
    KeyNote,
    Rotation,
    Rotations,
    Sealing,
    SecretKeeper,
    Vault,
    rotation_status,
)

_FOLLOW_SECONDS = 2.0
_SECOND_US = 1_000_000
RING_BACKUP = "ring_backup"
SEAL = "seal"


class RingFollower:
    """Lets go of ring roots, bucket keys and a key of the log that another process has replaced."""

    def __init__(self, database: Database, vault: Vault, audit: AuditLog) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
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
            await self._audit.follow(session)
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
        note = key_steps(audit)
        self.rotations = Rotations(database, vault.buckets, keepers, self._record, note, clock)
        self.ring_backups = wire_ring_backups(settings, database, vault, clock)
        self.sealing = Sealing(
            database, vault.buckets, keepers, self.ring_backups, self._record, note, clock
        )
        self.follower = RingFollower(database, vault, audit)

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


def key_steps(audit: AuditLog) -> KeyNote:
    """Give what puts a step of a rotation, a seal or a recovery on record."""

    async def note(work: UnitOfWork, step: str, many: int) -> None:
        await audit.record(work, system_caller("cli"), f"vault.{step}", count=many)

    return note


def keep_keys(worker: Worker, settings: Settings, keys: KeyCare) -> None:
    """Let the worker seal, add to the ring backup, and make it whole again from time to time."""
    vault = settings.vault
    worker.on(SEAL, lambda _: keys.seal_when_due(), every_us=HOUR_US)
    worker.on(
        RING_BACKUP,
        lambda _: keys.ring_backups.come_round(vault.ring_backup_hours * HOUR_US),
        every_us=vault.ring_backup_seconds * _SECOND_US,
    )
