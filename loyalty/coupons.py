"""Coupons: issued, held, used once, or over.

The id is the coupon: 128 random bits that nobody guesses. It stands in no event; the trail says
which offer was issued to whom, or used.
"""

from dataclasses import replace
from typing import Any

from consent import GateState
from kernel import Caller, FieldProblem, MemberId, ReadSession, UnitOfWork, new_random_id, rfc3339
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.errors import (
    CouponNotFoundError,
    CouponStateError,
    MemberRestrictedError,
    UnknownOfferError,
)
from loyalty.model import Account, Coupon, CouponState
from loyalty.rules import DAY_US
from policies import CouponOffer

COUPONS = "coupons"
"""The field of the catalogue that says how many coupons a member holds."""


class Coupons:
    """The coupons of members."""

    def __init__(self, accounts: Accounts, offers: dict[str, CouponOffer]) -> None:
        self._accounts = accounts
        self._offers = offers

    async def of(self, session: ReadSession, member_id: MemberId) -> list[Coupon]:
        """Give a member's coupons, the oldest first."""
        return await repository.coupons_of(session, member_id)

    async def issue(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, offer: str, *, now_us: int
    ) -> tuple[Coupon, str]:
        """Give a member a coupon of an offer of the pack; gives it and the audit id.

        `MemberRestrictedError` while the member's data may only be stored.
        """
        found = self._offers.get(offer)
        if found is None:
            raise UnknownOfferError(
                errors=[FieldProblem("/offer", "unknown_offer")], reason="unknown_offer"
            )
        account, state = await self._accounts.hold(work, member_id, now_us=now_us)
        if state is GateState.RESTRICTED:
            raise MemberRestrictedError(reason="member_restricted")
        coupon = Coupon(
            new_random_id("cou"),
            member_id,
            offer,
            CouponState.HELD,
            now_us,
            now_us + found.lifetime_days * DAY_US,
            None,
        )
        await repository.add_coupon(work, coupon)
        await self._write(work, account, account.coupons + 1, now_us)
        return coupon, await self._record(work, caller, "coupon.issue", coupon)

    async def use(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, coupon_id: str, *, now_us: int
    ) -> tuple[Coupon, str]:
        """Use a coupon, once; gives it and the audit id.

        Raises:
            CouponNotFoundError: the member has no such coupon.
            CouponStateError: it was used before (`coupon_used`), or is over (`coupon_expired`).
        """
        account, _ = await self._accounts.hold(work, member_id, now_us=now_us)
        held = await repository.coupons_of(work, member_id)
        coupon = next((one for one in held if one.id == coupon_id), None)
        if coupon is None:
            raise CouponNotFoundError(reason="coupon_unknown")
        present = state_at(coupon, now_us)
        if present is not CouponState.HELD:
            raise CouponStateError(reason=f"coupon_{present.value}")
        used = replace(coupon, state=CouponState.USED, used_us=now_us)
        await repository.set_coupon_state(work, coupon_id, used.state, now_us)
        await self._write(work, account, account.coupons - 1, now_us)
        return used, await self._record(work, caller, "coupon.use", used)

    async def expire(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> int:
        """Note which coupons of a member are over; gives how many."""
        account, _ = await self._accounts.hold(work, member_id, now_us=now_us)
        over = [
            coupon
            for coupon in await repository.coupons_of(work, member_id)
            if coupon.state is CouponState.HELD and coupon.expires_us <= now_us
        ]
        for coupon in over:
            await repository.set_coupon_state(work, coupon.id, CouponState.EXPIRED)
            await self._record(work, caller, "coupon.expire", coupon)
        await self._write(work, account, account.coupons - len(over), now_us)
        return len(over)

    @staticmethod
    async def _write(work: UnitOfWork, account: Account, coupons: int, now_us: int) -> None:
        await repository.write_accounts(
            work, [replace(account, coupons=coupons, updated_us=now_us)]
        )

    async def _record(self, work: UnitOfWork, caller: Caller, action: str, coupon: Coupon) -> str:
        subject = await self._accounts.pseudonym(work, coupon.member_id)
        return await self._accounts.audit.record(
            work, caller, action, subject=subject, resource=f"offer:{coupon.offer}"
        )


def state_at(coupon: Coupon, now_us: int) -> CouponState:
    """Give where a coupon stands at a moment, whether or not a worker has looked since."""
    over = coupon.state is CouponState.HELD and coupon.expires_us <= now_us
    return CouponState.EXPIRED if over else coupon.state


def coupon_answer(coupon: Coupon, now_us: int) -> dict[str, Any]:
    """Tell of one coupon."""
    used = {} if coupon.used_us is None else {"used_at": rfc3339(coupon.used_us)}
    return {
        "id": coupon.id,
        "offer": coupon.offer,
        "state": state_at(coupon, now_us).value,
        "issued_at": rfc3339(coupon.issued_us),
        "expires_at": rfc3339(coupon.expires_us),
        **used,
    }
