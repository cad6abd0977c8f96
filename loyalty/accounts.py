"""Holding an account still, and reckoning what the programme makes of it.

Every change goes the same way: the member's gate is shared, so that an erasure waits or has
come first; then the account row is locked, so that two changes never count from one balance.
"""

from collections.abc import Iterable
from dataclasses import replace

from audit import AuditLog
from consent import GateState
from kernel import MemberId, UnitOfWork
from loyalty import repository
from loyalty.model import Account
from loyalty.rules import activity_of, review_at, tier_of, window_start
from members import MemberNotFoundError
from policies import LoyaltyRules
from vault import PSEUDONYM, OwnerKey, Vault


class Accounts:
    """Accounts under lock, for one compiled programme."""

    def __init__(self, rules: LoyaltyRules, vault: Vault, audit: AuditLog) -> None:
        self.rules = rules
        self.audit = audit
        self._vault = vault

    async def hold(
        self, work: UnitOfWork, member_id: MemberId, *, now_us: int
    ) -> tuple[Account, GateState]:
        """Lock one member's account, opening it at need, or `MemberNotFoundError`."""
        states = await self.share_gates(work, [member_id])
        if member_id not in states:
            raise MemberNotFoundError(reason="member_unknown")
        accounts = await self.hold_many(work, [member_id], now_us=now_us)
        return accounts[member_id], states[member_id]

    async def share_gates(
        self, work: UnitOfWork, member_ids: Iterable[MemberId]
    ) -> dict[MemberId, GateState]:
        """Give the gate states of members who are still there, and hold them still."""
        found = await repository.share_gates(work, member_ids)
        states = {member_id: GateState(state) for member_id, state in found.items()}
        return {one: state for one, state in states.items() if not state.is_closed}

    async def hold_many(
        self, work: UnitOfWork, member_ids: Iterable[MemberId], *, now_us: int
    ) -> dict[MemberId, Account]:
        """Lock the accounts of members whose gates are shared."""
        first = self.rules.tiers[0].key
        return await repository.hold_accounts(work, member_ids, first, now_us=now_us)

    async def reckon(
        self, work: UnitOfWork, account: Account, state: GateState, *, now_us: int
    ) -> Account:
        """Give the account with the tier and class that its entries and purchases lead to.

        A restricted member's data is stored and not used to class the member (PDPA s.34, GDPR
        art. 18): tier and class stay as they were, and are looked at again when that is over.
        """
        if state is not GateState.ACTIVE:
            return replace(account, review_us=now_us, updated_us=now_us)
        since_us = window_start(self.rules, now_us)
        earned, oldest_us = await repository.earned_since(
            work, account.member_id, since_us=since_us
        )
        count, last_us = account.purchases, account.last_purchase_us
        return replace(
            account,
            tier=tier_of(self.rules, earned),
            activity_class=activity_of(self.rules, count, last_us, now_us),
            review_us=review_at(self.rules, count, last_us, oldest_us, now_us),
            updated_us=now_us,
        )

    async def pseudonym(self, work: UnitOfWork, member_id: MemberId) -> OwnerKey | None:
        """Give the key under which the member appears in the trail."""
        return (await self._vault.keys_of(work, member_id)).get(PSEUDONYM)
