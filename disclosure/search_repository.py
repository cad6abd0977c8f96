"""SQL of the names that may be held for searching: whose, in which version, and their cells.

Only members whose gate is open: who is restricted, erased or merged into another is not held.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Text, bindparam, select

from consent import GateState, gate_source
from kernel import MemberId, ReadSession, Row, Statement
from members import named_source
from vault import ORDINARY, key_source

MOST_AT_A_TIME = 200
_VERSION_BITS = 12

_member, (_member_id, _brand, _version, _updated_us, _cells) = named_source()
_gate, _gate_on, (_, _gate_state, _) = gate_source(_member_id)
_key, _key_on, _key_columns = key_source(ORDINARY, _member_id, "ordinary")
_named = [bindparam(f"member_{at}", type_=Text) for at in range(MOST_AT_A_TIME)]
_open = _gate_state == GateState.ACTIVE.value
_PAGE = Statement(
    select(_member_id, _version, _updated_us)
    .select_from(_member.join(_gate, _gate_on))
    .where(_open, _member_id > bindparam("after", type_=Text))
    .order_by(_member_id)
    .limit(bindparam("most", type_=BigInteger))
)
_STANDING = Statement(
    select(_member_id, _version, _updated_us)
    .select_from(_member.join(_gate, _gate_on))
    .where(_open, _member_id.in_(_named))
)
_CELLS = Statement(
    select(_member_id, _brand, _version, _updated_us, _cells, *_key_columns)
    .select_from(_member.join(_gate, _gate_on).join(_key, _key_on))
    .where(_open, _member_id.in_(_named))
)


def stamp(row: Row) -> int:
    """Give 64 bits that change whenever the row does, also when a restore put it back."""
    written: int = row["updated_us"]
    version: int = row["version"]
    return (written << _VERSION_BITS | version & (1 << _VERSION_BITS) - 1) & (1 << 64) - 1


async def page(session: ReadSession, *, after: str, most: int) -> list[tuple[MemberId, int]]:
    """Give members to be held and their stamps, from the one after `after`."""
    rows = await session.all(_PAGE, after=after, most=most)
    return [(MemberId(row["member_id"]), stamp(row)) for row in rows]


async def standing(session: ReadSession, members: Sequence[MemberId]) -> dict[MemberId, int]:
    """Give the stamps of those of up to 200 members who are to be held now."""
    rows = await session.all(_STANDING, **_names(members))
    return {MemberId(row["member_id"]): stamp(row) for row in rows}


async def cells(session: ReadSession, members: Sequence[MemberId]) -> Sequence[Row]:
    """Give the sealed rows and ordinary keys of those of up to 200 members who are to be held."""
    return await session.all(_CELLS, **_names(members))


def _names(members: Sequence[MemberId]) -> dict[str, str]:
    padded = [*members, *[""] * (MOST_AT_A_TIME - len(members))]
    return {f"member_{at}": member for at, member in enumerate(padded)}
