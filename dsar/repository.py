"""All SQL of rights requests, their exports and restrictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgpack
import orjson
from sqlalchemy import BigInteger, Text, bindparam, delete, func, insert, or_, select, update

from dsar.model import (
    OPEN,
    FieldResult,
    RequestState,
    Right,
    RightsRequest,
    RightsRequestId,
    Via,
)
from dsar.tables import restriction, rights_export, rights_request
from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork

_NAMES = tuple(column.name for column in rights_request.c)
_FIXED = frozenset({"id", "brand", "jurisdiction", "right_key", "via", "opened_by", "received_us"})
_CHANGING = tuple(name for name in _NAMES if name not in _FIXED and name != "version")
_CORRECTIONS = "corrections"
_READ = [column for column in rights_request.c if column.name != _CORRECTIONS]
_BEFORE_ALL = "rr_~"
_OPEN_STATES = sorted(state.value for state in OPEN)

_ADD = Statement(insert(rights_request).values({name: bindparam(name) for name in _NAMES}))
_SAVE = Statement(
    update(rights_request)
    .where(
        rights_request.c.id == bindparam("request_id"),
        rights_request.c.version == bindparam("seen"),
    )
    .values(
        {name: bindparam(f"new_{name}") for name in _CHANGING if name != _CORRECTIONS}
        | {"version": rights_request.c.version + 1}
    )
)
_BY_ID = select(*_READ).where(rights_request.c.id == bindparam("request_id"))
_ONE = Statement(_BY_ID)
_HELD = Statement(_BY_ID.with_for_update())
_CORRECTED = Statement(
    select(rights_request.c.corrections).where(rights_request.c.id == bindparam("request_id"))
)
_DROP_CORRECTIONS = Statement(
    update(rights_request)
    .where(rights_request.c.id == bindparam("request_id"))
    .values(corrections=None)
)
_OF_MEMBER = Statement(
    select(*_READ)
    .where(rights_request.c.member_id == bindparam("member_id"))
    .order_by(rights_request.c.id.desc())
)
_IN_BRAND = rights_request.c.brand == bindparam("in_brand", type_=Text)
_PAGE = (
    select(*_READ)
    .where(_IN_BRAND, rights_request.c.id < bindparam("before", type_=Text))
    .order_by(rights_request.c.id.desc())
    .limit(bindparam("most", type_=BigInteger))
)
_QUEUE = Statement(_PAGE)
_QUEUE_IN = Statement(_PAGE.where(rights_request.c.state == bindparam("in_state", type_=Text)))
_REFUSED = Statement(_PAGE.where(rights_request.c.state == RequestState.REFUSED.value))
_OVERDUE = Statement(
    select(*_READ)
    .where(
        or_(*(rights_request.c.state == state for state in _OPEN_STATES)),
        rights_request.c.alarm_us <= bindparam("before_us"),
    )
    .order_by(rights_request.c.alarm_us)
)
_COUNTS = Statement(
    select(rights_request.c.right_key, rights_request.c.state, func.count().label("requests"))
    .where(or_(_IN_BRAND, bindparam("in_brand", type_=Text) == "*"))
    .group_by(rights_request.c.right_key, rights_request.c.state)
    .order_by(rights_request.c.right_key, rights_request.c.state)
)
_FORGET = Statement(
    update(rights_request)
    .where(rights_request.c.member_id == bindparam("of_member"))
    .values(member_id=None, corrections=None, version=rights_request.c.version + 1)
)


async def add(
    work: UnitOfWork, request: RightsRequest, corrections: Mapping[str, bytes] | None
) -> None:
    """Store a new request, with corrected values sealed under the member's key."""
    packed = None if corrections is None else msgpack.packb(dict(corrections))
    await work.run(_ADD, **_row(request), corrections=packed, version=request.version)


async def save(work: UnitOfWork, request: RightsRequest, seen: int) -> bool:
    """Write what may change of a request; False when it is not at the version seen."""
    row = _row(request)
    changed = {f"new_{name}": row[name] for name in _CHANGING if name != _CORRECTIONS}
    return await work.run(_SAVE, request_id=request.id, seen=seen, **changed) == 1


