"""Looking for pairs of members who may be one person, on opened values, under a job's grant.

Names and birth dates have no tags anybody could look up, so comparing them means opening them:
each member's event is on record before, the values live in this process's memory for as long as
the job runs, and what is stored of them is a score and the names of fields.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from audit import AuditEvent, AuditLog
from consent import ConsentService, GateState
from kernel import Caller, Clock, Database, MemberId, NotFoundError, ReadSession, UnitOfWork, new_id
from members import repository
from members.matching import LINE, MOST_IN_BLOCK, Match, Profile, compare, pairs_in_blocks, profile
from members.opening import open_fields
from members.repository import MemberRow, PairState, Proposal
from policies import PolicyPack
from vault import PSEUDONYM, OwnerKey, Vault

MATCH_WANTED = "duplicates"
"""The kind of job that compares one member with those who share an identifier."""

PURPOSE = "record_accuracy"
"""Why the registry reads here: data must be accurate (GDPR art. 5(1)(d), PDPA s.35)."""

_FIELDS = ("birth_date", "family_name", "given_name", "postcode")
_PAGE = 100
_MOST_SCANNED = 200_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan of a brand did: members opened, pairs over the line, pairs new in the queue."""

    members: int
    pairs: int
    new: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Granted:
    row: MemberRow
    keys: dict[str, OwnerKey]
    tags: dict[str, frozenset[bytes]]
    event: AuditEvent


class Matching:
    """Finds pairs and puts them into the queue."""

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

    async def is_wanted(self, session: ReadSession, member_id: MemberId) -> bool:
        """Say whether a member shares an identifier with anybody; opens nothing."""
        return bool(await self._vault.tags.sharing(session, member_id, most=MOST_IN_BLOCK))

    async def match_one(self, caller: Caller, member_id: MemberId) -> int:
        """Compare a member with those who share an identifier; gives how many pairs are new.

        An identifier that more than fifty carry (a shop's own number) brings nobody together.
        """
        async with self._database.read() as session:
            others = await self._vault.tags.sharing(session, member_id, most=MOST_IN_BLOCK)
        if not others:
            return 0
        everyone = [member_id, *map(MemberId, sorted(others))]
        profiles = {p.member_id: p for p in await self._open(caller, None, everyone)}
        mine = profiles.pop(member_id, None)
        if mine is None:
            return 0
        return await self._propose(
            caller, ((mine, other, compare(mine, other)) for other in profiles.values())
        )

    async def scan(self, caller: Caller, progress: Progress | None = None) -> Scanned:
        """Compare all members of the caller's brand who could be one person; counts what it did.

        Besides those who share an identifier, members with the same birth date or postcode and
        a like name meet. A brand of more than 200 000 members is scanned up to that number.
        """
        profiles: list[Profile] = []
        after = ""
        async with self._database.unit_of_work() as work:
            await self._audit.record(
                work, caller, "duplicates.scan", purpose=PURPOSE, fields=_FIELDS
            )
            total = await repository.count_members(work)
        while len(profiles) < _MOST_SCANNED:
            async with self._database.read() as session:
                page = await repository.member_ids(session, after=after, most=_PAGE)
            if not page:
                break
            after = page[-1]
            profiles += await self._open(caller, caller.brand, page)
            if progress is not None:
                progress(len(profiles), total)
        found = [(one, other, compare(one, other)) for one, other in pairs_in_blocks(profiles)]
        new = await self._propose(caller, found)
        async with self._database.read() as session:
            counts = await repository.pair_counts(session, caller.brand)
        return Scanned(
            len(profiles),
            sum(match.score >= LINE for _, _, match in found),
            new,
            counts.get(PairState.OPEN.value, 0),
        )

    # --- opening ----------------------------------------------------------------------

    async def _open(
        self, caller: Caller, brand: str | None, member_ids: Sequence[MemberId]
    ) -> list[Profile]:
        """Open what is compared of active members of one brand, the first one's without `brand`."""
        granted: list[_Granted] = []
        async with self._database.unit_of_work() as work:
            for member_id in member_ids:
                one = await self._grant(work, caller, member_id)
                if one is None:
                    continue
                brand = brand or one.row.brand
                if one.row.brand == brand:
                    granted.append(one)
            await self._audit.record_many(work, [one.event for one in granted])
        return [
            profile(
                one.row.id,
                open_fields(
                    self._pack,
                    self._vault,
                    self._audit.ticket(one.event, one.row.id),
                    one.keys,
                    one.row,
                    one.event.fields,
                ),
                one.tags,
            )
            for one in granted
        ]

    async def _grant(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId
    ) -> _Granted | None:
        try:
            gate = await self._consent.share_gate(work, member_id)
        except NotFoundError:
            return None
        row = await repository.read_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if gate.state is not GateState.ACTIVE or row is None or PSEUDONYM not in keys:
            return None
        tags: dict[str, set[bytes]] = {}
        for tag in await self._vault.tags.of_owner(work, member_id):
            tags.setdefault(tag.kind, set()).add(tag.tag)
        event = self._audit.draft(
            caller,
            "member.match_read",
            subject=keys[PSEUDONYM],
            purpose=PURPOSE,
            fields=tuple(sorted(field for field in _FIELDS if field in row.cells)),
            decision="allow",
        )
        return _Granted(row, keys, {kind: frozenset(t) for kind, t in tags.items()}, event)

    async def _propose(
        self, caller: Caller, found: Iterable[tuple[Profile, Profile, Match]]
    ) -> int:
        likely = [(a, b, match) for a, b, match in found if match.score >= LINE]
        new = 0
        while likely:
            chunk, likely = likely[:_PAGE], likely[_PAGE:]
            async with self._database.unit_of_work() as work:
                came = Counter([await self._propose_one(work, *pair) for pair in chunk])
                changed = came[Proposal.NEW] + came[Proposal.RESCORED]
                if changed:
                    await self._audit.record(
                        work, caller, "duplicates.propose", purpose=PURPOSE, count=changed
                    )
            new += came[Proposal.NEW]
        return new

    async def _propose_one(
        self, work: UnitOfWork, one: Profile, other: Profile, match: Match
    ) -> Proposal:
        """Put a pair into the queue, unless one of them was closed while it was looked at."""
        ids = sorted((MemberId(one.member_id), MemberId(other.member_id)))
        for member_id in ids:
            gate = await self._consent.share_gate(work, member_id)
            if gate.state is not GateState.ACTIVE:
                return Proposal.KNOWN
        row = await repository.read_member(work, ids[0])
        if row is None:
            return Proposal.KNOWN
        now_us = self._clock.now_us()
        return await repository.propose_pair(
            work,
            new_id("dup", now_us),
            row.brand,
            (ids[0], ids[1]),
            match.score,
            match.reasons,
            now_us=now_us,
        )
