"""Blind indexes after a restore: no backup holds them, so they are made again from the cells.

That means opening the identifiers of every member who is not erased. It is a reading like any
other: one event with the number of members and the names of the fields is durable before the
first cell is opened.
"""

from collections.abc import AsyncIterator, Callable

from audit import AuditEvent, AuditLog
from consent import ConsentService
from kernel import Caller, Database, MemberId, UnitOfWork
from members import repository
from members.normalise import index_form
from members.repository import MemberRow
from members.retention import key_kind
from members.sources import MEMBER_TABLE
from policies import FieldKey, PolicyPack
from vault import Vault

_PAGE = 200


class Reindex:
    """Makes members findable again."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
    ) -> None:
        self._database = database
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._kinds = {
            key: entry.index.value for key, entry in pack.fields.items() if entry.index is not None
        }

    async def run(self, caller: Caller, progress: Callable[[int, int], None]) -> int:
        """Tag every member who is neither erased nor merged; gives how many can be found again."""
        slots: set[str] = set()
        async for page in self._pages():
            for row in page:
                slots.update(slot for slot in row.cells if _field_of(slot) in self._kinds)
        async with self._database.unit_of_work() as work:
            total = await repository.count_members(work)
            event = self._audit.draft(
                caller,
                "member.reindex",
                fields=tuple(sorted(slots)),
                decision="allow",
                legal_basis="legal_obligation",
                count=total,
            )
            await self._audit.record_many(work, [event])
        found = looked_at = 0
        verified: list[tuple[int, str, bytes]] = []
        async for page in self._pages():
            async with self._database.unit_of_work() as work:
                for row in page:
                    found += await self._tag(work, event, row)
                    verified += await self._verified(work, row.id)
            looked_at += len(page)
            progress(looked_at, total)
        # A number that changed hands signs in whoever verified it last.
        async with self._database.unit_of_work() as work:
            for moment_us, point_id, tag in sorted(verified):
                await repository.mark_verified(work, point_id, tag, now_us=moment_us)
        return found

    async def _pages(self) -> AsyncIterator[list[MemberRow]]:
        after = ""
        while True:
            rows: list[MemberRow] = []
            async with self._database.read() as session:
                page = await repository.member_ids(session, after=after, most=_PAGE)
                for member_id in page:
                    row = await repository.read_member(session, member_id)
                    if row is not None:
                        rows.append(row)
            if not page:
                return
            yield rows
            after = page[-1]

    async def _tag(self, work: UnitOfWork, event: AuditEvent, row: MemberRow) -> bool:
        gate = await self._consent.gate(work, row.id)
        if gate.state.is_closed:
            return False
        keys = await self._vault.keys_of(work, row.id)
        ticket = self._audit.ticket(event, row.id)
        forms: list[tuple[str, str, str]] = []
        for slot, cell in row.cells.items():
            key = keys.get(key_kind(self._pack, slot))
            kind = self._kinds.get(_field_of(slot))
            if kind is None or key is None:
                continue
            opened = self._vault.open(ticket, key, MEMBER_TABLE, row.id, {slot: cell})
            forms.append((slot, kind, index_form(kind, opened[slot])))
        await self._vault.add_tags(work, row.id, forms)
        return bool(forms)

    async def _verified(
        self, work: UnitOfWork, member_id: MemberId
    ) -> list[tuple[int, str, bytes]]:
        found: list[tuple[int, str, bytes]] = []
        for point in await repository.contact_points_of(work, member_id):
            tag = await self._vault.tag_of(work, member_id, point.field)
            if point.verified_us is not None and tag is not None:
                found.append((point.verified_us, point.id, tag))
        return found


def _field_of(slot: str) -> FieldKey:
    """Give the catalogue field of a slot: a second phone lies in `phone.2`."""
    return FieldKey(slot.partition(".")[0])
