"""Merging two records of one person, and undoing it as long as that is allowed.

What must be read is put on record first and opened then; writing happens in one unit of work
that holds both gates, so that a merge is there whole or not at all and no disclosure decided
before it can still be recorded after it. Both records as they were lie sealed under the members'
own keys: whoever erases a member erases the way back with it.
"""

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from audit import AuditEvent, AuditLog
from consent import ConsentRequest, ConsentService, ConsentState, Gate, GateState
from kernel import Caller, Clock, Database, MemberId, UnitOfWork, new_id, put_message
from members import repository
from members.errors import MemberChangedError, MemberNotFoundError, MergeError, MergeUnknownError
from members.identifiers import identifiers, keep_sign_in
from members.merge import Narrowing, age_tier_of_both, narrowed, survivor_of, taken_from_merged
from members.opening import open_fields
from members.participants import MergeParticipant
from members.repository import MemberRow, Merge, MergeState, PairState, Provenance, StoredPoint
from members.retention import key_kind
from members.row_digest import row_digest
from members.sources import MEMBER_TABLE
from policies import AgeTier, PolicyPack
from vault import ORDINARY, PSEUDONYM, OwnerKey, Vault

MERGE_TABLE = "member_merge"
SURVIVOR, MERGED = "survivor", "merged"
DAY_US = 86_400_000_000
_ATTEMPTS = 8
_EVIDENCE = {"ui_action": "member_merge"}


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge made of two members."""

    merge_id: str
    survivor_id: MemberId
    merged_id: MemberId
    undo_until_us: int
    audit_id: str


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two records, as it was looked at."""

    row: MemberRow
    gate: Gate
    keys: Mapping[str, OwnerKey]
    points: Sequence[StoredPoint]
    states: Sequence[ConsentState]


@dataclass(frozen=True, slots=True)
class _Look:
    survivor: _Side
    merged: _Side
    taken: frozenset[str]
    event: AuditEvent


class _MovedError(Exception):
    """A member changed between the look and the writing; the caller looks again."""


