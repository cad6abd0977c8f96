"""Requests and answers of the room of rights requests, as they travel."""

from typing import Annotated

from pydantic import Field

from dsar.details import ERASURE_GROUNDS, RESTRICTION_GROUNDS
from dsar.intake import EXTENSION_REASONS
from dsar.model import RequestState, Right
from kernel.i18n import Language
from kernel.schemas import Answer, IdText, Key, RequestBody, TypedText

_Right = Annotated[Key, Field(json_schema_extra={"enum": [one.value for one in Right]})]
_Ground = Annotated[
    Key, Field(json_schema_extra={"enum": sorted(RESTRICTION_GROUNDS | ERASURE_GROUNDS)})
]
_RestrictionGround = Annotated[Key, Field(json_schema_extra={"enum": sorted(RESTRICTION_GROUNDS)})]
_Extension = Annotated[Key, Field(json_schema_extra={"enum": list(EXTENSION_REASONS)})]
_Lang = Annotated[
    str, Field(max_length=16, json_schema_extra={"enum": [one.value for one in Language]})
]
_Day = Annotated[str, Field(max_length=10, pattern=r"^\d{4}-\d{2}-\d{2}$")]
_Value = Annotated[TypedText, Field(max_length=4_000)]
STATES = [state.value for state in RequestState]


class DetailsBody(RequestBody):
    """What goes with a request: codes, and for a rectification the corrected fields."""

    lang: _Lang | None = Field(None, examples=["th"])
    ground: _Ground | None = Field(None, examples=["accuracy_contested"])
    until: _Day | None = Field(None, examples=["2027-01-31"])
    purpose: Key | None = Field(None, examples=["marketing"])
    fields: dict[Annotated[str, Field(max_length=64)], _Value] = Field(default_factory=dict)
    formats: dict[Annotated[str, Field(max_length=16)], Annotated[str, Field(max_length=32)]] = (
        Field(default_factory=dict, max_length=3)
    )


class OpenRequestBody(RequestBody):
    """A right that a member exercises."""

    member: Annotated[str, Field(max_length=40)] = Field(
        examples=["sub_52d26pfztp1nmz8kye4m2pcahc"]
    )
    right: _Right = Field(examples=["access"])
    details: DetailsBody = Field(default_factory=DetailsBody)


class ProveBody(RequestBody):
    """A contact point and the code that went there; without a code, one is sent."""

    contact_point: Annotated[str, Field(max_length=40)] | None = Field(
        None, examples=["cp_01m834me8bfjwbgnk89sr02kdz"]
    )
    code: Annotated[str, Field(max_length=8)] | None = Field(None, examples=["123456"])


class ExtendBody(RequestBody):
    """Why more time is needed; the member is told."""

    reason: _Extension = Field(examples=["complexity"])


class RefuseBody(RequestBody):
    """Why it is refused: a reason that the law of the request knows for this right."""

    reason: Key = Field(examples=["third_party"])


class RestrictBody(RequestBody):
    """A member whose data is to be kept and not used, why, and until the end of which day."""

    member: Annotated[str, Field(max_length=40)] = Field(
        examples=["sub_52d26pfztp1nmz8kye4m2pcahc"]
    )
    ground: _RestrictionGround = Field(examples=["accuracy_contested"])
    until: _Day | None = Field(None, examples=["2027-01-31"])


class LawAnswer(Answer):
    """Which number of law the clock runs by, and how well it was checked."""

    source: str
    evidence: str
    unverified: bool
    weekends_only: bool


class RefusalAnswer(Answer):
    """Why a request was refused, by which law, and where the member can complain."""

    reason: str
    law: str | None
    evidence: str | None
    complain_to: dict[str, str]


class ResultAnswer(Answer):
    """What became of one field or store."""

    what: str
    result: str
    until: str | None
    law: str | None
    evidence: str | None


class RequestPoint(Answer):
    """A contact point that can prove identity."""

    id: IdText
    kind: str
    verified: bool


class RightsRequestAnswer(Answer):
    """A request, its clock and where it stands."""

    id: IdText
    member: str | None
    right: str
    state: str
    via: str
    received_at: str
    identity: str | None
    acknowledge_due: str | None
    target: str
    safe_due: str
    legal_due: str
    law: LawAnswer
    extended: str | None
    paused_days: int
    flagged: str | None
    refusal_proposed: str | None
    decided_at: str | None
    refusal: RefusalAnswer | None
    results: list[ResultAnswer]


class OpenedAnswer(RightsRequestAnswer):
    """A request just opened, and where a code can go."""

    contact_points: list[RequestPoint]


class RightsRequestsAnswer(Answer):
    """Requests, the newest first."""

    requests: list[RightsRequestAnswer]
    next_cursor: str | None


class PlanAnswer(Answer):
    """What an erasure would do."""

    id: IdText
    whole: bool
    results: list[ResultAnswer]


class RestrictionAnswer(Answer):
    """A restriction of processing."""

    id: IdText
    member: str | None
    ground: str
    begun_at: str
    until: str | None
    ended: bool
