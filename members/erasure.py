"""Erasing a member: what goes at once, what a law keeps closed, and what a restore must repeat.

An erasure is announced to the backup store before its transaction can commit, so whoever is told
that somebody is erased can restore any backup without meeting them again.
"""

from collections.abc import Sequence
from dataclasses import replace

from audit import AuditLog, RightsKind, RightsLedger
from consent import ConsentService
from kernel import Caller, MemberId, ReadSession, UnitOfWork, put_message
from members import repository
from members.errors import MemberChangedError, MemberNotFoundError
from members.participants import Erased, EraseParticipant, Forgotten
from members.quarantine import forget_set_aside
from members.repository import MemberRow
from members.retention import kept_keys, key_kind
from members.row_digest import row_digest
from policies import PolicyPack
from vault import ORDINARY, PSEUDONYM, Vault


class Erasure:
    """Erases members, now or again after a restore."""

    def __init__(
        self,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        rights: RightsLedger,
        participants: Sequence[EraseParticipant] = (),
    ) -> None:
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._rights = rights
        self._participants = tuple(participants)

    async def erase(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> Erased:
        """Erase a member in this transaction, here and in the rooms above.

        Keys, blind-index tags, cells, contact points and import leftovers go at once. What a
        law retains was sealed under its retention class's own key and stays, closed to every
        read, until that key's day. The pseudonym key, which only names the member in the
        trail, follows after the pack's days; the event is written while it lives, so that the
        erasure can be proven. `UnavailableError` when a backup store is configured and does
        not take the erasure: then nothing is erased. Who was merged into the member is erased
        with them.
        """
        parts = await self._parts(work, member_id)
        gates = await self._consent.hold_gates(work, [member_id, *parts])
        if member_id not in gates or gates[member_id].state.is_closed:
            raise MemberNotFoundError(reason="member_unknown")
        if parts != await self._parts(work, member_id):
            raise MemberChangedError(reason="member_busy")
        everyone = (*parts, member_id)
        erased = [await self._erase_one(work, caller, one, now_us=now_us) for one in everyone]
        # Last, so that what cannot be erased is not announced; before the commit, so that
        # nothing is called erased that a restore could bring back.
        for one in everyone:
            await self._rights.record(work, RightsKind.ERASURE, one, {}, now_us)
        return Erased(
            sum(one.keys_destroyed for one in erased),
            erased[-1].audit_id,
            tuple(forgotten for one in erased for forgotten in one.forgotten),
        )

    async def _parts(self, session: ReadSession, member_id: MemberId) -> list[MemberId]:
        """Give the members who became part of this one, and of those in turn."""
        parts: list[MemberId] = []
        for merge in await repository.merges_into(session, member_id):
            parts += [*await self._parts(session, merge.merged_id), merge.merged_id]
        return parts

    async def _erase_one(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> Erased:
        row = await repository.hold_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if row is None or ORDINARY not in keys or PSEUDONYM not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        audit_id = await self._audit.record(
            work,
            caller,
            "member.erase",
            subject=keys[PSEUDONYM],
            fields=tuple(sorted(field for field in row.cells if "." not in field)),
            after=row_digest(keys[PSEUDONYM], self._remainder(row, now_us)),
        )
        destroyed, forgotten = await self._erase_row(work, row, now_us)
        return Erased(destroyed, audit_id, forgotten)

    async def erase_again(self, work: UnitOfWork, member_id: MemberId, *, erased_us: int) -> bool:
        """Erase what a restore brought back of a member erased at `erased_us`.

        Needs no key: the newest key ring has lost most of them. What a law retains keeps the
        day it had. False when the restored data never knew the member.
        """
        row = await repository.hold_member(work, member_id)
        if row is None:
            return False
        await self._erase_row(work, row, erased_us)
        return True

    async def _erase_row(
        self, work: UnitOfWork, row: MemberRow, now_us: int
    ) -> tuple[int, tuple[Forgotten, ...]]:
        await self._consent.close_gate(work, row.id)
        forgotten: list[Forgotten] = []
        for participant in self._participants:
            forgotten.extend(await participant.forget(work, row.id, now_us))
        forgotten.extend(await forget_set_aside(work, self._vault, row))
        keep = kept_keys(self._pack, row, now_us)
        destroyed = await self._vault.erase(work, row.id, keep=keep)
        left = self._remainder(row, now_us)
        await repository.write_member(work, row, left.cells, left.provenance, now_us=now_us)
        await repository.drop_contact_points(work, row.id)
        await repository.forget_import_rows(work, row.id)
        await repository.forget_pairs(work, row.id)
        await repository.forget_merges(work, row.id)
        await repository.forget_findings(work, row.id)
        await put_message(work, "member.erased", {"member_id": row.id}, now_us=now_us)
        return destroyed, tuple(forgotten)

    def _remainder(self, row: MemberRow, now_us: int) -> MemberRow:
        """Give the row that an erasure now leaves: what a law retains, and nothing else."""
        keep = kept_keys(self._pack, row, now_us)
        cells = {f: cell for f, cell in row.cells.items() if key_kind(self._pack, f) in keep}
        provenance = {field: row.provenance[field] for field in cells}
        return replace(row, cells=cells, provenance=provenance, version=row.version + 1)
