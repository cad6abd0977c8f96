"""`yinyom audit rotate-key`: the log goes on under a new signing key, step by step.

First the new seed is in the key ring, in the ring backups and in the backup store, and only then
signs anything: there is no moment at which a key that the log needs is in one place alone. Then one
transaction of the sequencer hands over. Last, the old seed is destroyed in the ring, and every copy
of the older ring file is made worthless. A process that dies anywhere leaves the old key or the new
one at work, and the same command goes on from there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from audit import EventFilter, Signer, hand_over, vkey_digest
from kernel import Caller, ConflictError, NotFoundError, UnavailableError
from service.log_key import fresh_seed, version_of
from service.runtime import Runtime
from service.tasks import system_caller
from service.trail import sequencer_here

Progress = Callable[[int, int], None]

_PREPARED = "audit.key_prepared"
_BACKUP_ATTEMPTS = 2_400
_BACKUP_WAIT_SECONDS = 0.25


async def rotate_log_key(
    runtime: Runtime, progress: Progress, *, confirmed: bool, operator: str | None
) -> dict[str, Any]:
    """Make the log a new key and tell it; with `confirmed`, sign with it from now on.

    Whoever verifies or witnesses the log can be told the new key between the two. Where an earlier
    rotation was cut short before the old seed was destroyed, that is all that is done.
    """
    sequencer = sequencer_here(runtime.sequencer)
    caller = await _caller(runtime, operator)
    async with runtime.database.read() as session:
        if not await runtime.audit.follow(session):
            raise UnavailableError(
                "the log is signed with a newer key than this machine has",
                reason="audit_log-rekeyed",
                remedy="Put the newest key ring file into the keys directory of this machine.",
            )
    old = runtime.log_key.signer
    ring = runtime.vault.buckets.ring
    version = version_of(old, ring.log_seeds())
    if not version:
        raise UnavailableError(
            "the key ring file on this machine does not hold the log's key",
            reason="key_ring_outdated",
            remedy="Put the newest key ring file into the keys directory of this machine.",
        )
    if min(ring.log_seeds()) < version:
        gone = await _finish(runtime, caller, version)
        return _told(old, old, done=True) | {"destroyed": gone, "size": None, "event": None}
    new = await _prepare(runtime, caller, old)
    if not confirmed:
        return _told(old, new, done=False)
    await _back_up(runtime, caller, progress)
    rotation = await hand_over(sequencer, runtime.audit, new, caller)
    if rotation is None:
        raise UnavailableError("another process has just rotated the key", reason="rotating")
    await runtime.anchors.anchor()
    await runtime.witnesses.ask()
    gone = await _finish(runtime, caller, version_of(new, ring.log_seeds()))
    await _back_up(runtime, caller, progress)
    told = _told(old, new, done=True)
    return told | {"destroyed": gone, "size": rotation.size, "event": rotation.event_id}


async def _caller(runtime: Runtime, operator: str | None) -> Caller:
    caller = system_caller("cli")
    if operator is None:
        return caller
    if operator not in {each["staff_id"] for each in await runtime.staff.listing()}:
        raise NotFoundError("no such member of staff", reason="staff_unknown")
    return replace(caller, id=operator)


async def _back_up(runtime: Runtime, caller: Caller, progress: Progress) -> None:
    """Make a backup where there is a store, after one that is being made: it began too early."""
    if await runtime.backups.address() is None:
        return
    for _ in range(_BACKUP_ATTEMPTS):
        try:
            await runtime.backups.create(caller, progress)
        except ConflictError:
            await asyncio.sleep(_BACKUP_WAIT_SECONDS)
        else:
            return
    raise UnavailableError(
        "another backup is being made",
        reason="backup_running",
        remedy="Run the same command again when it has ended; it goes on from there.",
    )


async def _prepare(runtime: Runtime, caller: Caller, old: Signer) -> Signer:
    """Make the seed, unless one waits, and have it where a lost ring is brought back from."""
    new = await asyncio.to_thread(fresh_seed, runtime.vault.buckets.ring, old)
    resource = vkey_digest(new.vkey)
    async with runtime.database.read() as session:
        newest = await runtime.audit.search(
            session, EventFilter(action=_PREPARED), before=None, most=1
        )
    # The ring may hold a seed whose event was never written: the process died between the two.
    if resource not in {event["resource"] for event in newest.events}:
        async with runtime.database.unit_of_work() as work:
            await runtime.audit.record(work, caller, _PREPARED, resource=resource, decision="allow")
    await runtime.ring_backups.refresh()
    return new


async def _finish(runtime: Runtime, caller: Caller, version: int) -> int:
    """Destroy the seeds under a version, on record first; gives how many."""
    ring = runtime.vault.buckets.ring
    name = runtime.audit.origin
    gone = [
        Signer.from_seed(name, seed).vkey for v, seed in ring.log_seeds().items() if v < version
    ]
    for vkey in gone:
        async with runtime.database.unit_of_work() as work:
            await runtime.audit.record(
                work,
                caller,
                "audit.key_destroyed",
                resource=vkey_digest(vkey),
                decision="allow",
            )
    await runtime.sequencer.drain()
    await asyncio.to_thread(ring.drop_log_seeds, version)
    await asyncio.to_thread(ring.seal_outer)
    await runtime.ring_backups.refresh()
    return len(gone)


def _told(old: Signer, new: Signer, *, done: bool) -> dict[str, Any]:
    return {"done": done, "origin": old.name, "old_vkey": old.vkey, "vkey": new.vkey}