async def read(session: ReadSession, request_id: str) -> RightsRequest | None:
    """Find a request."""
    row = await session.first(_ONE, request_id=request_id)
    return None if row is None else _request(row)


async def hold(work: UnitOfWork, request_id: str) -> RightsRequest | None:
    """Find a request and keep others from changing it until the unit of work ends."""
    row = await work.first(_HELD, request_id=request_id)
    return None if row is None else _request(row)


async def corrections(session: ReadSession, request_id: str) -> dict[str, bytes]:
    """Give the sealed corrected values of a request by field."""
    row = await session.first(_CORRECTED, request_id=request_id)
    found: dict[str, bytes] = (
        {} if row is None or row["corrections"] is None else msgpack.unpackb(row["corrections"])
    )
    return found


async def drop_corrections(work: UnitOfWork, request_id: str) -> None:
    """Forget corrected values, which are the member's own fields from now on or nothing."""
    await work.run(_DROP_CORRECTIONS, request_id=request_id)


async def of_member(session: ReadSession, member_id: MemberId) -> list[RightsRequest]:
    """Give a member's requests, the newest first."""
    return [_request(row) for row in await session.all(_OF_MEMBER, member_id=member_id)]


async def queue(
    session: ReadSession, brand: str, state: RequestState | None, *, before: str | None, most: int
) -> list[RightsRequest]:
    """Give requests of a brand, the newest first, in one state or in any."""
    at = {"in_brand": brand, "before": before or _BEFORE_ALL, "most": most}
    if state is None:
        rows: Sequence[Row] = await session.all(_QUEUE, **at)
    else:
        rows = await session.all(_QUEUE_IN, in_state=state.value, **at)
    return [_request(row) for row in rows]


async def refused(
    session: ReadSession, brand: str, *, before: str | None, most: int
) -> list[RightsRequest]:
    """Give refused requests of a brand, the newest first."""
    rows = await session.all(_REFUSED, in_brand=brand, before=before or _BEFORE_ALL, most=most)
    return [_request(row) for row in rows]


async def overdue(session: ReadSession, before_us: int) -> list[RightsRequest]:
    """Give open requests whose alarm is at or before a moment, the most urgent first."""
    return [_request(row) for row in await session.all(_OVERDUE, before_us=before_us)]


async def counts(session: ReadSession, brand: str) -> list[tuple[str, str, int]]:
    """Count requests of a brand (`*`: of all) by right and state."""
    rows = await session.all(_COUNTS, in_brand=brand)
    return [(row["right_key"], row["state"], row["requests"]) for row in rows]


async def forget_member(work: UnitOfWork, member_id: MemberId) -> None:
    """Cut every request of a member off from it; the rows stay, with no identity."""
    await work.run(_FORGET, of_member=member_id)


# --- exports --------------------------------------------------------------------------

_ADD_EXPORT = Statement(
    insert(rights_export).values(
        {column.name: bindparam(column.name) for column in rights_export.c}
    )
)
_EXPORT = Statement(
    select(rights_export).where(rights_export.c.request_id == bindparam("request_id"))
)
_DROP_EXPORT = Statement(
    delete(rights_export).where(rights_export.c.request_id == bindparam("request_id"))
)
_EXPORT_OF = Statement(
    select(rights_export.c.request_id).where(rights_export.c.member_id == bindparam("of_member"))
)
_DROP_EXPORTS_OF = Statement(
    delete(rights_export).where(rights_export.c.member_id == bindparam("of_member"))
)
_DROP_EXPIRED = Statement(
    delete(rights_export).where(rights_export.c.expires_us <= bindparam("now_us"))
)


@dataclass(frozen=True, slots=True)
class StoredExport:
    """An export as it rests: the archive under its own key, that key under the member's."""

    request_id: str
    member_id: MemberId
    wrapped_key: bytes
    sealed: bytes
    created_us: int
    expires_us: int


