"""SQL of accounts, and what they lend to the statements of other rooms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, Text, bindparam, delete, select, update
from sqlalchemy.sql import FromClause
from sqlalchemy.sql.elements import ColumnElement

from consent import gate_source
from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from loyalty.model import Account
from loyalty.tables import loyalty_account
from members import member_source, pairwise_is

CHUNK = 100
"""How many ids one statement names; a list is padded to it, so that it is compiled once."""

_PLAIN = ("tier", "points_balance", "activity_class", "branch", "tags", "coupons")

_names = [bindparam(f"id_{at}", type_=Text) for at in range(CHUNK)]


def loyalty_source(
    member_id: ColumnElement[str],
) -> tuple[FromClause, ColumnElement[bool], Sequence[ColumnElement[Any]]]:
    """Offer the account as a part of another room's statement: table, join condition, columns.

    To be joined from the outside: who never took part has no account. The columns bear the
    names of the catalogue's plain fields behind `loyalty_`.
    """
    columns = [loyalty_account.c[name].label(f"loyalty_{name}") for name in _PLAIN]
    return loyalty_account, loyalty_account.c.member_id == member_id, columns


def padded(ids: Sequence[str]) -> dict[str, str]:
    """Give up to `CHUNK` ids as the parameters of one statement."""
    return {f"id_{at}": ids[at] if at < len(ids) else "" for at in range(CHUNK)}


def chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Cut a list into pieces that one statement can name."""
    return (ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))


# --- members as clients know them -----------------------------------------------------

_source, _member_columns = member_source()
_KNOWN = Statement(
    select(_member_columns[0], _member_columns[1], _member_columns[2])
    .select_from(_source)
    .where(pairwise_is(_names, bindparam("client_id", type_=Text)))
)
_gate, _, _gate_columns = gate_source(bindparam("id_0", type_=Text))
_GATES = Statement(
    select(_gate.c.member_id, *_gate_columns)
    .select_from(_gate)
    .where(_gate.c.member_id.in_(_names))
    .order_by(_gate.c.member_id)
    .with_for_update(read=True)
)


async def known_members(
    session: ReadSession, pairwise: Sequence[str], client_id: str, brand: str
) -> dict[str, MemberId]:
    """Resolve what a client of a brand calls members; who is not known is not in the answer."""
    found: dict[str, MemberId] = {}
    for some in chunks(pairwise):
        for row in await session.all(_KNOWN, client_id=client_id, **padded(some)):
            if row["brand"] == brand:
                found[row["pairwise_id"]] = MemberId(row["member_id"])
    return found


async def share_gates(work: UnitOfWork, member_ids: Iterable[MemberId]) -> dict[MemberId, str]:
    """Give the gate states of members, which then stand still; locked in the order of ids."""
    found: dict[MemberId, str] = {}
    for some in chunks(sorted(set(member_ids))):
        for row in await work.all(_GATES, **padded(some)):
            found[MemberId(row["member_id"])] = row["gate_state"]
    return found


# --- accounts -------------------------------------------------------------------------

_OPEN = Statement.for_dialect(
    lambda insert_into: (
        insert_into(loyalty_account)
        .values(
            member_id=bindparam("member_id"),
            tier=bindparam("tier"),
            points_balance=0,
            activity_class=None,
            branch=None,
            tags="[]",
            coupons=0,
            purchases=0,
            last_purchase_us=None,
            review_us=None,
            updated_us=bindparam("now_us"),
        )
        .on_conflict_do_nothing()
    )
)
_READ = Statement(
    select(loyalty_account).where(loyalty_account.c.member_id == bindparam("member_id"))
)
_PLAIN_OF = Statement(
    select(
        loyalty_account.c.updated_us,
        *(loyalty_account.c[name].label(f"loyalty_{name}") for name in _PLAIN),
    ).where(loyalty_account.c.member_id == bindparam("member_id"))
)
_HOLD = Statement(
    select(loyalty_account)
    .where(loyalty_account.c.member_id.in_(_names))
    .order_by(loyalty_account.c.member_id)
    .with_for_update()
)
_WRITE = Statement(
    update(loyalty_account)
    .where(loyalty_account.c.member_id == bindparam("of_member"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (*_PLAIN, "purchases", "last_purchase_us", "review_us", "updated_us")
        }
    )
)
_DROP = Statement(
    delete(loyalty_account).where(loyalty_account.c.member_id == bindparam("member_id"))
)
_DUE = Statement(
    select(loyalty_account.c.member_id)
    .where(
        loyalty_account.c.review_us <= bindparam("now_us", type_=BigInteger),
        loyalty_account.c.member_id > bindparam("after", type_=Text),
    )
    .order_by(loyalty_account.c.member_id)
    .limit(bindparam("most", type_=BigInteger))
)


