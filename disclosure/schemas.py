"""Requests and answers of disclosure, as they travel."""

from typing import Annotated, Any

from pydantic import Field

from kernel.schemas import Answer, IdText, Key, RequestBody

_FieldKeys = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)]


class BasisAnswer(Answer):
    """The lawful basis of a disclosure."""

    type: str = Field(examples=["consent"])
    id: IdText | None = None
    notice_revision: str | None = None
    section: str | None = None


class ViewAnswer(Answer):
    """The fields that may leave, and why each other one may not."""

    id: IdText
    purpose: str = Field(examples=["marketing"])
    channel: str | None = Field(examples=["sms"])
    data: dict[str, str] = Field(examples=[{"given_name": "สมหญิง", "phone": "+66812345678"}])
    omitted: dict[str, str] = Field(examples=[{"birth_date": "not_in_purpose"}])
    basis: BasisAnswer
    audit_id: IdText


class BatchBody(RequestBody):
    """Up to 100 members to read for one purpose."""

    ids: list[IdText] = Field(
        min_length=1, max_length=100, examples=[["sub_52d26pfztp1nmz8kye4m2pcahc"]]
    )
    purpose: Key = Field(examples=["marketing"])
    channel: Key | None = Field(None, examples=["sms"])
    fields: _FieldKeys | None = None


class BatchAnswer(Answer):
    """One result a member: a view, or why there is none."""

    results: list[dict[str, Any]]


class CheckBody(RequestBody):
    """A disclosure to be decided without opening anything."""

    id: IdText = Field(examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])
    purpose: Key = Field(examples=["marketing"])
    channel: Key | None = Field(None, examples=["sms"])
    fields: _FieldKeys | None = None


class CheckAnswer(Answer):
    """The decision."""

    id: str
    purpose: str
    channel: str | None
    decision: str = Field(examples=["allow"])
    reason: str | None = None
    fields: list[str] | None = None
    omitted: dict[str, str] | None = None
    basis: BasisAnswer | None = None
    audit_id: IdText


class DisclosureAnswer(Answer):
    """One reading, or refused reading, of a member."""

    audit_id: IdText
    at: str
    by: dict[str, str]
    purpose: str | None
    channel: str | None
    fields: list[str]
    decision: str
    reason: str | None


class DisclosuresAnswer(Answer):
    """Who read a member's data, the newest first."""

    id: IdText
    disclosures: list[DisclosureAnswer]
    next_cursor: str | None