async def add_export(work: UnitOfWork, export: StoredExport) -> None:
    """Store an export in place of an earlier one of the same request."""
    await work.run(_DROP_EXPORT, request_id=export.request_id)
    await work.run(
        _ADD_EXPORT,
        request_id=export.request_id,
        member_id=export.member_id,
        wrapped_key=export.wrapped_key,
        sealed=export.sealed,
        created_us=export.created_us,
        expires_us=export.expires_us,
    )


async def read_export(session: ReadSession, request_id: str) -> StoredExport | None:
    """Find the export of a request."""
    row = await session.first(_EXPORT, request_id=request_id)
    if row is None:
        return None
    return StoredExport(
        row["request_id"],
        MemberId(row["member_id"]),
        bytes(row["wrapped_key"]),
        bytes(row["sealed"]),
        row["created_us"],
        row["expires_us"],
    )


async def drop_export(work: UnitOfWork, request_id: str) -> bool:
    """Delete the export of a request; False when somebody else has taken it."""
    return await work.run(_DROP_EXPORT, request_id=request_id) == 1


async def holds_export(session: ReadSession, member_id: MemberId) -> bool:
    """Say whether a copy for a member waits to be fetched."""
    return await session.first(_EXPORT_OF, of_member=member_id) is not None


async def drop_exports_of(work: UnitOfWork, member_id: MemberId) -> None:
    """Delete every export of a member."""
    await work.run(_DROP_EXPORTS_OF, of_member=member_id)


async def drop_expired_exports(work: UnitOfWork, *, now_us: int) -> int:
    """Delete exports that nobody fetched in time and say how many."""
    return await work.run(_DROP_EXPIRED, now_us=now_us)


# --- restrictions ---------------------------------------------------------------------

_ADD_RESTRICTION = Statement(
    insert(restriction).values(
        {
            column.name: bindparam(column.name)
            for column in restriction.c
            if column.name != "ended_us"
        }
        | {"ended_us": None}
    )
)
_RESTRICTION = Statement(select(restriction).where(restriction.c.id == bindparam("restriction_id")))
_RESTRICTIONS_OF = Statement(
    select(restriction)
    .where(
        restriction.c.member_id == bindparam("member_id"),
        restriction.c.ended_us.is_(None),
    )
    .order_by(restriction.c.id)
)
_RUN_OUT = Statement(
    select(restriction)
    .where(restriction.c.ended_us.is_(None), restriction.c.until_us <= bindparam("now_us"))
    .order_by(restriction.c.id)
)
_END_RESTRICTION = Statement(
    update(restriction)
    .where(restriction.c.id == bindparam("restriction_id"), restriction.c.ended_us.is_(None))
    .values(ended_us=bindparam("now_us"))
)
_FORGET_RESTRICTED = Statement(
    update(restriction)
    .where(restriction.c.member_id == bindparam("of_member"))
    .values(member_id=None, ended_us=func.coalesce(restriction.c.ended_us, bindparam("now_us")))
)


@dataclass(frozen=True, slots=True)
class Restriction:
    """A restriction of processing: its ground, until when, and whether it has ended (µs)."""

    id: str
    member_id: MemberId | None
    brand: str
    ground: str
    request_id: str | None
    begun_us: int
    until_us: int | None
    ended_us: int | None


async def add_restriction(work: UnitOfWork, made: Restriction) -> None:
    """Store a restriction that begins."""
    await work.run(
        _ADD_RESTRICTION,
        id=made.id,
        member_id=made.member_id,
        brand=made.brand,
        ground=made.ground,
        request_id=made.request_id,
        begun_us=made.begun_us,
        until_us=made.until_us,
    )


async def read_restriction(session: ReadSession, restriction_id: str) -> Restriction | None:
    """Find a restriction."""
    row = await session.first(_RESTRICTION, restriction_id=restriction_id)
    return None if row is None else _restriction(row)


async def restrictions_of(session: ReadSession, member_id: MemberId) -> list[Restriction]:
    """Give the restrictions of a member that are in force, the oldest first."""
    return [_restriction(row) for row in await session.all(_RESTRICTIONS_OF, member_id=member_id)]


