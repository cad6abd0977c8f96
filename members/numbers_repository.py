"""SQL of consent in numbers for one brand: consent has the answers, members whose they are."""

from sqlalchemy import Text, bindparam, func, select

from consent import Status, answers_source
from kernel import ReadSession, Statement
from members.sources import registry_source

_member, _member_columns = registry_source()
_answers, _whose, _said = answers_source()
_COUNTS = Statement(
    select(*_said, func.count().label("members"))
    .select_from(_answers.join(_member, _member_columns[0].element == _whose))
    .where(_member_columns[1] == bindparam("brand", type_=Text))
    .group_by(*_said)
)


async def consent_counts_of(session: ReadSession, brand: str) -> list[tuple[str, str, Status, int]]:
    """Count members of a brand by purpose, channel and status."""
    rows = await session.all(_COUNTS, brand=brand)
    return [(r["purpose"], r["channel"], Status(r["status"]), r["members"]) for r in rows]
