"""Tags: declared words that group members, each set for a purpose that the member allows.

A tag of a purpose without a lawful basis is not set, and one that has lost its basis goes: an
inference about somebody is data about them (law of sensitive inferences: CJEU C-184/20).
"""

from collections.abc import Sequence
from dataclasses import replace

from consent import Basis, ConsentService, Decided, GateState, decide_basis
from kernel import Caller, MemberId, NotAllowedError, ReadSession, UnitOfWork
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.errors import TagNotFoundError
from loyalty.model import RowResult, TagOutcome
from members import jurisdiction_of
from policies import AgeTier, PolicyPack, Tag

MOST_MEMBERS = 1_000


class Tags:
    """The tags of members."""

    def __init__(self, pack: PolicyPack, accounts: Accounts, consent: ConsentService) -> None:
        self._pack = pack
        self._accounts = accounts
        self._consent = consent

    def tag(self, caller: Caller, key: str) -> Tag:
        """Give a declared tag that a caller may handle.

        Raises:
            TagNotFoundError: the pack declares no such tag.
            NotAllowedError: the caller lacks the scope of the tag's purpose.
        """
        tag = self._pack.loyalty.tags.get(key)
        if tag is None:
            raise TagNotFoundError(reason="tag_unknown")
        if f"purpose:{tag.purpose}" not in caller.scopes:
            raise NotAllowedError(reason="scope_missing")
        return tag

    async def refused(self, work: UnitOfWork, caller: Caller, key: str) -> str:
        """Put on record that a caller may not handle a tag; gives the audit id."""
        tag = self._pack.loyalty.tags[key]
        return await self._accounts.audit.record(
            work,
            caller,
            "tag.set",
            purpose=tag.purpose,
            resource=f"tag:{key}",
            decision="deny",
            reason="scope_missing",
        )

    async def set(
        self, work: UnitOfWork, caller: Caller, tag: Tag, pairwise: Sequence[str], *, now_us: int
    ) -> tuple[list[RowResult], str | None]:
        """Set a tag on members; gives what became of each, and the audit id if anything did."""
        known, states = await self._held(work, caller, pairwise)
        accounts = await self._accounts.hold_many(work, states, now_us=now_us)
        results: list[RowResult] = []
        for at, name in enumerate(pairwise):
            member_id = known.get(name)
            if member_id is None or member_id not in states:
                results.append(RowResult(at, TagOutcome.REJECTED, "member.unknown"))
            elif states[member_id] is GateState.RESTRICTED:
                results.append(RowResult(at, TagOutcome.REJECTED, "member.restricted"))
            elif tag.key in accounts[member_id].tags:
                results.append(RowResult(at, TagOutcome.UNCHANGED))
            elif not await self._is_allowed(work, tag, member_id, now_us):
                results.append(RowResult(at, TagOutcome.REJECTED, "no_lawful_basis"))
            else:
                account = accounts[member_id]
                accounts[member_id] = replace(
                    account, tags=(*account.tags, tag.key), updated_us=now_us
                )
                results.append(RowResult(at, TagOutcome.SET))
        changed = [known[pairwise[r.row]] for r in results if r.outcome == TagOutcome.SET]
        await repository.write_accounts(work, [accounts[one] for one in changed])
        return results, await self._record(work, caller, "tag.set", tag, len(changed))

    async def clear(
        self, work: UnitOfWork, caller: Caller, tag: Tag, pairwise: Sequence[str], *, now_us: int
    ) -> tuple[list[RowResult], str | None]:
        """Take a tag off members; gives what became of each, and the audit id if anything did."""
        known, states = await self._held(work, caller, pairwise)
        accounts = await self._accounts.hold_many(work, states, now_us=now_us)
        results: list[RowResult] = []
        for at, name in enumerate(pairwise):
            member_id = known.get(name)
            if member_id is None or member_id not in states:
                results.append(RowResult(at, TagOutcome.REJECTED, "member.unknown"))
            elif tag.key not in accounts[member_id].tags:
                results.append(RowResult(at, TagOutcome.UNCHANGED))
            else:
                account = accounts[member_id]
                left = tuple(one for one in account.tags if one != tag.key)
                accounts[member_id] = replace(account, tags=left, updated_us=now_us)
                results.append(RowResult(at, TagOutcome.CLEARED))
        changed = [known[pairwise[r.row]] for r in results if r.outcome == TagOutcome.CLEARED]
        await repository.write_accounts(work, [accounts[one] for one in changed])
        return results, await self._record(work, caller, "tag.clear", tag, len(changed))

    async def drop_baseless(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> int:
        """Take the tags off a member whose purpose has lost its lawful basis; gives how many."""
        if await repository.read_account(work, member_id) is None:
            return 0
        account, _ = await self._accounts.hold(work, member_id, now_us=now_us)
        kept: list[str] = []
        for key in account.tags:
            tag = self._pack.loyalty.tags.get(key)
            if tag is not None and await self._is_allowed(work, tag, member_id, now_us):
                kept.append(key)
        dropped = [key for key in account.tags if key not in kept]
        if not dropped:
            return 0
        await repository.write_accounts(
            work, [replace(account, tags=tuple(kept), updated_us=now_us)]
        )
        subject = await self._accounts.pseudonym(work, member_id)
        for key in dropped:
            await self._accounts.audit.record(
                work,
                caller,
                "tag.clear",
                subject=subject,
                resource=f"tag:{key}",
                reason="no_lawful_basis",
                count=1,
            )
        return len(dropped)

    async def _held(
        self, work: UnitOfWork, caller: Caller, pairwise: Sequence[str]
    ) -> tuple[dict[str, MemberId], dict[MemberId, GateState]]:
        names = list(dict.fromkeys(pairwise))
        known = await repository.known_members(work, names, caller.id, caller.brand)
        return known, await self._accounts.share_gates(work, known.values())

    async def _is_allowed(
        self, session: ReadSession, tag: Tag, member_id: MemberId, now_us: int
    ) -> bool:
        """Say whether the tag's purpose has a lawful basis for the member."""
        purpose = self._pack.purposes[tag.purpose]
        gate = await self._consent.gate(session, member_id)
        states = await self._consent.states(session, member_id)
        latest = next((s for s in states if s.purpose == purpose.key), None)
        basis = decide_basis(
            self._pack,
            purpose,
            await jurisdiction_of(session, member_id) or "",
            AgeTier(gate.age_tier),
            None
            if latest is None
            else Decided(
                latest.status, latest.event_id, latest.notice_revision, latest.guardian_id
            ),
            now_us,
        )
        return isinstance(basis, Basis)

    async def _record(
        self, work: UnitOfWork, caller: Caller, action: str, tag: Tag, count: int
    ) -> str | None:
        if not count:
            return None
        return await self._accounts.audit.record(
            work, caller, action, purpose=tag.purpose, resource=f"tag:{tag.key}", count=count
        )
