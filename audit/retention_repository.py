"""SQL of keeping and forgetting: what is due, what is held, and the narrow door of deletion.

The door itself stands in the migrations, as triggers: no statement here could delete a body that
no event names, whose day has not come, or that a legal hold covers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from audit.retention import PRUNED, Run, bounds_us
from audit.tables import (
    audit_checkpoint,
    audit_detail,
    audit_event,
    audit_hold,
    audit_hold_subject,
    audit_leaf,
    audit_manifest_token,
    audit_pruned,
)
from kernel import ReadSession, Row, Statement, UnitOfWork, new_id

_SLACK_US = 1_000  # an id orders by its moment to the part of a millisecond

_OLDEST = Statement(
    select(audit_event.c.recorded_us)
    .where(~audit_event.c.action.startswith("retention.", autoescape=True))
    .order_by(audit_event.c.id)
    .limit(1)
)
HOLDING = (
    exists()
    .where(
        audit_hold.c.released_us.is_(None),
        or_(audit_hold.c.from_us.is_(None), audit_hold.c.from_us <= audit_event.c.recorded_us),
        or_(audit_hold.c.until_us.is_(None), audit_hold.c.until_us > audit_event.c.recorded_us),
        or_(audit_hold.c.action.is_(None), audit_hold.c.action == audit_event.c.action),
        or_(
            audit_hold.c.by_subject == 0,
            exists()
            .where(
                audit_hold_subject.c.hold_id == audit_hold.c.id,
                audit_hold_subject.c.token == audit_event.c.subject,
            )
            .correlate(audit_hold, audit_event),
            exists()
            .where(
                audit_hold_subject.c.hold_id == audit_hold.c.id,
                audit_manifest_token.c.token == audit_hold_subject.c.token,
                audit_manifest_token.c.event_id == audit_event.c.id,
            )
            .correlate(audit_hold, audit_event),
        ),
    )
    .correlate(audit_event)
)
_SETTLED = Statement(
    select(func.max(audit_checkpoint.c.size).label("size")).where(
        audit_checkpoint.c.created_us <= bindparam("before_us", type_=BigInteger)
    )
)
_OF_MONTH = Statement(
    select(
        audit_event.c.id,
        audit_event.c.action,
        audit_leaf.c.leaf_index,
        HOLDING.label("held"),
        exists()
        .where(audit_detail.c.event_id == audit_event.c.id, audit_detail.c.ciphertext.is_not(None))
        .correlate(audit_event)
        .label("sealed"),
    )
    .select_from(audit_event.join(audit_leaf, audit_leaf.c.event_id == audit_event.c.id))
    .where(
        audit_event.c.id > bindparam("after"),
        audit_event.c.id < bindparam("end"),
        audit_event.c.recorded_us >= bindparam("from_us"),
        audit_event.c.recorded_us < bindparam("until_us"),
        audit_leaf.c.leaf_index < bindparam("settled", type_=BigInteger),
    )
    .order_by(audit_event.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_STOP_HOLDS = Statement(select(func.yinyom_stop_holds().label("stopped")))
_ADD_RUN = Statement(
    insert(audit_pruned).values(
        first_index=bindparam("first_index"),
        last_index=bindparam("last_index"),
        event_id=bindparam("event_id"),
        from_us=bindparam("from_us"),
        until_us=bindparam("until_us"),
        due_us=bindparam("due_us"),
    )
)
_PRUNE = Statement(select(func.yinyom_prune(bindparam("event_id", type_=Text)).label("gone")))
_DELETE = Statement(
    delete(audit_event).where(
        audit_event.c.id.in_(
            select(audit_leaf.c.event_id)
            .join(
                audit_pruned,
                and_(
                    audit_leaf.c.leaf_index >= audit_pruned.c.first_index,
                    audit_leaf.c.leaf_index <= audit_pruned.c.last_index,
                ),
            )
            .where(audit_pruned.c.event_id == bindparam("event_id"))
        )
    )
)
_DELETE_AGAIN = Statement(
    delete(audit_event).where(
        audit_event.c.id.in_(
            select(audit_event.c.id)
            .select_from(
                audit_event.join(audit_leaf, audit_leaf.c.event_id == audit_event.c.id).join(
                    audit_pruned,
                    and_(
                        audit_leaf.c.leaf_index >= audit_pruned.c.first_index,
                        audit_leaf.c.leaf_index <= audit_pruned.c.last_index,
                    ),
                )
            )
            .where(audit_pruned.c.event_id == bindparam("event_id"), ~HOLDING)
        )
    )
)
_LEAF = Statement(
    select(audit_leaf.c.leaf_index, audit_leaf.c.leaf_hash).where(
        audit_leaf.c.event_id == bindparam("event_id")
    )
)
_RUN_AT = Statement(
    select(audit_pruned.c.last_index, audit_pruned.c.event_id)
    .where(audit_pruned.c.first_index <= bindparam("place", type_=BigInteger))
    .order_by(audit_pruned.c.first_index.desc())
    .limit(1)
)
_RUNS = Statement(
    select(audit_pruned.c.first_index, audit_pruned.c.last_index)
    .where(
        audit_pruned.c.first_index <= bindparam("last", type_=BigInteger),
        audit_pruned.c.last_index >= bindparam("first", type_=BigInteger),
    )
    .order_by(audit_pruned.c.first_index)
)
_ALL_RUNS = Statement(
    select(audit_pruned.c.event_id, audit_pruned.c.first_index, audit_pruned.c.last_index)
)
_PRUNED_UNTIL = Statement(select(func.max(audit_pruned.c.until_us).label("until_us")))
_NEWEST_PRUNING = Statement(
    select(audit_pruned.c.event_id, audit_leaf.c.leaf_index)
    .select_from(
        audit_pruned.outerjoin(audit_leaf, audit_leaf.c.event_id == audit_pruned.c.event_id)
    )
    .order_by(audit_pruned.c.event_id.desc())
    .limit(1)
)
_PRUNINGS = Statement(
    select(audit_event.c.id, audit_event.c.recorded_us, audit_event.c.body)
    .where(audit_event.c.action == PRUNED, audit_event.c.id > bindparam("after"))
    .order_by(audit_event.c.id)
    .limit(bindparam("most", type_=BigInteger))
)

_ADD_HOLD = Statement(
    insert(audit_hold).values(
        {name: bindparam(name) for name in audit_hold.c.keys() if name != "released_us"}  # noqa: SIM118 (columns are no mapping)
        | {"released_us": None}
    )
)
_ADD_HOLD_SUBJECT = Statement(
    insert(audit_hold_subject).values(hold_id=bindparam("hold_id"), token=bindparam("token"))
)
_RELEASING = (
    update(audit_hold)
    .where(audit_hold.c.id == bindparam("hold_id"), audit_hold.c.released_us.is_(None))
    .values(released_us=bindparam("now_us"))
)
_RELEASE = Statement(_RELEASING)
_RELEASE_OF = Statement(_RELEASING.where(audit_hold.c.brand == bindparam("of_brand")))
_FORGET_SUBJECTS = Statement(
    delete(audit_hold_subject).where(audit_hold_subject.c.hold_id == bindparam("hold_id"))
)
_HOLDS = Statement(select(audit_hold).order_by(audit_hold.c.id))
_PAGE = (
    select(audit_hold)
    .where(audit_hold.c.id < bindparam("before"))
    .order_by(audit_hold.c.id.desc())
    .limit(bindparam("most", type_=BigInteger))
)
_HOLDS_BEFORE = Statement(_PAGE)
_HOLDS_OF_BEFORE = Statement(
    _PAGE.where(or_(audit_hold.c.brand.is_(None), audit_hold.c.brand == bindparam("of_brand")))
)
_HOLD = Statement(select(audit_hold).where(audit_hold.c.id == bindparam("hold_id")))
_AFTER_EVERY_HOLD = "hld_~"


async def oldest_us(session: ReadSession) -> int | None:
    """Give the moment of the oldest event that may ever go (µs)."""
    row = await session.first(_OLDEST)
    return None if row is None else int(row["recorded_us"])


async def settled_size(session: ReadSession, *, before_us: int) -> int:
    """Give the size of the newest head that was signed before a moment; 0 when there is none."""
    row = await session.first(_SETTLED, before_us=before_us)
    return 0 if row is None or row["size"] is None else int(row["size"])


async def bodies_of_month(
    session: ReadSession, month: str, *, after: str, settled: int, most: int
) -> Sequence[Row]:
    """Give id, action, leaf_index, `held` and `sealed` of a month's bodies behind an id, by id.

    `sealed`: a detail still hangs on it.
    """
    from_us, until_us = bounds_us(month)
    return await session.all(
        _OF_MONTH,
        after=after or new_id("evt", max(0, from_us - _SLACK_US)),
        end=new_id("evt", until_us + _SLACK_US),
        from_us=from_us,
        until_us=until_us,
        settled=settled,
        most=most,
    )


async def stop_holds(work: UnitOfWork) -> None:
    """Let no hold be placed or released until this unit of work ends; SQLite has one writer."""
    if work.dialect == "postgresql":
        await work.first(_STOP_HOLDS)


async def name_runs(
    work: UnitOfWork, event_id: str, runs: Iterable[Run], month: str, *, due_us: int
) -> None:
    """Name places in the log whose bodies an event says are deleted."""
    from_us, until_us = bounds_us(month)
    bounds = {"event_id": event_id, "from_us": from_us, "until_us": until_us, "due_us": due_us}
    await work.run_many(
        _ADD_RUN, [bounds | {"first_index": run[0], "last_index": run[1]} for run in runs]
    )


async def delete_bodies(work: UnitOfWork, event_id: str) -> int:
    """Delete the bodies that stand in the places named by an event; gives how many there were."""
    if work.dialect == "postgresql":
        row = await work.first(_PRUNE, event_id=event_id)
        return 0 if row is None else int(row["gone"])
    return await work.run(_DELETE, event_id=event_id)


async def delete_again(work: UnitOfWork, event_id: str) -> int:
    """Delete what came back from a backup although an event says it is deleted, unless held."""
    return await work.run(_DELETE_AGAIN, event_id=event_id)


async def leaf_of(session: ReadSession, event_id: str) -> tuple[int, bytes] | None:
    """Give place and hash of an event's leaf; None while it has none."""
    row = await session.first(_LEAF, event_id=event_id)
    return None if row is None else (int(row["leaf_index"]), bytes(row["leaf_hash"]))


