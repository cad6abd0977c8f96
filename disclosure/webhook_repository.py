"""SQL of webhooks and of their deliveries, which are the ledger of who was told what, when."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from disclosure.tables import webhook, webhook_delivery
from kernel import ReadSession, Row, Statement, UnitOfWork
from members import pairwise_source

ACTIVE = "active"
DELETED = "deleted"
WAITING = "waiting"
ACKNOWLEDGED = "acknowledged"
FAILED = "failed"
CANCELLED = "cancelled"
STATES = (WAITING, ACKNOWLEDGED, FAILED, CANCELLED)
_delivery = webhook_delivery.c


@dataclass(frozen=True, slots=True)
class Webhook:
    """A target that a client registered, its key wrapped."""

    id: str
    client_id: str
    url: str
    types: tuple[str, ...]
    secret: bytes
    ring_version: int
    state: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing to tell one webhook, and what became of it (moments in µs)."""

    id: str
    webhook_id: str
    client_id: str
    message_id: str
    member_id: str
    pairwise_id: str
    type: str
    purpose: str | None
    channel: str | None
    at_us: int
    state: str
    attempts: int
    since_us: int
    due_us: int
    status: int | None
    failure: str | None
    acknowledged_us: int | None


_ADD = Statement(insert(webhook).values({c.name: bindparam(c.name) for c in webhook.columns}))
_ONE = Statement(
    select(webhook).where(webhook.c.id == bindparam("webhook_id"), webhook.c.state == ACTIVE)
)
_HELD = Statement(
    select(webhook)
    .where(webhook.c.id == bindparam("webhook_id"), webhook.c.state == ACTIVE)
    .with_for_update(read=True)
)
_OF_CLIENT = Statement(
    select(webhook)
    .where(webhook.c.client_id == bindparam("client_id"), webhook.c.state == ACTIVE)
    .order_by(webhook.c.id)
)
_DELETE = Statement(
    update(webhook)
    .where(webhook.c.id == bindparam("webhook_id"))
    .values(state=DELETED, secret=b"", url="")
)
_ACTIVE_IDS = Statement(select(webhook.c.id).where(webhook.c.state == ACTIVE))
_pairwise, (_named, _knowing, _of_member) = pairwise_source()
_CONCERNED = Statement(
    select(webhook, _named)
    .select_from(webhook.join(_pairwise, _knowing == webhook.c.client_id))
    .where(webhook.c.state == ACTIVE, _of_member == bindparam("member_id", type_=Text))
    .order_by(webhook.c.id, _named)
)
_KNOWING = Statement(
    select(_knowing.label("client_id"))
    .where(_of_member == bindparam("member_id", type_=Text))
    .order_by(_knowing)
)
_ADD_DELIVERY = Statement.for_dialect(
    lambda insert_into: (
        insert_into(webhook_delivery)
        .values({c.name: bindparam(c.name) for c in webhook_delivery.columns})
        .on_conflict_do_nothing()
    )
)
_due = and_(
    _delivery.state == WAITING,
    _delivery.due_us <= bindparam("now_us", type_=BigInteger),
    _delivery.lease_until_us < bindparam("now_us", type_=BigInteger),
)
_DUE = Statement(
    select(_delivery.webhook_id)
    .where(_due)
    .group_by(_delivery.webhook_id)
    .order_by(func.min(_delivery.due_us))
    .limit(bindparam("most", type_=BigInteger))
)
_NEXT_DUE = (
    select(_delivery.id)
    .where(_due, _delivery.webhook_id == bindparam("of_webhook", type_=Text))
    .order_by(_delivery.id)
    .limit(1)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
_CLAIM = Statement(
    update(webhook_delivery)
    .where(_delivery.id == _NEXT_DUE)
    .values(attempts=_delivery.attempts + 1, lease_until_us=bindparam("lease_until_us"))
    .returning(*webhook_delivery.columns)
)
_this_attempt = and_(
    _delivery.id == bindparam("delivery_id"),
    _delivery.attempts == bindparam("attempt"),
    _delivery.state == WAITING,
)
_TELL = Statement(
    update(webhook_delivery)
    .where(_this_attempt)
    .values(
        state=bindparam("new_state"),
        status=bindparam("answer"),
        failure=bindparam("failure_code"),
        acknowledged_us=func.coalesce(
            _delivery.acknowledged_us, bindparam("told_us", type_=BigInteger)
        ),
        due_us=bindparam("next_us"),
        lease_until_us=0,
    )
)
_PAUSE = Statement(
    update(webhook_delivery)
    .where(
        _delivery.webhook_id == bindparam("of_webhook"),
        _delivery.state == WAITING,
        _delivery.due_us < bindparam("until_us"),
    )
    .values(due_us=bindparam("until_us"))
)
_CANCEL = Statement(
    update(webhook_delivery)
    .where(_delivery.webhook_id == bindparam("of_webhook"), _delivery.state == WAITING)
    .values(state=CANCELLED)
)
_ACKNOWLEDGE = Statement(
    update(webhook_delivery)
    .where(
        _delivery.id == bindparam("delivery_id"), _delivery.webhook_id == bindparam("of_webhook")
    )
    .values(
        state=ACKNOWLEDGED,
        acknowledged_us=func.coalesce(
            _delivery.acknowledged_us, bindparam("told_us", type_=BigInteger)
        ),
    )
    .returning(*webhook_delivery.columns)
)
_REPLAY = Statement(
    update(webhook_delivery)
    .where(
        _delivery.webhook_id == bindparam("of_webhook"),
        _delivery.at_us >= bindparam("from_us", type_=BigInteger),
        _delivery.state != WAITING,
    )
    .values(
        state=WAITING,
        attempts=0,
        since_us=bindparam("started_us"),
        due_us=bindparam("started_us"),
        lease_until_us=0,
        status=None,
        failure=None,
    )
)
_LISTED = Statement(
    select(webhook_delivery)
    .where(
        _delivery.webhook_id == bindparam("of_webhook"),
        _delivery.id < bindparam("before"),
    )
    .order_by(_delivery.id.desc())
    .limit(bindparam("most", type_=BigInteger))
)
_OF_MEMBER = Statement(
    select(webhook_delivery)
    .where(_delivery.member_id == bindparam("member_id"), _delivery.type == bindparam("kind"))
    .order_by(_delivery.id)
)
_DROP = Statement(delete(webhook_delivery).where(_delivery.at_us < bindparam("before_us")))


def _webhook(row: Row) -> Webhook:
    return Webhook(
        row["id"],
        row["client_id"],
        row["url"],
        tuple(row["types"].split()),
        bytes(row["secret"]),
        row["ring_version"],
        row["state"],
        row["created_us"],
    )


def _read(row: Row) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__dataclass_fields__})


