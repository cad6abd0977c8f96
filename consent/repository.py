"""All SQL of consent: notices, events, state, and the gate that every disclosure locks."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, bindparam, delete, func, insert, literal, select, update
from sqlalchemy.sql import FromClause, Select
from sqlalchemy.sql.elements import ColumnElement

from consent.model import ConsentEvent, ConsentState, Gate, GateState, NoticeRecord, Status
from consent.tables import consent_event, consent_state, member_gate, notice, suppression
from kernel import ConsentEventId, MemberId, ReadSession, Row, Statement, UnitOfWork

# --- the gate -------------------------------------------------------------------------

_OPEN_GATE = Statement(
    insert(member_gate).values(
        member_id=bindparam("member_id"),
        version=1,
        state=GateState.ACTIVE.value,
        age_tier=bindparam("age_tier"),
    )
)
_GATE_COLUMNS = (
    member_gate.c.member_id,
    member_gate.c.version,
    member_gate.c.state,
    member_gate.c.age_tier,
)
_ONE_GATE = select(*_GATE_COLUMNS).where(member_gate.c.member_id == bindparam("member_id"))
_GATE = Statement(_ONE_GATE)
_SHARED_GATE = Statement(_ONE_GATE.with_for_update(read=True))
_BUMP = Statement(
    update(member_gate)
    .where(member_gate.c.member_id == bindparam("for_member"))
    .values(version=member_gate.c.version + 1)
    .returning(*_GATE_COLUMNS)
)
_SET_STATE = Statement(
    update(member_gate)
    .where(member_gate.c.member_id == bindparam("for_member"))
    .values(version=member_gate.c.version + 1, state=bindparam("new_state"))
    .returning(*_GATE_COLUMNS)
)
_SET_AGE_TIER = Statement(
    update(member_gate)
    .where(member_gate.c.member_id == bindparam("for_member"))
    .values(version=member_gate.c.version + 1, age_tier=bindparam("new_age_tier"))
    .returning(*_GATE_COLUMNS)
)


_IN_TIERS = Statement(
    select(member_gate.c.member_id)
    .where(
        member_gate.c.state != GateState.ERASED.value,
        member_gate.c.age_tier.in_([bindparam("tier_a"), bindparam("tier_b")]),
        member_gate.c.member_id > bindparam("after"),
    )
    .order_by(member_gate.c.member_id)
    .limit(bindparam("most", type_=BigInteger))
)


def gate_held(member_id: ColumnElement[str], version: ColumnElement[int]) -> Select[Any]:
    """Select the gate of a member at a decided version, holding it against any change.

    The row is locked `FOR SHARE` on PostgreSQL until the transaction ends, so a withdrawal
    waits for the event, or the event finds no row. A plain EXISTS would let a withdrawn read
    through. SQLite has one writer and drops the clause.
    """
    return (
        select(member_gate.c.member_id)
        .where(member_gate.c.member_id == member_id, member_gate.c.version == version)
        .with_for_update(read=True)
    )


def gate_source(
    member_id: ColumnElement[str],
) -> tuple[FromClause, ColumnElement[bool], Sequence[ColumnElement[Any]]]:
    """Offer the gate as a part of another room's statement: table, join condition, columns."""
    columns = [
        getattr(member_gate.c, name).label(f"gate_{name}")
        for name in ("version", "state", "age_tier")
    ]
    return member_gate, member_gate.c.member_id == member_id, columns


def state_source(
    member_id: ColumnElement[str], purpose: ColumnElement[str], channel: ColumnElement[str]
) -> tuple[FromClause, ColumnElement[bool], Sequence[ColumnElement[Any]]]:
    """Offer the consent state of one purpose and channel as a part of a statement."""
    columns = [
        consent_state.c.status.label("consent_status"),
        consent_state.c.event_id.label("consent_event_id"),
        consent_state.c.notice_revision.label("consent_notice_revision"),
        consent_state.c.guardian_id.label("consent_guardian_id"),
    ]
    on = (
        (consent_state.c.member_id == member_id)
        & (consent_state.c.purpose == purpose)
        & (consent_state.c.channel == channel)
    )
    return consent_state, on, columns


