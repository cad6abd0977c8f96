"""What the command line asks of an open registry about its trail."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from audit import LogDamagedError, cosigned_checkpoint, export_log, pending, verify_stored_log
from kernel import NotFoundError
from service.runtime import Runtime
from service.tasks import system_caller

Progress = Callable[[int, int], None]


async def audit_export(runtime: Runtime, progress: Progress, *, out: str) -> dict[str, Any]:
    """Export the log as a bundle."""
    await runtime.sequencer.drain()
    caller = system_caller("cli")
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(work, caller, "audit.export", decision="allow")
    await runtime.sequencer.drain()
    await runtime.witnesses.ask()
    size = await export_log(
        runtime.database, Path(out), progress, witnessed=bool(runtime.witnesses)
    )
    return {"path": out, "events": size, "vkey": runtime.audit.vkey}


async def audit_prove(runtime: Runtime, _progress: Progress, *, event: str) -> dict[str, Any]:
    """Give an event with its proof, and put that on record."""
    await runtime.sequencer.drain()
    async with runtime.database.read() as session:
        found = await runtime.audit.proof(session, event)
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(
            work, system_caller("cli"), "audit.prove", decision="allow", resource=event
        )
    return found


async def audit_verify_db(runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Check the log where it lies; a damaged one as well, which the sequencer refuses to grow."""
    with contextlib.suppress(LogDamagedError):
        await runtime.sequencer.drain()
    report, misleading = await verify_stored_log(runtime.database, runtime.audit, progress)
    async with runtime.database.read() as session:
        waiting, _ = await pending(session)
    return {
        "ok": report.ok and not misleading,
        "size": report.size,
        "root": report.root,
        "waiting": waiting,
        "findings": [str(finding) for finding in (*report.findings, *misleading)],
    }


async def audit_key(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Give the key that verifies the log."""
    return {"vkey": runtime.audit.vkey, "origin": runtime.audit.origin}


async def audit_checkpoint(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Give the newest head of the log, with what witnesses put under it."""
    await runtime.sequencer.drain()
    await runtime.witnesses.ask()
    async with runtime.database.read() as session:
        found = await cosigned_checkpoint(session, fresh=not runtime.witnesses)
        found = found or await cosigned_checkpoint(session)
    if found is None:
        raise NotFoundError("the log has not begun", reason="log_empty")
    return {"size": found[0], "checkpoint": found[1]}


async def audit_witnesses(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Ask every witness now, and give what each has signed."""
    await runtime.sequencer.drain()
    await runtime.witnesses.ask()
    return await runtime.witnesses.status()


AUDIT_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "audit.export": audit_export,
    "audit.prove": audit_prove,
    "audit.verify_db": audit_verify_db,
    "audit.key": audit_key,
    "audit.checkpoint": audit_checkpoint,
    "audit.witnesses": audit_witnesses,
}
