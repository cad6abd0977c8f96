"""Restriction of processing: kept and not used, with a ground and, if known, an end.

PDPA s.34, GDPR art. 18, TW art. 11. A member is restricted while any restriction stands. The end
is known when it begins; beginning and ending are an event and a message in the same commit.
"""

from collections.abc import Sequence

from audit import RightsKind
from dsar import repository
from dsar.desk import Desk
from dsar.details import RESTRICTION_GROUNDS
from dsar.errors import RequestInvalidError, RequestUnknownError
from dsar.repository import Restriction
from kernel import Caller, FieldProblem, MemberId, ReadSession, UnitOfWork, new_id, put_message

_PREFIX = "rst"
RESTRICTED = "member.restricted"


class Restrictions:
    """Begins and ends restrictions, and keeps the gate as they say."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def begin(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        ground: str,
        *,
        until_us: int | None = None,
        request_id: str | None = None,
        now_us: int,
    ) -> Restriction:
        """Restrict a member's data to storage from this commit on.

        Raises:
            RequestInvalidError: the ground is no code of ours, or the end has passed.
        """
        if ground not in RESTRICTION_GROUNDS:
            known = ", ".join(sorted(RESTRICTION_GROUNDS))
            raise RequestInvalidError(
                errors=[FieldProblem("/ground", "unknown_code", f"one of {known}")]
            )
        if until_us is not None and until_us <= now_us:
            raise RequestInvalidError(errors=[FieldProblem("/until", "moment", "it has passed")])
        await self._desk.consent.hold_gate(work, member_id)
        row = await self._desk.members.read(work, member_id)
        made = Restriction(
            new_id(_PREFIX, now_us),
            member_id,
            row.brand,
            ground,
            request_id,
            now_us,
            until_us,
            None,
        )
        await repository.add_restriction(work, made)
        await self._desk.consent.restrict(work, member_id, on=True)
        detail = {
            "restriction": made.id,
            "ground": ground,
            "request": request_id,
            "until_us": until_us,
        }
        await self._desk.remember(work, RightsKind.RESTRICTION_BEGUN, member_id, detail, now_us)
        await self._record(work, caller, made, "restriction.begin", ground, now_us)
        return made

    async def end(
        self, work: UnitOfWork, caller: Caller, restriction_id: str, *, now_us: int
    ) -> Restriction:
        """End a restriction; the gate opens when none is left. Ending twice does it once."""
        found = await repository.read_restriction(work, restriction_id)
        if found is None or caller.brand not in {"*", found.brand}:
            raise RequestUnknownError("no such restriction", reason="restriction_unknown")
        if found.member_id is None:
            return found
        await self._desk.consent.hold_gate(work, found.member_id)
        if await repository.end_restriction(work, restriction_id, now_us=now_us):
            ended = {"restriction": found.id}
            await self._desk.remember(
                work, RightsKind.RESTRICTION_ENDED, found.member_id, ended, now_us
            )
            if not await repository.restrictions_of(work, found.member_id):
                await self._desk.consent.restrict(work, found.member_id, on=False)
            await self._record(work, caller, found, "restriction.end", found.ground, now_us)
        return found

    async def of_member(self, session: ReadSession, member_id: MemberId) -> Sequence[Restriction]:
        """Give the restrictions of a member that are in force."""
        return await repository.restrictions_of(session, member_id)

    async def _record(
        self,
        work: UnitOfWork,
        caller: Caller,
        restriction: Restriction,
        action: str,
        reason: str,
        now_us: int,
    ) -> None:
        member_id = restriction.member_id
        await self._desk.audit.record(
            work,
            caller,
            action,
            subject=await self._desk.pseudonym(work, member_id),
            resource=f"restriction:{restriction.id}",
            reason=reason,
        )
        await put_message(work, RESTRICTED, {"member_id": member_id}, now_us=now_us)