def _gate(row: Row) -> Gate:
    return Gate(
        MemberId(row["member_id"]), row["version"], GateState(row["state"]), row["age_tier"]
    )


async def open_gate(work: UnitOfWork, member_id: MemberId, age_tier: str) -> None:
    """Make the gate of a new member."""
    await work.run(_OPEN_GATE, member_id=member_id, age_tier=age_tier)


async def read_gate(session: ReadSession, member_id: MemberId) -> Gate | None:
    """Read a gate without holding it."""
    row = await session.first(_GATE, member_id=member_id)
    return None if row is None else _gate(row)


async def share_gate(work: UnitOfWork, member_id: MemberId) -> Gate | None:
    """Read a gate and keep others from moving it on until this unit of work ends."""
    row = await work.first(_SHARED_GATE, member_id=member_id)
    return None if row is None else _gate(row)


async def bump_gate(work: UnitOfWork, member_id: MemberId) -> Gate | None:
    """Lock a gate and move it on, so that no decision taken before can still be recorded."""
    row = await work.first(_BUMP, for_member=member_id)
    return None if row is None else _gate(row)


async def set_gate_state(work: UnitOfWork, member_id: MemberId, state: GateState) -> Gate | None:
    """Restrict, free or close a member, moving the gate on."""
    row = await work.first(_SET_STATE, for_member=member_id, new_state=state.value)
    return None if row is None else _gate(row)


async def set_age_tier(work: UnitOfWork, member_id: MemberId, age_tier: str) -> Gate | None:
    """Note a new age tier, moving the gate on."""
    row = await work.first(_SET_AGE_TIER, for_member=member_id, new_age_tier=age_tier)
    return None if row is None else _gate(row)


async def members_in_tiers(
    session: ReadSession, tiers: tuple[str, str], *, after: str, most: int
) -> list[MemberId]:
    """Give living members of either age tier, in order, from the one after `after`."""
    rows = await session.all(_IN_TIERS, tier_a=tiers[0], tier_b=tiers[1], after=after, most=most)
    return [MemberId(row["member_id"]) for row in rows]


# --- notices --------------------------------------------------------------------------

_ADD_NOTICE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(notice)
        .values(
            revision=bindparam("revision"),
            key=bindparam("key"),
            version=bindparam("version"),
            lang=bindparam("lang"),
            text=bindparam("text"),
            effective_from_us=bindparam("effective_from_us"),
        )
        .on_conflict_do_nothing()
    )
)
_NOTICE = Statement(select(notice).where(notice.c.revision == bindparam("revision")))


async def add_notice(work: UnitOfWork, record: NoticeRecord) -> None:
    """Keep the exact words of a notice for as long as consent rests on them."""
    await work.run(
        _ADD_NOTICE,
        revision=record.revision,
        key=record.key,
        version=record.version,
        lang=record.lang,
        text=record.text,
        effective_from_us=record.effective_from_us,
    )


async def notice_by_revision(session: ReadSession, revision: str) -> NoticeRecord | None:
    """Find the words behind a revision hash."""
    row = await session.first(_NOTICE, revision=revision)
    if row is None:
        return None
    return NoticeRecord(
        row["revision"],
        row["key"],
        row["version"],
        row["lang"],
        row["text"],
        row["effective_from_us"],
    )


# --- events and state -----------------------------------------------------------------

