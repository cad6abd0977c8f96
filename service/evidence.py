"""Making a pack of evidence for somebody: choosing, putting it on record, then writing it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit import EventFilter, choose_events, make_evidence
from kernel import (
    Caller,
    FieldProblem,
    InvalidRequestError,
    MemberId,
    NotFoundError,
    from_rfc3339,
    is_id,
)
from policies import pack_texts
from service.runtime import Runtime
from service.settings import Settings
from service.trail_views import house_zone
from vault import OwnerKey

_DAY = "YYYY-MM-DD"


async def evidence(
    runtime: Runtime,
    caller: Caller,
    wanted: EventFilter,
    out: Path,
    *,
    subject: OwnerKey | None = None,
) -> dict[str, Any]:
    """Write a pack of the events that fit; making it is an event, before anything is written.

    `subject` is the key of the member that was asked for. `EvidenceError` when nothing fits, too
    much does, or it cannot be written.
    """
    await runtime.sequencer.drain()
    chosen = await choose_events(runtime.database, runtime.audit, wanted)
    async with runtime.database.unit_of_work() as work:
        await runtime.audit.record(
            work,
            caller,
            "audit.evidence",
            subject=subject,
            decision="allow",
            fields=wanted.words,
            count=len(chosen),
            resource=None if wanted.view is None else f"view/{wanted.view.key}",
        )
    await runtime.witnesses.ask()
    digest, texts = pack_texts(runtime.settings.policies.pack_dir)
    made = await make_evidence(
        runtime.database,
        chosen,
        out,
        words=wanted.words,
        policies={digest: texts},
        tokens=wanted.subjects,
    )
    return {
        "events": made.events,
        "size": made.size,
        "policies": list(made.policies),
        "vkey": runtime.audit.vkey,
    }


async def key_of_member(runtime: Runtime, member: str) -> tuple[OwnerKey, tuple[str, ...]]:
    """Give a member's key and every monthly token of theirs, or `NotFoundError`."""
    if not is_id("mem", member):
        raise NotFoundError(reason="member_unknown")
    async with runtime.database.read() as session:
        row = await runtime.members.read(session, MemberId(member))
        key = await runtime.members.pseudonym(session, row.id)
    return key, runtime.audit.tokens(key, since_us=row.created_us)


def moment_of(settings: Settings, name: str, text: str, *, days: int) -> int:
    """Read an RFC 3339 moment, or a day of the house's calendar and its first moment `days` on."""
    try:
        if len(text) == len(_DAY):
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=house_zone(settings))
            return max(0, int((day + timedelta(days=days)).astimezone(UTC).timestamp()) * 1_000_000)
        return from_rfc3339(text)
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            f"--{name} is no day ({_DAY}) and no moment (RFC 3339)",
            errors=[FieldProblem(f"/{name}", "moment")],
        ) from None