class Merges:
    """Merges members and undoes merges."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        clock: Clock,
        *,
        undo_days: int,
    ) -> None:
        self._database = database
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._clock = clock
        self._undo_us = undo_days * DAY_US
        self._participants: list[MergeParticipant] = []

    def join(self, participant: MergeParticipant) -> None:
        """Let another room move what it keeps of members."""
        self._participants.append(participant)

    @property
    def participants(self) -> Sequence[MergeParticipant]:
        """The rooms that move what they keep."""
        return tuple(self._participants)

    async def merge(
        self,
        caller: Caller,
        duplicate_id: str,
        survivor_id: MemberId | None = None,
        *,
        then: Callable[[UnitOfWork, Merged], Awaitable[object]] | None = None,
    ) -> Merged:
        """Merge the two of a pair that waits; without `survivor_id` the stronger record stays.

        `then` runs last in the unit of work of the merge, for what must be stored with it.

        Raises:
            MergeError: restricted, of two laws, not waiting, or the survivor is none of the two.
            MemberNotFoundError: one of them is erased or was merged.
            MemberChangedError: the records kept changing; nothing was done.
        """
        for _ in range(_ATTEMPTS):
            look = await self._look(caller, duplicate_id, survivor_id)
            opened = open_fields(
                self._pack,
                self._vault,
                self._audit.ticket(look.event, look.merged.row.id),
                look.merged.keys,
                look.merged.row,
                look.taken,
            )
            try:
                return await self._write(caller, duplicate_id, look, opened, then)
            except _MovedError:
                continue
        raise MemberChangedError(reason="member_busy")

    # --- looking ----------------------------------------------------------------------

    async def _look(self, caller: Caller, duplicate_id: str, survivor_id: MemberId | None) -> _Look:
        """Read both, choose, and put on record which fields are about to be opened."""
        async with self._database.unit_of_work() as work:
            pair = await repository.read_pair(work, duplicate_id)
            if pair is None or pair.brand != caller.brand:
                raise MergeUnknownError(reason="duplicate_unknown")
            if pair.state is not PairState.OPEN:
                raise MergeError("this pair was decided", reason="decided")
            if survivor_id not in {None, pair.first_id, pair.second_id}:
                raise MergeError("the survivor is none of the two", reason="survivor")
            first, second = [
                await self._side(work, one) for one in sorted((pair.first_id, pair.second_id))
            ]
            if first.row.jurisdiction != second.row.jurisdiction:
                raise MergeError("the two are held under different laws", reason="jurisdiction")
            if survivor_id is None:
                survivor_id = survivor_of(
                    (first.row, await repository.contact_points_of(work, first.row.id)),
                    (second.row, await repository.contact_points_of(work, second.row.id)),
                ).id
            survivor, merged = (first, second) if first.row.id == survivor_id else (second, first)
            taken = taken_from_merged(survivor.row.provenance, merged.row.provenance)
            event = self._audit.draft(
                caller,
                "member.merge_read",
                subject=merged.keys[PSEUDONYM],
                resource=f"duplicate:{duplicate_id}",
                fields=tuple(sorted(taken)),
                decision="allow",
            )
            await self._audit.record_many(work, [event])
        return _Look(survivor, merged, taken, event)

    async def _side(self, work: UnitOfWork, member_id: MemberId) -> _Side:
        gate = await self._consent.share_gate(work, member_id)
        row = await repository.read_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if row is None or gate.state.is_closed or PSEUDONYM not in keys or ORDINARY not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        if gate.state is GateState.RESTRICTED:
            raise MergeError("a member is restricted to storage", reason="restricted")
        return _Side(
            row,
            gate,
            keys,
            await repository.stored_points(work, member_id),
            await self._consent.states(work, member_id),
        )

    # --- writing ----------------------------------------------------------------------

    async def _write(
        self,
        caller: Caller,
        duplicate_id: str,
        look: _Look,
        opened: Mapping[str, str],
        then: Callable[[UnitOfWork, Merged], Awaitable[object]] | None,
    ) -> Merged:
        """Write the merge; `_MovedError`, and nothing written, when something moved meanwhile."""
        now_us = self._clock.now_us()
        merge_id = new_id("mrg", now_us)
        into, gone = look.survivor, look.merged
        async with self._database.unit_of_work() as work:
            gates = await self._consent.hold_gates(work, [into.row.id, gone.row.id])
            pair = await repository.hold_pair(work, duplicate_id)
            if pair is None or pair.state is not PairState.OPEN:
                raise MergeError("this pair was decided", reason="decided")
            if any(gates[side.row.id].version != side.gate.version + 1 for side in (into, gone)):
                raise _MovedError
            cells, keys = await self._resealed(work, into, opened)
            provenance = {**into.row.provenance} | {
                field: gone.row.provenance[field] for field in look.taken
            }
            written = await repository.write_member(
                work, into.row, cells, provenance, now_us=now_us
            )
            if written is None:
                raise _MovedError
            await self._move_identifiers(work, look, keys[ORDINARY], opened)
            ids = await repository.pairwise_ids_of(work, gone.row.id)
            for pairwise, made_for in ids:
                await repository.name_another(work, pairwise, into.row.id, made_for or gone.row.id)
            events = await self.narrow(
                work, caller, into.row.id, keys[PSEUDONYM], narrowed(into.states, gone.states)
            )
            # An objection holds for the addresses that came with the merge as well.
            objected = await self._consent.objections(work, into.row.id)
            await self._consent.suppressions.add(work, into.row.id, objected)
            tier = age_tier_of_both(AgeTier(into.gate.age_tier), AgeTier(gone.gate.age_tier))
            await self._consent.set_age_tier(work, into.row.id, tier)
            for room in self._participants:
                await room.merge(
                    work,
                    caller,
                    into=into.row.id,
                    merged=gone.row.id,
                    merge_id=merge_id,
                    now_us=now_us,
                )
            await self._consent.merge_gate(work, gone.row.id)
            undo_until_us = now_us + self._undo_us
            await repository.add_merge(
                work,
                Merge(
                    merge_id,
                    into.row.brand,
                    into.row.id,
                    gone.row.id,
                    MergeState.MERGED,
                    self._sealed(
                        merge_id, SURVIVOR, keys[ORDINARY], _survivor_state(into, cells, events)
                    ),
                    self._sealed(merge_id, MERGED, gone.keys[ORDINARY], _merged_state(gone, ids)),
                    now_us,
                    undo_until_us,
                ),
            )
            await repository.decide_pair(
                work, duplicate_id, PairState.MERGED, merge_id, caller.id, now_us=now_us
            )
            await repository.forget_open_pairs(work, gone.row.id)
            await repository.forget_findings(work, gone.row.id)
            audit_id = await self._audit.record(
                work,
                caller,
                "member.merge",
                subject=keys[PSEUDONYM],
                resource=f"merge:{merge_id}",
                fields=tuple(sorted(look.taken)),
                after=row_digest(keys[PSEUDONYM], written),
            )
            await self._audit.record(
                work,
                caller,
                "member.merge_into",
                subject=gone.keys[PSEUDONYM],
                resource=f"merge:{merge_id}",
            )
            for member_id in (into.row.id, gone.row.id):
                await put_message(work, "member.merged", {"member_id": member_id}, now_us=now_us)
            made = Merged(merge_id, into.row.id, gone.row.id, undo_until_us, audit_id)
            if then is not None:
                await then(work, made)
        return made

    async def _resealed(
        self, work: UnitOfWork, into: _Side, opened: Mapping[str, str]
    ) -> tuple[dict[str, bytes], dict[str, OwnerKey]]:
        """Seal what is taken over under the survivor's own keys; gives all cells and the keys."""
        keys = dict(into.keys)
        kinds = {key_kind(self._pack, field) for field in opened}
        keys |= await self._vault.make_keys(work, into.row.id, sorted(kinds - keys.keys()))
        cells = dict(into.row.cells)
        for kind in kinds:
            part = {f: v for f, v in opened.items() if key_kind(self._pack, f) == kind}
            cells |= self._vault.seal(keys[kind], MEMBER_TABLE, into.row.id, part)
        return cells, keys

    async def _move_identifiers(
        self, work: UnitOfWork, look: _Look, key: OwnerKey, opened: Mapping[str, str]
    ) -> None:
        """Leave each contact field with one point and its tags, all at the survivor."""
        into, gone = look.survivor.row.id, look.merged.row.id
        for point in look.survivor.points:
            if point.field in look.taken:
                await repository.drop_point(work, point.id)
        for point in look.merged.points:
            if point.field in look.taken:
                await repository.move_point(work, point.id, into)
        await repository.drop_contact_points(work, gone)
        await self._vault.tags.drop_all(work, gone)
        for field in look.taken:
            await self._vault.tags.drop(work, into, field)
        await self._vault.tags.add(work, key, identifiers(self._pack, opened))
        await keep_sign_in(work, self._vault, into)

    async def narrow(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        pseudonym: OwnerKey,
        decisions: Iterable[Narrowing],
    ) -> list[str]:
        """Write decisions on a member; gives the ids of their events."""
        requests = [
            ConsentRequest(d.purpose, d.channel, d.status, d.notice_revision, None, _EVIDENCE)
            for d in decisions
        ]
        admissible = await self._consent.admissible(work, member_id, requests)
        events = await self._consent.record(
            work, caller, member_id, pseudonym, admissible, now_us=self._clock.now_us()
        )
        return [event.id for event in events]

    def _sealed(self, merge_id: str, which: str, key: OwnerKey, state: Mapping[str, Any]) -> bytes:
        text = orjson.dumps(state).decode()
        return self._vault.seal(key, MERGE_TABLE, merge_id, {which: text})[which]


