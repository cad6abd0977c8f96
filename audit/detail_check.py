"""Holds sealed details against the events that name them: not swapped, not taken, not put there.

A detail is in no bundle, so only here, beside the database, can be said whether what lies in its
place is what the event was hashed with. Nothing is opened for that.
"""

from collections.abc import Collection, Iterator, Sequence

import orjson

from audit import detail_repository as repository
from audit.detail_clock import DETAIL_LOST, DETAIL_PRUNED
from audit.details import DETAILED, detail_ref
from audit.verify import Finding
from kernel import Database, Row

_AT_ONCE = 500
_MOST_FINDINGS = 20


async def compare_details(database: Database) -> list[Finding]:
    """Give a finding (`detail`) for each detail that is not what its event says.

    Gone by right is one that an event `retention.detail_pruned` or `retention.detail_lost` names.
    """
    found: list[Finding] = []
    async with database.snapshot() as session:
        gone = {
            (event_id, told_by)
            for action in (DETAIL_PRUNED, DETAIL_LOST)
            for event_id, told_by, _ in await repository.told_gone(session, action)
        }
        after = ""
        while rows := await repository.every_detail(session, after=after, most=_AT_ONCE):
            found += _wrong_with(rows, gone)
            after = rows[-1]["event_id"]
        for event_id in await repository.missing(session, DETAILED):
            found.append(_finding(f"the detail of {event_id} is not there"))
    return found[:_MOST_FINDINGS]


def _wrong_with(rows: Sequence[Row], gone: Collection[tuple[str, str]]) -> Iterator[Finding]:
    for row in rows:
        event_id, ciphertext = row["event_id"], row["ciphertext"]
        if ciphertext is None:
            if (event_id, row["dropped_by"]) not in gone:
                yield _finding(f"no event tells why the detail of {event_id} is gone")
        elif row["body"] is None:
            yield _finding(f"a detail of {event_id} is kept, and the event is not")
        elif orjson.loads(row["body"]).get("detail_ref") != detail_ref(bytes(ciphertext)):
            yield _finding(f"the detail of {event_id} is not the one that it names")


def _finding(detail: str) -> Finding:
    return Finding("detail", None, None, detail)
