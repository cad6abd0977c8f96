"""Free texts about members, searched for personal data that nobody meant to keep there.

A scan opens the text, so it is decided and put on record first like any reading. What it leaves
is kind, place and certainty of each finding; the words themselves stay in their sealed cell.
"""

import asyncio
from collections.abc import Sequence
from functools import cached_property

from audit import AuditLog
from consent import ConsentService, GateState
from kernel import Caller, Clock, Database, MemberId, NotAllowedError, ReadSession, UnitOfWork
from members import repository
from members.opening import open_fields
from members.recognisers import Recogniser
from members.repository import Finding, MemberRow
from policies import AccessSnapshot, FieldKey, FieldKind, PolicyPack, Storage
from vault import PSEUDONYM, Vault

NOTES_WANTED = "note_scan"
"""The kind of job that scans the free texts of one member."""

PURPOSE = "data_minimisation"
"""Why the registry reads here: what is not needed is not kept (GDPR art. 5(1)(c), PDPA s.22)."""


class Notes:
    """Scans free texts; loads Presidio at the first one."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        clock: Clock,
    ) -> None:
        self._database = database
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._clock = clock

    async def is_wanted(self, work: UnitOfWork, member_id: MemberId) -> bool:
        """Say whether a member has free text; forgets findings about text that is gone."""
        row = await repository.read_member(work, member_id)
        if row is not None and self._texts(row):
            return True
        await repository.forget_findings(work, member_id)
        return False

    async def scan(self, caller: Caller, member_id: MemberId) -> int:
        """Scan the free texts of an active member; gives how much was found.

        A member who changes meanwhile is left for the scan that the change asked for.
        """
        async with self._database.unit_of_work() as work:
            gate = await self._consent.share_gate(work, member_id)
            row = await repository.read_member(work, member_id)
            keys = await self._vault.keys_of(work, member_id)
            if gate.state is not GateState.ACTIVE or row is None or PSEUDONYM not in keys:
                return 0
            texts = self._texts(row)
            if not texts:
                return 0
            event = self._audit.draft(
                caller,
                "member.note_scan",
                subject=keys[PSEUDONYM],
                purpose=PURPOSE,
                fields=texts,
                decision="allow",
            )
            await self._audit.record_many(work, [event])
        opened = open_fields(
            self._pack, self._vault, self._audit.ticket(event, member_id), keys, row, texts
        )
        found = await asyncio.to_thread(self._find, opened)
        async with self._database.unit_of_work() as work:
            gate = await self._consent.share_gate(work, member_id)
            now = await repository.read_member(work, member_id)
            if gate.state.is_closed or now is None or now.version != row.version:
                return 0
            if await repository.replace_findings(
                work, member_id, found, now_us=self._clock.now_us()
            ):
                await self._audit.record(
                    work,
                    caller,
                    "member.note_findings",
                    subject=keys[PSEUDONYM],
                    purpose=PURPOSE,
                    count=len(found),
                )
        return len(found)

    def _texts(self, row: MemberRow) -> tuple[str, ...]:
        return tuple(
            sorted(
                field
                for field in row.cells
                if (entry := self._pack.fields.get(FieldKey(field))) is not None
                and entry.kind is FieldKind.TEXT
                and entry.storage is Storage.SEALED
            )
        )

    def _find(self, opened: dict[str, str]) -> list[Finding]:
        return [one for field, text in opened.items() for one in self._recogniser.find(field, text)]

    @cached_property
    def _recogniser(self) -> Recogniser:
        return Recogniser(self._pack.special_words)


class Findings:
    """What scans have found, for those who answer for the data."""

    def __init__(self, access: AccessSnapshot) -> None:
        self._access = access

    async def counts(self, session: ReadSession, caller: Caller) -> list[tuple[str, int, int]]:
        """Give (kind, findings, members) of the caller's brand, by kind."""
        self._require(caller)
        return await repository.finding_counts(session, caller.brand)

    async def members_with(
        self, session: ReadSession, caller: Caller, kind: str, *, after: str = "", most: int = 50
    ) -> Sequence[MemberId]:
        """Give members of the caller's brand with a kind of finding, after `after`."""
        self._require(caller)
        return await repository.members_with_kind(
            session, caller.brand, kind, after=after, most=most
        )

    async def of_member(
        self, session: ReadSession, caller: Caller, member_id: MemberId
    ) -> list[Finding]:
        """Give what was found about one member of the caller's brand, without a word of it."""
        self._require(caller)
        row = await repository.read_member(session, member_id)
        if row is None or row.brand != caller.brand:
            return []
        return await repository.findings_of(session, member_id)

    def _require(self, caller: Caller) -> None:
        if not self._access.allows(caller.role, caller.brand, "governance", "read"):
            raise NotAllowedError(reason="role")
