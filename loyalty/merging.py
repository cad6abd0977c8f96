"""Merging two members' loyalty, and undoing it.

What the merged member had becomes the other's, row by row, and which rows those were is kept: an
undo gives them back as far as they are still there. What was used up in between is settled by a
transfer on both ledgers, so that each still adds up.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from consent import GateState
from kernel import Caller, MemberId, UnitOfWork, new_id
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.model import Account, CouponState, Entry, EntryKind


class Merging:
    """Moves what two members have in the programme."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def merge(
        self,
        work: UnitOfWork,
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,
    ) -> None:
        """Make all that `merged` has in the programme `into`'s."""
        accounts = await self._accounts.hold_many(work, [into, merged], now_us=now_us)
        moved: dict[str, Any] = {
            "entries": [one.id for one in await repository.entries_of(work, merged)],
            "lots": [one.entry_id for one in await repository.lots_of(work, merged)],
            "purchases": [one.id for one in await repository.purchases_of(work, merged)],
            "coupons": [one.id for one in await repository.coupons_of(work, merged)],
            "tags": list(accounts[merged].tags),
            "had_tags": list(accounts[into].tags),
            "branch": [accounts[into].branch, accounts[merged].branch],
        }
        await repository.add_merge(work, merge_id, into, merged, moved, now_us=now_us)
        await self._move(work, moved, merged, into)
        tags = tuple(sorted({*accounts[into].tags, *accounts[merged].tags}))
        branch = _of_the_later(accounts[into], accounts[merged])
        await self._settle(work, replace(accounts[into], tags=tags, branch=branch), now_us)
        await repository.drop_account(work, merged)

    async def undo(
        self,
        work: UnitOfWork,
        caller: Caller,
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,
    ) -> None:
        """Give back what a merge moved; does nothing where it moved nothing or was undone."""
        moved = await repository.take_merge(work, merge_id)
        if moved is None:
            return
        accounts = await self._accounts.hold_many(work, [into, merged], now_us=now_us)
        await self._move(work, moved, into, merged)
        gained = set(moved["tags"]) - set(moved["had_tags"])
        theirs = tuple(tag for tag in accounts[into].tags if tag not in gained)
        own_branch, merged_branch = moved["branch"]
        for account in (
            replace(accounts[into], tags=theirs, branch=own_branch),
            replace(accounts[merged], tags=tuple(moved["tags"]), branch=merged_branch),
        ):
            await self._balance_ledger(work, caller, account.member_id, now_us)
            await self._settle(work, account, now_us)

    @staticmethod
    async def _move(
        work: UnitOfWork, moved: Mapping[str, Any], old: MemberId, new: MemberId
    ) -> None:
        await repository.move_entries(work, moved["entries"], old, new)
        await repository.move_lots(work, moved["lots"], old, new)
        await repository.move_purchases(work, moved["purchases"], old, new)
        await repository.move_coupons(work, moved["coupons"], old, new)

    async def _balance_ledger(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, now_us: int
    ) -> None:
        """Enter what the other member has used of this one's points, or this of the other's."""
        held = sum(lot.remaining for lot in await repository.lots_of(work, member_id))
        entered = sum(entry.points for entry in await repository.entries_of(work, member_id))
        if held == entered:
            return
        difference = Entry(
            new_id("pts", now_us),
            member_id,
            EntryKind.TRANSFER,
            held - entered,
            now_us,
            None,
            caller.id,
            None,
        )
        await repository.add_entries(work, [difference])

    async def _settle(self, work: UnitOfWork, account: Account, now_us: int) -> None:
        """Count an account anew from the rows that are now its own."""
        member_id = account.member_id
        lots = await repository.lots_of(work, member_id)
        purchases = await repository.purchases_of(work, member_id)
        coupons = await repository.coupons_of(work, member_id)
        states = await self._accounts.share_gates(work, [member_id])
        counted = replace(
            account,
            points_balance=sum(lot.remaining for lot in lots),
            purchases=len(purchases),
            last_purchase_us=max((one.at_us for one in purchases), default=None),
            coupons=sum(coupon.state is CouponState.HELD for coupon in coupons),
        )
        state = states.get(member_id, GateState.RESTRICTED)
        await repository.write_accounts(
            work, [await self._accounts.reckon(work, counted, state, now_us=now_us)]
        )


def _of_the_later(one: Account, other: Account) -> str | None:
    """Give the branch of whoever bought last."""
    later, earlier = sorted(
        (one, other), key=lambda account: account.last_purchase_us or -1, reverse=True
    )
    return later.branch or earlier.branch
