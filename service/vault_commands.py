"""What the command line can ask of the keys of an open registry."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from audit import LogDamagedError, verify_stored_log
from kernel import InvalidRequestError, rfc3339, to_datetime
from members import Rows, count_members
from policies import load_pack
from service.backups import kit_remark
from service.runtime import Runtime
from service.tasks import system_caller
from service.vault_lint import hardened_rate, lint, tag_rate
from vault import INDEXED_KINDS, bucket_count, key_counts, rotation_status, write_recovery_kit

Progress = Callable[[int, int], None]


async def vault_status(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Say which keys are in use, what rests under old ones and what the next seal will cover."""
    async with runtime.database.read() as session:
        counts = await key_counts(session)
        buckets = await bucket_count(session)
        members = await count_members(session)
        status = await rotation_status(session)
        indexes = await runtime.vault.tags.versions(session)
    reindexing = ["reindex"] if indexes.unfinished() else []
    return {
        "tenant": runtime.vault.tenant,
        "key_ring": runtime.vault.ring_id,
        "ring_version": runtime.vault.ring_version,
        "bucket_keys": buckets,
        "members": members,
        "keys": [{"kind": kind, "version": version, "count": n} for kind, version, n in counts],
        "ring_roots": [{"version": version, "bucket_keys": n} for version, n in status.roots],
        "keys_under_old_versions": status.behind,
        "destroyed_since_seal": status.destroyed,
        "buckets_touched_since_seal": status.touched,
        "indexes": [
            {"kind": one.kind, "version": one.version, "state": one.state.value}
            for one in indexes.all()
        ],
        "under_way": [*status.under_way, *reindexing],
        "last": {kind: _moment(one.ended_us) for kind, one in status.last.items()},
    }


def _moment(at_us: int | None) -> str | None:
    return None if at_us is None else to_datetime(at_us).isoformat(timespec="seconds")


