"""Loyalty: the programme's use cases on members, and what other rooms ask of it.

Everything happens inside the unit of work it is handed, with its audit events; nothing here
commits. What clients are told of an account goes through the door of disclosure, not from here.
"""

from audit import AuditLog
from kernel import Caller, Clock, Database, MemberId, NotFoundError, ReadSession, UnitOfWork
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.model import Account
from loyalty.points import Points, Posted
from members import Forgotten
from policies import PolicyPack
from vault import Vault

_PAGE = 200


class Loyalty:
    """The programme of one compiled pack."""

    def __init__(
        self, database: Database, pack: PolicyPack, vault: Vault, audit: AuditLog, clock: Clock
    ) -> None:
        self._database = database
        self._clock = clock
        self._accounts = Accounts(pack.loyalty, vault, audit)
        self._points = Points(self._accounts)

    async def account(self, session: ReadSession, member_id: MemberId) -> Account | None:
        """Read a member's account; `None` for who never took part."""
        return await repository.read_account(session, member_id)

    # --- points -----------------------------------------------------------------------

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

    async def expire_due(self, caller: Caller) -> int:
        """End all points whose time is over, a member at a time; gives how many points."""
        expired = 0
        after = ""
        while True:
            now_us = self._clock.now_us()
            async with self._database.read() as session:
                page = await repository.members_with_expired_lots(
                    session, now_us=now_us, after=after, most=_PAGE
                )
            if not page:
                return expired
            for member_id in page:
                async with self._database.unit_of_work() as work:
                    try:
                        expired += await self._points.expire(work, caller, member_id, now_us=now_us)
                    except NotFoundError:  # erased since the page was read
                        continue
            after = page[-1]

    # --- what other rooms ask ---------------------------------------------------------

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
