"""Requests and answers of the loyalty room, as they travel."""

from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from kernel.schemas import Answer, IdText, Key, RequestBody
from loyalty.purchases import MOST_ROWS
from loyalty.tags import MOST_MEMBERS

_Scalar = Annotated[str, Field(max_length=200)] | StrictInt | StrictFloat | StrictBool | None
_Reference = Annotated[
    str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", examples=["bill-0001"])
]


class PointsBody(RequestBody):
    """Points to add or to take; the reference names this one transaction of the client."""

    kind: Annotated[str, Field(pattern=r"^(earn|redeem)$")] = Field(examples=["earn"])
    points: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] = Field(examples=[120])
    reference: _Reference


class PointsAnswer(Answer):
    """The entry of the ledger; the balance is read for a purpose, and is not here."""

    id: IdText
    entry: IdText
    kind: str
    points: int
    repeated: bool
    audit_id: IdText | None = None


class PurchaseBody(RequestBody):
    """One purchase. What does not fit is named in the answer and keeps no other row out."""

    member: _Scalar = Field(None, examples=["sub_52d26pfztp1nmz8kye4m2pcahc"])
    at: _Scalar = Field(None, examples=["2026-11-20T10:15:00+07:00"])
    amount: _Scalar = Field(None, examples=["1250.00"], description="a decimal, as text")
    currency: _Scalar = Field(None, examples=["THB"])
    items: _Scalar = Field(None, examples=[3])
    branch: _Scalar = Field(None, examples=["siam"])
    reference: _Scalar = Field(None, examples=["bill-0002"])


class PurchasesBody(RequestBody):
    """Up to 1,000 purchases."""

    purchases: list[PurchaseBody] = Field(
        min_length=1,
        max_length=MOST_ROWS,
        examples=[
            [
                {
                    "member": "sub_52d26pfztp1nmz8kye4m2pcahc",
                    "at": "2026-11-20T10:15:00+07:00",
                    "amount": "1250.00",
                    "currency": "THB",
                    "items": 3,
                    "branch": "siam",
                    "reference": "bill-0002",
                }
            ]
        ],
    )


class RowAnswer(Answer):
    """What became of one row, counted from 0."""

    row: int
    outcome: str = Field(examples=["accepted"])
    reason: str | None = Field(None, examples=["amount.invalid"])
    points: int | None = None


class PurchasesAnswer(Answer):
    """Every row accounted for: accepted + repeated + rejected = rows."""

    rows: int
    accepted: int
    repeated: int
    rejected: int
    results: list[RowAnswer]
    audit_id: IdText | None = None


class CouponBody(RequestBody):
    """The offer of which the member gets a coupon."""

    offer: Key = Field(examples=["welcome"])


class CouponAnswer(Answer):
    """One coupon."""

    id: IdText
    offer: str
    state: str = Field(examples=["held"])
    issued_at: str
    expires_at: str
    used_at: str | None = None


class ChangedCoupon(CouponAnswer):
    """A coupon just issued or used."""

    audit_id: IdText


class TagAnswer(Answer):
    """One declared tag."""

    key: str = Field(examples=["event_guest"])
    purpose: str = Field(examples=["membership"])
    title: dict[str, str]


class TagsAnswer(Answer):
    """The tags there are."""

    tags: list[TagAnswer]


class MembersBody(RequestBody):
    """Up to 1,000 members."""

    members: list[IdText] = Field(
        min_length=1, max_length=MOST_MEMBERS, examples=[["sub_52d26pfztp1nmz8kye4m2pcahc"]]
    )


class TaggedAnswer(Answer):
    """What became of each member, in the order of the request."""

    tag: str
    changed: int
    results: list[RowAnswer]
    audit_id: IdText | None = None
