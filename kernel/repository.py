"""All SQL of the kernel's own tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from kernel.db import ReadSession, Statement, UnitOfWork
from kernel.ids import new_id
from kernel.tables import epoch, idempotency, job, outbox, registry_fact

_FACT = Statement(select(registry_fact.c.value).where(registry_fact.c.name == bindparam("name")))
_SET_FACT = Statement.for_dialect(
    lambda insert_into: (
        insert_into(registry_fact)
        .values(name=bindparam("name"), value=bindparam("value"))
        .on_conflict_do_update(index_elements=["name"], set_={"value": bindparam("value")})
    )
)
_EPOCH = Statement(select(epoch.c.value).where(epoch.c.name == bindparam("name")))
_BUMP_EPOCH = Statement.for_dialect(
    lambda insert_into: (
        insert_into(epoch)
        .values(name=bindparam("name"), value=1)
        .on_conflict_do_update(index_elements=["name"], set_={"value": epoch.c.value + 1})
    )
)


async def fact(session: ReadSession, name: str) -> str | None:
    """Read one durable fact about this registry, such as its tenant name."""
    row = await session.first(_FACT, name=name)
    return None if row is None else str(row["value"])


async def set_fact(work: UnitOfWork, name: str, value: str) -> None:
    """Write one durable fact about this registry."""
    await work.run(_SET_FACT, name=name, value=value)


async def read_epoch(session: ReadSession, name: str) -> int:
    """Read the counter that invalidates the caches called `name`."""
    row = await session.first(_EPOCH, name=name)
    return 0 if row is None else int(row["value"])


async def bump_epoch(work: UnitOfWork, name: str) -> None:
    """Invalidate the caches called `name` in every process, at this commit."""
    await work.run(_BUMP_EPOCH, name=name)


def epoch_value(name: str) -> Any:
    """Give an epoch as a scalar subquery, for a statement that must notice a change."""
    return select(epoch.c.value).where(epoch.c.name == name).scalar_subquery()


# --- outbox ---------------------------------------------------------------------------

_PUT_MESSAGE = Statement(
    insert(outbox).values(
        id=bindparam("id"),
        topic=bindparam("topic"),
        payload=bindparam("payload"),
        created_us=bindparam("created_us"),
        attempts=0,
        due_us=0,
        delivered_us=None,
    )
)
_WAITING = Statement(
    select(outbox.c.id, outbox.c.topic, outbox.c.payload, outbox.c.attempts)
    .where(
        outbox.c.delivered_us.is_(None),
        outbox.c.due_us <= bindparam("now_us", type_=BigInteger),
    )
    .order_by(outbox.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_DELIVERED = Statement(
    update(outbox)
    .where(outbox.c.id == bindparam("message_id"))
    .values(delivered_us=bindparam("now_us"), payload=b"")
)
_PUT_ASIDE = Statement(
    update(outbox)
    .where(
        outbox.c.id == bindparam("message_id"),
        outbox.c.attempts == bindparam("attempts_before"),
        outbox.c.delivered_us.is_(None),
    )
    .values(attempts=outbox.c.attempts + 1, due_us=bindparam("next_us"))
)
_STUCK = Statement(
    select(func.count().label("messages")).where(
        outbox.c.delivered_us.is_(None), outbox.c.attempts >= bindparam("least", type_=Integer)
    )
)


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that happened, waiting for those who react to it.

    `attempts` says how often telling it has failed.
    """

    id: str
    topic: str
    payload: dict[str, Any]
    attempts: int = 0


async def put_message(
    work: UnitOfWork, topic: str, payload: dict[str, Any], *, now_us: int
) -> None:
    """Leave a message in the outbox; it exists exactly when the change commits."""
    await work.run(
        _PUT_MESSAGE,
        id=new_id("msg", now_us),
        topic=topic,
        payload=orjson.dumps(payload),
        created_us=now_us,
    )


async def waiting_messages(work: UnitOfWork, *, now_us: int, most: int = 100) -> list[Message]:
    """Take messages that nobody has delivered; other workers skip the ones taken.

    What was put aside is not among them before its time.
    """
    rows = await work.all(_WAITING, now_us=now_us, most=most)
    return [Message(r["id"], r["topic"], orjson.loads(r["payload"]), r["attempts"]) for r in rows]


async def mark_delivered(work: UnitOfWork, message_id: str, *, now_us: int) -> None:
    """Note that a message was delivered, and forget what it carried."""
    await work.run(_DELIVERED, message_id=message_id, now_us=now_us)


async def put_aside(work: UnitOfWork, failed: Message, *, next_us: int) -> bool:
    """Let a message that could not be told wait, so that it holds up none behind it.

    False when it was told or tried since it was taken.
    """
    touched = await work.run(
        _PUT_ASIDE, message_id=failed.id, attempts_before=failed.attempts, next_us=next_us
    )
    return touched == 1


async def stuck_messages(session: ReadSession, *, attempts: int) -> int:
    """Count the messages that could not be told so many times, and wait still."""
    row = await session.first(_STUCK, least=attempts)
    return 0 if row is None else int(row["messages"])


