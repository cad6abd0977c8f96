"""What the command line asks of an open registry about keeping its trail and letting it go."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from audit import DETAIL, Holds, HoldScope
from kernel import MemberId, NotFoundError, is_id
from service.runtime import Runtime
from service.tasks import system_caller
from service.trail import sequencer_here

Progress = Callable[[int, int], None]


async def audit_prune(
    runtime: Runtime, _progress: Progress, *, before: str | None, dry_run: bool
) -> dict[str, Any]:
    """Drop details and delete the bodies of events whose time has come."""
    if not dry_run:
        sequencer_here(runtime.sequencer)
    await runtime.sequencer.drain()
    pruned = await runtime.pruning.prune(system_caller("cli"), before=before, dry_run=dry_run)
    await runtime.sequencer.drain()
    return {
        "dry_run": dry_run,
        "bodies": sum(one.bodies for one in pruned if one.rule != DETAIL),
        "details": sum(one.bodies for one in pruned if one.rule == DETAIL),
        "held": sum(one.held for one in pruned),
        "months": [
            {
                "month": one.month,
                "rule": one.rule,
                "bodies": one.bodies,
                "held": one.held,
                "events": one.events,
            }
            for one in pruned
        ],
    }


def _holds(runtime: Runtime) -> Holds:
    return Holds(runtime.database, runtime.audit, runtime.clock)


async def audit_hold_add(
    runtime: Runtime,
    _progress: Progress,
    *,
    reason: str,
    from_month: str | None,
    to_month: str | None,
    action: str | None,
    member: str | None,
) -> dict[str, Any]:
    """Place a legal hold upon the trail."""
    if member is not None and not is_id("mem", member):
        raise NotFoundError("members are held by their mem_ id", reason="member_unknown")
    async with runtime.database.unit_of_work() as work:
        key = member and await runtime.members.pseudonym(work, MemberId(member))
        scope = HoldScope(from_month, to_month, action, key or None)
        hold_id = await _holds(runtime).add(work, system_caller("cli"), scope, reason)
    return {"id": hold_id, "reason": reason}


async def audit_hold_list(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Describe every hold."""
    return {"holds": await _holds(runtime).list()}


async def audit_hold_release(runtime: Runtime, _progress: Progress, *, hold: str) -> dict[str, Any]:
    """End a hold."""
    async with runtime.database.unit_of_work() as work:
        await _holds(runtime).release(work, system_caller("cli"), hold)
    return {"id": hold, "released": True}


RETENTION_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "audit.prune": audit_prune,
    "audit.hold_add": audit_hold_add,
    "audit.hold_list": audit_hold_list,
    "audit.hold_release": audit_hold_release,
}
