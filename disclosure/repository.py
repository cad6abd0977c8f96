"""The two statements of a consented read.

`SELECT_ONE` brings everything a decision and its disclosure need in one round trip; `RECORD`
appends the event while holding the gate at the decided version. The commit of the second is
the moment at which the disclosure happened.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Integer, Text, bindparam, select
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from audit import NotRecordedError, append_while_held
from consent import gate_held, gate_source, state_source
from kernel import IntegrityError, ReadSession, Row, Statement, UnitOfWork, epoch_value
from loyalty import loyalty_source
from members import member_source, pairwise_is
from vault import ORDINARY, PSEUDONYM, key_source

AUTH_EPOCH = "auth"
POLICY_EPOCH = "policy"
MOST_IN_BATCH = 100
MOST_IN_CHUNK = 1_000


def _select(which: ColumnElement[bool]) -> Select[Any]:
    source, member_columns = member_source()
    member_id = member_columns[1]
    gate, gate_on, gate_columns = gate_source(member_id)
    state, state_on, state_columns = state_source(
        member_id, bindparam("purpose", type_=Text), bindparam("channel", type_=Text)
    )
    ordinary, ordinary_on, ordinary_columns = key_source(ORDINARY, member_id, "ordinary")
    pseudonym, pseudonym_on, pseudonym_columns = key_source(PSEUDONYM, member_id, "pseudonym")
    account, account_on, account_columns = loyalty_source(member_id)
    joined = (
        source.join(gate, gate_on)
        .outerjoin(state, state_on)
        .outerjoin(account, account_on)
        .outerjoin(ordinary, ordinary_on)
        .outerjoin(pseudonym, pseudonym_on)
    )
    columns = [
        *member_columns,
        *gate_columns,
        *state_columns,
        *account_columns,
        *ordinary_columns,
        *pseudonym_columns,
    ]
    return select(*columns).select_from(joined).where(which)


_client = bindparam("client_id", type_=Text)
SELECT_ONE = Statement(_select(pairwise_is(bindparam("pairwise", type_=Text), _client)))
_EPOCHS = Statement(
    select(
        epoch_value(AUTH_EPOCH).label("auth_epoch"),
        epoch_value(POLICY_EPOCH).label("policy_epoch"),
    )
)
RECORD = append_while_held(
    gate_held(bindparam("gate_member", type_=Text), bindparam("gate_version", type_=Integer)),
    epoch_value(AUTH_EPOCH) == bindparam("auth_epoch", type_=BigInteger),
    epoch_value(POLICY_EPOCH) == bindparam("policy_epoch", type_=BigInteger),
)


@cache
def _batch(most: int) -> tuple[Statement, Statement]:
    """Give the statement that holds the gates of a batch, and the one that reads its members."""
    names = [bindparam(f"pairwise_{at}", type_=Text) for at in range(most)]
    which = pairwise_is(names, _client)
    source, member_columns = member_source()
    gate, gate_on, _ = gate_source(member_columns[1])
    held = (
        select(member_columns[1])
        .select_from(source.join(gate, gate_on))
        .where(which)
        .order_by(member_columns[1])
        .with_for_update(read=True, of=gate)
    )
    return Statement(held), Statement(_select(which))


async def select_one(
    session: ReadSession, pairwise: str, client_id: str, purpose: str, channel: str
) -> Row | None:
    """Bring one member as a client knows it, with the state a decision needs."""
    return await session.first(
        SELECT_ONE, pairwise=pairwise, client_id=client_id, purpose=purpose, channel=channel
    )


async def hold_many(
    work: UnitOfWork, pairwise: Sequence[str], client_id: str, purpose: str, channel: str
) -> Sequence[Row]:
    """Bring up to 1,000 members whose gates are held until the unit of work ends.

    In two statements, because a statement that waits for a row lock gets the row as new as it
    has become, and whatever is joined to it as old as the statement: a withdrawal that it
    waited for would go unseen. All of them by one statement, in one order: two that hold gates in
    turns could wait for each other.
    """
    most = MOST_IN_BATCH if len(pairwise) <= MOST_IN_BATCH else MOST_IN_CHUNK
    padded = [*pairwise, *[""] * (most - len(pairwise))]
    names = {f"pairwise_{at}": value for at, value in enumerate(padded)}
    hold, read = _batch(most)
    held = {row["member_id"] for row in await work.all(hold, client_id=client_id, **names)}
    rows = await work.all(read, client_id=client_id, purpose=purpose, channel=channel, **names)
    return [row for row in rows if row["member_id"] in held]


async def record_if_unmoved(work: UnitOfWork, parameters: dict[str, Any]) -> bool:
    """Append the event if gate and epochs stand where they stood; False to decide again."""
    try:
        return await work.first(RECORD, **parameters) is not None
    except IntegrityError as error:
        raise NotRecordedError from error


async def epochs(session: ReadSession) -> tuple[int, int]:
    """Give the auth epoch and the policy epoch."""
    row = await session.first(_EPOCHS)
    return (0, 0) if row is None else (row["auth_epoch"] or 0, row["policy_epoch"] or 0)