# --- the sealed states ----------------------------------------------------------------


def _survivor_state(
    side: _Side, after: Mapping[str, bytes], events: Sequence[str]
) -> dict[str, Any]:
    return {
        **_identifiers(side),
        "cells": _texts(side.row.cells),
        "after": _texts(after),
        "provenance": {field: asdict(known) for field, known in side.row.provenance.items()},
        "age_tier": side.gate.age_tier,
        "consents": [asdict(state) for state in side.states],
        "written": list(events),
    }


def _merged_state(side: _Side, ids: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    return {**_identifiers(side), "age_tier": side.gate.age_tier, "ids": ids}


def _identifiers(side: _Side) -> dict[str, Any]:
    return {
        "points": [
            {**asdict(point), "sign_in_tag": _text(point.sign_in_tag)} for point in side.points
        ]
    }


def points_in(state: Mapping[str, Any]) -> list[StoredPoint]:
    """Read the contact points of a sealed state."""
    return [
        StoredPoint(**{**point, "sign_in_tag": _bytes(point["sign_in_tag"])})
        for point in state["points"]
    ]


def cells_in(state: Mapping[str, Any], which: str) -> dict[str, bytes]:
    """Read sealed fields of a sealed state: `cells` before the merge, `after` it."""
    return {field: b64decode(text) for field, text in state[which].items()}


def provenance_in(state: Mapping[str, Any]) -> dict[str, Provenance]:
    """Read the provenance of a sealed state."""
    return {field: Provenance(**known) for field, known in state["provenance"].items()}


def _texts(cells: Mapping[str, bytes]) -> dict[str, str]:
    return {field: b64encode(cell).decode() for field, cell in cells.items()}


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
