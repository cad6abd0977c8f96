"""Sealed details beside the trail: what an event must be able to say and may not say in the log.

An officer's written justification speaks of a person, so it cannot stand in a log that never
forgets. It is sealed under that person's own key, bound to its event; the event bears only the hash
of the ciphertext. It opens for a ticket whose event has committed, dies with the member's key, and
its ciphertext goes by a clock of its own. Whoever would swap a justification afterwards is kept
out by the hash in the log, and whoever has the database alone, by the key.
"""

import hashlib
from dataclasses import replace

from audit import detail_repository as repository
from audit.event import AuditEvent
from audit.repository import append_event
from audit.service import AuditLog
from audit.views import BREAK_GLASS
from kernel import Caller, Database, MemberId, NotFoundError, ReadSession, UnitOfWork, new_id
from vault import ORDINARY, OwnerKey, Vault

TABLE = "audit_detail"
JUSTIFICATION = "justification"
DETAIL_READ = "audit.detail_read"
DETAILED = (BREAK_GLASS,)
"""Actions whose events, where they allow, have a detail beside them."""


def detail_ref(ciphertext: bytes) -> str:
    """Name a ciphertext as events do: `sha256:…`."""
    return f"sha256:{hashlib.sha256(ciphertext).hexdigest()}"


class DetailLinks:
    """Cuts the details of an erased member loose: what is left is noise that is nobody's."""

    async def forget(self, work: UnitOfWork, member_id: MemberId, now_us: int) -> tuple[()]:
        """Forget whose details they were; their key goes with the member's others."""
        del now_us
        await repository.cut_links(work, member_id)
        return ()


class Details:
    """Keeps details beside their events, and opens them on record."""

    def __init__(self, database: Database, vault: Vault, audit: AuditLog) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    async def record(
        self, work: UnitOfWork, drafted: AuditEvent, key: OwnerKey, text: str
    ) -> AuditEvent:
        """Append an event with a text beside it, sealed under a member's ordinary key.

        Gives the event as it stands, with the hash of the ciphertext, which opens in the place of
        this event alone. Both are there when the unit of work has committed, or neither.
        """
        sealed = self._vault.seal(key, TABLE, drafted.id, {JUSTIFICATION: text})[JUSTIFICATION]
        event = replace(drafted, detail_ref=detail_ref(sealed))
        await append_event(work, self._audit.checked_row(event))
        await repository.add_detail(work, event.id, key.owner_id, sealed)
        return event

    async def count_since(
        self, session: ReadSession, since_us: int, *, brand: str | None, most: int
    ) -> int:
        """Count events with a detail since a moment (µs), of a brand or of all; up to `most`."""
        found = await repository.brands_since(session, new_id("evt", since_us), most=most)
        return sum(brand is None or one in {None, brand} for one in found)

    async def read(self, caller: Caller, event_id: str) -> str:
        """Open the detail of an event; that it is opened is on record first.

        That record names the event and no member: with a token of another month beside it, it
        would tie the two months together for good.
        The caller has asked whether this reader may (`audit`, `open_detail`) and sees the event.

        Raises:
            NotFoundError: `detail_unknown` where there is none, `detail_gone` where its time
                has come or its member was erased.
        """
        async with self._database.unit_of_work() as work:
            row = await repository.detail(work, event_id)
            if row is None:
                raise NotFoundError("no such detail", reason="detail_unknown")
            member_id = row["member_id"]
            keys = {} if member_id is None else await self._vault.keys_of(work, member_id)
            key = keys.get(ORDINARY)
            if row["ciphertext"] is None or key is None:
                raise NotFoundError("the detail is gone", reason="detail_gone")
            event = self._audit.draft(
                caller,
                DETAIL_READ,
                resource=event_id,
                fields=(JUSTIFICATION,),
                decision="allow",
            )
            await append_event(work, self._audit.checked_row(event))
        ticket = self._audit.ticket(event, str(member_id))
        cells = {JUSTIFICATION: bytes(row["ciphertext"])}
        return self._vault.open(ticket, key, TABLE, event_id, cells)[JUSTIFICATION]
