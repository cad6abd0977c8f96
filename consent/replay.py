"""Doing again, after a restore, what the rights ledger says of a member's decisions.

Data may go back to a day on which somebody had not yet said no; the no does not. What cannot be
done again exactly (who is guardian, which record was merged) restricts the member to storage
until a person has looked: a restore may forget a permission, never a prohibition.
"""

from audit import RightsEntry, RightsKind
from consent import repository
from consent.model import ConsentEvent, GateState, Status
from kernel import ConsentEventId, MemberId, UnitOfWork

_DECISIONS = {RightsKind.WITHDRAWAL, RightsKind.REFUSAL, RightsKind.OBJECTION}
_TO_LOOK_AT = {RightsKind.GUARDIAN, RightsKind.MERGE}


async def replay_right(work: UnitOfWork, member_id: MemberId, entry: RightsEntry) -> bool:
    """Do one entry again; False when it changes nothing or is not of consent's kinds."""
    gate = await repository.read_gate(work, member_id)
    if gate is None or gate.state.is_closed:
        return False
    if entry.kind in _DECISIONS:
        return await _decide_again(work, member_id, entry)
    if entry.kind == RightsKind.RESTRICTION:
        state = GateState.RESTRICTED if entry.detail.get("on") else GateState.ACTIVE
    elif entry.kind in _TO_LOOK_AT:
        state = GateState.RESTRICTED
    else:
        return False
    await repository.set_gate_state(work, member_id, state)
    return True


async def replay_suppression(work: UnitOfWork, entry: RightsEntry) -> bool:
    """Keep an address suppressed, whoever it was of and whether they are still here."""
    if entry.kind != RightsKind.SUPPRESSION:
        return False
    told = entry.detail
    tag = bytes.fromhex(told["tag"])
    await repository.suppress(
        work, tag, told["purpose"], told["channel"], since_us=told["since_us"]
    )
    return True


async def _decide_again(work: UnitOfWork, member_id: MemberId, entry: RightsEntry) -> bool:
    told = entry.detail
    if await repository.event_by_id(work, told["event"]) is not None:
        return False  # the data already knew
    event = ConsentEvent(
        id=ConsentEventId(told["event"]),
        member_id=member_id,
        purpose=told["purpose"],
        channel=told["channel"],
        status=Status(told["decision"]),
        notice_revision=told["notice_revision"],
        lang=told["lang"],
        evidence={},
        recorded_by=told["recorded_by"],
        at_us=told["at_us"],
        audit_id=told["audit_id"],
    )
    await repository.add_event(work, event)
    await repository.bump_gate(work, member_id)
    return True
