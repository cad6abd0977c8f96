"""Four eyes: what one person asks for happens when another has agreed to exactly that.

A request is bound to its hash, so that nothing wider runs under a narrower yes; an approval runs
out, is used once and is never one's own, not through a second account of the same person either.
Where nobody else could approve, a day of delay and an event stand in for the second person.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from audit import AuditLog
from kernel import Caller, ReadSession, UnitOfWork, new_id
from policies import AccessSnapshot
from service.staff import repository
from service.staff.errors import ApprovalNeededError, ApprovalRefusedError
from service.staff.repository import Account, Approval

HOUR_US = 3_600_000_000
GOOD_FOR_US = 72 * HOUR_US
ALONE_DELAY_US = 24 * HOUR_US
_ABOUT = re.compile(
    r"(?!(?:mem|sub|cp)_)[a-z][a-z_]{1,30}(?::(?!(?:mem|sub|cp)_)[a-z]{2,5}_[0-9a-z]{26})?"
)
_HASH_BYTES = 32
_EVENT_HEX = 32


class ApprovalKind(StrEnum):
    """What needs a second person."""

    REFUSAL = "refusal"
    RESTORE = "restore"
    LARGE_EXPORT = "large_export"
    BULK_UNMASK = "bulk_unmask"


class ApprovalState(StrEnum):
    """How far an approval has come; one that ran out keeps the state it had."""

    WAITING = "waiting"
    APPROVED = "approved"
    DECLINED = "declined"
    USED = "used"


APPROVERS: Mapping[ApprovalKind, tuple[tuple[str, str], ...]] = {
    ApprovalKind.REFUSAL: (("rights_request", "handle"),),
    ApprovalKind.RESTORE: (("backup", "manage"), ("staff", "manage")),
    ApprovalKind.LARGE_EXPORT: (("rights_request", "handle"),),
    ApprovalKind.BULK_UNMASK: (("rights_request", "handle"),),
}
"""Whoever may one of these (resource, action) pairs may approve: a dpo, or for a restore an
operator or an admin."""


def refusal_of(
    held: Approval,
    approver: Caller,
    shown_hash: bytes,
    *,
    is_same_person: bool,
    may: bool,
    now_us: int,
) -> str | None:
    """Say why this caller cannot answer this request now; None when they can."""
    if held.requested_by == approver.id or is_same_person:
        return "own_request"
    if not may:
        return "role_not_allowed"
    if held.state != ApprovalState.WAITING:
        return "already_decided"
    if held.expires_us <= now_us:
        return "expired"
    if held.request_hash != shown_hash:
        return "request_changed"
    return None


def same_person(one: Account | None, other: Account | None) -> bool:
    """Say whether two accounts are known to be one human being's."""
    return (
        one is not None
        and other is not None
        and one.person is not None
        and one.person == other.person
    )


