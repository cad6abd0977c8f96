"""All SQL of the lease on the log's head, of a log that must not be signed, and of its names.

The lease lies in the head's own row, so whoever has that row locked reads and writes lease, fencing
number and size as one thing. Whoever follows the log from another process asks here as well.
"""

from sqlalchemy import Float, Text, bindparam, func, insert, select, text, update

from audit.tables import audit_head, audit_origin, audit_pending
from kernel import ReadSession, Row, Statement, UnitOfWork

_MAKE_HEAD = Statement.for_dialect(
    lambda insert_into: (
        insert_into(audit_head)
        .values(origin=bindparam("origin"), size=0, vkey=bindparam("vkey"))
        .on_conflict_do_nothing()
    )
)
_TAKE_LEASE = Statement(
    update(audit_head)
    .where(
        audit_head.c.origin == bindparam("of_origin"),
        audit_head.c.fence == bindparam("of_fence"),
        audit_head.c.refused.is_(None),
    )
    .values(
        holder=bindparam("new_holder"),
        fence=audit_head.c.fence + 1,
        lease_until_us=bindparam("until_us"),
    )
)
_LET_GO = Statement(
    update(audit_head)
    .where(
        audit_head.c.origin == bindparam("of_origin"), audit_head.c.fence == bindparam("of_fence")
    )
    .values(lease_until_us=0)
)
_REFUSE = Statement(
    update(audit_head)
    .where(audit_head.c.origin == bindparam("of_origin"))
    .values(refused=bindparam("reason"), fence=audit_head.c.fence + 1, lease_until_us=0)
)
_HEAD_ROW = Statement(select(audit_head))
# Neither timeout of the server ends a session whose client fell silent between two messages of
# one statement. The head's xmax is the transaction that has the row locked.
_END_SILENT_LEADER = Statement(
    text("""
        SELECT pg_terminate_backend(a.pid) AS ended FROM audit_head h
        JOIN pg_locks l
          ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = h.xmax
        JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE a.usename = current_user AND a.wait_event = 'ClientRead'
          AND a.state_change < clock_timestamp() - make_interval(secs => :seconds)
    """).bindparams(bindparam("seconds", type_=Float))
)
SILENT_SECONDS = 30.0
"""How long a session that holds the head may keep its database waiting."""
_RENAME = Statement(
    update(audit_head)
    .where(
        audit_head.c.origin == bindparam("of_origin"), audit_head.c.size == bindparam("old_size")
    )
    .values(
        origin=bindparam("new_origin"),
        size=bindparam("new_size"),
        vkey=bindparam("new_vkey"),
        refused=None,
        fence=audit_head.c.fence + 1,
        lease_until_us=0,
    )
)
_ADD_ORIGIN = Statement(
    insert(audit_origin).values({c.name: bindparam(c.name) for c in audit_origin.columns})
)
_ORIGINS = Statement(select(audit_origin).order_by(audit_origin.c.closed_us, audit_origin.c.origin))
_COUNT_ORIGINS = Statement(select(func.count().label("named")).select_from(audit_origin))
_NEWEST_WAITING = Statement(select(func.max(audit_pending.c.event_id).label("id")))
_ANY_WAITING_UNTIL = Statement(
    select(audit_pending.c.event_id)
    .where(audit_pending.c.event_id <= bindparam("last", type_=Text))
    .limit(1)
)


async def make_head(work: UnitOfWork, origin: str, vkey: str) -> None:
    """Begin the log with a key, unless one has begun, under whatever name and key."""
    if await head_row(work) is None:
        await work.run(_MAKE_HEAD, origin=origin, vkey=vkey)


async def take_lease(
    work: UnitOfWork, origin: str, fence: int, holder: str, until_us: int
) -> int | None:
    """Become the leader over the fencing number seen; gives the new one, None when it moved."""
    taken = {"of_fence": fence, "new_holder": holder, "until_us": until_us}
    return fence + 1 if await work.run(_TAKE_LEASE, of_origin=origin, **taken) == 1 else None


async def let_go(work: UnitOfWork, origin: str, fence: int) -> None:
    """End a lease before its time, unless somebody else has taken it."""
    await work.run(_LET_GO, of_origin=origin, of_fence=fence)


async def refuse(work: UnitOfWork, origin: str, reason: str) -> None:
    """Let nobody sign this log again, in any process; takes the lease from whoever has it."""
    await work.run(_REFUSE, of_origin=origin, reason=reason)


async def end_silent_leader(work: UnitOfWork) -> bool:
    """End the session that holds the head and of which the database hears nothing any more.

    A leader that was stopped within a statement (a machine asleep, a debugger) would hold the
    head for as long as its connection stands, whoever has the lease by then. On waking it finds
    its session gone and another fencing number. A role may end its own sessions only.
    """
    if work.dialect != "postgresql":
        return False  # one process has the file
    return any(row["ended"] for row in await work.all(_END_SILENT_LEADER, seconds=SILENT_SECONDS))


async def head_row(session: ReadSession) -> Row | None:
    """Give the head's row without holding it."""
    return await session.first(_HEAD_ROW)


async def rename_head(
    work: UnitOfWork, old: tuple[str, int], new: tuple[str, int], vkey: str
) -> bool:
    """Give the log another name and size, each as (origin, size); False when it has moved."""
    moved = {"of_origin": old[0], "old_size": old[1], "new_origin": new[0], "new_size": new[1]}
    return await work.run(_RENAME, new_vkey=vkey, **moved) == 1


async def add_origin(work: UnitOfWork, **values: str | int) -> None:
    """Remember a name under which the log is not continued."""
    await work.run(_ADD_ORIGIN, **values)


async def origins(session: ReadSession) -> list[Row]:
    """Give the earlier names of the log with their last heads, the oldest first."""
    return list(await session.all(_ORIGINS))


async def count_origins(session: ReadSession) -> int:
    """Count the earlier names of the log."""
    row = await session.first(_COUNT_ORIGINS)
    return 0 if row is None else int(row["named"])


async def newest_waiting(session: ReadSession) -> str | None:
    """Give the id of the newest event that waits for the sequencer; None when none does."""
    row = await session.first(_NEWEST_WAITING)
    return None if row is None else row["id"]


async def any_waiting_until(session: ReadSession, last: str) -> bool:
    """Say whether an event waits whose id is not behind a given one."""
    return await session.first(_ANY_WAITING_UNTIL, last=last) is not None
