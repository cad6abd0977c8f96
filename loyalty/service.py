"""Loyalty: the programme's use cases on members, and what other rooms ask of it.

Everything happens inside the unit of work it is handed, with its audit events; nothing here
commits but the daily rounds, a member at a time. What clients are told of an account goes
through the door of disclosure, not from here.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from audit import AuditLog
from consent import ConsentService
from kernel import (
    Caller,
    Clock,
    Database,
    MemberId,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    rfc3339,
)
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.coupons import Coupons, state_at
from loyalty.merging import Merging
from loyalty.model import Account
from loyalty.points import Points, Posted
from loyalty.purchases import BatchReport, Purchases
from loyalty.rows import amount_text
from loyalty.tags import Tags
from members import Forgotten
from policies import PolicyPack
from vault import Vault

_PAGE = 200

Page = Callable[..., Awaitable[list[MemberId]]]
Act = Callable[[UnitOfWork, MemberId, int], Awaitable[int]]


class Loyalty:
    """The programme of one compiled pack."""

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
        self._audit = audit
        self._clock = clock
        self._accounts = Accounts(pack.loyalty, vault, audit)
        self._points = Points(self._accounts)
        self._purchases = Purchases(self._accounts)
        self._merging = Merging(self._accounts)
        self.coupons = Coupons(self._accounts, dict(pack.loyalty.coupons))
        self.tags = Tags(pack, self._accounts, consent)

    async def account(self, session: ReadSession, member_id: MemberId) -> Account | None:
        """Read a member's account; `None` for who never took part."""
        return await repository.read_account(session, member_id)

    # --- points and purchases ---------------------------------------------------------

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
        """Add points to a member's balance (see `Points.earn`)."""
        return await self._points.earn(work, caller, member_id, points, reference, now_us=now_us)

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
        """Take points off a member's balance, or `InsufficientPointsError`."""
        return await self._points.redeem(work, caller, member_id, points, reference, now_us=now_us)

    async def add_purchases(
        self, work: UnitOfWork, caller: Caller, rows: Sequence[Mapping[str, Any]], *, now_us: int
    ) -> BatchReport:
        """Record a batch of purchases, each row accounted for (see `Purchases.add`)."""
        return await self._purchases.add(work, caller, rows, now_us=now_us)

    # --- daily rounds -----------------------------------------------------------------

    async def expire_due(self, caller: Caller) -> int:
        """End all points and coupons whose time is over; gives how many points."""

        async def points(work: UnitOfWork, member_id: MemberId, now_us: int) -> int:
            """End one member's points."""
            return await self._points.expire(work, caller, member_id, now_us=now_us)

        async def coupons(work: UnitOfWork, member_id: MemberId, now_us: int) -> int:
            """End one member's coupons."""
            return await self.coupons.expire(work, caller, member_id, now_us=now_us)

        await self._round(repository.members_with_expired_coupons, coupons)
        return await self._round(repository.members_with_expired_lots, points)

    async def review_due(self, caller: Caller) -> int:
        """Look again at members whose tier or class time has changed; gives how many changed."""

        async def review(work: UnitOfWork, member_id: MemberId, now_us: int) -> int:
            """Reckon one member's tier and class anew."""
            account, state = await self._accounts.hold(work, member_id, now_us=now_us)
            found = await self._accounts.reckon(work, account, state, now_us=now_us)
            await repository.write_accounts(work, [found])
            await self._audit.record(
                work,
                caller,
                "loyalty.review",
                subject=await self._accounts.pseudonym(work, member_id),
            )
            return (found.tier, found.activity_class) != (account.tier, account.activity_class)

        return await self._round(repository.due_for_review, review)

    async def _round(self, page: Page, act: Act) -> int:
        """Do something for every member that a page query finds, each in a unit of work."""
        done = 0
        after = ""
        now_us = self._clock.now_us()
        while True:
            async with self._database.read() as session:
                found = await page(session, now_us=now_us, after=after, most=_PAGE)
            if not found:
                return done
            for member_id in found:
                try:
                    async with self._database.unit_of_work() as work:
                        done += await act(work, member_id, now_us)
                except NotFoundError:  # erased since the page was read
                    continue
            after = found[-1]

    # --- what other rooms ask ---------------------------------------------------------

    async def history(self, session: ReadSession, member_id: MemberId) -> dict[str, Any]:
        """Give all that is held of a member here, for their own copy (GDPR art. 15 and 20)."""
        account = await repository.read_account(session, member_id)
        if account is None:
            return {}
        now_us = self._clock.now_us()
        return {
            "account": {
                "tier": account.tier,
                "points_balance": account.points_balance,
                "activity_class": account.activity_class,
                "branch": account.branch,
                "tags": list(account.tags),
                "last_purchase_at": _moment(account.last_purchase_us),
            },
            "points": [
                {
                    "at": rfc3339(entry.at_us),
                    "kind": entry.kind.value,
                    "points": entry.points,
                    "expires_at": _moment(entry.expires_us),
                    "reference": entry.reference,
                }
                for entry in await repository.entries_of(session, member_id)
            ],
            "purchases": [
                {
                    "at": rfc3339(one.at_us),
                    "amount": amount_text(one.amount_milli),
                    "currency": one.currency,
                    "items": one.items,
                    "branch": one.branch,
                    "points": one.points,
                    "reference": one.reference,
                }
                for one in await repository.purchases_of(session, member_id)
            ],
            "coupons": [
                {
                    "offer": coupon.offer,
                    "state": state_at(coupon, now_us).value,
                    "issued_at": rfc3339(coupon.issued_us),
                    "expires_at": rfc3339(coupon.expires_us),
                    "used_at": _moment(coupon.used_us),
                }
                for coupon in await repository.coupons_of(session, member_id)
            ],
        }

    async def forget(
        self,
        work: UnitOfWork,
        member_id: MemberId,
        now_us: int,  # noqa: ARG002 (one shape for all who take part)
    ) -> list[Forgotten]:
        """Forget a member inside their erasure.

        Account, tags, coupons and open points go. The ledger and the receipts are accounting
        records that need no buyer (a till receipt without a name needs no link to a member):
        what would lead from them to a person, member and client's reference, is cut.
        """
        erased = [Forgotten("loyalty_account", None, "erased")]
        await repository.drop_account(work, member_id)  # first: it is what others lock
        await repository.drop_lots(work, member_id)
        await repository.drop_merges(work, member_id)
        if await repository.drop_coupons(work, member_id):
            erased.append(Forgotten("coupons", None, "erased"))
        if await repository.cut_entries(work, member_id):
            erased.append(Forgotten("points_entries", None, "member_link_cut"))
        if await repository.cut_purchases(work, member_id):
            erased.append(Forgotten("purchases", None, "member_link_cut"))
        return erased

    async def merge(
        self,
        work: UnitOfWork,
        caller: Caller,  # noqa: ARG002 (one shape for all who take part)
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,
    ) -> None:
        """Make all that one member has in the programme another's (see `Merging`)."""
        await self._merging.merge(work, into=into, merged=merged, merge_id=merge_id, now_us=now_us)

    async def undo_merge(
        self,
        work: UnitOfWork,
        caller: Caller,
        *,
        into: MemberId,
        merged: MemberId,
        merge_id: str,
        now_us: int,
    ) -> None:
        """Give back what a merge moved (see `Merging`)."""
        await self._merging.undo(
            work, caller, into=into, merged=merged, merge_id=merge_id, now_us=now_us
        )


def _moment(moment_us: int | None) -> str | None:
    return None if moment_us is None else rfc3339(moment_us)