async def pruning_of(session: ReadSession, place: int) -> str | None:
    """Give the id of the event that tells of the deletion at a place; None when none does."""
    row = await session.first(_RUN_AT, place=place)
    return None if row is None or row["last_index"] < place else str(row["event_id"])


async def pruned_runs(session: ReadSession, first: int, last: int) -> list[Run]:
    """Give the runs of places deleted by rule that meet those from first to last."""
    rows = await session.all(_RUNS, first=first, last=last)
    return [(max(first, row["first_index"]), min(last, row["last_index"])) for row in rows]


async def all_runs(session: ReadSession) -> Sequence[Row]:
    """Give event_id, first_index and last_index of every run."""
    return await session.all(_ALL_RUNS)


async def pruned_until(session: ReadSession) -> int | None:
    """Give the end (µs) of the newest month of which anything was deleted by rule."""
    row = await session.first(_PRUNED_UNTIL)
    return None if row is None or row["until_us"] is None else int(row["until_us"])


async def newest_pruning(session: ReadSession) -> tuple[str, int | None] | None:
    """Give id and place of the newest event that tells of deletions; the place is None at first."""
    row = await session.first(_NEWEST_PRUNING)
    return None if row is None else (str(row["event_id"]), row["leaf_index"])


async def prunings(session: ReadSession, *, after: str, most: int) -> Sequence[Row]:
    """Give id, recorded_us and body of events that tell of deletions, behind an id."""
    return await session.all(_PRUNINGS, after=after, most=most)


