"""A disclosure to many as one event: drafting it, putting it on record, and its tickets.

What holds for one member holds for each: the event is durable before a ticket is of use, and a
ticket opens the fields of that member's row and no other's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from audit.errors import EventError
from audit.event import AuditEvent, check, subject_token
from audit.manifest import manifest_of, most_rows, row_width, tokens_of, write_rows
from audit.manifest_repository import add_manifest
from audit.repository import append_event
from audit.service import AuditLog
from kernel import Caller, UnitOfWork
from vault import AccessTicket, OwnerKey


class Shown(NamedTuple):
    """One member of a disclosure to many: the owner of cells, the pseudonym key, the fields."""

    owner_id: str
    pseudonym: OwnerKey
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BulkEvent:
    """An event, the rows beside it as they are stored, and which fields it allows of whom."""

    event: AuditEvent
    rows: bytes
    allowed: Mapping[str, frozenset[str]]

    def ticket(self, owner_id: str) -> AccessTicket:
        """Give the ticket of one member, once the event HAS COMMITTED.

        `EventError` for whoever has no row in it.
        """
        if owner_id not in self.allowed:
            raise EventError("manifest: a ticket for somebody who is not in it")
        return AccessTicket(self.event.id, owner_id, self.allowed[owner_id])


def draft_bulk(
    audit: AuditLog, caller: Caller, action: str, shown: Sequence[Shown], **details: Any
) -> list[BulkEvent]:
    """Make as few events of this moment as hold all these members; see `AuditLog.draft`.

    Two members whose tokens are the same cannot be told apart: `EventError`.
    """
    widest = len(frozenset().union(*(one.fields for one in shown)))
    most = most_rows(widest)
    return [
        _draft(audit, caller, action, shown[at : at + most], details)
        for at in range(0, len(shown), most)
    ]


def _draft(
    audit: AuditLog,
    caller: Caller,
    action: str,
    shown: Sequence[Shown],
    details: Mapping[str, Any],
) -> BulkEvent:
    event = audit.draft(caller, action, decision="allow", count=len(shown), **details)
    disclosed = {
        subject_token(one.pseudonym.secret, event.ts).token: frozenset(one.fields) for one in shown
    }
    allowed = {one.owner_id: frozenset(one.fields) for one in shown}
    if not len(disclosed) == len(allowed) == len(shown):
        raise EventError("manifest: a member stands in it twice")
    fields, rows = write_rows(disclosed)
    whole = replace(event, fields=fields, manifest=manifest_of(rows))
    check(whole)
    return BulkEvent(whole, rows, allowed)


async def record_bulk(audit: AuditLog, work: UnitOfWork, bulk: BulkEvent) -> None:
    """Append an event with its rows to the unit of work, or `NotRecordedError`."""
    await append_event(work, audit.row(bulk.event))
    width = row_width(len(bulk.event.fields))
    await add_manifest(work, bulk.event.id, width, bulk.rows, tokens_of(bulk.rows))
