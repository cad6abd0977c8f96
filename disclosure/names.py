"""Opening names and birth months in bulk, for the search that holds them in memory.

One grant on record allows a job to open these fields of whoever's gate is open, for a purpose of
its own; the ticket covers no other field. What is opened goes to the search process and is
held nowhere else: no name, no birthday and no tag of either is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgpack

from audit import AuditEvent, AuditLog
from disclosure import search_repository
from disclosure.name_index import PART
from kernel import Caller, Database, MemberId, ReadSession, Row
from members import MEMBER_TABLE, search_form
from policies import FieldKey, FieldKind, PolicyPack, Storage
from vault import ORDINARY, UnreadableError, Vault, key_from_row

PURPOSE = "member_search"
"""Why the registry reads here: a member must be found to be served and to be answered."""
BIRTH_DATE = FieldKey("birth_date")
_FAMILY_NAME = "family_name"
_MONTH = slice(5, 7)


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What is held of one member: names in one spelling, `PART` between them, and a month.

    `month` is 1 to 12, or 0 when no birthday is held. Prints without any of it.
    """

    member_id: MemberId
    stamp: int
    brand: str
    month: int = field(repr=False)
    form: str = field(repr=False)


def name_fields(pack: PolicyPack) -> tuple[FieldKey, ...]:
    """Give the fields that hold names, in the order of a record: the family's name first."""
    names = [
        key
        for key, entry in pack.fields.items()
        if entry.kind is FieldKind.NAME and entry.storage is Storage.SEALED
    ]
    return tuple(sorted(names, key=lambda key: key != _FAMILY_NAME))


class Names:
    """Says whom a search may hold, and opens what it holds of them."""

    def __init__(self, database: Database, vault: Vault, audit: AuditLog, pack: PolicyPack) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._names = name_fields(pack)
        opened = (*self._names, *([BIRTH_DATE] if BIRTH_DATE in pack.fields else []))
        kinds = {key: pack.own_key_class(key) for key in opened}
        self._key_kinds = {
            key: ORDINARY if kind is None else kind.key for key, kind in kinds.items()
        }

    async def page(self, *, after: str, most: int) -> list[tuple[MemberId, int]]:
        """Give members to be held and their stamps, from the one after `after`."""
        async with self._database.read() as session:
            return await search_repository.page(session, after=after, most=most)

    async def standing(self, members: Sequence[MemberId]) -> dict[MemberId, int]:
        """Give the stamps of those of some members who are to be held now."""
        found: dict[MemberId, int] = {}
        async with self._database.read() as session:
            for some in _slices(members):
                found |= await search_repository.standing(session, some)
        return found

    async def grant(self, caller: Caller, action: str, *, count: int | None = None) -> AuditEvent:
        """Put on record that names are opened, and give the event under which that is done."""
        event = self._audit.draft(
            caller,
            action,
            purpose=PURPOSE,
            fields=tuple(sorted(self._key_kinds)),
            decision="allow",
            count=count,
        )
        async with self._database.unit_of_work() as work:
            await self._audit.record_many(work, [event])
        return event

    async def open(self, grant: AuditEvent, members: Sequence[MemberId]) -> list[NameRecord]:
        """Open what is held of those of some members whose gate is open now."""
        records: list[NameRecord] = []
        async with self._database.read() as session:
            for some in _slices(members):
                for row in await search_repository.cells(session, some):
                    try:
                        records.append(await self._open(session, grant, row))
                    except UnreadableError:
                        continue  # whoever cannot be read cannot be found
        return records

    async def _open(self, session: ReadSession, grant: AuditEvent, row: Row) -> NameRecord:
        member_id = MemberId(row["member_id"])
        cells: Mapping[str, bytes] = msgpack.unpackb(row["cells"])
        ticket = self._audit.ticket(grant, member_id)
        by_kind: dict[str, dict[str, bytes]] = {}
        for key, kind in self._key_kinds.items():
            if key in cells:
                by_kind.setdefault(kind, {})[key] = cells[key]
        keys = {}
        wrapped = key_from_row(row, member_id, ORDINARY, "ordinary")
        if wrapped is not None:
            await self._vault.ensure_bucket(session, wrapped)
            keys[ORDINARY] = self._vault.unwrap(wrapped)
        if not by_kind.keys() <= keys.keys():
            keys = await self._vault.keys_of(session, member_id)
        values: dict[str, str] = {}
        for kind, sealed in by_kind.items():
            if kind in keys:
                values |= self._vault.open(ticket, keys[kind], MEMBER_TABLE, member_id, sealed)
        month = values.get(BIRTH_DATE, "")[_MONTH]
        return NameRecord(
            member_id,
            search_repository.stamp(row),
            row["brand"],
            int(month) if month.isdecimal() else 0,
            record_form(self._names, values),
        )


def record_form(fields: Sequence[str], values: Mapping[str, str]) -> str:
    """Write names as they are held and looked into; a field that is absent leaves its place."""
    return PART.join(search_form(values.get(key, "")) for key in fields)


def _slices(members: Sequence[MemberId]) -> list[Sequence[MemberId]]:
    size = search_repository.MOST_AT_A_TIME
    return [members[at : at + size] for at in range(0, len(members), size)]
