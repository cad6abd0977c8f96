"""The words of consent: status, events, state and the gate (terms after W3C DPV 2.3)."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kernel import ConsentEventId, MemberId

NO_CHANNEL = ""


class Status(StrEnum):
    """Where a consent stands (dpv:ConsentStatus); an objection stands over all of them."""

    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    OBJECTED = "objected"


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
    """A decision of a member as it comes in; `channel` is empty where a purpose has none.

    `guardian` names the proven guardian who decides with the member, or for them.
    """

    purpose: str
    channel: str
    status: Status
    notice_revision: str | None
    lang: str | None
    evidence: dict[str, Any] = field(default_factory=dict)
    guardian: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One decision on record: what, on which words, when, by what proof, and who wrote it.

    `guardian_id` is set where a guardian decided. Where a minor and a guardian decide together
    there are two events, and the minor's names the guardian's as `joint_with`.
    """

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
    guardian_id: str | None = None
    joint_with: str | None = None

    def state(self) -> "ConsentState":
        """Give the state that this event alone makes."""
        return ConsentState(
            self.purpose,
            self.channel,
            self.status,
            self.id,
            self.notice_revision,
            self.at_us,
            self.guardian_id,
        )

    def told(self) -> dict[str, Any]:
        """Give the event without its member and its evidence, so that it can be written again."""
        return {
            "event": self.id,
            "purpose": self.purpose,
            "channel": self.channel,
            "decision": self.status.value,
            "notice_revision": self.notice_revision,
            "lang": self.lang,
            "recorded_by": self.recorded_by,
            "at_us": self.at_us,
            "audit_id": self.audit_id,
        }


@dataclass(frozen=True, slots=True)
class ConsentState:
    """The latest decision of one purpose and channel."""

    purpose: str
    channel: str
    status: Status
    event_id: ConsentEventId
    notice_revision: str | None
    since_us: int
    guardian_id: str | None = None


class ReconfirmReason(StrEnum):
    """Why a consent that was given carries nothing until it is confirmed."""

    NOTICE_OUTDATED = "notice_outdated"
    CAME_OF_AGE = "came_of_age"


@dataclass(frozen=True, slots=True)
class Reconfirm:
    """A consent that waits to be confirmed, and the words in force to confirm it on."""

    state: ConsentState
    reason: ReconfirmReason
    notice_key: str
    version_agreed: str
    version_in_force: str
