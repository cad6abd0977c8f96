"""Points: earned, redeemed and expired, on a ledger that only grows.

A lot is what is left of one earning. Points are used up in the order in which they would end;
the balance is the sum of the lots and of the ledger, and never below zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernel import Caller, IntegrityError, MemberId, UnitOfWork, new_id
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.errors import InsufficientPointsError, ReferenceReusedError
from loyalty.model import Account, Entry, EntryKind, Lot
from loyalty.rules import DAY_US


@dataclass(frozen=True, slots=True)
class Posted:
    """An entry of the ledger; a repeat names the entry of before and has no event of its own."""

    entry_id: str
    kind: EntryKind
    points: int
    repeated: bool
    audit_id: str | None


class Points:
    """The points of members."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def earn(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        points: int,
        reference: str,
        *,
        now_us: int,
    ) -> Posted:
        """Add points; they live for the programme's days from now."""
        account, state = await self._accounts.hold(work, member_id, now_us=now_us)
        earlier = await self._earlier(work, caller, member_id, EntryKind.EARN, points, reference)
        if earlier is not None:
            return earlier
        expires_us = now_us + self._accounts.rules.lifetime_days * DAY_US
        entry = self._entry(caller, member_id, EntryKind.EARN, points, reference, now_us)
        await self._append(work, replace(entry, expires_us=expires_us))
        account = replace(account, points_balance=account.points_balance + points)
        account = await self._accounts.reckon(work, account, state, now_us=now_us)
        await repository.write_accounts(work, [account])
        return await self._posted(work, caller, entry)

    async def redeem(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        points: int,
        reference: str,
        *,
        now_us: int,
    ) -> Posted:
        """Take points, the ones that would end first before others.

        Members may redeem while their data is restricted: it is their own act, and a right that
        cost its holder the points would be none.

        Raises:
            InsufficientPointsError: there are fewer; nothing was taken.
        """
        account, _ = await self._accounts.hold(work, member_id, now_us=now_us)
        earlier = await self._earlier(work, caller, member_id, EntryKind.REDEEM, points, reference)
        if earlier is not None:
            return earlier
        account = await self._expire_held(work, caller, account, now_us=now_us)
        if account.points_balance < points:
            raise InsufficientPointsError(reason="insufficient_points")
        entry = self._entry(caller, member_id, EntryKind.REDEEM, -points, reference, now_us)
        await self._append(work, entry)
        for lot in use_up(await repository.lots_of(work, member_id), points):
            await repository.write_lot(work, lot)
        balance = account.points_balance - points
        await repository.write_accounts(
            work, [replace(account, points_balance=balance, updated_us=now_us)]
        )
        return await self._posted(work, caller, entry)

    async def expire(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> int:
        """End the points of a member whose time is over; gives how many."""
        held, _ = await self._accounts.hold(work, member_id, now_us=now_us)
        account = await self._expire_held(work, caller, held, now_us=now_us)
        await repository.write_accounts(work, [account])
        return held.points_balance - account.points_balance

    async def _expire_held(
        self, work: UnitOfWork, caller: Caller, account: Account, *, now_us: int
    ) -> Account:
        over = [
            lot
            for lot in await repository.lots_of(work, account.member_id)
            if lot.expires_us <= now_us
        ]
        points = sum(lot.remaining for lot in over)
        if not points:
            return account
        entry = self._entry(caller, account.member_id, EntryKind.EXPIRE, -points, None, now_us)
        await self._append(work, entry)
        for lot in over:
            await repository.write_lot(work, replace(lot, remaining=0))
        await self._posted(work, caller, entry)
        balance = account.points_balance - points
        return replace(account, points_balance=balance, updated_us=now_us)

    async def _earlier(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        kind: EntryKind,
        points: int,
        reference: str,
    ) -> Posted | None:
        found = await repository.entry_by_reference(work, caller.id, reference)
        if found is None:
            return None
        if (found.member_id, found.kind, abs(found.points)) != (member_id, kind, points):
            raise ReferenceReusedError(reason="reference_reused")
        return Posted(found.id, kind, points, repeated=True, audit_id=None)

    @staticmethod
    def _entry(
        caller: Caller,
        member_id: MemberId,
        kind: EntryKind,
        points: int,
        reference: str | None,
        now_us: int,
    ) -> Entry:
        return Entry(
            new_id("pts", now_us), member_id, kind, points, now_us, None, caller.id, reference
        )

    @staticmethod
    async def _append(work: UnitOfWork, entry: Entry) -> None:
        try:
            await repository.add_entries(work, [entry])
        except IntegrityError as error:  # another member's entry took the reference meanwhile
            raise ReferenceReusedError(reason="reference_reused") from error

    async def _posted(self, work: UnitOfWork, caller: Caller, entry: Entry) -> Posted:
        points = abs(entry.points)
        audit_id = await self._accounts.audit.record(
            work,
            caller,
            f"loyalty.{entry.kind.value}",
            subject=await self._accounts.pseudonym(work, MemberId(entry.member_id or "")),
            resource=f"points:{entry.id}",
            count=points,
        )
        return Posted(entry.id, entry.kind, points, repeated=False, audit_id=audit_id)


def use_up(lots: Sequence[Lot], points: int) -> list[Lot]:
    """Take points out of lots in their order; gives the lots that change, as they are after.

    The caller has seen to it that there are enough.
    """
    changed: list[Lot] = []
    for lot in lots:
        if not points:
            break
        taken = min(points, lot.remaining)
        points -= taken
        changed.append(replace(lot, remaining=lot.remaining - taken))
    if points:
        raise ValueError("the lots hold fewer points than the balance says")
    return changed
