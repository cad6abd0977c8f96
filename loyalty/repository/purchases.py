"""SQL of purchases."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Text, bindparam, insert, select, update

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork
from loyalty.model import Purchase
from loyalty.repository.accounts import CHUNK, chunks, padded
from loyalty.tables import purchase

_names = [bindparam(f"id_{at}", type_=Text) for at in range(CHUNK)]
_COLUMNS = (
    "id",
    "member_id",
    "client_id",
    "reference",
    "at_us",
    "amount_milli",
    "currency",
    "items",
    "branch",
    "points",
    "recorded_us",
)
_ADD = Statement(insert(purchase).values({name: bindparam(name) for name in _COLUMNS}))
_BY_REFERENCES = Statement(
    select(purchase).where(
        purchase.c.client_id == bindparam("client_id", type_=Text),
        purchase.c.reference.in_(_names),
    )
)
_OF_MEMBER = Statement(
    select(purchase)
    .where(purchase.c.member_id == bindparam("member_id"))
    .order_by(purchase.c.at_us, purchase.c.id)
)
_CUT = Statement(
    update(purchase)
    .where(purchase.c.member_id == bindparam("of_member"))
    .values(member_id=None, reference=None)
)
_MOVE = Statement(
    update(purchase)
    .where(purchase.c.id == bindparam("of_purchase"), purchase.c.member_id == bindparam("old"))
    .values(member_id=bindparam("new"))
)


async def add_purchases(work: UnitOfWork, purchases: Iterable[Purchase]) -> None:
    """Store purchases."""
    await work.run_many(
        _ADD, [{name: getattr(one, name) for name in _COLUMNS} for one in purchases]
    )


async def purchases_by_references(
    session: ReadSession, client_id: str, references: Sequence[str]
) -> dict[str, Purchase]:
    """Find what a client recorded under references of its own."""
    found: dict[str, Purchase] = {}
    for some in chunks(references):
        for row in await session.all(_BY_REFERENCES, client_id=client_id, **padded(some)):
            found[row["reference"]] = _purchase(row)
    return found


async def purchases_of(session: ReadSession, member_id: MemberId) -> list[Purchase]:
    """Give a member's purchases, the oldest first."""
    return [_purchase(row) for row in await session.all(_OF_MEMBER, member_id=member_id)]


async def cut_purchases(work: UnitOfWork, member_id: MemberId) -> int:
    """Cut a member's purchases off from the member, and from what the client calls them."""
    return await work.run(_CUT, of_member=member_id)


async def move_purchases(
    work: UnitOfWork, ids: Sequence[str], old: MemberId, new: MemberId
) -> None:
    """Make purchases another member's, as far as they are still `old`'s."""
    await work.run_many(_MOVE, [{"of_purchase": one, "old": old, "new": new} for one in ids])


def _purchase(row: Row) -> Purchase:
    return Purchase(**{name: row[name] for name in _COLUMNS})
