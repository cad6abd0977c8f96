"""Requests and answers of the consent room, as they travel."""

from typing import Annotated, Any

from pydantic import Field

from consent.guardians import Relation
from kernel.schemas import Answer, IdText, Key, RequestBody

GuardianId = Annotated[str, Field(max_length=40, examples=["grd_01m834me8bfjwbgnk89sr02kdz"])]


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
    guardian: GuardianId | None = Field(
        None, description="the proven guardian who decides with the minor, or for them"
    )


class RecordBody(RequestBody):
    """Decisions to record together."""

    consents: list[DecisionBody] = Field(min_length=1, max_length=50)


class WithdrawBody(RequestBody):
    """The purpose to withdraw; without a channel, every channel of it."""

    purpose: Key = Field(examples=["marketing"])
    channel: Key | None = Field(None, examples=["sms"])
    guardian: GuardianId | None = None


class GuardianContactBody(RequestBody):
    """How a guardian who is no member is reached."""

    kind: Key = Field(examples=["phone"])
    value: Annotated[str, Field(max_length=320)] = Field(examples=["089-876-5432"])
    region: Annotated[str, Field(max_length=2)] | None = Field(None, examples=["TH"])


class GuardianBody(RequestBody):
    """A guardian of a minor: a contact of their own, or another member of age."""

    relation: Relation = Field(examples=["parent"])
    contact: GuardianContactBody | None = None
    member: Annotated[str, Field(max_length=40)] | None = Field(
        None, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"]
    )


class GuardianCodeBody(RequestBody):
    """The code that came back from the guardian."""

    code: Annotated[str, Field(max_length=12)] = Field(examples=["123456"])


class GuardianAnswer(Answer):
    """A guardian: who stands in which relation, proven how and when; never how to reach them."""

    id: IdText
    relation: str = Field(examples=["parent"])
    is_member: bool
    kind: str = Field(examples=["phone"])
    method: str = Field(examples=["otp"])
    proven_at: str | None
    ended_at: str | None


class GuardiansAnswer(Answer):
    """Every guardian a member ever had."""

    id: IdText
    guardians: list[GuardianAnswer]


class ObjectBody(RequestBody):
    """A purpose of direct marketing; the objection takes in all of them."""

    purpose: Key = Field(examples=["marketing"])
    evidence: dict[Annotated[str, Field(max_length=32)], Any] = Field(
        default_factory=dict,
        max_length=8,
        examples=[{"ui_action": "stop_marketing", "decided_at": "2026-11-23T03:00:00Z"}],
    )
    guardian: GuardianId | None = None


class ObjectionAnswer(Answer):
    """An objection that stands."""

    id: IdText
    purpose: str = Field(examples=["marketing"])
    channel: str | None = Field(examples=["sms"])
    since: str


class ObjectionsAnswer(Answer):
    """The objections of a member."""

    id: IdText
    objections: list[ObjectionAnswer]


class ConsentAnswer(Answer):
    """The state of one purpose and channel.

    `reconfirm_needed` is a consent that carries nothing until it is confirmed; `reconfirm` says
    why: `notice_outdated` or `came_of_age`.
    """

    id: IdText
    purpose: str
    channel: str | None
    status: str = Field(examples=["given"])
    notice_revision: str | None
    since: str
    reconfirm: str | None = Field(None, examples=["notice_outdated"])
    guardian: str | None = None


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
    """A signed receipt; `proof` shows that the log has the decision, once it is sequenced."""

    receipt: dict[str, Any]
    jws: str
    proof: dict[str, Any] | None = None


class ReceiptBody(RequestBody):
    """A receipt as it was given out, in a JSON format; its signature alone will do."""

    jws: Annotated[str, Field(max_length=100_000)] = Field(
        examples=["eyJhbGciOiJFZERTQSJ9.e30.e30"]
    )
    receipt: dict[str, Any] | None = None
    proof: dict[str, Any] | None = None


class VerifiedAnswer(Answer):
    """Whether a receipt holds; `finding` says why it does not, `proof` what the log shows."""

    valid: bool
    finding: str | None
    proof: str = Field(examples=["verified"])
    receipt: dict[str, Any] | None


class ReceiptKeyAnswer(Answer):
    """An Ed25519 public key as a JWK (RFC 8037)."""

    kty: str
    crv: str
    x: str
    alg: str
    use: str
    kid: str
