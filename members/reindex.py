"""Blind indexes made anew: after a restore, and online when a key or a normal form is replaced.

Both open the identifiers of every member who is not erased. That is a reading like any other:
one event with the number of members and the names of the fields is durable before the first
cell is opened. No backup holds tags, so a restore makes all of them; online, a re-index writes
both versions, fills the new one page by page, lets look-ups ask it, and drops the old one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from audit import AuditEvent, AuditLog
from consent import ConsentService
from kernel import (
    Caller,
    Database,
    IntegrityError,
    MemberId,
    UnavailableError,
    UnitOfWork,
)
from members import repository
from members.identifiers import hardened_kinds, identifiers, index_kind, keep_sign_in
from members.normalise import newest_form
from members.opening import open_fields
from members.repository import MemberRow
from members.retention import key_kind
from policies import PolicyPack
from vault import INDEXED_KINDS, ORDINARY, Indexes, IndexState, IndexVersion, OwnerKey, Vault

PURPOSE = "security_of_processing"
"""Why identifiers are opened: keys are replaced in time (GDPR art. 32(1), PDPA s.37(1))."""
_PAGE = 200
_PAGE_ONLINE = 50
_ATTEMPTS = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a re-index did: the kinds, their new version, members looked at, tags of old ones."""

    kinds: Sequence[str]
    version: int
    members: int
    resumed: bool


