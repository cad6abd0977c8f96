"""Legal holds: what must stay as evidence although its time has come.

A hold covers a span of months, one member, one kind of act, or what all that it names has in
common. It is checked where bodies are deleted, by the database itself. Placing and releasing are
events, which never go. A hold on a member is a list of that member's monthly tokens: it needs no
key afterwards, so it outlives an erasure; while it lasts, it ties those months together, which is
what it is for, and its release forgets them. What a hold covers knows no brands; but only the
brand in whose name it was placed, or whoever stands for every brand, may release it: one brand
cannot let another's evidence go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from audit import retention_repository as repository
from audit.event import epochs, is_month, is_word, subject_tokens
from audit.retention import bounds_us
from audit.search import EVERY_BRAND, brand_of
from audit.service import AuditLog
from kernel import (
    Caller,
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    NotFoundError,
    ReadSession,
    Row,
    UnitOfWork,
    new_id,
    rfc3339,
)
from vault import OwnerKey

HoldReason = Literal["litigation", "investigation", "authority_order"]
HOLD_REASONS: tuple[str, ...] = get_args(HoldReason)
_FIRST, _LAST = "1970-01", "9998-12"  # months whose moments can be written
_YEARS_AHEAD = 10
_YEAR_US = 366 * 86_400_000_000


@dataclass(frozen=True, slots=True)
class HoldScope:
    """What a hold covers: all that is not None must fit; months are `YYYY-MM`, both included."""

    from_month: str | None = None
    to_month: str | None = None
    action: str | None = None
    member: OwnerKey | None = None


class Holds:
    """Places, lists and releases holds."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    async def add(self, work: UnitOfWork, caller: Caller, scope: HoldScope, reason: str) -> str:
        """Place a hold; gives its id. From the commit on, nothing that it covers is deleted.

        `InvalidRequestError` for a reason that is not one of `HOLD_REASONS`, for what is no month
        or no action, or for months that run backwards. A hold on a member covers events of up to
        ten years from now.
        """
        if reason not in HOLD_REASONS:
            _refuse("reason", f"use one of {', '.join(HOLD_REASONS)}")
        first, last = scope.from_month, scope.to_month
        for pointer, month in (("from", first), ("to", last)):
            if month is not None and not (is_month(month) and _FIRST <= month <= _LAST):
                _refuse(pointer, "write a month as YYYY-MM")
        if scope.action is not None and not is_word(scope.action):
            _refuse("action", "no event has such an action")
        if first is not None and last is not None and first > last:
            _refuse("to", "it lies before the first month")
        now_us = self._clock.now_us()
        hold_id = new_id("hld", now_us)
        tokens: Sequence[str] = ()
        if scope.member is not None:
            oldest_us = await repository.oldest_us(work) or now_us
            months = epochs(min(oldest_us, now_us), now_us + _YEARS_AHEAD * _YEAR_US)
            tokens = subject_tokens(scope.member.secret, months)
        values = {
            "id": hold_id,
            "reason": reason,
            "from_us": None if first is None else bounds_us(first)[0],
            "until_us": None if last is None else bounds_us(last)[1],
            "action": scope.action,
            "by_subject": int(scope.member is not None),
            "placed_us": now_us,
            "brand": brand_of(caller.brand),
        }
        await repository.add_hold(work, values, tokens)
        await self._audit.record(
            work,
            caller,
            "retention.hold",
            subject=scope.member,
            resource=f"hold:{hold_id}",
            reason=reason,
        )
        return hold_id

    async def release(self, work: UnitOfWork, caller: Caller, hold_id: str) -> None:
        """End a hold; what it covered and whose time has come goes with the next run.

        `NotFoundError` for one that is not in force, or not the caller's brand's.
        """
        ended = await repository.release_hold(
            work, hold_id, brand=brand_of(caller.brand), now_us=self._clock.now_us()
        )
        if not ended:
            raise NotFoundError("no such hold is in force", reason="hold_unknown")
        await self._audit.record(work, caller, "retention.release", resource=f"hold:{hold_id}")

    async def page(
        self, session: ReadSession, brand: str, *, before: str | None = None, most: int
    ) -> Sequence[dict[str, Any]]:
        """Describe holds as `list` does, a page at a time, the newest first."""
        rows = await repository.holds_before(
            session, brand=brand_of(brand), before=before, most=most
        )
        return [described(row) for row in rows]

    async def one(self, session: ReadSession, hold_id: str) -> dict[str, Any]:
        """Describe one hold, in force or ended; `NotFoundError` for none."""
        row = await repository.hold(session, hold_id)
        if row is None:
            raise NotFoundError("no such hold", reason="hold_unknown")
        return described(row)

    async def list(self, brand: str = EVERY_BRAND) -> list[dict[str, Any]]:
        """Describe every hold of a brand and of the whole installation, the oldest first.

        Those that have ended as well; no tokens.
        """
        async with self._database.read() as session:
            rows = await repository.holds(session)
        seen = {None, brand}
        return [described(row) for row in rows if brand == EVERY_BRAND or row["brand"] in seen]


def described(row: Row) -> dict[str, Any]:
    """Say what a hold covers, in words that name nobody; moments are RFC 3339."""
    return {
        "id": row["id"],
        "reason": row["reason"],
        "from": None if row["from_us"] is None else rfc3339(row["from_us"]),
        "until": None if row["until_us"] is None else rfc3339(row["until_us"]),
        "action": row["action"],
        "of_a_member": bool(row["by_subject"]),
        "placed": rfc3339(row["placed_us"]),
        "released": None if row["released_us"] is None else rfc3339(row["released_us"]),
        "brand": row["brand"],
    }


def _refuse(pointer: str, detail: str) -> None:
    problem = FieldProblem(f"/{pointer}", "hold", detail)
    raise InvalidRequestError(detail, reason="hold", errors=[problem])
