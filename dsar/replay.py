"""Doing again, after a restore, what the ledger says of restrictions and corrections.

The data went back to a day; what a person asked to have kept aside or put right did not. A
restriction begun since stands again with its ground and its end, so that somebody can end it. What
was corrected since is wrong again and its value is nowhere: the ledger knows only whose it was, and
each of them gets a request in the queue, so that an officer asks again.
"""

from dataclasses import replace

from audit import RightsEntry, RightsKind
from consent import GateState
from dsar import repository
from dsar.desk import Desk
from dsar.errors import RequestInvalidError
from dsar.model import OPEN, PREFIX, RequestState, Right, RightsRequest, RightsRequestId, Via
from dsar.repository import Restriction
from kernel import Caller, Clock, MemberId, UnitOfWork, new_id, to_date

RESTORED = "restored"
ASK_AGAIN = "ask_again"
_UNTIL_LOOKED = frozenset({RightsKind.GUARDIAN, RightsKind.MERGE})


class RightsReplay:
    """Does the entries of this room again; the gate itself is consent's."""

    def __init__(self, desk: Desk, caller: Caller, clock: Clock) -> None:
        self._desk = desk
        self._caller = caller
        self._clock = clock

    async def __call__(
        self, work: UnitOfWork, member_id: MemberId | None, entry: RightsEntry
    ) -> bool:
        """Do one entry again; False when it changes nothing or is not of this room."""
        if entry.kind == RightsKind.RESTRICTION_ENDED:
            ended = str(entry.detail["restriction"])
            return await repository.end_restriction(work, ended, now_us=entry.at_us)
        if member_id is None:
            return False
        gate = await self._desk.consent.gate(work, member_id)
        if gate.state.is_closed:
            return False
        if entry.kind == RightsKind.RESTRICTION_BEGUN:
            return await self._restrict_again(work, member_id, entry)
        if entry.kind in _UNTIL_LOOKED and gate.state is GateState.RESTRICTED:
            return await self._hold_until_looked(work, member_id)
        return entry.kind == RightsKind.RECTIFICATION and await self._ask_again(work, member_id)

    async def _restrict_again(
        self, work: UnitOfWork, member_id: MemberId, entry: RightsEntry
    ) -> bool:
        told = entry.detail
        if await repository.read_restriction(work, told["restriction"]) is not None:
            return False  # the data already knew
        row = await self._desk.members.read(work, member_id)
        await repository.add_restriction(
            work,
            Restriction(
                told["restriction"],
                member_id,
                row.brand,
                told["ground"],
                told["request"],
                entry.at_us,
                told["until_us"],
                None,
            ),
        )
        return True

    async def _hold_until_looked(self, work: UnitOfWork, member_id: MemberId) -> bool:
        """Give a gate that was closed until a person has looked something that ends it."""
        if await repository.restrictions_of(work, member_id):
            return False
        now_us = self._clock.now_us()
        row = await self._desk.members.read(work, member_id)
        made = Restriction(
            new_id("rst", now_us), member_id, row.brand, RESTORED, None, now_us, None, None
        )
        await repository.add_restriction(work, made)
        await self._desk.audit.record(
            work,
            self._caller,
            "restriction.begin",
            subject=await self._desk.pseudonym(work, member_id),
            resource=f"restriction:{made.id}",
            reason=RESTORED,
        )
        return True

    async def _ask_again(self, work: UnitOfWork, member_id: MemberId) -> bool:
        """Put one request into the queue for a member with something that was corrected since."""
        details = {RESTORED: ASK_AGAIN}
        present = await repository.of_member(work, member_id)
        if any(one.details == details and one.state in OPEN for one in present):
            return True
        row = await self._desk.members.read(work, member_id)
        now_us, epoch = self._clock.now_us(), to_date(0)
        request = RightsRequest(
            id=RightsRequestId(new_id(PREFIX, now_us)),
            member_id=member_id,
            brand=row.brand,
            jurisdiction=row.jurisdiction,
            right=Right.RECTIFICATION,
            state=RequestState.VERIFIED,
            via=Via.COUNTER,
            opened_by=self._caller.id,
            details=details,
            corrected=(),
            received_us=now_us,
            verified_us=now_us,
            verified_by=RESTORED,
            stepped_up_us=None,
            safe_due=epoch,
            legal_due=epoch,
            target=epoch,
            acknowledge_due=None,
            alarm_us=0,
        )
        try:
            request = self._desk.timed(request)
        except RequestInvalidError:  # a law without a clock for it: due today
            today = to_date(now_us)
            request = replace(request, safe_due=today, legal_due=today, target=today)
        await repository.add(work, request, None)
        await self._desk.record(work, self._caller, "rights_request.open", request)
        await self._desk.enter(work, request, now_us)
        return True
