"""Requests and answers of the members room, as they travel."""

from typing import Annotated, Any

from pydantic import Field

from kernel.schemas import Answer, IdText, Key, RequestBody, TypedText
from members.normalise import DATE_ERAS
from policies import ContactKind, IndexKind

_Value = Annotated[TypedText, Field(max_length=4_000)]
_Code = Annotated[str, Field(max_length=8)]
_Era = Annotated[str, Field(max_length=32, json_schema_extra={"enum": [*sorted(DATE_ERAS)]})]
_IndexKind = Annotated[Key, Field(json_schema_extra={"enum": [one.value for one in IndexKind]})]
_ContactKind = Annotated[Key, Field(json_schema_extra={"enum": [one.value for one in ContactKind]})]

PURPOSE_EXAMPLE = "membership"


class FormatsBody(RequestBody):
    """How the values are written; regions and eras are declared, never guessed."""

    phone_region: Annotated[str, Field(max_length=2)] | None = Field(None, examples=["TH"])
    date_era: _Era | None = Field(None, examples=["be-dmy"])
    id_country: Annotated[str, Field(max_length=2)] | None = Field(None, examples=["TH"])


class ConsentBody(RequestBody):
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


class RegisterBody(RequestBody):
    """A new member: fields of the catalogue as typed, and the decisions made with them."""

    brand: Annotated[str, Field(max_length=41, pattern=r"^[a-z0-9][a-z0-9-]*$")] = Field(
        examples=["main"]
    )
    jurisdiction: Annotated[str, Field(max_length=8)] = Field(examples=["TH"])
    formats: FormatsBody = Field(default_factory=FormatsBody)
    fields: dict[Annotated[str, Field(max_length=64)], _Value] = Field(
        examples=[{"given_name": "สมหญิง", "phone": "081-234-5678", "birth_date": "12/03/2535"}]
    )
    consents: list[ConsentBody] = Field(default_factory=list, max_length=50)


class ConsentReceiptLink(Answer):
    """A recorded decision and where its receipt is."""

    id: IdText
    receipt: str


class ContactPointAnswer(Answer):
    """A way to reach the member, without its value."""

    id: IdText
    kind: str
    verified: bool


class DuplicateAnswer(Answer):
    """Another member that shares identifying values."""

    id: IdText
    fields: list[str]


class RegisterAnswer(Answer):
    """A registered member as this client knows it."""

    id: IdText
    consents: list[ConsentReceiptLink]
    contact_points: list[ContactPointAnswer]
    audit_id: IdText
    duplicates: list[DuplicateAnswer] | None = None


class UpdateBody(RequestBody):
    """Fields to replace; those not named stay."""

    formats: FormatsBody = Field(default_factory=FormatsBody)
    fields: dict[Annotated[str, Field(max_length=64)], _Value] = Field(min_length=1)


class UpdateAnswer(Answer):
    """A changed member."""

    id: IdText
    version: int
    audit_id: IdText


class LookupBody(RequestBody):
    """An identifier to find a member by; in the body, never in a URL."""

    kind: _IndexKind = Field(examples=["phone"])
    value: Annotated[TypedText, Field(max_length=320)] = Field(examples=["081-234-5678"])
    region: Annotated[str, Field(max_length=2)] | None = Field(None, examples=["TH"])
    purpose: Key = Field(examples=[PURPOSE_EXAMPLE])


class IdAnswer(Answer):
    """A member as this client knows it."""

    id: IdText


class IntroduceBody(RequestBody):
    """The client that shall know the member."""

    to: IdText = Field(examples=["cli_01m834b7x0e4qrs48h3wg0z6re"])


class IntroduceAnswer(Answer):
    """The id by which the other client knows the member."""

    to: str
    id: IdText


class ContactPointBody(RequestBody):
    """A further way to reach the member."""

    kind: _ContactKind = Field(examples=["phone"])
    value: Annotated[TypedText, Field(max_length=320)] = Field(examples=["089-876-5432"])
    region: Annotated[str, Field(max_length=2)] | None = Field(None, examples=["TH"])


class AddedContactPoint(ContactPointAnswer):
    """A contact point just added."""

    audit_id: IdText


class VerifyBody(RequestBody):
    """The code that came back."""

    code: _Code = Field(examples=["123456"])


class DuplicatePairAnswer(Answer):
    """Two members who may be one person; `reasons` are field names, `score` is 0 to 100."""

    id: IdText
    members: list[IdText]
    score: int
    reasons: list[str]
    state: str
    merge_id: IdText | None


class DuplicatesAnswer(Answer):
    """A page of pairs, the oldest first."""

    duplicates: list[DuplicatePairAnswer]
    cursor: str | None


class MergeBody(RequestBody):
    """Which of the two stays; left out, the record with more verified contact points does."""

    survivor: IdText | None = Field(None, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])


class MergeAnswer(Answer):
    """The member who is both now, and until when (µs since the epoch) that can be undone."""

    merge_id: IdText
    id: IdText
    undo_until_us: int
    audit_id: IdText


class DismissAnswer(Answer):
    """A pair that will not be proposed again."""

    id: IdText
    audit_id: IdText


class UndoAnswer(Answer):
    """The two members who are two again: first who stayed, then who had been merged."""

    merge_id: IdText
    members: list[IdText]
    audit_id: IdText


class ImportTakenAnswer(Answer):
    """A file that was looked through and waits to be imported."""

    id: IdText
    rows: int


class ImportAnswer(Answer):
    """How far an import is; in the end rows = accepted + quarantined + exact_repeats."""

    id: IdText
    state: Annotated[
        str, Field(json_schema_extra={"enum": ["waiting", "running", "finished", "failed"]})
    ]
    rows: int
    done: int
    accepted: int
    quarantined: int
    exact_repeats: int
    issues: dict[str, int]
    failure: str | None
    expires_at: Annotated[str | None, Field(description="When what was set aside is destroyed.")]


class RowIssue(Answer):
    """What was wrong with one field of a row, or with the row."""

    field: str
    code: str


class QuarantinedRowAnswer(Answer):
    """A row that was set aside, by its number in the file."""

    row: int
    issues: list[RowIssue]


class QuarantineAnswer(Answer):
    """A page of rows that were set aside; never a value of theirs."""

    rows: list[QuarantinedRowAnswer]
    cursor: str | None
