"""What the command line asks of an open registry about its trail."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit import (
    AuditLog,
    EventFilter,
    LogDamagedError,
    OriginInUseError,
    Verifier,
    begin_new_origin,
    check_ended,
    cosigned_checkpoint,
    ended_logs,
    export_at,
    export_log,
    free_name,
    log_head,
    pending,
    refusal,
    verify_stored_log,
)
from audit.search import ACTOR, REQUEST_ID, WORD
from backup import leave
from kernel import InvalidRequestError, NotFoundError, rfc3339
from kernel.http import decode_id_cursor, encode_cursor
from service.evidence import evidence, key_of_member, moment_of
from service.key_rotation import rotate_log_key
from service.runtime import Runtime
from service.tasks import system_caller
from service.trail import sequencer_here
from service.trail_views import trail_views
from vault import OwnerKey

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


async def audit_export_ended(
    runtime: Runtime, progress: Progress, *, out: str, origin: str
) -> dict[str, Any]:
    """Export the log as it was when it ended under an earlier name."""
    async with runtime.database.read() as session:
        ended = [each for each in await ended_logs(session) if each.origin == origin]
    if not ended:
        raise NotFoundError("the log never bore that name", reason="origin_unknown")
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(work, system_caller("cli"), "audit.export", decision="allow")
    await export_at(runtime.database, Path(out), ended[0].size, ended[0].note, progress)
    return {"path": out, "events": ended[0].size, "vkey": ended[0].vkey}


async def audit_evidence(
    runtime: Runtime,
    _progress: Progress,
    *,
    out: str,
    since: str | None = None,
    until: str | None = None,
    member: str | None = None,
    request: str | None = None,
) -> dict[str, Any]:
    """Put events with their proofs into a zip, for somebody who has a browser and a key."""
    key: OwnerKey | None = None
    tokens: tuple[str, ...] = ()
    if member is not None:
        key, tokens = await key_of_member(runtime, member)
    told = runtime.settings
    wanted = EventFilter(
        subjects=tokens,
        request_id=request,
        from_us=None if since is None else moment_of(told, "from", since, days=0),
        until_us=None if until is None else moment_of(told, "to", until, days=1),
    )
    made = await evidence(runtime, system_caller("cli"), wanted, Path(out), subject=key)
    return {"path": out, **made}


async def audit_search(
    runtime: Runtime,
    progress: Progress,
    *,
    actor: str | None = None,
    action: str | None = None,
    purpose: str | None = None,
    decision: str | None = None,
    field: str | None = None,
    request: str | None = None,
    view: str | None = None,
    member: str | None = None,
    since: str | None = None,
    until: str | None = None,
    cursor: str | None = None,
    most: int = 50,
) -> dict[str, Any]:
    """Look for events, portion by portion, until so many are found or none are left.

    One event, however many portions it takes.
    """
    key: OwnerKey | None = None
    tokens: tuple[str, ...] = ()
    if member is not None:
        key, tokens = await key_of_member(runtime, member)
    words = [(WORD, one) for one in (action, purpose, decision, field) if one is not None]
    words += [(ACTOR, actor or "self"), (REQUEST_ID, request or "any-request")]
    views = trail_views(runtime.settings)
    known = all(re.match(shape, word) for shape, word in words)
    if not known or (view is not None and view not in views):
        raise InvalidRequestError("that is no word of the trail", reason="word_unknown")
    wanted = EventFilter(
        actor=actor,
        action=action,
        purpose=purpose,
        decision=decision,
        field=field,
        request_id=request,
        subjects=tokens,
        from_us=None if since is None else moment_of(runtime.settings, "from", since, days=0),
        until_us=None if until is None else moment_of(runtime.settings, "to", until, days=1),
        view=None if view is None else views[view],
    )
    before = decode_id_cursor("evt", cursor)
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record_search(work, system_caller("cli"), wanted, subject=key)
    found: list[Mapping[str, Any]] = []
    while True:
        async with runtime.database.read() as session:
            page = await runtime.audit.search(
                session, wanted, before=before, most=most - len(found)
            )
        found += page.events
        before = page.next_before
        progress(len(found), most)
        if before is None or len(found) >= most:
            break
    searched_us = page.searched_to_us
    return {
        "events": found,
        "next_cursor": None if before is None else encode_cursor(before),
        "searched_to": None if searched_us is None else rfc3339(searched_us),
    }


async def audit_prove(
    runtime: Runtime,
    _progress: Progress,
    *,
    event: str,
    member: str | None = None,
    row: str | None = None,
) -> dict[str, Any]:
    """Give an event with its proof, and put that on record.

    With a member or a token as well the row of its manifest that is theirs.
    """
    key: OwnerKey | None = None
    tokens: tuple[str, ...] = () if row is None else (row,)
    if member is not None:
        key, tokens = await key_of_member(runtime, member)
    await runtime.sequencer.drain()
    async with runtime.database.read() as session:
        found = await runtime.audit.proof(session, event, tokens)
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(
            work, system_caller("cli"), "audit.prove", subject=key, decision="allow", resource=event
        )
    return found


async def audit_verify_db(runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Check the log where it lies; a damaged one as well, which the sequencer refuses to grow."""
    with contextlib.suppress(LogDamagedError):
        await runtime.sequencer.drain()
    report, misleading = await verify_stored_log(runtime.database, runtime.audit, progress)
    async with runtime.database.read() as session:
        waiting, _ = await pending(session)
        ended = await check_ended(session, Verifier.from_vkey(runtime.audit.vkey))
    anchors, wrong, silent = await runtime.anchors.check_all()
    wrong += ended
    return {
        "ok": report.ok and not misleading and not wrong,
        "size": report.size,
        "root": report.root,
        "waiting": waiting,
        "anchors": anchors,
        "silent": silent,
        "pruned": report.pruned,
        "findings": [str(finding) for finding in (*report.findings, *misleading)] + wrong,
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


async def audit_anchors(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Tell every anchor of the newest head now, and give what each holds."""
    with contextlib.suppress(LogDamagedError):
        await runtime.sequencer.drain()
    await runtime.anchors.anchor()
    return await runtime.anchors.status()


async def audit_new_origin(
    runtime: Runtime, _progress: Progress, *, confirmed: bool, operator: str | None
) -> dict[str, Any]:
    """End the log under its name and go on under another; without `confirmed`, say what would be.

    Only for a log that may not be signed any more, because an anchor or a witness knows a longer
    or another one. The store of the backups is let go of: it holds the lost history.
    """
    current, configured = runtime.audit.origin, runtime.settings.audit.origin
    async with runtime.database.read() as session:
        why = await refusal(session)
        head = await log_head(session)
        name = await free_name(session, configured, current, runtime.anchors.sinks)
    if why is None and runtime.witnesses:
        alarming = [told.verdict for told in await runtime.witnesses.ask() if told.verdict.alarming]
        why = alarming[0].value if alarming else None
    if why is None:
        raise OriginInUseError
    caller = system_caller("cli")
    if operator is not None:
        if operator not in {each["staff_id"] for each in await runtime.staff.listing()}:
            raise NotFoundError("no such member of staff", reason="staff_unknown")
        caller = replace(caller, id=operator)
    told = {
        "why": why,
        "old": current,
        "new": name,
        "size": 0 if head is None else head[0],
        "root": None if head is None else head[1].hex(),
        "done": False,
    }
    if not confirmed:
        return told
    sequencer = sequencer_here(runtime.sequencer)
    old = runtime.log_key.signer
    new = old.under(name)
    clock, policy = runtime.clock, runtime.pack.digest
    made = await begin_new_origin(sequencer, old, new, clock, policy, caller)
    async with runtime.database.unit_of_work() as work:
        await leave(work)
        # This process's own trail is blocked: what it writes here gets its place after a start.
        await AuditLog(new, clock, policy).record(work, caller, "backup.leave", decision="allow")
    return told | {
        "size": made.size,
        "root": made.root.hex(),
        "done": True,
        "event": made.event_id,
        "old_vkey": made.old_vkey,
        "vkey": made.new_vkey,
    }


async def audit_rotate_key(
    runtime: Runtime, progress: Progress, *, confirmed: bool, operator: str | None
) -> dict[str, Any]:
    """Make the log a new signing key; with `confirmed`, sign with it from now on."""
    return await rotate_log_key(runtime, progress, confirmed=confirmed, operator=operator)


AUDIT_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "audit.anchors": audit_anchors,
    "audit.export": audit_export,
    "audit.evidence": audit_evidence,
    "audit.export_ended": audit_export_ended,
    "audit.new_origin": audit_new_origin,
    "audit.prove": audit_prove,
    "audit.rotate_key": audit_rotate_key,
    "audit.search": audit_search,
    "audit.verify_db": audit_verify_db,
    "audit.key": audit_key,
    "audit.checkpoint": audit_checkpoint,
    "audit.witnesses": audit_witnesses,
}
