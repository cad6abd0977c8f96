"""Opening what was decided: from members whose events are durable to the values that leave.

Nothing is opened without a ticket, and there is no ticket without an event; whoever is not allowed
a field does not get its cell unwrapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack

from disclosure.decision import Allowed, Decision, Refusal, Snapshot
from disclosure.errors import MemberUnknownError
from kernel import Database, ReadSession, Row
from members import MEMBER_TABLE
from policies import FieldKey, PolicyPack, Storage
from vault import ORDINARY, AccessTicket, OwnerKey, SealedRow, Vault, key_from_row


@dataclass(frozen=True, slots=True)
class Weighed:
    """One member after the decision: what was found, what was decided, and the pseudonym key."""

    row: Row
    found: Snapshot
    decision: Decision
    pseudonym: OwnerKey | None


class Opening:
    """Opens the sealed fields of members that a decision has allowed."""

    def __init__(self, database: Database, vault: Vault, pack: PolicyPack) -> None:
        self._database = database
        self._vault = vault
        kinds = {field: pack.own_key_class(field) for field in pack.fields}
        self._retained = {field: kept.key for field, kept in kinds.items() if kept is not None}
        self.plain = {key for key, one in pack.fields.items() if one.storage is Storage.PLAIN}

    async def open(self, allowed: Sequence[tuple[Weighed, AccessTicket]]) -> list[dict[str, str]]:
        """Open the sealed fields that were allowed, of all members at once, in their order."""
        opened: list[dict[str, str]] = [{} for _ in allowed]
        wanted = [self._sealed(one.decision) for one, _ in allowed]
        if not any(wanted):
            return opened
        places: list[int] = []
        rows: list[SealedRow] = []
        async with self._database.read() as session:
            for at, ((one, ticket), fields) in enumerate(zip(allowed, wanted, strict=True)):
                if not fields:
                    continue
                if self._retained.keys().isdisjoint(fields):
                    places.append(at)
                    rows.append(await self._row(session, ticket, one, fields))
                else:
                    opened[at] = await self._open_by_kind(session, ticket, one, fields)
        for at, values in zip(places, self._vault.open_many(MEMBER_TABLE, rows), strict=True):
            opened[at] = values
        return opened

    def _sealed(self, decision: Decision) -> list[FieldKey]:
        fields = decision.fields if isinstance(decision, Allowed) else ()
        return [FieldKey(field) for field in fields if field not in self.plain]

    async def _row(
        self,
        session: ReadSession,
        ticket: AccessTicket,
        one: Weighed,
        fields: Sequence[FieldKey],
    ) -> SealedRow:
        """Give the cells of one member with the key they are all sealed under."""
        member_id = one.found.member_id
        key = key_from_row(one.row, member_id, ORDINARY, "ordinary")
        if key is None:
            raise MemberUnknownError(reason=Refusal.MEMBER_UNKNOWN.value)
        cells = msgpack.unpackb(one.row["cells"])
        chosen: dict[str, bytes] = {field: cells[field] for field in fields}
        return ticket, await self._vault.ensure_bucket(session, key), member_id, chosen

    async def _open_by_kind(
        self,
        session: ReadSession,
        ticket: AccessTicket,
        one: Weighed,
        fields: Sequence[FieldKey],
    ) -> dict[str, str]:
        """Open fields of which some are sealed under the key of a retention class."""
        member_id = one.found.member_id
        keys = await self._vault.keys_of(session, member_id)
        cells = msgpack.unpackb(one.row["cells"])
        opened: dict[str, str] = {}
        for field in fields:
            key = keys.get(self._retained.get(field) or ORDINARY)
            if key is None:
                raise MemberUnknownError(reason=Refusal.MEMBER_UNKNOWN.value)
            opened |= self._vault.open(ticket, key, MEMBER_TABLE, member_id, {field: cells[field]})
        return opened
