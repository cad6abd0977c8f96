"""Holds reviews against the log: no read is off the list that no second person has looked at.

A row of `audit_review` takes a read off the list of what waits, so whoever could write one alone
would be their own reviewer. The log says who looked at what; the rows must say the same.
"""

from collections.abc import Iterator, Sequence

import orjson

from audit import review_repository as repository
from audit.reviews import REVIEWED
from audit.verify import Finding
from kernel import Database, Row

_AT_ONCE = 500
_MOST_FINDINGS = 20


async def compare_reviews(database: Database) -> list[Finding]:
    """Give a finding (`review`) for each row and each event of a review that does not hold."""
    found: list[Finding] = []
    async with database.snapshot() as session:
        kept: set[str] = set()
        after = ""
        while rows := await repository.every_review(session, after=after, most=_AT_ONCE):
            kept.update(row["reviewed_by"] for row in rows)
            found += _wrong_with(rows)
            after = rows[-1]["event_id"]
        for row in await repository.events_of(session, REVIEWED):
            if row["id"] not in kept:
                found.append(_finding(f"the review that {row['id']} tells of is not kept"))
    return found[:_MOST_FINDINGS]


def _wrong_with(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        event_id = row["event_id"]
        if row["body"] is None:
            if row["leaf_index"] is None:  # what has a place in the log was deleted by rule
                yield _finding(f"no event tells of the review of {event_id}")
            continue
        body = orjson.loads(row["body"])
        if (body["action"], body.get("resource")) != (REVIEWED, event_id):
            yield _finding(f"the event of the review of {event_id} tells of something else")
        elif row["read"] is not None and _actor(row["read"]) == body["actor"]["id"]:
            yield _finding(f"{event_id} was reviewed by whoever read")


def _actor(body: bytes) -> str:
    actor: str = orjson.loads(body)["actor"]["id"]
    return actor


def _finding(detail: str) -> Finding:
    return Finding("review", None, None, detail)
