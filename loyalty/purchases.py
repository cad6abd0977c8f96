"""Recording purchases in batches: each row is accepted, a known repeat, or named with its reason.

One transaction for the whole batch: what is answered as accepted is stored, together with its
points and what it makes of the member's tier and class. A batch that is sent again finds its
references and changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from consent import GateState
from kernel import Caller, IntegrityError, MemberId, UnitOfWork, new_id
from loyalty import repository
from loyalty.accounts import Accounts
from loyalty.errors import ReferenceReusedError
from loyalty.model import Account, Entry, EntryKind, Outcome, Purchase, RowResult
from loyalty.rows import PurchaseRow, judge
from loyalty.rules import DAY_US, points_for

MOST_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Every row of a batch in its order; `audit_id` is None when nothing was stored."""

    results: Sequence[RowResult]
    audit_id: str | None

    def count(self, outcome: Outcome) -> int:
        """Count the rows of which this became."""
        return sum(result.outcome == outcome for result in self.results)


@dataclass(slots=True)
class _Batch:
    """A batch under way: what is known of its members and references, and what it adds."""

    caller: Caller
    now_us: int
    known: Mapping[str, MemberId]
    accounts: dict[MemberId, Account]
    earlier: dict[str, Purchase]
    purchases: list[Purchase]
    entries: list[Entry]


class Purchases:
    """The purchases of members."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def add(
        self, work: UnitOfWork, caller: Caller, rows: Sequence[Mapping[str, Any]], *, now_us: int
    ) -> BatchReport:
        """Record up to `MOST_ROWS` rows.

        Raises:
            ReferenceReusedError: another request is recording one of the references right now;
                nothing of this batch is stored.
        """
        judged = [judge(row, now_us) for row in rows]
        batch, states = await self._open(work, caller, judged, now_us)
        results = [self._take(batch, at, row) for at, row in enumerate(judged)]
        if not batch.purchases:
            return BatchReport(results, None)
        await self._store(work, batch, states)
        rejected = sum(result.outcome == Outcome.REJECTED for result in results)
        audit_id = await self._accounts.audit.record(
            work,
            caller,
            "purchase.record",
            count=len(batch.purchases),
            outcome="partial" if rejected else "ok",
        )
        return BatchReport(results, audit_id)

    async def _open(
        self,
        work: UnitOfWork,
        caller: Caller,
        judged: Sequence[PurchaseRow | str],
        now_us: int,
    ) -> tuple[_Batch, Mapping[MemberId, GateState]]:
        """Hold the members of a batch, and find which of its references are known."""
        rows = [row for row in judged if isinstance(row, PurchaseRow)]
        named = list(dict.fromkeys(row.pairwise for row in rows))
        found = await repository.known_members(work, named, caller.id, caller.brand)
        states = await self._accounts.share_gates(work, found.values())
        known = {pairwise: one for pairwise, one in found.items() if one in states}
        accounts = await self._accounts.hold_many(work, known.values(), now_us=now_us)
        references = list(dict.fromkeys(row.reference for row in rows))
        earlier = await repository.purchases_by_references(work, caller.id, references)
        return _Batch(caller, now_us, known, accounts, earlier, [], []), states

    def _take(self, batch: _Batch, at: int, row: PurchaseRow | str) -> RowResult:
        """Decide one row, after those before it."""
        if isinstance(row, str):
            return RowResult(at, Outcome.REJECTED, row)
        member_id = batch.known.get(row.pairwise)
        if member_id is None:
            return RowResult(at, Outcome.REJECTED, "member.unknown")
        points = points_for(self._accounts.rules, row.currency, row.amount_milli)
        purchase = Purchase(
            new_id("pur", batch.now_us),
            member_id,
            batch.caller.id,
            row.reference,
            row.at_us,
            row.amount_milli,
            row.currency,
            row.items,
            row.branch,
            points,
            batch.now_us,
        )
        earlier = batch.earlier.setdefault(row.reference, purchase)
        if earlier is not purchase:
            if _content(earlier) == _content(purchase):
                return RowResult(at, Outcome.REPEATED)
            return RowResult(at, Outcome.REJECTED, "reference.reused")
        batch.purchases.append(purchase)
        if points:
            batch.entries.append(self._earned(batch, member_id, points))
        batch.accounts[member_id] = _bought(batch.accounts[member_id], purchase)
        return RowResult(at, Outcome.ACCEPTED, points=points)

    def _earned(self, batch: _Batch, member_id: MemberId, points: int) -> Entry:
        return Entry(
            new_id("pts", batch.now_us),
            member_id,
            EntryKind.EARN,
            points,
            batch.now_us,
            batch.now_us + self._accounts.rules.lifetime_days * DAY_US,
            batch.caller.id,
            None,
        )

    async def _store(
        self, work: UnitOfWork, batch: _Batch, states: Mapping[MemberId, GateState]
    ) -> None:
        try:
            await repository.add_purchases(work, batch.purchases)
            await repository.add_entries(work, batch.entries)
        except IntegrityError as error:
            raise ReferenceReusedError(
                "another request is recording the same references",
                reason="reference_reused",
                remedy="Send the batch again: what is stored is not stored twice.",
            ) from error
        touched = {one.member_id for one in batch.purchases if one.member_id is not None}
        await repository.write_accounts(
            work,
            [
                await self._accounts.reckon(
                    work, batch.accounts[member_id], states[member_id], now_us=batch.now_us
                )
                for member_id in sorted(touched)
            ],
        )


def _bought(account: Account, purchase: Purchase) -> Account:
    """Give the account after a purchase; one that lies further back is not the last one."""
    newest = account.last_purchase_us is None or purchase.at_us >= account.last_purchase_us
    return replace(
        account,
        points_balance=account.points_balance + purchase.points,
        purchases=account.purchases + 1,
        last_purchase_us=purchase.at_us if newest else account.last_purchase_us,
        branch=(purchase.branch or account.branch) if newest else account.branch,
    )


def _content(purchase: Purchase) -> tuple[object, ...]:
    """Give what two rows with one reference must share to be the same purchase."""
    return (
        purchase.member_id,
        purchase.at_us,
        purchase.amount_milli,
        purchase.currency,
        purchase.items,
        purchase.branch,
    )