async def vault_rotate_kms(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Make a new root at the KMS and wrap the key ring under it."""
    began_us = runtime.clock.now_us()
    version = await runtime.keys.rotations.rotate_kms()
    return {"kms_version": version, "seconds": _seconds(runtime, began_us)}


async def vault_rotate_ring(runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Make a new ring root, wrap every bucket key under it, drop the older ones."""
    began_us = runtime.clock.now_us()
    done = await runtime.keys.rotations.rotate_ring(progress)
    return {
        "ring_version": done.newest_root,
        "dropped": list(done.destroyed_roots),
        "seconds": _seconds(runtime, began_us),
    }


async def vault_rewrap(runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Give every bucket a new key and move every member key to it."""
    began_us = runtime.clock.now_us()
    done = await runtime.keys.rotations.rewrap(progress)
    return {
        "buckets": done.buckets,
        "keys": done.moved,
        "seconds": _seconds(runtime, began_us),
    }


async def vault_seal(runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Make whatever was erased since the last seal unreadable in every copy there is."""
    began_us = runtime.clock.now_us()
    done = await runtime.keys.sealing.run(progress)
    return {
        "sealed": done is not None,
        "erasures": 0 if done is None else done.erasures,
        "buckets": 0 if done is None else done.buckets,
        "ring_version": runtime.vault.ring_version,
        "destroyed_roots": [] if done is None else list(done.destroyed_roots),
        "seconds": _seconds(runtime, began_us),
    }


def _seconds(runtime: Runtime, began_us: int) -> float:
    return round((runtime.clock.now_us() - began_us) / 1_000_000, 1)


async def vault_reindex(
    runtime: Runtime, progress: Progress, *, kinds: list[str]
) -> dict[str, Any]:
    """Bring blind indexes to a new key and their newest normal form; all of them without kinds."""
    unknown = set(kinds) - INDEXED_KINDS
    if unknown:
        known = ", ".join(sorted(INDEXED_KINDS))
        raise InvalidRequestError(f"no such index; there are {known}", reason="kind")
    began_us = runtime.clock.now_us()
    done = await runtime.reindex.renew(
        system_caller("cli"),
        kinds or INDEXED_KINDS,
        progress,
        keep=runtime.ring_backups.refresh,
    )
    return {
        "kinds": list(done.kinds),
        "version": done.version,
        "members": done.members,
        "resumed": done.resumed,
        "seconds": round((runtime.clock.now_us() - began_us) / 1_000_000, 1),
    }


async def vault_verify(runtime: Runtime, progress: Progress, *, after: str = "") -> dict[str, Any]:
    """Hold every member's row against the trail, and the trail against itself."""
    with contextlib.suppress(LogDamagedError):
        await runtime.sequencer.drain()
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    rows = Rows(runtime.database, runtime.vault, runtime.audit, runtime.rights, runtime.clock)
    found = await rows.verify(system_caller("cli"), progress, after=after)
    log_ok = report.ok and not misleading
    return {
        "ok": log_ok and not found.deviating,
        "log_ok": log_ok,
        "log_size": report.size,
        "members": found.members,
        "erased": found.erased,
        "deviating": found.deviating,
        "named": [
            {
                "member": one.member_id,
                "finding": one.deviation.value,
                "event": one.event_id,
                "version": one.version,
                "recorded_version": one.recorded_version,
            }
            for one in found.named
        ],
    }


async def vault_lint(runtime: Runtime, _progress: Progress, *, pack: str | None) -> dict[str, Any]:
    """Say what the indexes of this registry leak, or would under another policy pack."""
    declared = runtime.pack if pack is None else load_pack(Path(pack))
    async with runtime.database.read() as session:
        indexes = await runtime.vault.tags.versions(session)
        members = await count_members(session)
    async with runtime.database.snapshot() as snapshot:
        histograms = await runtime.vault.tags.histograms(snapshot)
    return await asyncio.to_thread(
        lambda: lint(declared, indexes, histograms, members, tag_rate(), hardened_rate())
    )


async def vault_kits(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Give the recovery kits that are known, and how the ring backup stands."""
    state = await runtime.ring_backups.state()
    return {
        "kits": [
            {
                "recipient": kit.recipient,
                "added": rfc3339(kit.added_us),
                "proven": None if kit.proven_us is None else rfc3339(kit.proven_us),
            }
            for kit in runtime.ring_backups.kits.all()
        ],
        "ring_backup": None if state.newest is None else state.newest.number,
        "made": None if state.newest is None else rfc3339(state.newest.made_us),
        "keys": 0 if state.newest is None else state.newest.keys,
        "waiting": state.waiting,
    }


async def vault_kit_check(runtime: Runtime, _progress: Progress, *, kit: str) -> dict[str, Any]:
    """Open the newest ring backup with a kit, and hold keys of it against the living ones."""
    proof = await runtime.ring_backups.prove(Path(kit))
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(
            work, system_caller("cli"), "vault.kit_check", count=proof.keys, decision="allow"
        )
    return {
        "ring_backup": proof.number,
        "made": rfc3339(proof.made_us),
        "keys": proof.keys,
        "canaries": proof.canaries,
        "waiting": proof.waiting,
        "recipients": list(proof.recipients),
    }


async def vault_kit_issue(
    runtime: Runtime, _progress: Progress, *, add: list[str], drop: list[str], new: str | None
) -> dict[str, Any]:
    """Change who opens ring backups: a new kit in a file, further public keys, fewer of them.

    A whole new ring backup is made to those who are left, and a new kit is tried on it at once.
    """
    backups, now_us = runtime.ring_backups, runtime.clock.now_us()
    ring = runtime.vault.buckets.ring
    if new is not None:
        made = write_recovery_kit(Path(new), ring.tenant, ring.id, kit_remark(ring))
        add = [*add, *made]
    left = [kit.recipient for kit in backups.kits.all() if kit.recipient not in drop]
    if not [*left, *add]:
        raise InvalidRequestError("somebody must be able to open a ring backup", reason="no_kit")
    backups.kits.add(add, now_us)
    backups.kits.only([*left, *add])
    await backups.refresh()
    if new is not None:
        await backups.prove(Path(new))
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(
            work,
            system_caller("cli"),
            "vault.kit_issue",
            count=len([*left, *add]),
            decision="allow",
        )
    return await vault_kits(runtime, _progress)


async def vault_kit_refresh(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Make a whole new ring backup now."""
    await runtime.ring_backups.refresh()
    return await vault_kits(runtime, _progress)


VAULT_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "vault.status": vault_status,
    "vault.rotate_kms": vault_rotate_kms,
    "vault.rotate_ring": vault_rotate_ring,
    "vault.rewrap": vault_rewrap,
    "vault.seal": vault_seal,
    "vault.reindex": vault_reindex,
    "vault.lint": vault_lint,
    "vault.verify": vault_verify,
    "vault.kits": vault_kits,
    "vault.kit_check": vault_kit_check,
    "vault.kit_issue": vault_kit_issue,
    "vault.kit_refresh": vault_kit_refresh,
}
