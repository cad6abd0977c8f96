"""Requests and restrictions as they are told to callers: states, days and codes, no value."""

from typing import Any

from dsar.model import RequestState, RightsRequest
from dsar.repository import Restriction
from dsar.service import Rights
from kernel import rfc3339
from policies import JurisdictionCode, PolicyPack


def restriction_answer(made: Restriction, member: str | None) -> dict[str, Any]:
    """Tell of a restriction, under the id by which the caller knows the member."""
    return {
        "id": made.id,
        "member": member,
        "ground": made.ground,
        "begun_at": rfc3339(made.begun_us),
        "until": None if made.until_us is None else rfc3339(made.until_us),
        "ended": made.ended_us is not None,
    }


def request_answer(
    rights: Rights, pack: PolicyPack, request: RightsRequest, member: str | None
) -> dict[str, Any]:
    """Tell of a request in states, days and codes; never a value of anybody."""
    clock = rights.clock(request)
    refusal = None
    if request.state is RequestState.REFUSED and request.reason is not None:
        authority = pack.jurisdictions[JurisdictionCode(request.jurisdiction)].authority
        refusal = {
            "reason": request.reason,
            "law": request.law,
            "evidence": request.outcome.get("evidence"),
            "complain_to": authority.as_dict(),
        }
    return {
        "id": request.id,
        "member": member,
        "right": request.right.value,
        "state": request.state.value,
        "via": request.via.value,
        "received_at": rfc3339(request.received_us),
        "identity": request.verified_by,
        "acknowledge_due": None
        if request.acknowledge_due is None
        else request.acknowledge_due.isoformat(),
        "target": request.target.isoformat(),
        "safe_due": request.safe_due.isoformat(),
        "legal_due": request.legal_due.isoformat(),
        "law": {
            "source": clock.period.source,
            "evidence": clock.period.evidence.value,
            "unverified": clock.unverified,
            "weekends_only": clock.holidays is None,
        },
        "extended": request.extension_reason,
        "paused_days": request.paused_days,
        "flagged": request.flagged,
        "refusal_proposed": None
        if request.state.final or request.proposed_us is None
        else request.reason,
        "decided_at": None if request.decided_us is None else rfc3339(request.decided_us),
        "refusal": refusal,
        "results": [one.as_dict() for one in request.results],
    }
