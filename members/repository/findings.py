"""SQL of findings in free text: what kind, where and how sure; never what it says."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import BigInteger, bindparam, delete, func, insert, select

from kernel import MemberId, ReadSession, Row, Statement, UnitOfWork, new_id
from members.tables import member, note_finding


@dataclass(frozen=True, slots=True)
class Finding:
    """Something personal in a free text: its kind, its place in characters, its certainty.

    `score` is 0 to 100; `recogniser` names what found it, with its version.
    """

    field: str
    kind: str
    start: int
    end: int
    score: int
    recogniser: str


_ADD = Statement(
    insert(note_finding).values(
        id=bindparam("id"),
        member_id=bindparam("member_id"),
        field=bindparam("field"),
        kind=bindparam("kind"),
        start_at=bindparam("start_at"),
        end_at=bindparam("end_at"),
        score=bindparam("score"),
        recogniser=bindparam("recogniser"),
        found_us=bindparam("now_us"),
    )
)
_DROP = Statement(delete(note_finding).where(note_finding.c.member_id == bindparam("of_member")))
_OF = Statement(
    select(note_finding)
    .where(note_finding.c.member_id == bindparam("member_id"))
    .order_by(note_finding.c.field, note_finding.c.start_at, note_finding.c.id)
)
_of_brand = note_finding.join(member, member.c.id == note_finding.c.member_id)
_COUNTS = Statement(
    select(
        note_finding.c.kind,
        func.count().label("findings"),
        func.count(note_finding.c.member_id.distinct()).label("members"),
    )
    .select_from(_of_brand)
    .where(member.c.brand == bindparam("brand"))
    .group_by(note_finding.c.kind)
    .order_by(note_finding.c.kind)
)
_WITH_KIND = Statement(
    select(note_finding.c.member_id)
    .distinct()
    .select_from(_of_brand)
    .where(
        member.c.brand == bindparam("brand"),
        note_finding.c.kind == bindparam("kind"),
        note_finding.c.member_id > bindparam("after"),
    )
    .order_by(note_finding.c.member_id)
    .limit(bindparam("most", type_=BigInteger))
)


def _finding(row: Row) -> Finding:
    return Finding(
        row["field"],
        row["kind"],
        row["start_at"],
        row["end_at"],
        row["score"],
        row["recogniser"],
    )


async def replace_findings(
    work: UnitOfWork, member_id: MemberId, findings: Iterable[Finding], *, now_us: int
) -> bool:
    """Write down what a scan found, in place of what an earlier one did; False if all was empty."""
    dropped = await work.run(_DROP, of_member=member_id)
    rows = list(findings)
    await work.run_many(
        _ADD,
        [
            {
                "id": new_id("fnd", now_us),
                "member_id": member_id,
                "field": found.field,
                "kind": found.kind,
                "start_at": found.start,
                "end_at": found.end,
                "score": found.score,
                "recogniser": found.recogniser,
                "now_us": now_us,
            }
            for found in rows
        ],
    )
    return bool(dropped or rows)


async def findings_of(session: ReadSession, member_id: MemberId) -> list[Finding]:
    """Give what was found in a member's free texts, in the order of the text."""
    return [_finding(row) for row in await session.all(_OF, member_id=member_id)]


async def finding_counts(session: ReadSession, brand: str) -> list[tuple[str, int, int]]:
    """Count (kind, findings, members) of a brand."""
    rows = await session.all(_COUNTS, brand=brand)
    return [(row["kind"], row["findings"], row["members"]) for row in rows]


async def members_with_kind(
    session: ReadSession, brand: str, kind: str, *, after: str, most: int
) -> list[MemberId]:
    """Give members of a brand in whose texts a kind was found, from the one after `after`."""
    rows = await session.all(_WITH_KIND, brand=brand, kind=kind, after=after, most=most)
    return [MemberId(row["member_id"]) for row in rows]


async def forget_findings(work: UnitOfWork, member_id: MemberId) -> None:
    """Drop what was found in an erased member's texts."""
    await work.run(_DROP, of_member=member_id)