_ADD_EVENT = Statement(
    insert(consent_event).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        purpose=bindparam("purpose"),
        channel=bindparam("channel"),
        decision=bindparam("decision"),
        notice_revision=bindparam("notice_revision"),
        lang=bindparam("lang"),
        evidence=bindparam("evidence"),
        recorded_by=bindparam("recorded_by"),
        at_us=bindparam("at_us"),
        audit_id=bindparam("audit_id"),
        guardian_id=bindparam("guardian_id"),
        joint_with=bindparam("joint_with"),
    )
)
_SET_CONSENT = Statement.for_dialect(
    lambda insert_into: (
        insert_into(consent_state)
        .values(
            member_id=bindparam("member_id"),
            purpose=bindparam("purpose"),
            channel=bindparam("channel"),
            status=bindparam("status"),
            event_id=bindparam("event_id"),
            notice_revision=bindparam("notice_revision"),
            since_us=bindparam("since_us"),
            guardian_id=bindparam("guardian_id"),
        )
        .on_conflict_do_update(
            index_elements=["member_id", "purpose", "channel"],
            set_={
                "status": bindparam("status"),
                "event_id": bindparam("event_id"),
                "notice_revision": bindparam("notice_revision"),
                "since_us": bindparam("since_us"),
                "guardian_id": bindparam("guardian_id"),
            },
        )
    )
)
_STATES = Statement(
    select(consent_state)
    .where(consent_state.c.member_id == bindparam("member_id"))
    .order_by(consent_state.c.purpose, consent_state.c.channel)
)
_END_OF_TIME_US = 253_402_300_800_000_000  # the year 10000
_EVENTS = Statement(
    select(consent_event)
    .where(
        consent_event.c.member_id == bindparam("member_id"),
        consent_event.c.at_us <= bindparam("until_us"),
    )
    .order_by(consent_event.c.at_us, consent_event.c.id)
)
_LAST_MOMENT = Statement(
    select(func.max(consent_event.c.at_us).label("at_us")).where(
        consent_event.c.member_id == bindparam("member_id")
    )
)
_EVENT = Statement(select(consent_event).where(consent_event.c.id == bindparam("event_id")))


def answers_source() -> tuple[FromClause, ColumnElement[str], Sequence[ColumnElement[Any]]]:
    """Offer every answer of every member: the table, whose it is, and what it says."""
    columns = [consent_state.c.purpose, consent_state.c.channel, consent_state.c.status]
    return consent_state, consent_state.c.member_id, columns


_COUNTS = Statement(
    select(
        consent_state.c.purpose,
        consent_state.c.channel,
        consent_state.c.status,
        func.count().label("members"),
    ).group_by(consent_state.c.purpose, consent_state.c.channel, consent_state.c.status)
)


async def append_event(work: UnitOfWork, event: ConsentEvent) -> None:
    """Append a consent event and leave the present state to another one."""
    await work.run(
        _ADD_EVENT,
        id=event.id,
        member_id=event.member_id,
        purpose=event.purpose,
        channel=event.channel,
        decision=event.status.value,
        notice_revision=event.notice_revision,
        lang=event.lang,
        evidence=orjson.dumps(event.evidence),
        recorded_by=event.recorded_by,
        at_us=event.at_us,
        audit_id=event.audit_id,
        guardian_id=event.guardian_id,
        joint_with=event.joint_with,
    )


async def add_event(work: UnitOfWork, event: ConsentEvent) -> None:
    """Append a consent event and make it the present state of its purpose and channel."""
    await append_event(work, event)
    await work.run(
        _SET_CONSENT,
        member_id=event.member_id,
        purpose=event.purpose,
        channel=event.channel,
        status=event.status.value,
        event_id=event.id,
        notice_revision=event.notice_revision,
        since_us=event.at_us,
        guardian_id=event.guardian_id,
    )


async def last_moment(session: ReadSession, member_id: MemberId) -> int:
    """Give the moment (µs) of a member's newest consent event; 0 when there is none."""
    row = await session.first(_LAST_MOMENT, member_id=member_id)
    return 0 if row is None or row["at_us"] is None else int(row["at_us"])


async def states_of(session: ReadSession, member_id: MemberId) -> list[ConsentState]:
    """Give the present state of every purpose and channel a member was ever asked about."""
    rows = await session.all(_STATES, member_id=member_id)
    return [
        ConsentState(
            r["purpose"],
            r["channel"],
            Status(r["status"]),
            ConsentEventId(r["event_id"]),
            r["notice_revision"],
            r["since_us"],
            r["guardian_id"],
        )
        for r in rows
    ]


