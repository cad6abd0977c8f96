"""Holding member rows against the trail: was a cell put back, swapped, taken out or added?

Sealing keeps whoever can write to the database from forging a value or moving it to another
place, and not from putting back an older one of the same place. The trail knows better: the
newest event of a member with a digest of the row (`row_digest`) says how the row must look.
Nothing is opened but pseudonym keys, so this needs no ticket and tells no personal value.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from audit import AuditLog, RightsLedger
from kernel import Caller, Clock, Database, MemberId, Snapshot, UnitOfWork, id_moment_us
from members import repository
from members.repository import MemberRow
from members.row_digest import digest_of, recorded_digest, row_digest
from vault import OwnerKey, Vault

WRITING_ACTIONS = (
    "member.register",
    "member.import",
    "member.update",
    "member.merge",
    "member.merge_undo",
    "member.merge_settle",
    "member.erase",
    "member.restore",
    "contact_point.add",
    "contact_point.verify",
    "contact_point.remove",
)
"""The actions whose events carry a digest of the row that they wrote."""
_PAGE = 500
_FIRST, _LAST = "mem_", "mem_" + "z" * 26  # around every id, in every collation
_MOST_NAMED = 1000
Progress = Callable[[int, int], None]


class Deviation(StrEnum):
    """How a row differs from what the trail says of it."""

    OLDER = "older_version"
    CHANGED = "changed"
    NEWER = "not_on_record"
    KEY_GONE = "key_gone"
    KEY_FOREIGN = "key_does_not_open"
    ROW_GONE = "row_gone"


@dataclass(frozen=True, slots=True)
class Deviating:
    """A member whose row is not what the trail says, and the event that says it."""

    member_id: MemberId
    deviation: Deviation
    event_id: str | None
    version: int | None
    recorded_version: int | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification of all rows found; names the first thousand who deviate."""

    members: int
    erased: int
    deviating: int
    named: tuple[Deviating, ...]


@dataclass(frozen=True, slots=True)
class _Recorded:
    version: int
    digest: str
    event_id: str


@dataclass(frozen=True, slots=True)
class _Page:
    """Members in order of id at one moment, their pseudonym keys, and who deviates."""

    rows: list[MemberRow]
    keys: Mapping[str, OwnerKey | None]
    found: list[Deviating]
    until: str


class Rows:
    """Verifies the rows of all members against the trail."""

    def __init__(
        self, database: Database, vault: Vault, audit: AuditLog, rights: RightsLedger, clock: Clock
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._rights = rights
        self._clock = clock

    async def verify(self, caller: Caller, progress: Progress, *, after: str = "") -> Verified:
        """Compare every member's row from the one after `after` on; an event tells that it ran."""
        async with self._database.read() as session:
            total = await repository.count_members(session)
            gone = await self._rights.erased(session)
        seen = erased = deviating = 0
        named: list[Deviating] = []
        async for page in self._pages(after, since_us=None):
            seen += len(page.rows)
            keyless = [row.id for row in page.rows if row.id not in page.keys]
            erased += sum(self._rights.tag(one) in gone for one in keyless)
            for one in page.found:
                if one.deviation is Deviation.KEY_GONE and self._rights.tag(one.member_id) in gone:
                    continue
                deviating += 1
                if len(named) < _MOST_NAMED:
                    named.append(one)
            progress(seen, total)
        async with self._database.unit_of_work() as work:
            await self._audit.record(
                work,
                caller,
                "vault.verify",
                outcome="error" if deviating else "ok",
                count=deviating,
            )
        return Verified(seen, erased, deviating, tuple(named))

    async def settle(self, caller: Caller, *, since_us: int) -> int:
        """Put on record that rows are an earlier state on purpose: a restore went back to it.

        The trail after a restore is newer than the rows. Each row of which it knows a newer
        state gets a version that it never had and an event with its digest; gives how many.
        """
        settled = 0
        async for page in self._pages("", since_us=since_us):
            held = {row.id: row for row in page.rows}
            async with self._database.unit_of_work() as work:
                for one in page.found:
                    row, key = held.get(one.member_id), page.keys.get(one.member_id)
                    if row is not None and key is not None:
                        settled += 1
                        await self._settle(work, caller, row, key, one.recorded_version or 0)
        return settled

    async def _settle(
        self, work: UnitOfWork, caller: Caller, row: MemberRow, key: OwnerKey, recorded: int
    ) -> None:
        version = max(row.version, recorded) + 1
        now = await repository.set_version(work, row, version, now_us=self._clock.now_us())
        await self._audit.record(
            work, caller, "member.restore", subject=key, after=row_digest(key, now)
        )

    async def _pages(self, after: str, *, since_us: int | None) -> AsyncIterator[_Page]:
        while True:
            page = await self._page(after, since_us)
            if not all(page.keys.values()):  # a seal may have dropped the root of that moment
                page = await self._page(after, since_us)
            yield page
            if page.until == _LAST:
                return
            after = page.until

    async def _page(self, after: str, since_us: int | None) -> _Page:
        async with self._database.snapshot() as session:
            rows = await repository.member_rows(session, after=after, most=_PAGE)
            until = rows[-1].id if len(rows) == _PAGE else _LAST
            keys = await self._vault.pseudonyms(session, after or _FIRST, until)
            recorded = await self._recorded(session, keys, since_us)
        found = _deviating(rows, keys, recorded, whole=since_us is None)
        return _Page(rows, keys, found, until)

    async def _recorded(
        self, session: Snapshot, keys: Mapping[str, OwnerKey | None], since_us: int | None
    ) -> dict[str, _Recorded]:
        """Give the newest digest on record of each member who has a key that opens."""
        newest: dict[str, _Recorded] = {}
        subjects = {
            owner: (key, id_moment_us(owner) if since_us is None else since_us)
            for owner, key in keys.items()
            if key is not None
        }
        async for owner, event_id, told in self._audit.changes(session, subjects, WRITING_ACTIONS):
            found = recorded_digest(told)
            if found is not None and (owner not in newest or found[0] > newest[owner].version):
                newest[owner] = _Recorded(*found, event_id)
        return newest


def _deviating(
    rows: list[MemberRow],
    keys: Mapping[str, OwnerKey | None],
    recorded: Mapping[str, _Recorded],
    *,
    whole: bool,
) -> list[Deviating]:
    """Compare a page; unless `whole`, a member of whom nothing is on record is well."""
    found: list[Deviating] = []
    for row in rows:
        told = recorded.get(row.id)
        deviation = _deviation(row, keys, told, whole=whole)
        if deviation is not None:
            found.append(
                Deviating(
                    row.id,
                    deviation,
                    None if told is None else told.event_id,
                    row.version,
                    None if told is None else told.version,
                )
            )
    if whole:
        lost = keys.keys() - {row.id for row in rows}
        for owner in sorted(lost):
            told = recorded.get(owner)
            event_id = None if told is None else told.event_id
            version = None if told is None else told.version
            found.append(Deviating(MemberId(owner), Deviation.ROW_GONE, event_id, None, version))
    return found


def _deviation(
    row: MemberRow,
    keys: Mapping[str, OwnerKey | None],
    told: _Recorded | None,
    *,
    whole: bool,
) -> Deviation | None:
    if row.id not in keys:
        return Deviation.KEY_GONE
    key = keys[row.id]
    if key is None:
        return Deviation.KEY_FOREIGN
    if told is None:
        return Deviation.NEWER if whole else None
    if row.version < told.version:
        return Deviation.OLDER
    if row.version > told.version:
        return Deviation.NEWER
    return None if digest_of(key, row) == told.digest else Deviation.CHANGED
