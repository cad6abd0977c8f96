"""What the command line can ask of the keys of an open registry."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from audit import LogDamagedError, verify_stored_log
from kernel import InvalidRequestError
from members import Rows, count_members
from policies import load_pack
from service.runtime import Runtime
from service.tasks import system_caller
from service.vault_lint import lint, tag_rate
from vault import INDEXED_KINDS, bucket_count, key_counts

Progress = Callable[[int, int], None]


async def vault_status(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Count keys by kind and version."""
    async with runtime.database.read() as session:
        counts = await key_counts(session)
        buckets = await bucket_count(session)
        members = await count_members(session)
    return {
        "tenant": runtime.vault.tenant,
        "key_ring": runtime.vault.ring_id,
        "ring_version": runtime.vault.ring_version,
        "bucket_keys": buckets,
        "members": members,
        "keys": [{"kind": kind, "version": version, "count": n} for kind, version, n in counts],
    }


async def vault_reindex(
    runtime: Runtime, progress: Progress, *, kinds: list[str]
) -> dict[str, Any]:
    """Bring blind indexes to a new key and their newest normal form; all of them without kinds."""
    unknown = set(kinds) - INDEXED_KINDS
    if unknown:
        known = ", ".join(sorted(INDEXED_KINDS))
        raise InvalidRequestError(f"no such index; there are {known}", reason="kind")
    began_us = runtime.clock.now_us()
    done = await runtime.reindex.renew(system_caller("cli"), kinds or INDEXED_KINDS, progress)
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
    return await asyncio.to_thread(lambda: lint(declared, indexes, histograms, members, tag_rate()))


VAULT_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "vault.status": vault_status,
    "vault.reindex": vault_reindex,
    "vault.lint": vault_lint,
    "vault.verify": vault_verify,
}
