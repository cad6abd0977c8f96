"""The words of consent: status, events, state and the gate (terms after W3C DPV 2.3)."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kernel import ConsentEventId, MemberId

NO_CHANNEL = ""


class Status(StrEnum):
    """Where a consent stands (dpv:ConsentStatus)."""

    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class GateState(StrEnum):
    """What may happen with a member at all."""

    ACTIVE = "active"
    RESTRICTED = "restricted"
    ERASED = "erased"
    MERGED = "merged"

    @property
    def is_closed(self) -> bool:
        """Whether nothing is read or recorded: erased, or now a part of another member."""
        return self in {GateState.ERASED, GateState.MERGED}


@dataclass(frozen=True, slots=True)
class Gate:
    """The row that every disclosure locks and every forbidding change moves on."""

    member_id: MemberId
    version: int
    state: GateState
    age_tier: str


@dataclass(frozen=True, slots=True)
class NoticeRecord:
    """The exact words shown, under the SHA-256 of their canonical text."""

    revision: str
    key: str
    version: str
    lang: str
    text: str
    effective_from_us: int


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """A decision of a member as it comes in; `channel` is empty where a purpose has none."""

    purpose: str
    channel: str
    status: Status
    notice_revision: str | None
    lang: str | None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One decision on record: what, on which words, when, by what proof, and who wrote it."""

    id: ConsentEventId
    member_id: MemberId
    purpose: str
    channel: str
    status: Status
    notice_revision: str | None
    lang: str | None
    evidence: dict[str, Any]
    recorded_by: str
    at_us: int
    audit_id: str


@dataclass(frozen=True, slots=True)
class ConsentState:
    """The latest decision of one purpose and channel."""

    purpose: str
    channel: str
    status: Status
    event_id: ConsentEventId
    notice_revision: str | None
    since_us: int
