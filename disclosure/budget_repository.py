"""SQL of the daily budget: which members a client asked for, by keyed digests."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, bindparam, delete, func, select

from disclosure.tables import member_budget
from kernel import ReadSession, Statement, UnitOfWork

_ADD = Statement.for_dialect(
    lambda insert_into: (
        insert_into(member_budget)
        .values(client_id=bindparam("client_id"), day=bindparam("day"), mark=bindparam("mark"))
        .on_conflict_do_nothing()
    )
)
_ADD_ONE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(member_budget)
        .values(client_id=bindparam("client_id"), day=bindparam("day"), mark=bindparam("mark"))
        .on_conflict_do_nothing()
        .returning(member_budget.c.day)
    )
)
_COUNT = Statement(
    select(func.count().label("n")).where(
        member_budget.c.client_id == bindparam("client_id"),
        member_budget.c.day == bindparam("day", type_=BigInteger),
    )
)
_DROP = Statement(
    delete(member_budget).where(member_budget.c.day < bindparam("before", type_=BigInteger))
)


async def add_marks(work: UnitOfWork, client_id: str, day: int, marks: Sequence[bytes]) -> None:
    """Write members of a day down; those that are there already stay as they are."""
    await work.run_many(
        _ADD, [{"client_id": client_id, "day": day, "mark": mark} for mark in marks]
    )


async def add_mark(work: UnitOfWork, client_id: str, day: int, mark: bytes) -> bool:
    """Write one mark down; False when it is there, once whoever was writing it has committed."""
    return await work.first(_ADD_ONE, client_id=client_id, day=day, mark=mark) is not None


async def count_marks(session: ReadSession, client_id: str, day: int) -> int:
    """Count the distinct members of a client's day."""
    row = await session.first(_COUNT, client_id=client_id, day=day)
    return 0 if row is None else int(row["n"])


async def drop_before(work: UnitOfWork, day: int) -> int:
    """Forget the days before one; gives how many marks went."""
    return await work.run(_DROP, before=day)
