"""Requests and answers of disclosure, as they travel."""

from typing import Annotated, Any

from pydantic import Field

from kernel.schemas import Answer, IdText, Key, RequestBody, TypedText

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
    data: dict[str, str | int | list[str]] = Field(
        examples=[{"given_name": "สมหญิง", "phone": "+66812345678"}]
    )
    omitted: dict[str, str] = Field(examples=[{"birth_date": "not_in_purpose"}])
    basis: BasisAnswer
    audit_id: IdText


class CouponOfMember(Answer):
    """One coupon of a member."""

    id: IdText
    offer: str = Field(examples=["welcome"])
    state: str = Field(examples=["held"])
    issued_at: str
    expires_at: str
    used_at: str | None = None


class CouponsAnswer(Answer):
    """The coupons of a member, as far as the purpose shows them."""

    id: IdText
    purpose: str = Field(examples=["membership"])
    channel: str | None = None
    coupons: list[CouponOfMember]
    omitted: dict[str, str]
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
    """One reading, or refused reading, of a member.

    `emergency`: an officer read it in full because of an emergency, and `reason` says of which.
    `told`: what a feed told of the member, and no field was read: with `change.read` the types of
    changes, with `suppression.read` why the member is not to be contacted.
    """

    audit_id: IdText
    at: str
    by: dict[str, str]
    purpose: str | None
    channel: str | None
    action: str = Field(examples=["member.view", "change.read"])
    fields: list[str]
    told: list[str] = Field(examples=[[], ["consent.withdrawn"]])
    decision: str
    reason: str | None
    emergency: bool


class DisclosuresAnswer(Answer):
    """Who read a member's data, the newest first.

    Of readings before `pruned_until` what the trail said may have been deleted, by the policy
    that says how long it is kept; null when nothing of this member's time was.
    """

    id: IdText
    disclosures: list[DisclosureAnswer]
    next_cursor: str | None
    pruned_until: str | None


# --- audiences, changes, suppressions -------------------------------------------------


_Words = Annotated[list[Key], Field(min_length=1, max_length=20)]
_Branches = Annotated[
    list[Annotated[TypedText, Field(max_length=64)]], Field(min_length=1, max_length=20)
]


class TagsWhere(RequestBody):
    """Tags of which a member has any, has all, or has none."""

    any: _Words | None = Field(None, examples=[["event_guest"]])
    all: _Words | None = None
    none: _Words | None = None


class AudienceWhere(RequestBody):
    """What narrows an audience down; what is left out narrows nothing."""

    brand: Annotated[str, Field(max_length=41)] | None = Field(None, examples=["main"])
    branch: _Branches | None = None
    tier: _Words | None = Field(None, examples=[["gold"]])
    activity_class: _Words | None = None
    birthday_month: Annotated[int, Field(ge=1, le=12)] | None = None
    tags: TagsWhere | None = None


class AudienceBody(RequestBody):
    """Whom to count or to export: one purpose, one channel, and what narrows it down."""

    purpose: Key = Field(examples=["marketing"])
    channel: Key | None = Field(None, examples=["sms"])
    where: AudienceWhere = AudienceWhere()


class ExportBody(AudienceBody):
    """An export; `after` goes on behind the last line of one that was cut."""

    after: IdText | None = Field(None, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])


class CountAnswer(Answer):
    """How many members may be reached now, rounded down; no number below the minimum."""

    purpose: str = Field(examples=["marketing"])
    channel: str | None = Field(examples=["sms"])
    count: int | None = Field(examples=[120])
    suppressed: bool
    minimum: int | None = None
    rounded_to: int | None = None
    audit_id: IdText


class ChangeAnswer(Answer):
    """One change of a member that the client knows."""

    cursor: str
    id: IdText
    type: str = Field(examples=["consent.withdrawn"])
    at: str = Field(examples=["2026-11-23T03:00:00.000000Z"])
    purpose: str | None = Field(examples=["marketing"])
    channel: str | None = Field(examples=["sms"])


class ChangesAnswer(Answer):
    """Changes, the oldest first; `next_cursor` is where the next page begins, always there."""

    changes: list[ChangeAnswer]
    next_cursor: str


class SuppressionAnswer(Answer):
    """One member not to be contacted, and why."""

    id: IdText
    reason: str = Field(examples=["withdrawn"])


class SuppressionsAnswer(Answer):
    """Members not to be contacted now; more follow while `next_cursor` is there."""

    purpose: str = Field(examples=["marketing"])
    channel: str | None = Field(examples=["sms"])
    suppressions: list[SuppressionAnswer]
    next_cursor: str | None


# --- webhooks -------------------------------------------------------------------------


class WebhookBody(RequestBody):
    """Where to tell of what."""

    url: str = Field(
        min_length=1, max_length=500, examples=["https://crm.example.com/hooks/yinyom"]
    )
    types: list[Annotated[str, Field(max_length=64)]] = Field(
        min_length=1, max_length=30, examples=[["consent.withdrawn", "member.erased"]]
    )


class WebhookListed(Answer):
    """A webhook, without its key."""

    id: IdText
    url: str
    types: list[str]
    created_at: str


class WebhookAnswer(WebhookListed):
    """A webhook as just made; `secret` is there this once, and not in a repeated answer."""

    secret: str | None = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class WebhooksAnswer(Answer):
    """The client's webhooks, the oldest first."""

    webhooks: list[WebhookListed]


class WebhookGoneAnswer(Answer):
    """A webhook that is no more."""

    id: IdText
    state: str = Field(examples=["deleted"])


class ReplayBody(RequestBody):
    """From when on to send again."""

    since: str = Field(max_length=40, examples=["2026-11-23T03:00:00Z"])


class ReplayAnswer(Answer):
    """How many deliveries are in line again."""

    id: IdText
    replayed: int


class HappeningAnswer(Answer):
    """Whom a delivery is about, as this client knows them."""

    id: IdText
    purpose: str | None
    channel: str | None


class DeliveryAnswer(Answer):
    """One delivery and what became of it."""

    id: IdText
    type: str = Field(examples=["member.erased"])
    data: HappeningAnswer
    at: str
    state: str = Field(examples=["acknowledged"])
    attempts: int
    status: int | None
    failure: str | None
    next_attempt_at: str | None
    acknowledged_at: str | None


class DeliveriesAnswer(Answer):
    """Deliveries, the newest first."""

    deliveries: list[DeliveryAnswer]
    next_cursor: str | None