async def add_hold(work: UnitOfWork, values: Mapping[str, Any], tokens: Iterable[str]) -> None:
    """Place a hold, with the tokens of the member that it is for, if it is for one."""
    await work.run(_ADD_HOLD, **values)
    await work.run_many(
        _ADD_HOLD_SUBJECT, [{"hold_id": values["id"], "token": token} for token in tokens]
    )


async def release_hold(
    work: UnitOfWork, hold_id: str, *, brand: str | None = None, now_us: int
) -> bool:
    """End a hold, of a brand or (None) anybody's, and forget whom it was for.

    False when it is none, has ended or is somebody else's.
    """
    if brand is None:
        ended = await work.run(_RELEASE, hold_id=hold_id, now_us=now_us)
    else:
        ended = await work.run(_RELEASE_OF, hold_id=hold_id, of_brand=brand, now_us=now_us)
    if ended != 1:
        return False
    await work.run(_FORGET_SUBJECTS, hold_id=hold_id)
    return True


async def hold(session: ReadSession, hold_id: str) -> Row | None:
    """Give a hold, whether it has ended or not."""
    return await session.first(_HOLD, hold_id=hold_id)


async def holds_before(
    session: ReadSession, *, brand: str | None, before: str | None, most: int
) -> Sequence[Row]:
    """Give holds of a brand and of the whole installation, or every one, the newest first."""
    page = {"before": before or _AFTER_EVERY_HOLD, "most": most}
    if brand is None:
        return await session.all(_HOLDS_BEFORE, **page)
    return await session.all(_HOLDS_OF_BEFORE, of_brand=brand, **page)


async def holds(session: ReadSession) -> Sequence[Row]:
    """Give every hold, those that have ended as well, the oldest first."""
    return await session.all(_HOLDS)