async def add(work: UnitOfWork, new: Webhook) -> None:
    """Store a webhook."""
    await work.run(
        _ADD,
        id=new.id,
        client_id=new.client_id,
        url=new.url,
        types=" ".join(new.types),
        secret=new.secret,
        ring_version=new.ring_version,
        state=new.state,
        created_us=new.created_us,
    )


async def one(session: ReadSession, webhook_id: str) -> Webhook | None:
    """Find a webhook that was not deleted."""
    row = await session.first(_ONE, webhook_id=webhook_id)
    return None if row is None else _webhook(row)


async def of_client(session: ReadSession, client_id: str) -> list[Webhook]:
    """Give the webhooks of a client, the oldest first."""
    return [_webhook(row) for row in await session.all(_OF_CLIENT, client_id=client_id)]


async def remove(work: UnitOfWork, webhook_id: str) -> None:
    """Forget target and key of a webhook; what it was told stays in the ledger."""
    await work.run(_CANCEL, of_webhook=webhook_id)
    await work.run(_DELETE, webhook_id=webhook_id)


async def forget_webhooks(work: UnitOfWork) -> int:
    """Forget targets and keys of all webhooks, in a registry whose ring root is a new one.

    Their keys were wrapped under the root that is gone; and a copy of a registry must call
    nobody by itself. Each client registers its webhook again. Gives how many were forgotten.
    """
    found = [row["id"] for row in await work.all(_ACTIVE_IDS)]
    for webhook_id in found:
        await remove(work, webhook_id)
    return len(found)


_UNDER_OLD_ROOT = Statement(
    select(webhook).where(
        webhook.c.state == ACTIVE, webhook.c.ring_version < bindparam("root", type_=Integer)
    )
)
_REWRAP = Statement(
    update(webhook)
    .where(webhook.c.id == bindparam("webhook_id"), webhook.c.secret == bindparam("was"))
    .values(secret=bindparam("becomes"), ring_version=bindparam("new_root"))
)