class Approvals:
    """Keeps what waits for a second person, and says when it may happen."""

    def __init__(self, audit: AuditLog, access: AccessSnapshot) -> None:
        self._audit = audit
        self._access = access

    async def request(
        self,
        work: UnitOfWork,
        caller: Caller,
        kind: ApprovalKind,
        about: str,
        request_hash: bytes,
        *,
        now_us: int,
    ) -> Approval:
        """Ask a second person; asking again for the very same thing gives the first request.

        Args:
            work: The unit of work that also writes the event.
            caller: Who asks; they will not be able to approve it.
            kind: What needs approving.
            about: What it is about: a word, or a word and an id that names no member, such as
                `rights_request:req_…`.
            request_hash: SHA-256 over everything that will be done (`kernel.http.digest`).
            now_us: The present moment in µs.
        """
        if not _ABOUT.fullmatch(about) or len(request_hash) != _HASH_BYTES:
            raise ValueError("about: a word and an id; request_hash: 32 bytes")
        known = await repository.approval_of_request(
            work, kind.value, request_hash, caller.id, now_us=now_us
        )
        if known is not None:
            return known
        new = Approval(
            id=new_id("apr", now_us),
            kind=kind.value,
            brand=caller.brand,
            about=about,
            request_hash=request_hash,
            requested_by=caller.id,
            requested_us=now_us,
            expires_us=now_us + GOOD_FOR_US,
            state=ApprovalState.WAITING.value,
            decided_by=None,
            decided_us=None,
        )
        await repository.add_approval(work, new)
        await self._note(work, caller, "approval.request", new)
        return new

    async def approve(
        self, work: UnitOfWork, caller: Caller, approval_id: str, shown_hash: bytes, *, now_us: int
    ) -> Approval:
        """Agree to exactly what was shown, or `ApprovalRefusedError`."""
        return await self._answer(
            work, caller, approval_id, shown_hash, ApprovalState.APPROVED, now_us
        )

    async def decline(
        self, work: UnitOfWork, caller: Caller, approval_id: str, shown_hash: bytes, *, now_us: int
    ) -> Approval:
        """Say no to exactly what was shown, or `ApprovalRefusedError`."""
        return await self._answer(
            work, caller, approval_id, shown_hash, ApprovalState.DECLINED, now_us
        )

    async def settle(
        self,
        work: UnitOfWork,
        caller: Caller,
        kind: ApprovalKind,
        request_hash: bytes,
        requested_by: str,
        *,
        now_us: int,
    ) -> Approval:
        """Approve and use up in one step, where the second person's yes is the act itself.

        `ApprovalRefusedError` when nothing of the kind waits, or for what `approve` refuses.
        """
        held = await repository.approval_of_request(
            work, kind.value, request_hash, requested_by, now_us=now_us
        )
        if held is None:
            raise ApprovalRefusedError(reason="expired")
        if held.state != ApprovalState.APPROVED or held.decided_by != caller.id:
            await self._answer(work, caller, held.id, request_hash, ApprovalState.APPROVED, now_us)
        approved = await repository.hold_approval(work, held.id)
        if approved is None or not await repository.decide_approval(
            work, approved, ApprovalState.USED, caller.id, now_us
        ):
            raise ApprovalRefusedError(reason="already_decided")
        return held

    async def stands(
        self,
        work: UnitOfWork,
        kind: ApprovalKind,
        request_hash: bytes,
        requested_by: str,
        *,
        now_us: int,
    ) -> bool:
        """Say whether this very request still waits or was approved: not declined, not run out."""
        return (
            await repository.approval_of_request(
                work, kind.value, request_hash, requested_by, now_us=now_us
            )
            is not None
        )

    async def require(
        self,
        work: UnitOfWork,
        caller: Caller,
        kind: ApprovalKind,
        request_hash: bytes,
        *,
        now_us: int,
    ) -> Approval:
        """Use up the approval of exactly this request, or `ApprovalNeededError`.

        Belongs into the unit of work of the act itself: then it is used when the act happens
        and not otherwise. Where nobody else could approve, a request a day old will do.
        """
        held = await repository.approval_of_request(
            work, kind.value, request_hash, caller.id, now_us=now_us
        )
        if held is None:
            raise ApprovalNeededError(reason="approval_needed")
        alone = held.state == ApprovalState.WAITING
        if alone:
            if await self.approvers(work, held):
                raise ApprovalNeededError(reason="approval_waiting")
            if held.requested_us + ALONE_DELAY_US > now_us:
                raise ApprovalNeededError(reason="approval_delay")
        used = await repository.decide_approval(
            work, held, ApprovalState.USED, held.decided_by, held.decided_us
        )
        if not used:
            raise ApprovalNeededError(reason="approval_waiting")
        await self._note(work, caller, "approval.waive" if alone else "approval.use", held)
        return held

    async def approvers(self, session: ReadSession, held: Approval) -> list[Account]:
        """Give the active accounts that could answer this request."""
        accounts = await repository.all_accounts(session)
        requester = next((one for one in accounts if one.id == held.requested_by), None)
        return [
            one
            for one in accounts
            if one.is_active
            and one.id != held.requested_by
            and not same_person(one, requester)
            and self.may(one.role, one.brand, held)
        ]

    async def open(self, session: ReadSession, brand: str, *, now_us: int) -> list[Approval]:
        """Give what waits, or was approved and not used yet, in a brand; the oldest first."""
        found = await repository.open_approvals(session, now_us=now_us)
        return [one for one in found if one.brand in {brand, "*"}]

    def may(self, role: str, brand: str, held: Approval) -> bool:
        """Say whether a role of a brand may answer this kind of request."""
        return held.brand in {brand, "*"} and self._any_allowed(
            role, brand, APPROVERS[ApprovalKind(held.kind)]
        )

    def may_any(self, role: str, brand: str) -> bool:
        """Say whether a role may answer any kind of request at all."""
        return any(self._any_allowed(role, brand, pairs) for pairs in APPROVERS.values())

    def _any_allowed(self, role: str, brand: str, pairs: tuple[tuple[str, str], ...]) -> bool:
        allows: Callable[..., bool] = self._access.allows
        return any(allows(role, brand, resource, action) for resource, action in pairs)

    async def _answer(
        self,
        work: UnitOfWork,
        caller: Caller,
        approval_id: str,
        shown_hash: bytes,
        state: ApprovalState,
        now_us: int,
    ) -> Approval:
        held = await repository.hold_approval(work, approval_id)
        if held is None:
            raise ApprovalRefusedError(reason="approval_unknown")
        reason = refusal_of(
            held,
            caller,
            shown_hash,
            is_same_person=same_person(
                await repository.account_by_id(work, caller.id),
                await repository.account_by_id(work, held.requested_by),
            ),
            may=self.may(caller.role, caller.brand, held),
            now_us=now_us,
        )
        if reason is None and not await repository.decide_approval(
            work, held, state, caller.id, now_us
        ):
            reason = "already_decided"
        if reason is not None:
            raise ApprovalRefusedError(reason=reason)
        action = "approval.approve" if state is ApprovalState.APPROVED else "approval.decline"
        await self._note(work, caller, action, held)
        return held

    async def _note(self, work: UnitOfWork, caller: Caller, action: str, held: Approval) -> None:
        await self._audit.record(
            work,
            caller,
            action,
            resource=f"approval:{held.id}",
            reason=held.kind,
            after={"request": held.request_hash.hex()[:_EVENT_HEX]},
        )