async def read_account(session: ReadSession, member_id: MemberId) -> Account | None:
    """Read an account; `None` for who never took part."""
    row = await session.first(_READ, member_id=member_id)
    return None if row is None else _account(row)


async def hold_accounts(
    work: UnitOfWork, member_ids: Iterable[MemberId], tier: str, *, now_us: int
) -> dict[MemberId, Account]:
    """Give accounts, opened in `tier` where there was none, and keep others from changing them.

    Locked in the order of ids, so that two batches never wait for each other.
    """
    ordered = sorted(set(member_ids))
    await work.run_many(
        _OPEN, [{"member_id": one, "tier": tier, "now_us": now_us} for one in ordered]
    )
    found: dict[MemberId, Account] = {}
    for some in chunks(ordered):
        for row in await work.all(_HOLD, **padded(some)):
            found[MemberId(row["member_id"])] = _account(row)
    return found


async def write_accounts(work: UnitOfWork, accounts: Iterable[Account]) -> None:
    """Store the present state of held accounts."""
    await work.run_many(
        _WRITE,
        [
            {
                "of_member": one.member_id,
                "new_tier": one.tier,
                "new_points_balance": one.points_balance,
                "new_activity_class": one.activity_class,
                "new_branch": one.branch,
                "new_tags": orjson.dumps(sorted(one.tags)).decode(),
                "new_coupons": one.coupons,
                "new_purchases": one.purchases,
                "new_last_purchase_us": one.last_purchase_us,
                "new_review_us": one.review_us,
                "new_updated_us": one.updated_us,
            }
            for one in accounts
        ],
    )


async def drop_account(work: UnitOfWork, member_id: MemberId) -> bool:
    """Forget an account; says whether there was one."""
    return await work.run(_DROP, member_id=member_id) > 0


async def due_for_review(
    session: ReadSession, *, now_us: int, after: str, most: int
) -> list[MemberId]:
    """Give members whose tier or class may have changed with time, from the one after `after`."""
    rows = await session.all(_DUE, now_us=now_us, after=after, most=most)
    return [MemberId(row["member_id"]) for row in rows]


async def plain_of(
    session: ReadSession, member_id: MemberId
) -> tuple[dict[str, str | int | list[str]], int]:
    """Give the plain fields that are held of one member, and when they last changed (µs)."""
    row = await session.first(_PLAIN_OF, member_id=member_id)
    return ({}, 0) if row is None else (plain_values(row), row["updated_us"])


def plain_values(row: Mapping[str, Any]) -> dict[str, str | int | list[str]]:
    """Read the plain fields out of a row that `loyalty_source` is part of; absent is not held."""
    if row["loyalty_tier"] is None:
        return {}
    tags = orjson.loads(row["loyalty_tags"])
    values: dict[str, Any] = {
        "tier": row["loyalty_tier"],
        "points_balance": row["loyalty_points_balance"],
        "activity_class": row["loyalty_activity_class"],
        "branch": row["loyalty_branch"],
        "tags": tags or None,
        "coupons": row["loyalty_coupons"],
    }
    return {field: value for field, value in values.items() if value is not None}


def _account(row: Row) -> Account:
    return Account(
        MemberId(row["member_id"]),
        row["tier"],
        row["points_balance"],
        row["activity_class"],
        row["branch"],
        tuple(orjson.loads(row["tags"])),
        row["coupons"],
        row["purchases"],
        row["last_purchase_us"],
        row["review_us"],
        row["updated_us"],
    )