async def under_old_root(session: ReadSession, root: int) -> list[Webhook]:
    """Give the webhooks whose key a ring root before `root` wraps."""
    return [_webhook(row) for row in await session.all(_UNDER_OLD_ROOT, root=root)]


async def rewrap(work: UnitOfWork, hook: Webhook, root: int, wrapped: bytes) -> None:
    """Store the key of a webhook as it is wrapped now, unless somebody else was first."""
    await work.run(_REWRAP, webhook_id=hook.id, was=hook.secret, new_root=root, becomes=wrapped)


async def concerned(session: ReadSession, member_id: str) -> list[tuple[Webhook, str]]:
    """Give every webhook of a client that knows a member, and what it calls the member."""
    rows = await session.all(_CONCERNED, member_id=member_id)
    return [(_webhook(row), row["pairwise_id"]) for row in rows]


async def clients_that_know(session: ReadSession, member_id: str) -> list[str]:
    """Give every client that has an id for a member."""
    return [row["client_id"] for row in await session.all(_KNOWING, member_id=member_id)]


async def add_delivery(work: UnitOfWork, new: Delivery) -> None:
    """Put a delivery in line; a message that was put there before stays as it is."""
    values = {name: getattr(new, name) for name in Delivery.__dataclass_fields__}
    await work.run(_ADD_DELIVERY, **values, lease_until_us=0)


async def due_webhooks(session: ReadSession, *, now_us: int, most: int) -> list[str]:
    """Give the webhooks for which something is due, those that waited longest first."""
    return [row["webhook_id"] for row in await session.all(_DUE, now_us=now_us, most=most)]


async def claim(
    work: UnitOfWork, webhook_id: str, *, now_us: int, lease_us: int
) -> tuple[Delivery, Webhook | None] | None:
    """Take the next due delivery of a webhook under a lease, with the webhook if it is there."""
    row = await work.first(
        _CLAIM, of_webhook=webhook_id, now_us=now_us, lease_until_us=now_us + lease_us
    )
    if row is None:
        return None
    held = await work.first(_HELD, webhook_id=webhook_id)
    return _read(row), None if held is None else _webhook(held)


async def settle(
    work: UnitOfWork,
    delivery: Delivery,
    state: str,
    *,
    status: int | None,
    failure: str | None,
    acknowledged_us: int | None,
    next_us: int,
) -> bool:
    """Note what became of an attempt; False when another worker has tried it since."""
    touched = await work.run(
        _TELL,
        delivery_id=delivery.id,
        attempt=delivery.attempts,
        new_state=state,
        answer=status,
        failure_code=failure,
        told_us=acknowledged_us,
        next_us=next_us,
    )
    return touched == 1


async def pause(work: UnitOfWork, webhook_id: str, until_us: int) -> None:
    """Let everything that waits for a failing webhook wait as long as its first in line."""
    await work.run(_PAUSE, of_webhook=webhook_id, until_us=until_us)


async def acknowledge(
    work: UnitOfWork, webhook_id: str, delivery_id: str, *, now_us: int
) -> Delivery | None:
    """Note that a client says it has acted on a delivery; the first moment stays."""
    row = await work.first(
        _ACKNOWLEDGE, of_webhook=webhook_id, delivery_id=delivery_id, told_us=now_us
    )
    return None if row is None else _read(row)


async def replay(work: UnitOfWork, webhook_id: str, *, since_us: int, now_us: int) -> int:
    """Put deliveries of happenings since a moment in line again; gives how many."""
    return await work.run(_REPLAY, of_webhook=webhook_id, from_us=since_us, started_us=now_us)


async def listed(
    session: ReadSession, webhook_id: str, *, before: str, most: int
) -> list[Delivery]:
    """Give deliveries of a webhook, the newest first."""
    rows = await session.all(_LISTED, of_webhook=webhook_id, before=before, most=most)
    return [_read(row) for row in rows]


async def of_member(session: ReadSession, member_id: str, kind: str) -> list[Delivery]:
    """Give every delivery of one type about a member, the oldest first."""
    rows = await session.all(_OF_MEMBER, member_id=member_id, kind=kind)
    return [_read(row) for row in rows]


async def drop_before(work: UnitOfWork, before_us: int) -> int:
    """Forget deliveries of happenings before a moment and say how many."""
    return await work.run(_DROP, before_us=before_us)
