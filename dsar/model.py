"""The words of rights requests: rights, states, ways in, and the request itself.

`NEXT` is the whole state machine. A request that has ended stays as it ended: nobody can turn a
refusal into a fulfilment, or an erasure into something that did not happen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, NewType

from kernel import MemberId

RightsRequestId = NewType("RightsRequestId", str)
PREFIX = "rr"


class Right(StrEnum):
    """What a member can ask for (PDPA s.30-36, GDPR art. 15-21, TW art. 3)."""

    ACCESS = "access"
    PORTABILITY = "portability"
    RECTIFICATION = "rectification"
    ERASURE = "erasure"
    RESTRICTION = "restriction"
    OBJECTION = "objection"


class RequestState(StrEnum):
    """Where a request stands."""

    RECEIVED = "received"
    IDENTITY_PENDING = "identity_pending"
    VERIFIED = "verified"
    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
    FULFILLED = "fulfilled"
    PARTLY_FULFILLED = "partly_fulfilled"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"

    @property
    def final(self) -> bool:
        """Tell whether a request in this state has ended, for good."""
        return not NEXT[self]


class Via(StrEnum):
    """The way a request came in; the portal's session has proven identity already."""

    PORTAL = "portal"
    API = "api"
    COUNTER = "counter"


_ENDS = frozenset(
    {
        RequestState.FULFILLED,
        RequestState.PARTLY_FULFILLED,
        RequestState.REFUSED,
        RequestState.WITHDRAWN,
    }
)
_UNPROVEN_ENDS = frozenset({RequestState.REFUSED, RequestState.WITHDRAWN})
NEXT: Mapping[RequestState, frozenset[RequestState]] = {
    RequestState.RECEIVED: frozenset({RequestState.IDENTITY_PENDING, RequestState.VERIFIED})
    | _UNPROVEN_ENDS,
    RequestState.IDENTITY_PENDING: frozenset({RequestState.VERIFIED}) | _UNPROVEN_ENDS,
    RequestState.VERIFIED: frozenset({RequestState.IN_PROGRESS, RequestState.PAUSED}) | _ENDS,
    RequestState.IN_PROGRESS: frozenset({RequestState.PAUSED}) | _ENDS,
    RequestState.PAUSED: frozenset({RequestState.VERIFIED, RequestState.IN_PROGRESS})
    | _UNPROVEN_ENDS,
    RequestState.FULFILLED: frozenset(),
    RequestState.PARTLY_FULFILLED: frozenset(),
    RequestState.REFUSED: frozenset(),
    RequestState.WITHDRAWN: frozenset(),
}
UNPROVEN = frozenset({RequestState.RECEIVED, RequestState.IDENTITY_PENDING})
OPEN = frozenset(state for state in RequestState if NEXT[state])


@dataclass(frozen=True, slots=True)
class FieldResult:
    """What became of one field or store: a code, until when, and by which law; never a value."""

    what: str
    result: str
    until: str | None = None
    law: str | None = None
    evidence: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Give it as it is stored, answered and certified."""
        return {
            "what": self.what,
            "result": self.result,
            "until": self.until,
            "law": self.law,
            "evidence": self.evidence,
        }


@dataclass(frozen=True, slots=True)
class RightsRequest:
    """One request and its clock; the row outlives the member, `member_id` does not.

    Days are those of the jurisdiction's own calendar, moments are microseconds. `details` are
    codes; corrected values lie sealed beside them and are named by `corrected`.
    """

    id: RightsRequestId
    member_id: MemberId | None
    brand: str
    jurisdiction: str
    right: Right
    state: RequestState
    via: Via
    opened_by: str
    details: Mapping[str, str]
    corrected: tuple[str, ...]
    received_us: int
    verified_us: int | None
    verified_by: str | None
    stepped_up_us: int | None
    safe_due: date
    legal_due: date
    target: date
    acknowledge_due: date | None
    alarm_us: int
    paused_us: int | None = None
    paused_days: int = 0
    extended_us: int | None = None
    extension_reason: str | None = None
    flagged: str | None = None
    decided_us: int | None = None
    decided_by: str | None = None
    proposed_us: int | None = None
    proposed_by: str | None = None
    reason: str | None = None
    law: str | None = None
    audit_id: str | None = None
    version: int = 1
    results: Sequence[FieldResult] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity_proven(self) -> bool:
        """Tell whether somebody proved to be the member; until then nothing is told."""
        return self.verified_us is not None