class Reindex:
    """Makes members findable again, or by a new version of the index."""

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

    # --- after a restore --------------------------------------------------------------

    async def run(self, caller: Caller, progress: Progress) -> int:
        """Tag every member who is neither erased nor merged; gives how many can be found again."""
        async with self._database.unit_of_work() as work:
            forms = {kind: newest_form(kind) for kind in INDEXED_KINDS}
            await self._vault.tags.start(work, forms, hardened_kinds(self._pack))
        slots: set[str] = set()
        async for page in self._pages():
            for row in page:
                slots.update(slot for slot in row.cells if index_kind(self._pack, slot))
        event, total = await self._put_on_record(caller, slots)
        found = looked_at = 0
        verified: list[tuple[int, str, list[bytes]]] = []
        async for page in self._pages():
            async with self._database.unit_of_work() as work:
                for row in page:
                    found += await self._tag(work, event, row)
                    verified += await self._verified(work, row.id)
            looked_at += len(page)
            progress(looked_at, total)
        # A number that changed hands signs in whoever verified it last.
        async with self._database.unit_of_work() as work:
            for moment_us, point_id, tags in sorted(verified):
                await repository.mark_verified(work, point_id, tags, now_us=moment_us)
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
        keys = await self._vault.keys_of(work, row.id)
        if gate.state.is_closed or ORDINARY not in keys:
            return False
        opened = self._open(event, row, keys, row.cells)
        held = identifiers(self._pack, opened)
        await self._vault.tags.add(work, keys[ORDINARY], held)
        return bool(held)

    async def _verified(
        self, work: UnitOfWork, member_id: MemberId
    ) -> list[tuple[int, str, list[bytes]]]:
        found: list[tuple[int, str, list[bytes]]] = []
        for point in await repository.contact_points_of(work, member_id):
            tags = await self._vault.tags.of_field(work, member_id, point.field)
            if point.verified_us is not None and tags:
                found.append((point.verified_us, point.id, tags))
        return found

    # --- online -----------------------------------------------------------------------

    async def renew(
        self,
        caller: Caller,
        kinds: Iterable[str],
        progress: Progress | None = None,
        *,
        keep: Callable[[], Awaitable[object]] | None = None,
    ) -> Renewed:
        """Bring the indexes of some kinds to a new version, or end a re-index that was cut short.

        Members are found, signed in and kept from messages before, during and after: every
        change writes both versions until the new one is complete, look-ups go over to it in one
        commit, and its predecessor and the predecessor's key are destroyed behind it. Each step
        is in the database, so whoever dies in one is followed by whoever calls this again. `keep`
        backs the new key up before anything rests under it.

        Raises:
            ConflictError: another process is at it.
        """
        indexes = await self._versions()
        if self._vault.tags.lost(indexes):
            await self._give_up(caller, indexes)
            indexes = await self._versions()
        resumed = bool(indexes.unfinished())
        if not resumed:
            await self._begin(indexes, kinds, keep)
        looked_at = await self._fill(caller, progress)
        await self._end(caller, await self._drop())
        indexes = await self._versions()
        newest = max(one.version for one in indexes.all())
        renewed = [one.kind for one in indexes.all() if one.version == newest]
        return Renewed(renewed, newest, looked_at, resumed)

    async def _versions(self) -> Indexes:
        async with self._database.read() as session:
            return await self._vault.tags.versions(session)

    async def _give_up(self, caller: Caller, indexes: Indexes) -> None:
        """Drop a version whose key was lost with a key ring while it was being filled."""
        filling = [one for one in indexes.unfinished() if one.state is IndexState.FILLING]
        async with self._database.unit_of_work() as work:
            await self._vault.tags.give_up(work, filling)
        await self._end(caller, await self._drop())

    async def _begin(
        self,
        indexes: Indexes,
        kinds: Iterable[str],
        keep: Callable[[], Awaitable[object]] | None,
    ) -> None:
        """Make the key first, then let every change write the version that it is for."""
        tags = self._vault.tags
        forms = {kind: newest_form(kind) for kind in INDEXED_KINDS}
        planned = indexes.next(kinds, forms, hardened_kinds(self._pack))
        await asyncio.to_thread(tags.make_secret, planned[0])
        if keep is not None:
            await keep()
        async with self._database.unit_of_work() as work:
            await tags.begin(work, planned)

    async def _fill(self, caller: Caller, progress: Progress | None) -> int:
        """Tag everybody in the versions being filled, then let look-ups ask those."""
        # Whoever began to write before there was anything to fill must have ended.
        await self._database.drain()
        unfinished = (await self._versions()).unfinished()
        filling = {one.kind: one for one in unfinished if one.state is IndexState.FILLING}
        if not filling:
            return 0
        async with self._database.snapshot() as snapshot:
            held = await self._vault.tags.fields(snapshot)
        slots = {field for kind in filling for field in held.get(kind, ())}
        event, total = await self._put_on_record(caller, slots, PURPOSE)
        while True:
            one = next(iter(filling.values()))
            async with self._database.read() as session:
                page = await repository.member_ids(session, after=one.cursor, most=_PAGE_ONLINE)
            if not page:
                break
            await self._fill_page(caller, event, page, filling)
            filling = {
                kind: replace(one, cursor=page[-1], done=one.done + len(page))
                for kind, one in filling.items()
            }
            if progress is not None:
                progress(one.done + len(page), total)
        await self._switch(filling.values())
        return one.done

    async def _switch(self, filled: Iterable[IndexVersion]) -> None:
        async with self._database.unit_of_work() as work:
            await self._vault.tags.switch(work, filled)

    async def _fill_page(
        self,
        caller: Caller,
        event: AuditEvent,
        page: Sequence[MemberId],
        filling: Mapping[str, IndexVersion],
    ) -> None:
        """Tag a page of members and move the cursor on, in one transaction."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._database.unit_of_work() as work:
                    for member_id in page:
                        await self._fill_one(work, event, member_id, filling)
                    # Points that sign members in move to the new tags with them.
                    await self._audit.record(
                        work, caller, "index.fill", purpose=PURPOSE, count=len(page)
                    )
                    await self._vault.tags.advance(work, filling.values(), page[-1], len(page))
            except (IntegrityError, UnavailableError):
                # Somebody verified one of these numbers at this very moment.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    async def _fill_one(
        self,
        work: UnitOfWork,
        event: AuditEvent,
        member_id: MemberId,
        filling: Mapping[str, IndexVersion],
    ) -> None:
        """Tag one member, with the gate held still: no change and no erasure comes between."""
        gate = await self._consent.share_gate(work, member_id)
        row = await repository.read_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if gate.state.is_closed or row is None or ORDINARY not in keys:
            return
        present = await self._vault.tags.of_owner(work, member_id)
        version = next(iter(filling.values())).version
        written = {one.field for one in present if one.index_version == version}
        slots = [
            slot
            for slot in row.cells
            if index_kind(self._pack, slot) in filling and slot not in written
        ]
        opened = self._open(event, row, keys, slots)
        held = identifiers(self._pack, opened)
        await self._vault.tags.fill(work, keys[ORDINARY], held, filling)
        await keep_sign_in(work, self._vault, member_id)

    async def _drop(self) -> list[IndexVersion]:
        """Delete the tags that nobody asks any more; gives the versions they were of."""
        # Whoever began to write when the old version was still written must have ended.
        await self._database.drain()
        unfinished = (await self._versions()).unfinished()
        old = [one for one in unfinished if one.state is IndexState.OLD]
        for one in old:
            after: bytes | None = b""
            while after is not None:
                async with self._database.unit_of_work() as work:
                    after = await self._vault.tags.drop_some(work, one, after)
        return old

    async def _end(self, caller: Caller, old: Sequence[IndexVersion]) -> None:
        """Forget the versions that have no tags left, and destroy their keys."""
        if old:
            async with self._database.unit_of_work() as work:
                await self._vault.tags.end(work, old)
                await self._audit.record(
                    work,
                    caller,
                    "index.drop",
                    purpose=PURPOSE,
                    fields=tuple(one.kind for one in old),
                    count=len(old),
                    reason="reindexed",
                )
        await asyncio.to_thread(self._vault.tags.forget_secrets, await self._versions())

    # --- both -------------------------------------------------------------------------

    async def _put_on_record(
        self, caller: Caller, slots: Iterable[str], purpose: str | None = None
    ) -> tuple[AuditEvent, int]:
        """Record that the identifiers of everybody are about to be opened; gives how many."""
        async with self._database.unit_of_work() as work:
            total = await repository.count_members(work)
            event = self._audit.draft(
                caller,
                "member.reindex",
                purpose=purpose,
                fields=tuple(sorted(slots)),
                decision="allow",
                legal_basis="legal_obligation",
                count=total,
            )
            await self._audit.record_many(work, [event])
        return event, total

    def _open(
        self,
        event: AuditEvent,
        row: MemberRow,
        keys: Mapping[str, OwnerKey],
        slots: Iterable[str],
    ) -> dict[str, str]:
        """Open those of some slots that hold an identifier, and whose key there still is."""
        held = [
            slot
            for slot in slots
            if index_kind(self._pack, slot) and key_kind(self._pack, slot) in keys
        ]
        ticket = self._audit.ticket(event, row.id)
        return open_fields(self._pack, self._vault, ticket, keys, row, held)
