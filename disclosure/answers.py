"""From rows to decisions and from decisions to answers: what a caller hears, and what not.

Erased, foreign and unknown members sound alike here, so that nobody learns who was once a member.
"""

from typing import Any

import msgpack

from consent import BasisRefusal, GateState, NoLawfulBasisError, Status
from disclosure.decision import Allowed, Denied, Refusal, Snapshot
from disclosure.errors import MemberUnknownError, PurposeNotAllowedError, RestrictedError
from kernel import Row, YinyomError
from loyalty import plain_values
from policies import AgeTier, MaskRule, mask

_AGE_TIERS = {tier.value: tier for tier in AgeTier}
_GATE_STATES = {state.value: state for state in GateState}
_STATUSES: dict[str | None, Status | None] = {None: None, **{s.value: s for s in Status}}


def refusal(denied: Denied, audit_id: str) -> YinyomError:
    """Turn a denial into the error a caller sees; erased and unknown look the same."""
    reason = denied.reason
    told = outward(denied)
    if isinstance(reason, BasisRefusal):
        return NoLawfulBasisError(reason=told, audit_id=audit_id)
    if reason is Refusal.MEMBER_RESTRICTED:
        return RestrictedError(reason=told, audit_id=audit_id)
    if told == Refusal.MEMBER_UNKNOWN.value:
        return MemberUnknownError(reason=told, audit_id=audit_id)
    return PurposeNotAllowedError(reason=told, audit_id=audit_id)


def outward(denied: Denied) -> str:
    """Give the reason of a denial as a caller may hear it."""
    return Refusal.MEMBER_UNKNOWN.value if is_hidden(denied) else denied.reason.value


def is_hidden(denied: Denied) -> bool:
    """Say whether not even the member's existence may be told."""
    return denied.reason in {Refusal.MEMBER_ERASED, Refusal.OTHER_BRAND}


def outline(rule: MaskRule, value: Any) -> Any:
    """Mask a value; what a plain field shows unmasked keeps its type."""
    return value if rule is MaskRule.NONE else mask(rule, str(value))


def snapshot_of(row: Row, now_us: int) -> Snapshot:
    """Read what one read found of a member, as of a moment."""
    provenance = msgpack.unpackb(row["provenance"])
    return Snapshot(
        member_id=row["member_id"],
        brand=row["brand"],
        jurisdiction=row["jurisdiction"],
        gate_version=row["gate_version"],
        gate_state=_GATE_STATES[row["gate_state"]],
        age_tier=_AGE_TIERS[row["gate_age_tier"]],
        status=_STATUSES[row["consent_status"]],
        consent_id=row["consent_event_id"],
        notice_revision=row["consent_notice_revision"],
        guardian_id=row["consent_guardian_id"],
        at_us=now_us,
        held=frozenset(provenance).union(plain_values(row)),
        verified=frozenset(field for field, entry in provenance.items() if entry[2] is not None),
    )


def basis_of(decision: Allowed) -> dict[str, Any]:
    """Tell a caller on which lawful basis a member was disclosed."""
    basis = decision.basis
    if basis.consent_id is None:
        return {"type": basis.kind.value, "section": basis.section}
    return {
        "type": basis.kind.value,
        "id": basis.consent_id,
        "notice_revision": basis.notice_revision,
    }