async def restrictions_run_out(session: ReadSession, *, now_us: int) -> list[Restriction]:
    """Give restrictions whose last day has passed."""
    return [_restriction(row) for row in await session.all(_RUN_OUT, now_us=now_us)]


async def end_restriction(work: UnitOfWork, restriction_id: str, *, now_us: int) -> bool:
    """End a restriction; False when it had ended."""
    return await work.run(_END_RESTRICTION, restriction_id=restriction_id, now_us=now_us) == 1


async def forget_restricted(work: UnitOfWork, member_id: MemberId, *, now_us: int) -> None:
    """End a member's restrictions and cut them off from it."""
    await work.run(_FORGET_RESTRICTED, of_member=member_id, now_us=now_us)


# --- rows -----------------------------------------------------------------------------


def _row(request: RightsRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "member_id": request.member_id,
        "brand": request.brand,
        "jurisdiction": request.jurisdiction,
        "right_key": request.right.value,
        "state": request.state.value,
        "via": request.via.value,
        "opened_by": request.opened_by,
        "details": orjson.dumps(
            {"codes": dict(request.details), "corrected": list(request.corrected)}
        ),
        "received_us": request.received_us,
        "verified_us": request.verified_us,
        "verified_by": request.verified_by,
        "stepped_up_us": request.stepped_up_us,
        "paused_us": request.paused_us,
        "paused_days": request.paused_days,
        "extended_us": request.extended_us,
        "extension_reason": request.extension_reason,
        "safe_due": request.safe_due.isoformat(),
        "legal_due": request.legal_due.isoformat(),
        "target": request.target.isoformat(),
        "acknowledge_due": None
        if request.acknowledge_due is None
        else request.acknowledge_due.isoformat(),
        "alarm_us": request.alarm_us,
        "flagged": request.flagged,
        "decided_us": request.decided_us,
        "decided_by": request.decided_by,
        "proposed_us": request.proposed_us,
        "proposed_by": request.proposed_by,
        "reason": request.reason,
        "law": request.law,
        "audit_id": request.audit_id,
        "results": orjson.dumps([result.as_dict() for result in request.results]),
        "outcome": orjson.dumps(dict(request.outcome)),
    }


def _request(row: Row) -> RightsRequest:
    details = orjson.loads(row["details"])
    return RightsRequest(
        id=RightsRequestId(row["id"]),
        member_id=None if row["member_id"] is None else MemberId(row["member_id"]),
        brand=row["brand"],
        jurisdiction=row["jurisdiction"],
        right=Right(row["right_key"]),
        state=RequestState(row["state"]),
        via=Via(row["via"]),
        opened_by=row["opened_by"],
        details=details["codes"],
        corrected=tuple(details["corrected"]),
        received_us=row["received_us"],
        verified_us=row["verified_us"],
        verified_by=row["verified_by"],
        stepped_up_us=row["stepped_up_us"],
        paused_us=row["paused_us"],
        paused_days=row["paused_days"],
        extended_us=row["extended_us"],
        extension_reason=row["extension_reason"],
        safe_due=date.fromisoformat(row["safe_due"]),
        legal_due=date.fromisoformat(row["legal_due"]),
        target=date.fromisoformat(row["target"]),
        acknowledge_due=None
        if row["acknowledge_due"] is None
        else date.fromisoformat(row["acknowledge_due"]),
        alarm_us=row["alarm_us"],
        flagged=row["flagged"],
        decided_us=row["decided_us"],
        decided_by=row["decided_by"],
        proposed_us=row["proposed_us"],
        proposed_by=row["proposed_by"],
        reason=row["reason"],
        law=row["law"],
        audit_id=row["audit_id"],
        version=row["version"],
        results=tuple(FieldResult(**result) for result in orjson.loads(row["results"])),
        outcome=orjson.loads(row["outcome"]),
    )


def _restriction(row: Row) -> Restriction:
    return Restriction(
        row["id"],
        None if row["member_id"] is None else MemberId(row["member_id"]),
        row["brand"],
        row["ground"],
        row["request_id"],
        row["begun_us"],
        row["until_us"],
        row["ended_us"],
    )
