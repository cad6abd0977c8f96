"""Loyalty: points, tiers, activity classes, purchases, coupons and tags of members."""

from loyalty.coupons import COUPONS, coupon_answer
from loyalty.errors import (
    CouponNotFoundError,
    CouponStateError,
    InsufficientPointsError,
    MemberRestrictedError,
    ReferenceReusedError,
    TagNotFoundError,
    UnknownOfferError,
)
from loyalty.model import Account, EntryKind
from loyalty.points import Posted
from loyalty.repository import loyalty_source, plain_of, plain_values
from loyalty.service import Loyalty

__all__ = [
    "COUPONS",
    "Account",
    "CouponNotFoundError",
    "CouponStateError",
    "EntryKind",
    "InsufficientPointsError",
    "Loyalty",
    "MemberRestrictedError",
    "Posted",
    "ReferenceReusedError",
    "TagNotFoundError",
    "UnknownOfferError",
    "coupon_answer",
    "loyalty_source",
    "plain_of",
    "plain_values",
]