async def events_of(
    session: ReadSession, member_id: MemberId, *, until_us: int
) -> list[ConsentEvent]:
    """Give a member's consent events up to a moment, the oldest first."""
    rows = await session.all(_EVENTS, member_id=member_id, until_us=until_us)
    return [_event(row) for row in rows]


async def history_of(session: ReadSession, member_id: MemberId) -> list[ConsentEvent]:
    """Give every decision of a member, the newest first."""
    return (await events_of(session, member_id, until_us=_END_OF_TIME_US))[::-1]


async def event_by_id(session: ReadSession, event_id: str) -> ConsentEvent | None:
    """Find one consent event."""
    row = await session.first(_EVENT, event_id=event_id)
    return None if row is None else _event(row)


async def consent_counts(session: ReadSession) -> list[tuple[str, str, Status, int]]:
    """Count members by purpose, channel and status."""
    rows = await session.all(_COUNTS)
    return [(r["purpose"], r["channel"], Status(r["status"]), r["members"]) for r in rows]


_DAY_US = 86_400_000_000
_day = (consent_event.c.at_us // literal(_DAY_US, BigInteger)).label("day")
_BY_DAY = Statement(
    select(_day, consent_event.c.decision, func.count().label("decisions"))
    .where(consent_event.c.at_us >= bindparam("since_us"), consent_event.c.joint_with.is_(None))
    .group_by(_day, consent_event.c.decision)
)


async def decisions_by_day(session: ReadSession, *, since_us: int) -> dict[tuple[int, str], int]:
    """Count decisions by (day since the epoch, kind); who decides together counts once."""
    rows = await session.all(_BY_DAY, since_us=since_us)
    return {(int(r["day"]), r["decision"]): int(r["decisions"]) for r in rows}


# --- suppression ----------------------------------------------------------------------

_SUPPRESS = Statement.for_dialect(
    lambda insert_into: (
        insert_into(suppression)
        .values(
            tag=bindparam("tag"),
            purpose=bindparam("purpose"),
            channel=bindparam("channel"),
            since_us=bindparam("since_us"),
        )
        .on_conflict_do_nothing()
    )
)
_SUPPRESSED = Statement(
    select(suppression.c.purpose, suppression.c.channel, suppression.c.since_us)
    .where(suppression.c.tag == bindparam("tag"))
    .order_by(suppression.c.purpose, suppression.c.channel)
)
_LIFT = Statement(
    delete(suppression).where(
        suppression.c.tag == bindparam("tag"),
        suppression.c.purpose == bindparam("purpose"),
        suppression.c.channel == bindparam("channel"),
    )
)


async def suppress(
    work: UnitOfWork, tag: bytes, purpose: str, channel: str, *, since_us: int
) -> None:
    """Keep an address, by its keyed tag, from a purpose on a channel; the first moment stays."""
    await work.run(_SUPPRESS, tag=tag, purpose=purpose, channel=channel, since_us=since_us)


async def suppressed_for(session: ReadSession, tag: bytes) -> list[tuple[str, str, int]]:
    """Give (purpose, channel, since µs) that an address is kept from."""
    rows = await session.all(_SUPPRESSED, tag=tag)
    return [(r["purpose"], r["channel"], r["since_us"]) for r in rows]


async def lift(work: UnitOfWork, tag: bytes, purpose: str, channel: str) -> int:
    """Give an address free again; says how many entries went."""
    return await work.run(_LIFT, tag=tag, purpose=purpose, channel=channel)


def _event(row: Row) -> ConsentEvent:
    return ConsentEvent(
        id=ConsentEventId(row["id"]),
        member_id=MemberId(row["member_id"]),
        purpose=row["purpose"],
        channel=row["channel"],
        status=Status(row["decision"]),
        notice_revision=row["notice_revision"],
        lang=row["lang"],
        evidence=orjson.loads(row["evidence"]),
        recorded_by=row["recorded_by"],
        at_us=row["at_us"],
        audit_id=row["audit_id"],
        guardian_id=row["guardian_id"],
        joint_with=row["joint_with"],
    )