DELIVERED_KEPT_US = 7 * 24 * 3600 * 1_000_000
_FORGET_DELIVERED = Statement(delete(outbox).where(outbox.c.delivered_us < bindparam("before_us")))


async def forget_delivered_messages(work: UnitOfWork, *, now_us: int) -> int:
    """Drop messages that were delivered more than a week ago and say how many."""
    return await work.run(_FORGET_DELIVERED, before_us=now_us - DELIVERED_KEPT_US)


# --- jobs -----------------------------------------------------------------------------


class Urgency(IntEnum):
    """Which job goes first among those that are due."""

    WAITED_FOR = 0
    """A person waits for it, or a law counts the days."""
    ORDINARY = 5
    BULK = 9
    """One of thousands, such as what follows from every row of an import."""


_ENQUEUE = Statement(
    insert(job).values(
        id=bindparam("id"),
        kind=bindparam("kind"),
        payload=bindparam("payload"),
        urgency=bindparam("urgency"),
        run_at_us=bindparam("run_at_us"),
        state="due",
        attempts=0,
        lease_until_us=0,
        failure=None,
        ended_us=None,
    )
)
MOST_KINDS_LEFT = 8
_LEFT = [f"left_{at}" for at in range(MOST_KINDS_LEFT)]
_CLAIMABLE = (
    select(job.c.id)
    .where(
        job.c.ended_us.is_(None),
        job.c.urgency <= bindparam("least_urgent", type_=Integer),
        job.c.kind.not_in([bindparam(name, type_=Text) for name in _LEFT]),
        ((job.c.state == "due") & (job.c.run_at_us <= bindparam("now_us")))
        | ((job.c.state == "running") & (job.c.lease_until_us < bindparam("now_us"))),
    )
    .order_by(job.c.urgency, job.c.run_at_us)
    .limit(1)
    .with_for_update(skip_locked=True)
    .scalar_subquery()  # with IN, a plan that looks twice would claim two
)
_CLAIM = Statement(
    update(job)
    .where(job.c.id == _CLAIMABLE)
    .values(
        state="running",
        attempts=job.c.attempts + 1,
        lease_until_us=bindparam("lease_until_us"),
    )
    .returning(job.c.id, job.c.kind, job.c.payload, job.c.attempts, job.c.urgency)
)
_this_claim = (
    (job.c.id == bindparam("job_id"))
    & (job.c.attempts == bindparam("attempt"))
    & (job.c.state == "running")
)
_KEEP = Statement(
    update(job).where(_this_claim).values(lease_until_us=bindparam("new_lease_until_us"))
)
_FINISH = Statement(
    update(job)
    .where(_this_claim)
    .values(state="done", payload=b"{}", failure=None, ended_us=bindparam("at_us"))
)
_POSTPONE = Statement(
    update(job)
    .where(_this_claim)
    .values(
        state="due",
        run_at_us=bindparam("next_us"),
        failure=bindparam("failure_code"),
    )
)
_GIVE_UP = Statement(
    update(job)
    .where(_this_claim)
    .values(state="failed", failure=bindparam("failure_code"), ended_us=bindparam("at_us"))
)
_FAILING = Statement(
    select(func.count().label("jobs")).where(
        or_(
            and_(
                job.c.state == "failed", job.c.ended_us >= bindparam("since_us", type_=BigInteger)
            ),
            and_(
                job.c.ended_us.is_(None),
                job.c.failure.is_not(None),
                job.c.attempts >= bindparam("least", type_=Integer),
            ),
        )
    )
)
ENDED_KEPT_US = 7 * 24 * 3600 * 1_000_000
_FORGET_ENDED = Statement(delete(job).where(job.c.ended_us < bindparam("before_us")))


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of background work that one worker holds until its lease runs out."""

    id: str
    kind: str
    payload: dict[str, Any]
    attempt: int
    urgency: Urgency = Urgency.ORDINARY


async def enqueue_job(
    work: UnitOfWork,
    kind: str,
    payload: dict[str, Any],
    *,
    now_us: int,
    run_at_us: int = 0,
    urgency: Urgency = Urgency.ORDINARY,
) -> str:
    """Ask for background work in the same transaction as the change that needs it."""
    job_id = new_id("job", now_us)
    await work.run(
        _ENQUEUE,
        id=job_id,
        kind=kind,
        payload=orjson.dumps(payload),
        urgency=int(urgency),
        run_at_us=run_at_us or now_us,
    )
    return job_id


async def claim_job(
    work: UnitOfWork,
    *,
    now_us: int,
    lease_us: int,
    least: Urgency = Urgency.BULK,
    left: Sequence[str] = (),
) -> Job | None:
    """Take one due job, or one whose holder let its lease run out: the most urgent one.

    `least` leaves out what is less urgent, `left` up to eight kinds. PostgreSQL skips rows
    that another worker is claiming; on SQLite the write lock serves.
    """
    padded = [*left, *[""] * (MOST_KINDS_LEFT - len(left))]
    row = await work.first(
        _CLAIM,
        now_us=now_us,
        lease_until_us=now_us + lease_us,
        least_urgent=int(least),
        **dict(zip(_LEFT, padded, strict=True)),
    )
    if row is None:
        return None
    payload = orjson.loads(row["payload"])
    return Job(row["id"], row["kind"], payload, row["attempts"], Urgency(row["urgency"]))


async def keep_job(work: UnitOfWork, held: Job, *, lease_until_us: int) -> bool:
    """Renew the lease of a job at hand; False when another worker has claimed it since."""
    touched = await work.run(
        _KEEP, job_id=held.id, attempt=held.attempt, new_lease_until_us=lease_until_us
    )
    return touched == 1


async def finish_job(work: UnitOfWork, done: Job, *, now_us: int) -> bool:
    """Mark a job done; False when another worker has claimed it since."""
    return await work.run(_FINISH, job_id=done.id, attempt=done.attempt, at_us=now_us) == 1


async def postpone_job(work: UnitOfWork, failed: Job, *, failure: str, next_us: int) -> bool:
    """Put a failed job back; `failure` is a code, never a message."""
    touched = await work.run(
        _POSTPONE,
        job_id=failed.id,
        attempt=failed.attempt,
        next_us=next_us,
        failure_code=failure,
    )
    return touched == 1


async def give_up_job(work: UnitOfWork, failed: Job, *, failure: str, now_us: int) -> bool:
    """Put a failed job aside for good; `failure` is a code, never a message."""
    touched = await work.run(
        _GIVE_UP, job_id=failed.id, attempt=failed.attempt, failure_code=failure, at_us=now_us
    )
    return touched == 1


async def failing_jobs(session: ReadSession, *, attempts: int, since_us: int) -> int:
    """Count the jobs that failed so many times and go on, or were put aside since a moment."""
    row = await session.first(_FAILING, least=attempts, since_us=since_us)
    return 0 if row is None else int(row["jobs"])


async def forget_ended_jobs(work: UnitOfWork, *, now_us: int) -> int:
    """Drop jobs that ended more than a week ago and say how many."""
    return await work.run(_FORGET_ENDED, before_us=now_us - ENDED_KEPT_US)


# --- idempotency keys -----------------------------------------------------------------

IDEMPOTENCY_WINDOW_US = 24 * 3600 * 1_000_000

_CLAIM_KEY = Statement.for_dialect(
    lambda insert_into: (
        insert_into(idempotency)
        .values(
            caller=bindparam("caller"),
            route=bindparam("route"),
            key_hash=bindparam("key_hash"),
            request_hash=bindparam("request_hash"),
            status=None,
            result=None,
            created_us=bindparam("now_us"),
        )
        .on_conflict_do_nothing()
    )
)
_this_key = (
    (idempotency.c.caller == bindparam("caller_"))
    & (idempotency.c.route == bindparam("route_"))
    & (idempotency.c.key_hash == bindparam("key_hash_"))
)
_STORED = Statement(
    select(idempotency.c.request_hash, idempotency.c.status, idempotency.c.result).where(_this_key)
)
_REMEMBER = Statement(
    update(idempotency)
    .where(_this_key)
    .values(status=bindparam("new_status"), result=bindparam("new_result"))
)
_FORGET_KEYS = Statement(
    delete(idempotency).where(idempotency.c.created_us < bindparam("before_us"))
)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Who repeated what: a caller, a route, and the digests of its key and its body."""

    caller: str
    route: str
    key_hash: bytes
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What was stored of an earlier answer: a status and ids, never a personal value."""

    request_hash: bytes
    status: int | None
    result: dict[str, Any]


async def claim_idempotency_key(
    work: UnitOfWork, key: IdempotencyKey, *, now_us: int
) -> StoredResult | None:
    """Take the key for this transaction, or give what an earlier one stored under it."""
    claimed = await work.run(
        _CLAIM_KEY,
        caller=key.caller,
        route=key.route,
        key_hash=key.key_hash,
        request_hash=key.request_hash,
        now_us=now_us,
    )
    if claimed:
        return None
    row = await work.first(_STORED, caller_=key.caller, route_=key.route, key_hash_=key.key_hash)
    if row is None:
        return None
    return StoredResult(
        bytes(row["request_hash"]), row["status"], orjson.loads(row["result"] or b"{}")
    )


async def remember_result(
    work: UnitOfWork, key: IdempotencyKey, *, status: int, result: dict[str, Any]
) -> None:
    """Store the status and the ids of the answer under the key."""
    await work.run(
        _REMEMBER,
        caller_=key.caller,
        route_=key.route,
        key_hash_=key.key_hash,
        new_status=status,
        new_result=orjson.dumps(result),
    )


async def forget_old_idempotency_keys(work: UnitOfWork, *, now_us: int) -> int:
    """Drop keys older than 24 hours and say how many."""
    return await work.run(_FORGET_KEYS, before_us=now_us - IDEMPOTENCY_WINDOW_US)
