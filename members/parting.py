"""Undoing a merge while that is allowed, and letting go of the way back when it is not any more.

Both records come back as they were, and what was changed since stays with the survivor. A no
that was said since binds both of them, because nobody can tell which of the two said it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from audit import AuditEvent, AuditLog
from consent import ConsentService, ConsentState, GateState, Status
from kernel import Caller, Clock, Database, MemberId, UnitOfWork, put_message
from members import repository
from members.errors import MemberChangedError, MemberNotFoundError, MergeError, MergeUnknownError
from members.identifiers import identifiers, index_kind, keep_sign_in
from members.merge import parted, restored
from members.merging import (
    MERGE_TABLE,
    MERGED,
    SURVIVOR,
    Merges,
    cells_in,
    points_in,
    provenance_in,
)
from members.opening import open_fields
from members.repository import MemberRow, Merge, MergeState
from members.row_digest import row_digest
from policies import AgeTier, PolicyPack
from vault import ORDINARY, PSEUDONYM, Identifier, OwnerKey, Sealed, Vault

_BIRTH_DATE = "birth_date"
_PAGE = 100
_Held = dict[MemberId, list[tuple[str, Identifier]]]


@dataclass(frozen=True, slots=True)
class Parted:
    """Two members who are two again."""

    merge_id: str
    survivor_id: MemberId
    merged_id: MemberId
    audit_id: str


class Partings:
    """Undoes merges, and settles those that can be undone no longer."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        merges: Merges,
        clock: Clock,
    ) -> None:
        self._database = database
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._merges = merges
        self._clock = clock

    async def undo(
        self,
        caller: Caller,
        merge_id: str,
        *,
        then: Callable[[UnitOfWork, Parted], Awaitable[object]] | None = None,
    ) -> Parted:
        """Make two members of one again; `then` runs last in the unit of work.

        Raises:
            MergeUnknownError: no such merge in the caller's brand.
            MergeError: undone before, too late, or a later merge must be undone first.
            MemberNotFoundError: the member was erased since.
        """
        merge, survivor_state, merged_state = await self._open(caller, merge_id)
        held = await self._findable_by(caller, merge, survivor_state)
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            gates = await self._consent.hold_gates(work, [merge.survivor_id, merge.merged_id])
            present = await repository.hold_merge(work, merge_id)
            if present is None:
                raise MergeUnknownError(reason="merge_unknown")
            await self._check(work, present)
            states = {one: gates[one].state for one in gates}
            if states.get(merge.survivor_id) is not GateState.ACTIVE:
                raise MergeError("the survivor is not active", reason="survivor_closed")
            keys = await self._keys(work, merge.survivor_id)
            tier = await self._tier_before(work, merge, survivor_state)
            survivor = await self._restore_survivor(
                work, merge, survivor_state, held, now_us=now_us
            )
            await self._consent.reopen_gate(work, merge.merged_id)
            await self._restore_merged(work, merge, merged_state, held)
            await self._part_consents(work, caller, merge, survivor_state, keys)
            if tier is not None:
                await self._consent.set_age_tier(work, merge.survivor_id, tier)
            for room in self._merges.participants:
                await room.undo_merge(
                    work,
                    caller,
                    into=merge.survivor_id,
                    merged=merge.merged_id,
                    merge_id=merge_id,
                    now_us=now_us,
                )
            await repository.end_merge(work, merge_id, MergeState.UNDONE, now_us=now_us)
            await repository.part_pair(work, merge_id, caller.id, now_us=now_us)
            audit_id = ""
            for member_id in (merge.survivor_id, merge.merged_id):
                pseudonym = (await self._keys(work, member_id))[PSEUDONYM]
                audit_id = await self._audit.record(
                    work,
                    caller,
                    "member.merge_undo",
                    subject=pseudonym,
                    resource=f"merge:{merge_id}",
                    # The merged record's row was never written: its last digest holds.
                    after=row_digest(pseudonym, survivor) if member_id == survivor.id else None,
                )
                await put_message(work, "member.rectified", {"member_id": member_id}, now_us=now_us)
            made = Parted(merge_id, merge.survivor_id, merge.merged_id, audit_id)
            if then is not None:
                await then(work, made)
        return made

    async def settle_due(self, caller: Caller) -> int:
        """Let go of the way back from merges that are too old; gives how many.

        The merged record's fields go too: what of them counts has long been the survivor's.
        """
        settled = 0
        while True:
            now_us = self._clock.now_us()
            async with self._database.unit_of_work() as work:
                due = await repository.merges_to_settle(work, now_us=now_us, most=_PAGE)
                for found in due:
                    merge = await repository.hold_merge(work, found.id)
                    if merge is None or merge.state is not MergeState.MERGED:
                        continue  # undone or erased beside this
                    row = await repository.hold_member(work, merge.merged_id)
                    keys = await self._vault.keys_of(work, merge.merged_id)
                    written = (
                        None
                        if row is None
                        else await repository.write_member(work, row, {}, {}, now_us=now_us)
                    )
                    await repository.end_merge(work, merge.id, MergeState.SETTLED, now_us=now_us)
                    pseudonym = keys.get(PSEUDONYM)
                    await self._audit.record(
                        work,
                        caller,
                        "member.merge_settle",
                        subject=pseudonym,
                        resource=f"merge:{merge.id}",
                        after=row_digest(pseudonym, written) if pseudonym and written else None,
                    )
            settled += len(due)
            if len(due) < _PAGE:
                return settled

    # --- looking ----------------------------------------------------------------------

    async def _open(
        self, caller: Caller, merge_id: str
    ) -> tuple[Merge, dict[str, Any], dict[str, Any]]:
        """Put on record that both sealed states are opened, then open them."""
        async with self._database.unit_of_work() as work:
            merge = await repository.read_merge(work, merge_id)
            if merge is None or merge.brand != caller.brand:
                raise MergeUnknownError(reason="merge_unknown")
            await self._check(work, merge)
            sides = [
                (merge.survivor_id, SURVIVOR, merge.survivor_cell),
                (merge.merged_id, MERGED, merge.merged_cell),
            ]
            keys = {owner: await self._keys(work, owner) for owner, _, _ in sides}
            events = {
                owner: self._audit.draft(
                    caller,
                    "member.merge_undo_read",
                    subject=keys[owner][PSEUDONYM],
                    resource=f"merge:{merge_id}",
                    fields=(which,),
                    decision="allow",
                )
                for owner, which, _ in sides
            }
            await self._audit.record_many(work, list(events.values()))
        states = []
        for owner, which, cell in sides:
            if cell is None:
                raise MergeError("this merge cannot be undone", reason="settled")
            state: dict[str, Any] = self._vault.open_value(
                self._audit.ticket(events[owner], owner),
                keys[owner][ORDINARY],
                MERGE_TABLE,
                merge_id,
                Sealed(which, cell, orjson.loads),
            )
            states.append(state)
        return merge, states[0], states[1]

    async def _findable_by(self, caller: Caller, merge: Merge, state: Mapping[str, Any]) -> _Held:
        """Open, on record, the identifiers of the two: their tags are made anew.

        The index may have had another version when they were merged. What the survivor changes
        from now on can only make less of its earlier fields come back.
        """
        before = cells_in(state, "cells")
        granted: list[tuple[MemberRow, dict[str, OwnerKey], AuditEvent]] = []
        async with self._database.unit_of_work() as work:
            for owner in (merge.survivor_id, merge.merged_id):
                row, keys = await repository.read_member(work, owner), await self._keys(work, owner)
                if row is None:
                    raise MemberNotFoundError(reason="member_unknown")
                cells = row.cells
                if owner == merge.survivor_id:
                    returned = restored(before, cells_in(state, "after"), row.cells).returned
                    cells = {slot: before[slot] for slot in returned}
                cells = {s: cell for s, cell in cells.items() if index_kind(self._pack, s)}
                event = self._audit.draft(
                    caller,
                    "member.merge_undo_read",
                    subject=keys[PSEUDONYM],
                    resource=f"merge:{merge.id}",
                    fields=tuple(sorted(cells)),
                    decision="allow",
                )
                granted.append((replace(row, cells=cells), keys, event))
            await self._audit.record_many(work, [event for _, _, event in granted])
        held: _Held = {}
        for row, keys, event in granted:
            ticket = self._audit.ticket(event, row.id)
            opened = open_fields(self._pack, self._vault, ticket, keys, row, row.cells)
            held[row.id] = identifiers(self._pack, opened)
        return held

    async def _check(self, work: UnitOfWork, merge: Merge) -> None:
        if merge.state is not MergeState.MERGED:
            raise MergeError("this merge cannot be undone", reason=merge.state.value)
        if self._clock.now_us() > merge.undo_until_us:
            raise MergeError("it is too late to undo this merge", reason="too_late")
        later = await repository.merges_into(work, merge.survivor_id)
        if later and later[-1].id != merge.id:
            raise MergeError("a later merge must be undone first", reason="later_merge")

    async def _keys(self, work: UnitOfWork, member_id: MemberId) -> dict[str, OwnerKey]:
        keys = await self._vault.keys_of(work, member_id)
        if ORDINARY not in keys or PSEUDONYM not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        return keys

    async def _tier_before(
        self, work: UnitOfWork, merge: Merge, state: Mapping[str, Any]
    ) -> AgeTier | None:
        """Give the age tier that comes back with the survivor's own birth date.

        None where the birth date was corrected since: it stays, and the tier it gave with it.
        """
        row = await repository.read_member(work, merge.survivor_id)
        after = cells_in(state, "after").get(_BIRTH_DATE)
        if row is None or row.cells.get(_BIRTH_DATE) != after:
            return None
        return AgeTier(state["age_tier"])

    # --- writing ----------------------------------------------------------------------

    async def _restore_survivor(
        self,
        work: UnitOfWork,
        merge: Merge,
        state: Mapping[str, Any],
        held: _Held,
        *,
        now_us: int,
    ) -> MemberRow:
        row = await repository.hold_member(work, merge.survivor_id)
        if row is None:
            raise MemberNotFoundError(reason="member_unknown")
        before, known = cells_in(state, "cells"), provenance_in(state)
        fields = restored(before, cells_in(state, "after"), row.cells)
        order = [f for f in before if f in fields.kept or f in fields.returned]
        order += sorted(fields.kept - before.keys())
        points = await repository.stored_points(work, row.id)
        written = await repository.write_member(
            work,
            row,
            {f: row.cells[f] if f in fields.kept else before[f] for f in order},
            {f: row.provenance[f] if f in fields.kept else known[f] for f in order},
            now_us=now_us,
        )
        if written is None:
            raise MemberChangedError
        await repository.drop_contact_points(work, row.id)
        for point in points:
            if point.field in fields.kept:
                await repository.put_point(work, row.id, point)
        for point in points_in(state):
            if point.field in fields.returned:
                await repository.put_point(work, row.id, point)
        for tag in await self._vault.tags.of_owner(work, row.id):
            if tag.field not in fields.kept:
                await self._vault.tags.drop(work, row.id, tag.field)
        key = (await self._keys(work, row.id))[ORDINARY]
        returned = [one for one in held[row.id] if one[0] in fields.returned]
        await self._vault.tags.add(work, key, returned)
        await keep_sign_in(work, self._vault, row.id)
        return written

    async def _restore_merged(
        self, work: UnitOfWork, merge: Merge, state: Mapping[str, Any], held: _Held
    ) -> None:
        """The merged record's fields never moved; its identifiers and ids come back to it."""
        for point in points_in(state):
            if await repository.contact_point_by_id(work, point.id) is None:
                await repository.put_point(work, merge.merged_id, point)
        key = (await self._keys(work, merge.merged_id))[ORDINARY]
        await self._vault.tags.add(work, key, held[merge.merged_id])
        await keep_sign_in(work, self._vault, merge.merged_id)
        for pairwise, made_for in state["ids"]:
            await repository.name_another(work, pairwise, merge.merged_id, made_for)

    async def _part_consents(
        self,
        work: UnitOfWork,
        caller: Caller,
        merge: Merge,
        state: Mapping[str, Any],
        keys: Mapping[str, OwnerKey],
    ) -> None:
        before = [
            ConsentState(**{**one, "status": Status(one["status"])}) for one in state["consents"]
        ]
        parting = parted(
            before,
            frozenset(state["written"]),
            await self._consent.states(work, merge.survivor_id),
            await self._consent.states(work, merge.merged_id),
        )
        await self._merges.narrow(
            work, caller, merge.survivor_id, keys[PSEUDONYM], parting.survivor
        )
        theirs = await self._keys(work, merge.merged_id)
        await self._merges.narrow(work, caller, merge.merged_id, theirs[PSEUDONYM], parting.merged)
        # Each objection holds for the addresses that its record has again.
        for one in (merge.survivor_id, merge.merged_id):
            objected = await self._consent.objections(work, one)
            await self._consent.suppressions.add(work, one, objected)
