"""All SQL of the rights ledger: appending entries, chaining them, reading them back."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, bindparam, func, insert, select, update

from audit.tables import rights_ledger
from kernel import ReadSession, Row, Statement, UnitOfWork

_ADD_RIGHTS = Statement(
    insert(rights_ledger).values(
        id=bindparam("id"),
        kind=bindparam("kind"),
        subject=bindparam("subject"),
        at_us=bindparam("at_us"),
        body=bindparam("body"),
        position=None,
        link=None,
    )
)
_WAITING_RIGHTS = Statement(
    select(rights_ledger.c.id, rights_ledger.c.body)
    .where(rights_ledger.c.position.is_(None))
    .order_by(rights_ledger.c.id)
    .limit(bindparam("most", type_=BigInteger))
)
_COUNT_WAITING_RIGHTS = Statement(
    select(func.count().label("waiting"))
    .select_from(rights_ledger)
    .where(rights_ledger.c.position.is_(None))
)
_RIGHTS_HEAD = Statement(
    select(rights_ledger.c.position, rights_ledger.c.link)
    .where(rights_ledger.c.position.is_not(None))
    .order_by(rights_ledger.c.position.desc())
    .limit(1)
)
_PLACE_RIGHTS = Statement(
    update(rights_ledger)
    .where(rights_ledger.c.id == bindparam("entry_id"), rights_ledger.c.position.is_(None))
    .values(position=bindparam("at_position"), link=bindparam("new_link"))
)
_PLACED_RIGHTS = Statement(
    select(rights_ledger.c.position, rights_ledger.c.link, rights_ledger.c.body)
    .where(rights_ledger.c.position > bindparam("after"))
    .order_by(rights_ledger.c.position)
    .limit(bindparam("most", type_=BigInteger))
)
_HAS_RIGHTS = Statement(select(rights_ledger.c.id).where(rights_ledger.c.id == bindparam("id")))


async def add_rights(
    work: UnitOfWork, entry_id: str, kind: str, subject: bytes, at_us: int, body: bytes
) -> None:
    """Append an entry that has no place yet."""
    await work.run(_ADD_RIGHTS, id=entry_id, kind=kind, subject=subject, at_us=at_us, body=body)


async def waiting_rights(session: ReadSession, most: int) -> list[tuple[str, bytes]]:
    """Give (id, body) of entries that have no place yet, the oldest first."""
    rows = await session.all(_WAITING_RIGHTS, most=most)
    return [(row["id"], bytes(row["body"])) for row in rows]


async def count_waiting_rights(session: ReadSession) -> int:
    """Count entries that have no place yet."""
    row = await session.first(_COUNT_WAITING_RIGHTS)
    return 0 if row is None else int(row["waiting"])


async def rights_head(session: ReadSession) -> tuple[int, bytes] | None:
    """Give position and link of the newest entry that has its place."""
    row = await session.first(_RIGHTS_HEAD)
    return None if row is None else (int(row["position"]), bytes(row["link"]))


async def place_rights(work: UnitOfWork, entry_id: str, position: int, link: bytes) -> bool:
    """Give an entry its place; False when it has one."""
    touched = await work.run(_PLACE_RIGHTS, entry_id=entry_id, at_position=position, new_link=link)
    return touched == 1


async def placed_rights(session: ReadSession, after: int, most: int) -> Sequence[Row]:
    """Give position, link and body of entries after a position."""
    return await session.all(_PLACED_RIGHTS, after=after, most=most)


_SUBJECTS_OF_RIGHTS = Statement(
    select(rights_ledger.c.subject).where(rights_ledger.c.kind == bindparam("kind"))
)


async def subjects_of_rights(session: ReadSession, kind: str) -> set[bytes]:
    """Give whom entries of a kind are about."""
    rows = await session.all(_SUBJECTS_OF_RIGHTS, kind=kind)
    return {bytes(row["subject"]) for row in rows}


async def has_rights(session: ReadSession, entry_id: str) -> bool:
    """Say whether there is an entry of this id."""
    return await session.first(_HAS_RIGHTS, id=entry_id) is not None
