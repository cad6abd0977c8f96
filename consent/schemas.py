"""Requests and answers of the consent room, as they travel."""

from typing import Annotated, Any

from pydantic import Field

from kernel.schemas import Answer, IdText, Key, RequestBody


class DecisionBody(RequestBody):
    """One decision of a member, with the words it was made on and the proof of it."""

    purpose: Key = Field(examples=["marketing"])
    channel: Key | None = Field(None, examples=["sms"])
    decision: Annotated[str, Field(pattern=r"^(given|refused)$")] = Field(examples=["given"])
    notice_revision: Annotated[str, Field(max_length=80)] = Field(examples=["sha256:…"])
    lang: Annotated[str, Field(max_length=16)] = Field(examples=["th"])
    evidence: dict[Annotated[str, Field(max_length=32)], Any] = Field(
        default_factory=dict,
        max_length=8,
        examples=[{"ui_action": "switch_on", "shown_at": "2026-11-23T03:00:00Z"}],
    )


class RecordBody(RequestBody):
    """Decisions to record together."""

    consents: list[DecisionBody] = Field(min_length=1, max_length=50)


class WithdrawBody(RequestBody):
    """The purpose to withdraw; without a channel, every channel of it."""

    purpose: Key = Field(examples=["marketing"])
    channel: Key | None = Field(None, examples=["sms"])


class ConsentAnswer(Answer):
    """The state of one purpose and channel."""

    id: IdText
    purpose: str
    channel: str | None
    status: str = Field(examples=["given"])
    notice_revision: str | None
    since: str


class RecordedConsent(ConsentAnswer):
    """A decision just recorded."""

    receipt: str
    audit_id: IdText


class RecordedAnswer(Answer):
    """What was recorded."""

    id: IdText
    consents: list[RecordedConsent]


class ConsentsAnswer(Answer):
    """A member's consent now, or as it stood at a moment."""

    id: IdText
    as_of: str
    consents: list[ConsentAnswer]


class ReceiptAnswer(Answer):
    """A signed receipt."""

    receipt: dict[str, Any]
    jws: str
